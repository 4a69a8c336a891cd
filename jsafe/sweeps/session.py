"""Sweeps: the runs of a grid, several at a time, resumable, with one table and one plot at the end.

`jsafe.sweeps.grid` reads the file that describes them. A sweep lives in a folder:

    SWEEP/sweep.json                        the runs and how they ended
    SWEEP/runs/RUN/                         an ordinary run folder, and what its process has printed (train.log)
    SWEEP/table.csv, table.md, curves.png   what came out

Each run is a process (`jsafe.sweeps.worker`) that continues its folder, whether it is new or was interrupted; new runs
that differ in seeds and traced numbers alone can share one, and a program (`together`). Where it works is up to a pool
(`jsafe.sweeps.pools`): processes of this machine, tasks of a Ray cluster, jobs of Slurm.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from jsafe.curves.screen import console as make_console
from jsafe.options import static, to_json
from jsafe.runs import folder as folders
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.folder import CONFIG, RunError
from jsafe.runs.lock import LockedError, lock
from jsafe.runs.signals import Signals
from jsafe.sweeps.grid import Cell
from jsafe.sweeps.pools import Ended, Engine, Job, Local, Pool, cluster
from jsafe.sweeps.screen import Screen
from jsafe.sweeps.store import Store
from jsafe.sweeps.table import summarize
from jsafe.sweeps.worker import BUSY, LOG, last_event

_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
_PATIENCE = 120.0
_LOSSES = 3
"""Workers that a run may lose in a row without a new checkpoint."""
_BUSY_SECONDS = 30.0


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
    workers: int | None = None,
    retry: bool = False,
    on: Engine | None = None,
    options: Mapping[str, Any] | None = None,
    shared: bool = False,
    together: int = 1,
    console: Console | None = None,
) -> Report:
    """Trains what is not finished yet, several runs at a time.

    SIGINT and SIGTERM let all runs save and end; so does the end of this process, however it comes. Interrupted runs
    continue in the next session. A run that fails is reported with the end of its log, and the others go on.

    Args:
      cells: From `jsafe.sweeps.grid.read` or `expand`. New ones may join those that the folder holds already.
      folder: Folder of the sweep.
      workers: Runs at a time. Here 1 by default; the cores, and the memory of a GPU, are divided among them. On a
        cluster as many as it has room for.
      retry: Also continue the runs that have failed.
      on: A cluster, in place of this machine. A run whose worker is lost goes on elsewhere from its newest checkpoint.
      options: Of the cluster: `cpus` and `gpus` of each run, and what its engine takes (`jsafe.sweeps.pools`).
      shared: Whether the folder may hold other runs, too, and ones of ours that `jsafe train` began there: these are
        taken in if they are what the cells say.
      together: At most so many new runs in one program (`jsafe.runs.many`), where they differ in their seeds and in
        numbers of the learner's state (limits, rates) alone. Interrupted ones continue one by one.
      console: Where to report; standard error by default.

    Raises:
      ValueError: If the folder holds something else, or a sweep with other values.
      RunError: If another sweep works in the folder, or it cannot be written.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if together < 1:
        raise ValueError(f"together must be at least 1, got {together}")
    console, store = console or make_console(), Store(Path(folder), cells, shared)
    with Signals() as stop, _held(store.folder, stop, console) as descriptor:
        store.load()
        pool: Pool = (
            Local(workers or 1, descriptor) if on is None else cluster(on, store.folder, workers, options or {})
        )
        session = _Session(store, pool, retry, together, console)
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


def packs(
    cells: Sequence[Cell], most: int, begun: Callable[[Cell], bool] = lambda cell: False
) -> list[tuple[Cell, ...]]:
    """Cells that can share a program side by side, at most so many; in the order of their firsts.

    Those that have begun, or collect ahead, are alone.
    """
    open_packs: dict[str, list[Cell]] = {}
    found: list[list[Cell]] = []
    for cell in cells:
        if most == 1 or cell.config.depth or begun(cell):
            found.append([cell])
            continue
        program = to_json(cell.config) | {"seed": None}, static(cell.options)
        key = json.dumps((cell.algorithm, *program))
        if len(open_packs.get(key, ())) in (0, most):
            open_packs[key] = []
            found.append(open_packs[key])
        open_packs[key].append(cell)
    return [tuple(pack) for pack in found]


class _Session:
    """The runs of one session."""

    def __init__(self, store: Store, pool: Pool, retry: bool, together: int, console: Console):
        self.store, self.console, self._pool = store, console, pool
        again = ("failed",) if retry else ()
        self.states = {cell.name: store.ended.get(cell.name, "waiting") for cell in store.cells}
        self.states = {name: "waiting" if state in again else state for name, state in self.states.items()}
        waiting = [cell for cell in store.cells if self.states[cell.name] == "waiting"]
        self._waiting = packs(waiting, together, lambda cell: bool(Checkpoints(store.path(cell)).list()))
        self._running: list[tuple[tuple[Cell, ...], Job]] = []
        self._losses: dict[str, tuple[int, int]] = {}  # of each run: where it stood, and workers lost since then
        self._not_before: dict[str, float] = {}
        self._stopping = False
        finished = sum(state == "finished" for state in self.states.values())
        console.print(
            f"{len(store.cells)} runs in {store.folder}, {finished} finished, {pool.told}",
            highlight=False,
            soft_wrap=True,
        )
        self._screen = Screen(console, store, self.states)

    def step(self, stopping: bool) -> bool:
        """Starts and ends what is due; whether something is left to do."""
        if stopping:
            self._waiting, self._stopping = [], True
            self._ask_to_end()
        now = time.monotonic()
        due = [pack for pack in self._waiting if self._not_before.get(pack[0].name, now) <= now]
        for pack in due[: self._pool.workers - len(self._running)]:
            self._waiting.remove(pack)
            self._start(pack)
        for pack, job in list(self._running):
            if (ended := job.poll()) is not None:
                self._running.remove((pack, job))
                if len(pack) == 1 or ended.code == 0:
                    for cell in pack:
                        self._end(cell, ended)
                else:
                    self._apart(pack, ended)
        self._screen.update()
        return bool(self._running or self._waiting)

    def close(self) -> None:
        """Leaves the screen; runs that still work save and end."""
        self._screen.close()
        self._ask_to_end()
        self._pool.close()

    def _ask_to_end(self) -> None:
        for _, job in self._running:
            job.stop()

    def _start(self, pack: tuple[Cell, ...]) -> None:
        paths = [self.store.path(cell) for cell in pack]
        try:
            for cell, path in zip(pack, paths):
                path.mkdir(parents=True, exist_ok=True)
                if not (path / CONFIG).exists():
                    folders.write(cell.run, path)
            job = self._pool.start(paths, pack[0].config.num_threads)
        except OSError as error:
            for cell in pack:
                self._failed(cell, f"could not be started: {error}")
            return
        self._running.append((pack, job))
        for cell in pack:
            self.states[cell.name] = "running"

    def _apart(self, pack: tuple[Cell, ...], ended: Ended) -> None:
        """Runs of one program that did not all finish: those that have not, nor diverged, go on from their own newest
        checkpoints."""
        how = ended.how or f"exit status {ended.code}"
        left = []
        for cell in pack:
            event = last_event(self.store.path(cell))
            if event == "finished":
                self._end(cell, Ended(0))
            elif event == "diverged":
                self._end(cell, Ended(1, "it diverged"))
            else:
                left.append(cell)
        for cell in left:
            self.states[cell.name] = "interrupted" if self._stopping else "waiting"
        if not left:
            return
        told = f"{left[0].name} and {len(left) - 1} more in its program"
        if self._stopping:
            self._screen.event(f"{told}: interrupted, {how}")
            return
        self._screen.event(f"{told} ended ({how}); they go on one by one:\n{self._tail(pack[0])}")
        self._waiting += [(cell,) for cell in left]

    def _end(self, cell: Cell, ended: Ended) -> None:
        if ended.code == 0:
            self._note(cell, "finished")
            self._screen.event(f"{cell.name}: finished")
        elif self._pool.again and not self._stopping and (ended.code is None or ended.code in (BUSY, *_STOPPED)):
            self._lost(cell, ended)
        elif ended.code is None or ended.code in (BUSY, *_STOPPED):
            self.states[cell.name] = "interrupted"
            how = "saved" if ended.code in _STOPPED else ended.how or "another process works in its folder"
            self._screen.event(f"{cell.name}: interrupted, {how}")
        else:
            how = ended.how or f"exit status {ended.code}"
            self._failed(cell, f"failed ({how}); the end of {self.store.path(cell) / LOG}:\n{self._tail(cell)}")

    def _lost(self, cell: Cell, ended: Ended) -> None:
        """A worker has gone before its time: the run goes on from its newest checkpoint, wherever there is room."""
        if ended.code == BUSY:
            if cell.name not in self._not_before:
                self._screen.event(f"{cell.name}: another process works in its folder; waiting for it")
            self._again(cell, _BUSY_SECONDS)
            return
        stands = (Checkpoints(self.store.path(cell)).list() or [0])[-1]
        before, count = self._losses.get(cell.name, (stands, 0))
        count = count + 1 if stands == before else 1
        self._losses[cell.name] = stands, count
        how = ended.how or "it was told to end"
        if count > _LOSSES:
            self._failed(
                cell, f"failed: {count} workers were lost in a row without a new checkpoint, the last one: {how}"
            )
            return
        self._screen.event(f"{cell.name}: its worker was lost ({how}); it goes on from iteration {stands}")
        self._again(cell, float(count - 1))

    def _again(self, cell: Cell, seconds: float) -> None:
        self.states[cell.name] = "waiting"
        self._not_before[cell.name] = time.monotonic() + seconds
        self._waiting.append((cell,))

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
        path = self.store.path(cell) / LOG
        if not path.exists():
            return "  | (nothing)"
        with open(path, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 10_000))
            text = log.read().decode(errors="replace").rstrip()
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])
