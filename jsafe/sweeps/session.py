"""Sweeps: the runs of a grid, several at a time, resumable, with one table and one plot at the end.

`jsafe.sweeps.grid` reads the file that describes them. A sweep lives in a folder:

    SWEEP/sweep.json                        the runs and how they ended
    SWEEP/runs/RUN/                         an ordinary run folder, and what its process has printed (train.log)
    SWEEP/table.csv, table.md, curves.png   what came out

Each run is a process (`jsafe.sweeps.worker`) that continues its folder, whether it is new or was interrupted. Launchers
of other libraries (Hydra's, Ray's) start failed jobs again from the beginning and bring a server or a configuration
language with them; what is needed here is a loop over processes and one file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from jsafe.curves.screen import console as make_console
from jsafe.runs import folder as folders
from jsafe.runs.folder import CONFIG, RunError
from jsafe.runs.lock import LockedError, lock
from jsafe.sweeps.grid import Cell
from jsafe.sweeps.screen import Screen
from jsafe.sweeps.store import Store
from jsafe.sweeps.table import summarize

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
    shared: bool = False,
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
      shared: Whether the folder may hold other runs, too, and ones of ours that `jsafe train` began there: these are
        taken in if they are what the cells say.
      console: Where to report; standard error by default.

    Raises:
      ValueError: If the folder holds something else, or a sweep with other values.
      RunError: If another sweep works in the folder, or it cannot be written.
    """
    from jsafe.runs.session import Signals

    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    console, store = console or make_console(), Store(Path(folder), cells, shared)
    with Signals() as stop, _held(store.folder, stop, console) as descriptor:
        store.load()
        session = _Session(store, workers, retry, descriptor, console)
        with contextlib.closing(session):
            while session.step(stopping=stop.signal is not None):
                time.sleep(0.1)
    files = []
    if stop.signal is None:
        files = summarize(store)
    return Report({cell.name: session.states[cell.name] for cell in cells}, files, stop.signal)


@contextlib.contextmanager
def _held(folder: Path, stop: Any, console: Console) -> Iterator[int]:
    """One sweep at a time. The runs hold the lock too: after a kill of the sweep, it is free once they have saved."""
    end = None
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                descriptor = stack.enter_context(lock(folder, "sweep"))
                break
            except OSError as error:
                raise RunError(f"cannot write to the sweep folder {folder}: {error.strerror or error}") from error
            except LockedError as error:
                if error.owner.get("host") != socket.gethostname() or _alive(error.owner["pid"]):
                    raise RunError(str(error)) from None
            if end is None:
                console.print("waiting for runs of an earlier session to save", highlight=False)
                end = time.monotonic() + _PATIENCE
            if stop.signal is not None or time.monotonic() > end:
                raise RunError(f"runs of an earlier session still work in {folder}")
            time.sleep(0.1)
        yield descriptor


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _close_input(process: subprocess.Popen) -> None:
    """Tells a worker that nobody waits for it any more."""
    if process.stdin is not None:
        process.stdin.close()


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
                _close_input(process)
                self._end(cell, code)
        self._screen.update()
        return bool(self._running or self._waiting)

    def close(self) -> None:
        """Leaves the screen; runs that still work save and end."""
        self._screen.close()
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        for _, process in self._running.values():
            _close_input(process)

    def _start(self, cell: Cell) -> None:
        path, slot = self.store.path(cell), self._free.pop(0)
        environment = self._environments[slot]
        words = [sys.executable, "-m", "jsafe.sweeps.worker", str(path)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / CONFIG).exists():
                folders.write(cell.run, path)
            with open(path / "train.log", "ab") as log:
                process = subprocess.Popen(
                    [*words, str(cell.config.num_threads or environment["PJRT_NPROC"])],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(self._lock,) if os.name == "posix" else (),
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
