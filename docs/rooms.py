"""The rooms of the house, read from the imports: which module imports which, whether an arrow runs up, and a picture.

    python docs/rooms.py docs/pages/rooms.svg

The order below is the only thing said here by hand; everything else is read from the source.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jsafe"

FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("words", ("errors", "spaces", "options", "types", "feeds", "registry")),
    ("maths", ("ops", "distributions", "nets")),
    ("parts", ("components",)),
    ("algorithms", ("algos",)),
    ("environments", ("envs",)),
    ("data and machines", ("data", "scale")),
    ("runs", ("curves", "runs", "train", "device", "deploy")),
    ("people", ("report", "sweeps", "cli")),
    ("tests", ("testing",)),
)
"""Rooms from the lowest to the highest; a module imports from its own room and from rooms before it."""

APART = {"envs": {"errors", "spaces"}}
"""Rooms that may use less than all below them: the engine knows nothing of learners."""


def rank() -> dict[str, int]:
    """Rooms in their order."""
    return {room: i for i, room in enumerate(room for _, rooms in FLOORS for room in rooms)}


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Files by module name, `jsafe/__init__.py` (the door, which imports on first use) left out."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != package.name:
            found[name] = path
    return found


def room(module: str) -> str:
    """The room of a module: its first name below the package."""
    return module.split(".")[1]


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """What each module imports of the package, wherever in the file; what only a type checker sees is left out."""
    known = modules(package)
    return {name: _imports(ast.parse(path.read_text()), known, package.name) - {name} for name, path in known.items()}


def _imports(tree: ast.AST, known: dict[str, Path], package: str) -> set[str]:
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner} if inner in known else {node.module} & set(known)
        else:
            found |= _imports(node, known, package)
    return found


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that run up, or from a room that stands apart into one that it must not know."""
    order, bad = rank(), []
    for name, targets in graph.items():
        here = room(name)
        for target in sorted(targets):
            there = room(target)
            if here not in order or there not in order:
                bad.append(f"{name} -> {target}: a room that docs/rooms.py does not know")
            elif order[there] > order[here] or (here != there and there not in APART.get(here, order)):
                bad.append(f"{name} -> {target}")
    return bad


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or around (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def draw(graph: dict[str, set[str]]):
    """The rooms as boxes, floor by floor, with their lines of code, and an arrow for each pair of rooms that import.

    Arrows to the words are left out: every room uses them.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    lines: dict[str, int] = {}
    for name, path in modules().items():
        lines[room(name)] = lines.get(room(name), 0) + len(path.read_text().splitlines())
    figure = Figure(figsize=(10, 9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, 10), ylim=(-0.6, len(FLOORS) - 0.4))
    centre = {}
    for y, (floor, rooms) in enumerate(FLOORS):
        axes.text(0.1, y, floor, va="center", color="0.4", fontsize=10)
        for i, name in enumerate(rooms):
            x = 2.6 + (i + 0.5) * 7.2 / len(rooms)
            centre[name] = (x, y)
            box = FancyBboxPatch((x - 0.5, y - 0.2), 1.0, 0.4, "round,pad=0.02", fc="#e6f2f1", ec="#00796b", zorder=3)
            axes.add_patch(box)
            axes.text(x, y + 0.05, name, ha="center", va="center", fontsize=10, zorder=4)
            axes.text(
                x, y - 0.12, f"{lines.get(name, 0)} lines", ha="center", va="center", fontsize=7, color="0.35", zorder=4
            )
    pairs = {(room(a), room(b)) for a, targets in graph.items() for b in targets if room(a) != room(b)}
    for a, b in sorted(pairs):
        if a in centre and b in centre and b not in FLOORS[0][1]:
            bend = 0.0 if abs(centre[a][1] - centre[b][1]) <= 1 else 0.12
            style = {"arrowstyle": "-|>", "mutation_scale": 9, "lw": 0.7, "color": "0.65", "shrinkA": 14, "shrinkB": 14}
            axes.add_patch(FancyArrowPatch(centre[a], centre[b], connectionstyle=f"arc3,rad={bend}", **style))
    return figure


if __name__ == "__main__":
    draw(imports()).savefig(sys.argv[1])
