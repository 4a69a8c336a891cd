"""What a run shows of itself: the progress line, the summary at its end, and streams that cannot end it."""

from __future__ import annotations

import collections
import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jsafe.curves.vocabulary import EPISODES_COUNTED, Cost, costs

WINDOW = 100
"""Finished episodes that the means of `episode/*` are over, at most."""

_PLAIN = str.maketrans(
    {"±": "+-", "…": "..."}
    | dict.fromkeys("─━╸╺", "-")
    | dict.fromkeys("│┃", "|")
    | dict.fromkeys("╭╮╰╯┏┓┗┛┡┩└┘├┤┬┴┼╇", "+")
)


class Steady(io.TextIOBase):
    """A stream that drops what cannot be written: a reader that has gone, a full disk, letters it does not know.

    Args:
      stream: Standard output or error; None where the process has none.
    """

    def __init__(self, stream: TextIO | None):
        self._stream = stream
        self.lost = False
        """Whether a line was dropped."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Writes, or drops what cannot be written."""
        self._attempt(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flushes, if that can be done."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """Descriptor of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def finish(self) -> None:
        """Flushes for the last time: what cannot be written by now goes nowhere."""
        self._attempt(lambda stream: stream.flush(), last=True)

    def _attempt(self, action: Callable[[TextIO], Any], last: bool = False) -> None:
        if self._stream is None:
            return
        try:
            action(self._stream)
        except (OSError, ValueError) as error:  # a full disk may have room again later, a reader never comes back
            self.lost = True
            if last or isinstance(error, BrokenPipeError):
                with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), self._stream.fileno())


def steady(stream: TextIO | None) -> Steady:
    """A `Steady` stream; an old or plain terminal gets the nearest letters it has."""
    if isinstance(stream, Steady):
        return stream
    if isinstance(stream, io.TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
        return _Plain(stream)
    if isinstance(stream, io.TextIOWrapper):  # names of files may hold bytes that are no letters
        stream.reconfigure(errors="backslashreplace")
    return Steady(stream)


class _Plain(Steady):
    """For streams of few letters."""

    def write(self, text: str) -> int:
        plain = text.translate(_PLAIN).encode(self.encoding, "replace").decode(self.encoding)
        super().write(plain)
        return len(text)


def console(stderr: bool = True, quiet: bool = False) -> Console:
    """Where the program talks to people: standard error, or standard output. Text is never read as markup.

    Args:
      stderr: Standard error rather than standard output.
      quiet: Say nothing.
    """
    stream = cast(IO[str], steady(sys.stderr if stderr else sys.stdout))
    return Console(file=stream, quiet=quiet, markup=False, emoji=False, highlight=False)


# ---- a line ------------------------------------------------------------------------------------------------------


def headline(
    values: Mapping[str, float], cost_names: Sequence[str] = (), offline: bool = False
) -> list[tuple[str, str]]:
    """What to show of a run in a line: success or return, each cost against its limit, multipliers.

    Until every environment has finished an episode there are no means: the number of episodes is shown then, or of
    what learns from a data set its losses.

    Args:
      values: A row of a learning curve (`jsafe.curves.vocabulary`).
      cost_names: Of the environment.
      offline: Whether there is a data set in the place of episodes.
    """
    pairs = []
    success, total = values.get("episode/success", math.nan), values.get("episode/return", math.nan)
    if success > 0:
        pairs.append(("success", f"{success:.2f}"))
    elif math.isfinite(total):
        pairs.append(("return", f"{total:.2f}"))
    elif offline:
        losses = [f"{name[5:]} {value:.3g}" for name, value in sorted(values.items()) if name.startswith("loss/")]
        pairs += [("loss:", ", ".join(losses))] if losses else []
    elif EPISODES_COUNTED in values:
        pairs.append(("episodes", f"{values[EPISODES_COUNTED]:.0f} of {WINDOW}"))
    found = costs(values, cost_names)
    pairs += [(cost.name, _against_limit(cost)) for cost in found if math.isfinite(cost.measured)]
    multipliers = [f"{cost.multiplier:.3g}" for cost in found if math.isfinite(cost.multiplier)]
    if multipliers:
        pairs.append(("multiplier", " ".join(multipliers)))
    return pairs


def _against_limit(cost: Cost) -> str:
    number = f"{cost.measured:.2g}" if cost.unit == "step" else f"{cost.measured:.2f}"
    if math.isfinite(cost.bound):
        number += f"/{cost.bound:.4g}"
    return f"{number}{' per step' if cost.unit == 'step' else ''} {cost.verdict}".rstrip()


class Progress:
    """A live line on a terminal, or a plain line every `plain_seconds` elsewhere.

    Args:
      console: Where to write, from `console()`.
      total: Environment steps at the end.
      done: Environment steps at the start (a resumed run).
      plain_seconds: Time between plain lines.
      cost_names: Of the environment.
      unit: What is counted.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int = 0,
        plain_seconds: float = 30.0,
        cost_names: Sequence[str] = (),
        unit: str = "steps",
    ):
        self._console, self._total, self._cost_names, self._unit = console, total, cost_names, unit
        self._plain_seconds, self._printed = plain_seconds, -math.inf
        self._newest = (time.monotonic(), done)
        self._recent = collections.deque([self._newest], maxlen=1000)
        self._compiled = False
        self._values: dict[str, float] = {}
        self._live = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._renderable, console=console, refresh_per_second=2)
            self._live.start()

    @property
    def values(self) -> dict[str, float]:
        """The newest value of everything that was shown: those of a row, and the episodes since."""
        return dict(self._values)

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
        if not self._compiled:
            return f"{count(steps)}/{count(self._total)} {self._unit}, first batch and compiling"
        speed = (steps - first) / (end - start) if end > start else 0.0
        parts = [f"{count(steps)}/{count(self._total)} {self._unit}"]
        if speed > 0:
            parts.append(f"{speed:.0f} {self._unit}/s")
        told = headline(self._values, self._cost_names, offline=self._unit == "updates")
        parts += [f"{name} {value}" for name, value in told]
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


# ---- at the end --------------------------------------------------------------------------------------------------


def results(
    values: Mapping[str, float], cost_names: Sequence[str] = (), offline: bool = False
) -> list[tuple[str, str]]:
    """The means over the last episodes and each cost's verdict: `limit 25: broken (56.2)`.

    Args:
      values: As they are at the end, `jsafe.curves.vocabulary` names them.
      cost_names: Of the environment.
      offline: Whether there is a data set in the place of episodes.
    """
    counted = values.get(EPISODES_COUNTED, WINDOW)
    over = f"last {WINDOW} episodes" if counted >= WINDOW else f"{counted:.0f} of {WINDOW} episodes"
    pairs = []
    for name in ("return", "success"):
        value = values.get(f"episode/{name}", math.nan)
        if math.isfinite(value):
            pairs.append((f"{name} ({over})", f"{value:.4g}"))
    for cost in costs(values, cost_names):
        if not math.isfinite(cost.measured) and (offline or not math.isfinite(cost.bound)):
            continue
        measured = f"{cost.measured:.3g}" if math.isfinite(cost.measured) else "not measured yet"
        if math.isfinite(cost.bound):
            measured = f"limit {cost.bound:.4g}: {cost.verdict} ({measured})".replace(":  (", ": (")
        pairs.append((f"{cost.name} per {cost.unit} ({over})", measured))
    if not pairs and EPISODES_COUNTED in values and not offline:
        pairs.append(("finished episodes", f"{counted:.0f} of {WINDOW}"))
    return pairs + [pair for pair in headline(values, cost_names) if pair[0] == "multiplier"]


def summary(title: str, pairs: Iterable[tuple[str, str]]) -> Table:
    """A table of two columns, as printed at the end of a run. Long values are folded, never cut."""
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(value))
    return table


def tell(outcome: Any, quiet: bool = False) -> int:
    """Prints how a training ended, and returns the exit status of its command.

    Args:
      outcome: What `jsafe.runs.session.train` has returned.
      quiet: Say nothing.
    """
    values = outcome.values
    unit = "updates" if outcome.offline else "environment steps"
    pairs = [("ended", outcome.status), (unit, count(outcome.env_steps))]
    if "time/wall_seconds" in values:
        pairs.append(("wall time", duration(values["time/wall_seconds"])))
    pairs += results(values, outcome.cost_names, outcome.offline)
    console(stderr=False, quiet=quiet).print(summary("Summary", [*pairs, ("run folder", str(outcome.folder))]))
    if outcome.message and not quiet:
        text = outcome.message if outcome.status == "interrupted" else f"error: {outcome.message}"
        print(text, file=steady(sys.stderr), flush=True)
    if outcome.status == "interrupted":
        return 128 + outcome.signal
    return 0 if outcome.status == "finished" else 1
