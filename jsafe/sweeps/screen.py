"""All runs of a sweep on the screen."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jsafe.curves.csv_table import read_progress
from jsafe.curves.screen import count, duration, headline
from jsafe.sweeps.grid import Cell
from jsafe.sweeps.store import Store


class Screen:
    """All runs on a terminal, as they stand; elsewhere a line now and then."""

    def __init__(self, console: Console, store: Store, states: dict[str, str], plain_seconds: float = 30.0):
        self._console, self._store, self._states = console, store, states
        self._plain_seconds, self._printed, self._looked = plain_seconds, time.monotonic(), -math.inf
        self._rows: dict[str, tuple[int, dict[str, float]]] = {}
        self._look()
        self._started, self._before = time.monotonic(), self._done()
        self._live = Live(get_renderable=self.renderable, console=console, refresh_per_second=2)
        if console.is_terminal:
            self._live.start()

    def update(self) -> None:
        """Looks at the curves of the runs, at most twice a second."""
        now = time.monotonic()
        if now - self._looked >= 0.5:
            self._looked = now
            self._look()
        if not self._console.is_terminal and now - self._printed >= self._plain_seconds:
            self._printed = now
            self._console.print(self._overall(), highlight=False, soft_wrap=True)

    def event(self, text: str) -> None:
        """Lines of their own, which stay."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the last state on the screen."""
        self._look()
        if self._live.is_started:
            self._live.stop()
        else:
            self._console.print(self._overall(), highlight=False, soft_wrap=True)

    def _look(self) -> None:
        for cell in self._store.cells:
            path = self._store.path(cell) / "progress.csv"
            with contextlib.suppress(OSError, ValueError):
                changed = path.stat().st_mtime_ns
                if changed != self._rows.get(cell.name, (None,))[0]:
                    columns = read_progress(path)
                    self._rows[cell.name] = changed, {name: float(values[-1]) for name, values in columns.items()}

    def _values(self, cell: Cell) -> dict[str, float]:
        return self._rows.get(cell.name, (0, {}))[1]

    def _done(self) -> float:
        return sum(self._values(cell).get("env_steps", 0.0) for cell in self._store.cells)

    def _overall(self) -> str:
        states = list(self._states.values())
        names = [name for name in ("finished", "failed", "interrupted", "running", "waiting") if name in states]
        text = ", ".join(f"{states.count(name)} {name}" for name in names)
        done, total = self._done(), sum(cell.config.total_steps for cell in self._store.cells)
        todo = [cell for cell in self._store.cells if self._states[cell.name] in ("running", "waiting")]
        left = sum(max(0.0, cell.config.total_steps - self._values(cell).get("env_steps", 0.0)) for cell in todo)
        text += f"; {count(done)}/{count(total)} steps"
        speed = (done - self._before) / max(time.monotonic() - self._started, 1e-9)
        return text + (f", about {duration(left / speed)} left" if left and speed > 0 else "")

    def renderable(self) -> Any:
        """One line for each run, as many as fit: those at work first, those that wait last."""
        order = ("running", "failed", "interrupted", "finished", "waiting")
        cells = sorted(self._store.cells, key=lambda cell: order.index(self._states[cell.name]))
        shown = cells[: max(1, self._console.height - 3)]
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for cell in shown:
            values, state = self._values(cell), self._states[cell.name]
            offline = cell.config.data is not None
            unit = "updates" if offline else "steps"
            parts = [f"{count(values['env_steps'])} {unit}"] if values else []
            if values and state == "running":
                parts.append(f"{values['time/steps_per_second']:.0f} {unit}/s")
            parts += [f"{name} {value}" for name, value in headline(values, cell.run.cost_names, offline)]
            bar = ProgressBar(total=cell.config.total_steps, completed=values.get("env_steps", 0.0), width=15)
            grid.add_row(cell.name, state, bar, ", ".join(parts))
        hidden = len(cells) - len(shown)
        return Group(grid, Text(self._overall() + (f" ({hidden} more runs are not shown)" if hidden else "")))
