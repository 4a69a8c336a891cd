"""Sweeps: the runs of a grid, several at a time, resumable, with one table and one plot at the end.

`jsafe.sweeps.grid` reads the file that describes them. A sweep lives in a folder:

    SWEEP/sweep.json                        the runs and how they ended
    SWEEP/runs/RUN/                         an ordinary run folder, and what its process has printed (train.log)
    SWEEP/table.csv, table.md, curves.png   what came out

Each run is a process of `jsafe train --resume`, whether it is new or was interrupted. Launchers of other libraries
(Hydra's, Ray's) start failed jobs again from the beginning and bring a server or a configuration language with them;
what is needed here is a loop over processes and one file.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jsafe.curves import logging
from jsafe.options import difference
from jsafe.runs import folder as runs
from jsafe.runs.folder import RunError
from jsafe.sweeps import grid
from jsafe.sweeps.grid import Cell

_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
_PATIENCE = 120.0


class Report(NamedTuple):
    """How a session of a sweep ended.

    Attributes:
      states: `finished`, `failed`, `interrupted` or `waiting` for each run.
      files: Table and plot, if any run has finished.
      signal: The signal that ended the session, or None.
    """

    states: dict[str, str]
    files: list[Path]
    signal: int | None = None


def run(
    cells: Sequence[Cell],
    folder: str | os.PathLike,
    *,
    workers: int = 1,
    retry: bool = False,
    console: Console | None = None,
) -> Report:
    """Trains what is not finished yet, several runs at a time.

    SIGINT and SIGTERM let all runs save and end; so does the end of this process, however it comes. Interrupted runs
    continue in the next session. A run that fails is reported with the end of its log, and the others go on.

    Args:
      cells: From `jsafe.sweeps.grid.read` or `expand`. New ones may join those that the folder holds already.
      folder: Folder of the sweep.
      workers: Processes at a time; the cores, and the memory of a GPU, are divided among them.
      retry: Also continue the runs that have failed.
      console: Where to report; standard error by default.

    Raises:
      ValueError: If the folder holds something else, or a sweep with other values.
      RunError: If another sweep works in the folder, or it cannot be written.
    """
    from jsafe.runs.session import Signals

    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    console, store = console or Console(stderr=True), Store(Path(folder), cells)
    with Signals() as stop, _lock(store.folder, stop, console) as lock:
        store.load()
        session = _Session(store, workers, retry, lock, console)
        with contextlib.closing(session):
            while session.step(stopping=stop.signal is not None):
                time.sleep(0.1)
    files = []
    if stop.signal is None:
        files = summarize(store)
    return Report({cell.name: session.states[cell.name] for cell in cells}, files, stop.signal)


class Store:
    """The file that knows how runs ended."""

    def __init__(self, folder: Path, cells: Sequence[Cell]):
        self.folder, self.cells = folder, cells
        self.ended: dict[str, str] = {}
        self._path = folder / "sweep.json"

    def path(self, cell: Cell) -> Path:
        """The run folder."""
        return self.folder / "runs" / cell.name

    def load(self) -> None:
        """Reads what an earlier session left; nothing may have changed, but runs may be new."""
        try:
            old = json.loads(self._path.read_text()) if self._path.exists() else {"runs": {}, "ended": {}}
        except (OSError, ValueError) as error:
            raise RunError(f"{self._path} cannot be read: {error}") from error
        new = {cell.name: cell.given for cell in self.cells}
        lines = [f"{name}: not in the file any more" for name in old["runs"] if name not in new]
        for name, given in old["runs"].items():
            lines += [f"{name}: {line}" for line in difference(given, new.get(name, given))]
        if lines:
            shown = "\n  ".join([*lines[:8], *(["..."] if len(lines) > 8 else [])])
            raise ValueError(f"{self.folder} holds another sweep; name another --folder\n  {shown}")
        for cell in self.cells:
            if cell.name not in old["runs"] and self.path(cell).exists():
                raise ValueError(f"{self.path(cell)} exists, but does not belong to this sweep; name another --folder")
        self.ended = old["ended"]
        self.save()

    def save(self) -> None:
        """Writes the file, at once or not at all."""
        data = {"runs": {cell.name: cell.given for cell in self.cells}, "ended": self.ended}
        temporary = self._path.with_name(".sweep.json.new")
        try:
            temporary.write_text(json.dumps(data, indent=1) + "\n")
            os.replace(temporary, self._path)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error}") from error


@contextlib.contextmanager
def _lock(folder: Path, stop: Any, console: Console) -> Iterator[int]:
    """One sweep at a time. The runs hold the lock too: after a kill of the sweep, it is free once they have saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise RunError(f"cannot write to the sweep folder {folder}: {error}") from error
    with file:
        end = None
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                owner = int(file.read() or 0)
                if owner and _alive(owner):
                    raise RunError(f"another sweep (process {owner}) works in {folder}") from None
            if end is None:
                console.print("waiting for runs of an earlier session to save", highlight=False)
                end = time.monotonic() + _PATIENCE
            if stop.signal is not None or time.monotonic() > end:
                raise RunError(f"runs of an earlier session still work in {folder}")
            time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Session:
    """The processes of one session."""

    def __init__(self, store: Store, workers: int, retry: bool, lock: int, console: Console):
        self.store, self.console, self._lock = store, console, lock
        self._free = list(range(workers))
        self._environments = [worker_environment(slot, workers) for slot in self._free]
        again = ("failed",) if retry else ()
        self.states = {cell.name: store.ended.get(cell.name, "waiting") for cell in store.cells}
        self.states = {name: "waiting" if state in again else state for name, state in self.states.items()}
        self._waiting = [cell for cell in store.cells if self.states[cell.name] == "waiting"]
        self._running: dict[int, tuple[Cell, subprocess.Popen]] = {}
        finished = sum(state == "finished" for state in self.states.values())
        console.print(
            f"{len(store.cells)} runs in {store.folder}, {finished} finished, {workers} at a time",
            highlight=False,
            soft_wrap=True,
        )
        self._screen = Screen(console, store, self.states)

    def step(self, stopping: bool) -> bool:
        """Starts and ends what is due; whether something is left to do."""
        if stopping:
            self._waiting = []
            self._ask_to_end()
        while self._waiting and self._free:
            self._start(self._waiting.pop(0))
        for slot, (cell, process) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[slot]
                self._free.append(slot)
                process.stdin.close()
                self._end(cell, code)
        self._screen.update()
        return bool(self._running or self._waiting)

    def close(self) -> None:
        """Leaves the screen; runs that still work save and end."""
        self._screen.close()
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        for _, process in self._running.values():
            process.stdin.close()

    def _start(self, cell: Cell) -> None:
        path, slot = self.store.path(cell), self._free.pop(0)
        environment = self._environments[slot]
        words = [sys.executable, "-m", "jsafe.sweeps.session", str(path)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / "config.json").exists():
                runs.describe(cell.config, cell.algorithm, cell.options, path)
            with open(path / "train.log", "ab") as log:
                process = subprocess.Popen(
                    [*words, str(cell.config.num_threads or environment["PJRT_NPROC"])],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(self._lock,),
                    start_new_session=True,  # Ctrl-C is for this process, which then asks them all to end
                )
        except OSError as error:
            self._free.append(slot)
            self._failed(cell, f"could not be started: {error}")
            return
        self._running[slot] = cell, process
        self.states[cell.name] = "running"

    def _end(self, cell: Cell, code: int) -> None:
        if code == 0:
            self._note(cell, "finished")
            self._screen.event(f"{cell.name}: finished")
        elif code in _STOPPED:
            self.states[cell.name] = "interrupted"
            self._screen.event(f"{cell.name}: interrupted, saved")
        else:
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            self._failed(cell, f"failed ({how}); the end of {self.store.path(cell) / 'train.log'}:\n{self._tail(cell)}")

    def _failed(self, cell: Cell, text: str) -> None:
        self._note(cell, "failed")
        self._screen.event(f"{cell.name}: {text}")

    def _note(self, cell: Cell, state: str) -> None:
        self.states[cell.name] = self.store.ended[cell.name] = state
        try:
            self.store.save()
        except RunError as error:  # the next one that ends writes this, too; else the run is looked at once more
            self._screen.event(f"warning: {error}")

    def _tail(self, cell: Cell, lines: int = 12) -> str:
        with open(self.store.path(cell) / "train.log", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 10_000))
            text = log.read().decode(errors="replace").rstrip()
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])


def worker_environment(slot: int, workers: int) -> dict[str, str]:
    """Environment variables of a worker: its share of the cores, its GPU, its share of that one's memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    made = {"PJRT_NPROC": str(max(1, cores // workers)), **os.environ}  # how many threads XLA starts
    gpus = [number for number in made.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
    if len(gpus) > 1:
        made["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    sharing = -(-workers // max(1, len(gpus)))
    if sharing > 1:
        made.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / sharing:.3f}")
    return made


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
                    columns = logging.read_progress(path)
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
        text += f"; {logging.count(done)}/{logging.count(total)} steps"
        speed = (done - self._before) / max(time.monotonic() - self._started, 1e-9)
        return text + (f", about {logging.duration(left / speed)} left" if left and speed > 0 else "")

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
            parts = [f"{logging.count(values['env_steps'])} steps"] if values else []
            if values and state == "running":
                parts.append(f"{values['time/steps_per_second']:.0f} steps/s")
            parts += [f"{name} {value}" for name, value in logging.headline(values)]
            bar = ProgressBar(total=cell.config.total_steps, completed=values.get("env_steps", 0.0), width=15)
            grid.add_row(cell.name, state, bar, ", ".join(parts))
        hidden = len(cells) - len(shown)
        return Group(grid, Text(self._overall() + (f" ({hidden} more runs are not shown)" if hidden else "")))


def summarize(store: Store) -> list[Path]:
    """Writes table.csv, table.md and curves.png of the runs that have finished; none if there are none."""
    from jsafe.report import plot

    finished = [cell for cell in store.cells if store.ended.get(cell.name) == "finished"]
    if not finished:
        return []
    rows = grid.table([(cell, plot.load(store.path(cell)).columns) for cell in finished])
    path = store.folder / "table"
    try:
        with open(path.with_suffix(".csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        path.with_suffix(".md").write_text(grid.markdown(rows))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
    drawn = plot.save([store.path(cell) for cell in finished], store.folder / "curves.png")
    return [path.with_suffix(".csv"), path.with_suffix(".md"), drawn]


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains a grid of runs from a TOML file; the same command again continues."""

    config: tyro.conf.Positional[Path]
    """The sweep file."""
    folder: Path | None = None
    """Folder of the sweep (default: sweeps/NAME of the file)."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = 1
    """Runs at a time, each in its own process; the cores are divided among them."""
    retry: bool = False
    """Also continue runs that have failed."""
    dry_run: bool = False
    """Check the file and list its runs; start nothing."""


def main(given: Options) -> int:
    """`jsafe sweep`; returns the exit status."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator is for the workers
    cells = grid.read(given.config)
    if given.dry_run:
        print("\n".join(cell.name for cell in cells))
        return 0
    folder = given.folder or Path("sweeps") / given.config.stem
    report = run(cells, folder, workers=given.workers, retry=given.retry)
    again = f"jsafe sweep {given.config}" + (f" --folder {given.folder}" if given.folder else "")
    if report.files:
        shown = report.files[1].read_text()
        Console().print(Markdown(shown) if sys.stdout.isatty() else shown, highlight=False, soft_wrap=True)
        print("\n".join(map(str, report.files)))
    if report.signal is not None:
        print(f"interrupted; continue with: {again}", file=sys.stderr)
        return 128 + report.signal
    bad = {state: [name for name, each in report.states.items() if each == state] for state in report.states.values()}
    if bad.get("failed"):
        print(f"failed: {', '.join(bad['failed'])}\ntry them again with: {again} --retry", file=sys.stderr)
    if bad.get("interrupted"):
        print(f"interrupted: {', '.join(bad['interrupted'])}\ncontinue with: {again}", file=sys.stderr)
    return 0 if set(report.states.values()) == {"finished"} else 1


def _work(folder: str, threads: str) -> int:
    """A worker: trains one run; when its input is closed, it saves and ends."""
    from jsafe import cli

    def wait_for_the_end():
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    return cli.main(["train", "--resume", folder, "--num-threads", threads])


if __name__ == "__main__":
    sys.exit(_work(*sys.argv[1:]))
