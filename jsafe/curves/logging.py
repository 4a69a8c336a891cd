"""Learning curves (csv and TensorBoard), the progress line, and the summary of a run."""

from __future__ import annotations

import collections
import contextlib
import csv
import hashlib
import io
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

WALL_COLUMNS = ("time/wall_seconds", "time/steps_per_second")
"""The columns of progress.csv in which a resumed run differs from an unbroken one."""


class Interval:
    """Averages of metrics over the iterations since the last row.

    Metrics stay on the device until they are read; averages are of float64 sums in the order of the iterations, so
    that a run that was saved in the middle of an interval continues to the same numbers.
    """

    def __init__(self):
        self._pending: list[dict[str, jax.Array]] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._episodes: dict[str, float] = {}

    def add(self, metrics: Mapping[str, jax.Array], episodes: Mapping[str, float]) -> None:
        """Takes the metrics of one iteration (not waited for) and the episode statistics after it."""
        self._pending.append(dict(metrics))
        finished = self._episodes.get("episode/count", 0.0) + episodes.get("episode/count", 0.0)
        self._episodes = {**episodes, "episode/count": finished}
        if len(self._pending) >= 256:
            self._settle()

    def nonfinite(self) -> list[str]:
        """Names of the metrics that were NaN or infinite in this interval."""
        self._settle()
        return sorted(name for name, value in self._sums.items() if not math.isfinite(value))

    def row(self) -> dict[str, float]:
        """The averages of the interval; starts the next one."""
        self._settle()
        row = {**self._episodes, **{name: value / self._count for name, value in sorted(self._sums.items())}}
        self._sums, self._count, self._episodes = {}, 0, {}
        return row

    def __len__(self) -> int:
        return self._count + len(self._pending)

    def state_dict(self) -> dict[str, Any]:
        """The unfinished interval."""
        self._settle()
        return {"sums": dict(self._sums), "count": self._count, "episodes": dict(self._episodes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._pending = []
        self._sums, self._count, self._episodes = dict(state["sums"]), state["count"], dict(state["episodes"])

    def forget_episodes(self) -> None:
        """Drops the statistics of episodes, and keeps the metrics."""
        self._episodes = {}

    def _settle(self) -> None:
        for metrics in jax.device_get(self._pending):
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += len(self._pending)
        self._pending = []


class CsvTable:
    """An append-only csv file that survives kills and full disks.

    A row that cannot be written is kept and written with the next one; a row of which only a part reached the disk is
    cut off again.

    Args:
      path: The file; its folder exists.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._rows: list[dict[str, float]] = []
        self._columns: list[str] | None = None

    def continue_after(self, iteration: int) -> None:
        """Drops what was written after `iteration`, and a last line that was cut off."""
        kept = (
            [row for row in read_csv(self.path) if float(row["iteration"]) <= iteration] if self.path.exists() else []
        )
        if kept:
            self._columns = list(kept[0])
            self._replace(kept)
        else:
            self.path.unlink(missing_ok=True)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds a row.

        Raises:
          OSError: If it could not be written; it will be tried again with the next row.
        """
        self._rows.append(dict(row))
        new = [name for name in row if name not in (self._columns or ())]
        if self._columns is None or new:
            kept = read_csv(self.path) if self.path.exists() else []
            columns = [*(self._columns or ()), *new]
            self._replace([*kept, *self._rows], columns)
            self._columns = columns
        else:
            self._write(self._rows)
        self._rows = []

    def sync(self) -> None:
        """Waits until the file is on the disk."""
        if self.path.exists():
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def state_dict(self) -> dict[str, Any]:
        """Rows that are not in the file yet."""
        return {"rows": list(self._rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._rows = list(state["rows"])

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        size = self.path.stat().st_size
        try:
            with open(self.path, "a", newline="") as file:
                file.write(_lines(self._columns, rows))
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise

    def _replace(self, rows: list[Mapping[str, Any]], columns: list[str] | None = None) -> None:
        columns = columns or self._columns
        temporary = self.path.with_name(f".{self.path.name}.new")
        with open(temporary, "w", newline="") as file:
            file.write(",".join(columns) + "\n" + _lines(columns, rows))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)


def _lines(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[row.get(name, "") for name in columns] for row in rows])
    return text.getvalue()


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of a csv file as text, without a last line that was cut off in writing."""
    text = Path(path).read_text()
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))


def read_progress(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of a progress.csv as float64 arrays; an empty cell is NaN.

    Raises:
      ValueError: If the file holds no rows.
    """
    rows = read_csv(path)
    if not rows:
        raise ValueError(f"{path} holds no rows yet")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


class Events:
    """TensorBoard scalars, written in the calling thread so that a full disk is an `OSError` here and no hang.

    Args:
      folder: Where the event file goes.
      step: First step of this file: TensorBoard hides events of earlier files from there on.
    """

    def __init__(self, folder: str | os.PathLike, step: int = 0):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(Path(folder) / "events"), f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=step, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one step and flushes them."""
        scalars = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=scalars)))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            self._writer.close()


class WandbRun:
    """The same rows on Weights & Biases, in a project `jsafe`; a resumed run continues its curve.

    Args:
      folder: Run folder; its name is the run's name, and files for offline mode lie in it.
      config: What to record as the run's configuration.

    Raises:
      ValueError: If wandb is not installed.
    """

    def __init__(self, folder: str | os.PathLike, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError:
            raise ValueError("wandb is not installed: pip install 'jsafe[wandb]', or leave --wandb out") from None
        folder = Path(folder).resolve()
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._run = wandb.init(
            project="jsafe", name=folder.name, id=name, resume="allow", dir=str(folder), config=dict(config)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the scalars of one step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the session."""
        self._run.finish()


def headline(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """What to show of a run in a line: success or return, cost against its limit, multipliers.

    Reads `episode/*` and, where the algorithm reports them, `rule/limit` (costs per step) or `rule/limit_episodic`
    (costs per episode) and `rule/multiplier`, each also with an index behind it (`rule/multiplier_0`).
    """
    pairs = []
    if values.get("episode/success", math.nan) > 0:
        pairs.append(("success", f"{values['episode/success']:.2f}"))
    elif math.isfinite(values.get("episode/return", math.nan)):
        pairs.append(("return", f"{values['episode/return']:.2f}"))
    episodic, per_step = limits(values)
    cost, rate = values.get("episode/cost", math.nan), values.get("episode/cost_rate", math.nan)
    if episodic and math.isfinite(cost):
        pairs.append(("cost", f"{cost:.2f}/{'+'.join(f'{limit:.4g}' for limit in episodic)}"))
    elif math.isfinite(rate):
        against = "/" + "+".join(f"{limit:.2g}" for limit in per_step) if per_step else ""
        pairs.append(("cost rate", f"{rate:.2g}{against}"))
    multipliers = [f"{value:.3g}" for name, value in sorted(values.items()) if name.startswith("rule/multiplier")]
    if multipliers:
        pairs.append(("multiplier", " ".join(multipliers)))
    return pairs


def limits(values: Mapping[str, float]) -> tuple[list[float], list[float]]:
    """Limits that an algorithm reports, per episode and per step."""
    named = [(name, value) for name, value in sorted(values.items()) if name.startswith("rule/limit")]
    episodic = [value for name, value in named if name.startswith("rule/limit_episodic")]
    return episodic, [value for name, value in named if not name.startswith("rule/limit_episodic")]


class Progress:
    """A live line on a terminal, or a plain line every `plain_seconds` elsewhere.

    Args:
      console: Where to write.
      total: Environment steps at the end.
      done: Environment steps at the start (a resumed run).
      plain_seconds: Time between plain lines.
    """

    def __init__(self, console: Console, total: int, done: int = 0, plain_seconds: float = 30.0):
        self._console, self._total = console, total
        self._plain_seconds, self._printed = plain_seconds, -math.inf
        self._newest = (time.monotonic(), done)
        self._recent = collections.deque([self._newest], maxlen=1000)
        self._compiled = False
        self._values: dict[str, float] = {}
        self._live = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._renderable, console=console, refresh_per_second=2)
            self._live.start()

    def update(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Shows where the run stands; `values` are added to the ones known before."""
        now = time.monotonic()
        self._values.update(values)
        self._newest = (now, env_steps)
        if not self._compiled:  # the first iteration compiles: its time says nothing of the speed
            self._compiled = True
            self._recent[0] = self._newest
        elif now - self._recent[-1][0] >= 0.1:
            self._recent.append(self._newest)
        while len(self._recent) > 2 and now - self._recent[0][0] > 30:
            self._recent.popleft()
        if self._live is None and now - self._printed >= self._plain_seconds:
            self._printed = now
            print(self._text(), file=self._console.file, flush=True)

    def message(self, text: str) -> None:
        """Prints a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the last state of the line on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._compiled:
            print(self._text(), file=self._console.file, flush=True)

    def _text(self) -> str:
        (start, first), (end, steps) = self._recent[0], self._newest
        speed = (steps - first) / (end - start) if end > start else 0.0
        parts = [f"{count(steps)}/{count(self._total)} steps"]
        if speed > 0:
            parts.append(f"{speed:.0f} steps/s")
        parts += [f"{name} {value}" for name, value in headline(self._values)]
        if speed > 0 and steps < self._total:
            parts.append(f"{duration((self._total - steps) / speed)} left")
        return ", ".join(parts)

    def _renderable(self) -> Any:
        text = Text(self._text(), no_wrap=True, overflow="ellipsis")
        if self._console.width < 110:
            return text
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(total=self._total, completed=self._newest[1], width=20), text)
        return grid


def count(number: float) -> str:
    """A count for people: 950, 12.5k, 3.00M."""
    if number < 1e4:
        return f"{number:.0f}"
    return f"{number / 1e3:.1f}k" if number < 1e6 else f"{number / 1e6:.2f}M"


def duration(seconds: float) -> str:
    """A time span for people: 9 s, 4:05 min, 2:10 h."""
    if not math.isfinite(seconds):
        return "?"
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds // 60 % 60:02d} h"


def summary(title: str, pairs: Iterable[tuple[str, str]]) -> Table:
    """A table of two columns, as printed at the end of a run."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in pairs:
        table.add_row(name, value)
    return table
