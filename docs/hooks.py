"""Builds what would go stale if it were written by hand: algorithm pages, notebook pages, the API reference.

MkDocs calls the `on_*` functions. Algorithm pages come from the registry, the options' dataclasses and the docstrings;
results from `experiments/`, the benchmark's from its data files; formulas become MathML here, so that pages need no
script for them.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import inspect
import io
import json
import pkgutil
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import rooms
import tasks

import jsafe
from jsafe import registry
from jsafe.cli.parse import field_docs
from jsafe.curves.screen import count
from jsafe.deploy import zoo
from jsafe.options import paths
from jsafe.report import benchmark, plot
from jsafe.sweeps.grid import text_of

ROOT = Path(__file__).parents[1]
FAMILIES = {"on_policy": "On-policy", "off_policy": "Off-policy", "model_based": "Model-based", "offline": "Offline"}
HOME = {
    "tasks.png": "contact_sheet.png",
    "curves.png": "on_policy/curves.png",
    "vision.png": "vision_sheet.png",
    "plan.gif": "model_based/plan.gif",
}
THEORY = {
    "rule": ("theory/multipliers.md", "multipliers and other constraint rules"),
    "step": ("theory/steps.md", "policy steps"),
    "transform": ("theory/transforms.md", "changing the problem"),
    "actor": ("theory/off_policy.md", "actor-critics on replayed data"),
    "certificate": ("theory/certificates.md", "barrier certificates"),
    "planner": ("theory/planning.md", "planning in learned models"),
}


# ---- algorithms ------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The algorithms of jsafe itself; others may be registered beside them."""
    return [name for name in registry.names() if registry.get(name).module.startswith("jsafe.")]


def algorithm_pages() -> dict[str, str]:
    """Markdown by path: a page for each algorithm, and their index."""
    algorithms = [registry.get(name) for name in names()]
    pages = {f"algorithms/{algorithm.name}.md": algorithm_page(algorithm) for algorithm in algorithms}
    lines = ["# Algorithms", ""]
    for family in sorted({a.family for a in algorithms}, key=lambda f: ([*FAMILIES, f].index(f), f)):
        lines += [f"## {FAMILIES.get(family, family)}", "", "| name | what it does | paper |", "| --- | --- | --- |"]
        lines += [
            f"| [`{a.name}`]({a.name}.md) | {a.summary} | {linked(a.paper)} |" for a in algorithms if a.family == family
        ]
        lines.append("")
    pages["algorithms/index.md"] = "\n".join(lines)
    return pages


def algorithm_page(algorithm: registry.Algorithm) -> str:
    """One algorithm: paper, equations, differences, options, commands, results."""
    module = sys.modules[algorithm.module]
    parts = [f"# {algorithm.name}\n\n{algorithm.summary}\n\nPaper: {linked(algorithm.paper)}\n\n## The algorithm"]
    parts.append(prose(module.__doc__ or ""))
    links = [f"[{text}](../{page})" for page, text in theory(algorithm)]
    parts.append(f"Background: {', '.join(links)}. Code: [`{module.__name__}`](../{reference_path(module.__name__)}).")
    parts.append(options(algorithm))
    parts.append(commands(algorithm))
    parts.append(results(algorithm.name))
    if table := critics_table(algorithm.name):
        about = "At states that its policy visits, [beside what happens](../concepts/truth.md):"
        parts.append(f"## What its critics know\n\n{about}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def theory(algorithm: registry.Algorithm) -> list[tuple[str, str]]:
    """Theory pages that matter for an algorithm, by what it is put together from."""
    if algorithm.family == "offline":
        pages = [("theory/offline.md", "learning from a data set")]
        return pages + [THEORY["rule"]] * (getattr(getattr(algorithm.config, "rule", None), "kind", "none") != "none")
    if algorithm.name == "seditor":
        return [("theory/seditor.md", "SEditor"), THEORY["actor"], THEORY["rule"]]
    idle = ("none", "identity")
    parts = {field: getattr(getattr(algorithm.config, field, None), "kind", "none") for field in THEORY}
    pages = [page for field, page in THEORY.items() if parts[field] not in idle]
    return pages or [("theory/problem.md", "the problem")]


def linked(citation: str) -> str:
    """A citation with its arXiv numbers as links."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", citation)


def prose(docstring: str) -> str:
    """A docstring as Markdown: sections about arguments dropped, `Source:` and the like as paragraphs with a label."""
    title, *rest = inspect.cleandoc(docstring).split("\n")
    blocks, keep = [title], True
    for line in rest:
        heading = re.match(r"^([A-Z][A-Za-z]+):(?: (.*))?$", line)
        if heading:
            keep = heading[1] not in ("Args", "Returns", "Raises", "Attributes", "Example")
            if keep:
                blocks.append(f"\n**{heading[1]}:** {heading[2] or ''}")
        elif keep:
            blocks.append(re.sub(r"^ {2}(?! )", "", line))
    return linked("\n".join(blocks).strip())


def options(algorithm: registry.Algorithm) -> str:
    """Its parts, its presets, and a table of its options, part by part."""
    config, lines = algorithm.config, ["## Options", ""]
    presets = [
        f"- preset `{name}`{' (start with this one)' if name == algorithm.recommended else ''}: {preset.summary} "
        + (", ".join(f"`{key}={value!r}`" for key, value in preset.changes.items()) or "The defaults.")
        for name, preset in algorithm.presets.items()
    ]
    lines += [*presets, "", "| option | default | |", "| --- | --- | --- |"]
    for path in paths(config):
        *heads, name = path.split(".")
        owner = functools.reduce(getattr, heads, config)
        value = getattr(owner, name)
        text = field_docs(type(owner)).get(name, "")
        if dataclasses.is_dataclass(value):
            kind = getattr(value, "kind", "")
            lines.append(f"| **`{path}`** | {f'`{kind}`' if kind else ''} | {text or summary(value)} |")
        else:
            lines.append(f"| `{path}` | `{value!r}` | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def summary(value: object) -> str:
    """First line of the docstring of a part."""
    return (inspect.getdoc(type(value)) or "").split("\n")[0].replace("|", "\\|")


def commands(algorithm: registry.Algorithm) -> str:
    """How to run it."""
    tasks = {"on_policy": "SafetyPointGoal1-v0", "model_based": "SafetyPointGoal1-v0-modelbased"}
    env, width = tasks.get(algorithm.family, "Safexp-PointGoal1-v0"), 29 if algorithm.family == "model_based" else 60
    where = "--data recorded.npz" if algorithm.family == "offline" else f"--env {env}"
    preset = algorithm.recommended
    flag, argument = (f" --preset {preset}", f', preset="{preset}"') if preset else ("", "")
    return f"""## Run it

```bash
jsafe train {algorithm.name} {where}{flag} --run-dir runs/{algorithm.name}
jsafe evaluate runs/{algorithm.name} --episodes 100
```

```python
env_spec = jsafe.EnvSpec({width}, 2)
learner = jsafe.make("{algorithm.name}", env_spec{argument})
state = learner.init(jax.random.key(0))
batch = jsafe.testing.random_batch(learner, jax.random.key(1))
state, metrics = jax.jit(learner.update)(state, batch, jax.random.key(2))
```"""


def runs(name: str) -> list[Path]:
    """Folders in `experiments/` that hold a run of an algorithm: its config.json and learning curve."""
    found = []
    for path in sorted((ROOT / "experiments").rglob("config.json")):
        if (path.parent / "progress.csv").exists() and json.loads(path.read_text()).get("algorithm") == name:
            found.append(path.parent)
    return found


def results(name: str) -> str:
    """Committed runs: their curves, and where they ended."""
    lines, folders = ["## Results", ""], runs(name)
    if not folders:
        return "\n".join([*lines, "No run of this algorithm is committed in `experiments/` yet."])
    columns = {
        "episode/return": "return",
        "episode/success": "success",
        "episode/cost": "cost per episode",
        "episode/cost_rate": "cost per step",
    }
    lines += [
        f"![Learning curves of {name}]({name}_curves.png)",
        "",
        "At the end, over the last 100 training episodes:",
    ]
    published = {folder: published_beside(folder, name, plot.load(folder).env) for folder in folders}
    more = ["published return, cost"] if any(published.values()) else []
    heads = ["run", "task", "steps", *columns.values(), *more]
    lines += ["", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for folder in folders:
        run = plot.load(folder)
        ends = [f"{run.columns[column][-1]:.4g}" if column in run.columns else "" for column in columns]
        steps = f"{run.columns['env_steps'][-1] / 1e6:.2f} M"
        cells = [f"`{folder.relative_to(ROOT)}`", run.env, steps, *ends, *([published[folder]] if more else [])]
        lines.append(f"| {' | '.join(cells)} |")
    readmes = sorted({str(found.relative_to(ROOT)) for each in folders if (found := readme(each)) is not None})
    if readmes:
        told = ", ".join(f"`{path}`" for path in readmes)
        lines += ["", f"The commands that made them, and what was learnt from them: {told} in the repository."]
    return "\n".join(lines)


def published_beside(folder: Path, name: str, env: str) -> str:
    """Published return and cost of an algorithm on a task, where a study in `experiments/` has such figures."""
    for parent in folder.relative_to(ROOT).parents:
        path = ROOT / parent / "published.csv"
        if path.exists() and (row := plot.read_published(path).get((env, name))):
            return f"{row[0]:.4g} ± {row[1]:.3g}, {row[2]:.4g} ± {row[3]:.3g}"
    return ""


def readme(folder: Path) -> Path | None:
    """The page of the study that a run belongs to."""
    for parent in folder.relative_to(ROOT / "experiments").parents:
        path = ROOT / "experiments" / parent / "README.md"
        if path.exists():
            return path
    return None


def curves() -> dict[str, bytes]:
    """Pictures of the committed runs of every algorithm, by path."""
    pictures = {}
    for name in names():
        if folders := runs(name):
            buffer = io.BytesIO()
            plot.figure(folders).savefig(buffer, format="png", dpi=100)
            pictures[f"algorithms/{name}_curves.png"] = buffer.getvalue()
    return pictures


# ---- trained policies ------------------------------------------------------------------------------------------------


def zoo_page() -> dict[str, str]:
    """The policies that come along, with what they did in 100 episodes."""
    lines = [
        "# Policies that come along",
        "",
        "Small trained policies are part of the package: to look at, to compare with, to record data from. Each was "
        "run for 100 episodes on the exact engine, most likely actions, seeds that the training never used; ± is the "
        "standard error of the mean.",
        "",
        "```bash",
        f"jsafe play {zoo.about('ppo_lag')['env']} --policy zoo:ppo_lag",
        "jsafe evaluate zoo:ppo_lag --episodes 100",
        "```",
        "",
        "| policy | algorithm | task | trained for | limit | return | cost | episodes above | success |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in zoo.names():
        about = zoo.about(name)
        results = about["results"]
        costs = [f"{cost['mean']:.4g} ± {cost['error']:.2g}" for cost in results["costs"]]
        limited = [cost for cost in results["costs"] if "limit" in cost]
        limits = [f"{cost['limit']:g} per {cost['per']}: {'kept' if cost['kept'] else 'broken'}" for cost in limited]
        unit = "updates" if registry.get(about["algorithm"]).family == "offline" else "steps"
        cells = [
            f"`zoo:{name}`",
            f"[{about['algorithm']}](algorithms/{about['algorithm']}.md)",
            about["env"],
            f"{count(about['env_steps'])} {unit}",
            ", ".join(limits) or "none",
            f"{results['return']:.4g}",
            ", ".join(costs),
            ", ".join(f"{cost['above']:.0%}" for cost in limited),
            f"{results['success']:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "`experiments/zoo.py` puts the policy of a run there; [Use a trained policy](deploy.md) tells the rest.",
    ]
    return {"zoo.md": "\n".join(lines) + "\n"}


# ---- benchmark -------------------------------------------------------------------------------------------------------

BENCHMARK = ROOT / "experiments" / "benchmark"


def benchmark_tables() -> str:
    """What the runs of the benchmark scored: for each task its learning curves and a table, with published results."""
    cells = benchmark.read_cells(BENCHMARK / "cells.csv")
    scores = benchmark.read_rows(BENCHMARK / "results" / "scores.csv", benchmark.Score)
    rows = benchmark.table(cells, scores, benchmark.read_published(BENCHMARK / "published"))
    text = []
    for task in dict.fromkeys(row["task"] for row in rows):
        drawn = [path for path in benchmark_pictures() if path.startswith(f"benchmark/curves-{text_of(task)}-")]
        text += [f"### {task}", *(f"![Learning curves on {task}]({path})" for path in drawn)]
        text.append(benchmark.markdown([row for row in rows if row["task"] == task], task=False))
    return "\n\n".join(text)


@functools.cache
def asked() -> tuple[list[benchmark.Cell], list[benchmark.Critic]]:
    """The cells of the benchmark, and what the critics of their runs were asked."""
    cells = benchmark.read_cells(BENCHMARK / "cells.csv")
    return cells, benchmark.read_rows(BENCHMARK / "results" / "critics.csv", benchmark.Critic)


def critics_table(algorithm: str | None = None) -> str:
    """What critics say beside what happens, of all runs of the benchmark that were asked, or of one algorithm's."""
    cells, rows = asked()
    return benchmark.critics_markdown([cell for cell in cells if algorithm in (None, cell.algorithm)], rows)


def benchmark_pictures() -> dict[str, bytes]:
    """The pictures that were recorded with the results, by path."""
    return {f"benchmark/{path.name}": path.read_bytes() for path in sorted((BENCHMARK / "results").glob("*.png"))}


# ---- notebooks -------------------------------------------------------------------------------------------------------


def notebook_pages() -> dict[str, str | bytes]:
    """Pages of executed notebooks and their pictures, by path."""
    pages: dict[str, str | bytes] = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = [f"*This page is the notebook `notebooks/{path.name}` with its saved outputs.*"]
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                source = re.sub(r"^\$\$(.+?)\$\$$", r"```math\n\1\n```", source, flags=re.M | re.S)
                source = re.sub(r"(?<![\\$`])\$([^$`]+)\$(?![$`])", r"$`\1`$", source)
                text.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source))
                continue
            text.append(f"```python\n{source}\n```")
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "image/png" in data:
                    image = f"{path.stem}_{len(pages)}.png"
                    pages[f"notebooks/{image}"] = base64.b64decode("".join(data["image/png"]))
                    text.append(f"![output]({image})")
                else:
                    plain = "".join(output.get("text", data.get("text/plain", "")))
                    text.append(f"```text\n{plain.rstrip()}\n```")
        if len(text) > 2:  # the title first
            text[0], text[1] = text[1], text[0]
        pages[f"notebooks/{path.stem}.md"] = "\n\n".join(text) + "\n"
    return pages


# ---- reference -------------------------------------------------------------------------------------------------------


def modules() -> dict[str, list[str]]:
    """All modules of jsafe by package: `{"jsafe.ops": ["jsafe.ops.advantages", ...]}`; top-level ones under `jsafe`."""
    found: dict[str, list[str]] = {"jsafe": ["jsafe"]}
    for info in pkgutil.walk_packages(jsafe.__path__, "jsafe."):
        package = info.name if info.ispkg else info.name.rpartition(".")[0]
        if not info.name.endswith("__main__"):
            found.setdefault(package, []).append(info.name)
    return found


def reference_path(module: str) -> str:
    """Page of a module."""
    return f"reference/{module}.md"


def reference_pages() -> dict[str, str]:
    """A page for each module; mkdocstrings fills them in."""
    pages = {}
    for package, names in modules().items():
        for name in names:
            members = [] if name != package else [f"- [`{m}`]({m}.md)" for m in names if m != name]
            body = f"# `{name}`\n\n::: {name}\n"
            pages[reference_path(name)] = body + ("\n".join(["", "Modules:", "", *members, ""]) if members else "")
    return pages


def house() -> dict[str, bytes]:
    """The picture of the rooms and those of the home page, by path."""
    buffer = io.BytesIO()
    rooms.draw(rooms.imports()).savefig(buffer, format="svg")
    home = {name: (ROOT / "experiments" / path).read_bytes() for name, path in HOME.items()}
    return {"concepts/rooms.svg": buffer.getvalue(), **home}


def task_page() -> dict[str, str]:
    """Every id, by path."""
    return {"tasks.md": tasks.page()}


# ---- MkDocs ----------------------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the generated pages to the navigation."""
    for read in (asked, tasks.rates):  # anew for every build of `mkdocs serve`
        read.cache_clear()
    algorithms = [path for path in algorithm_pages() if not path.endswith("index.md")]
    notebooks = [path for path in notebook_pages() if path.endswith(".md")]
    reference = [{package: [reference_path(m) for m in names]} for package, names in sorted(modules().items())]
    added = [{"Algorithms": ["algorithms/index.md", *algorithms]}, "zoo.md", {"Reference": reference}]
    if notebooks:
        added.insert(0, {"Notebooks": notebooks})
    config.nav = [*config.nav[:-1], *added, config.nav[-1]]
    return config


def pages_and_pictures() -> dict[str, str | bytes]:
    """All that is generated, by path."""
    made: dict[str, str | bytes] = {}
    for each in (
        algorithm_pages,
        curves,
        zoo_page,
        benchmark_pictures,
        notebook_pages,
        reference_pages,
        house,
        task_page,
    ):
        made |= each()
    return made


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to the site."""
    for path, content in pages_and_pictures().items():
        files.append(File.generated(config, path, content=content))
    return files


_FORMULAS: list[str] = []


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Puts the benchmark's tables in, and takes formulas (fenced `math` blocks, and inline ones in a dollar and a
    backtick) out of the Markdown.

    Guides come before the reference in the search.
    """
    if page.file.src_uri.startswith("reference/"):
        page.meta.setdefault("search", {"boost": 0.001})  # a word in a title counts a thousand times
    markdown = re.sub(r"^<!-- benchmark -->$", lambda _: benchmark_tables(), markdown, flags=re.M)
    markdown = re.sub(r"^<!-- critics -->$", lambda _: critics_table(), markdown, flags=re.M)

    def keep(display: str):
        def replace(match: re.Match) -> str:
            formula = convert(match[1].strip(), display=display)
            wide = f'<span style="display: block; overflow-x: auto">{formula}</span>'  # a phone is narrower
            _FORMULAS.append(wide if display == "block" else formula)
            return f"formulanumber{len(_FORMULAS) - 1}end"

        return replace

    markdown = re.sub(r"^```math\n(.*?)^```$", keep("block"), markdown, flags=re.M | re.S)
    return re.sub(r"\$`([^`]+)`\$", keep("inline"), markdown)


def on_page_content(html: str, **_) -> str:
    """Puts the formulas back, as MathML."""
    return re.sub(r"formulanumber(\d+)end", lambda match: _FORMULAS[int(match[1])], html)
