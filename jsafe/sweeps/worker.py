"""The process of a run of a sweep, or of several that share a program: `python -m jsafe.sweeps.worker THREADS RUN ...`,
or a task of a cluster."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jsafe.curves import screen
from jsafe.curves.csv_table import read_csv
from jsafe.runs.checkpoint import CheckpointError, Checkpoints
from jsafe.runs.compiled import keep_programs
from jsafe.runs.folder import BusyError, RunError
from jsafe.runs.many import train_many
from jsafe.runs.session import train

LOG = "train.log"
"""In the run folder: what its processes have printed."""
WORKERS = "workers.csv"
"""In the run folder: which process began and ended when, where, at which iteration."""
BUSY = 75
"""Exit status where another process works in the folder (`EX_TEMPFAIL`)."""


class Task(NamedTuple):
    """What a cluster's worker is told.

    Attributes:
      folders: The run folder, or those of runs that share a program.
      num_threads: Threads of the environments and of XLA.
      cwd: Folder in which the sweep was started, for the modules that its runs import.
      stop: A file; when it appears, the run saves and ends.
    """

    folders: tuple[str, ...]
    num_threads: int
    cwd: str
    stop: str


def main(threads: str, *folders: str) -> int:
    """Trains a run from its newest checkpoint, or several new ones; at the end of its standard input it saves and ends.

    Returns:
      The exit status: 0 finished, 130 or 143 interrupted and saved, 1 failed, 75 in use by another process.
    """
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    return _train(folders, int(threads))


def train_task(task: Task) -> int:
    """`main` as a task of a cluster: the output goes to the log of the run, and a file asks it to end."""
    with contextlib.suppress(OSError):
        os.chdir(task.cwd)
    os.environ.setdefault("PJRT_NPROC", str(task.num_threads))
    over = threading.Event()
    threading.Thread(target=_wait_for_file, args=(Path(task.stop), over), daemon=True).start()
    if hasattr(signal, "SIGUSR2") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))  # the job's time is over
    try:
        with _output_to(Path(task.folders[0]) / LOG):
            return _train(task.folders, task.num_threads)
    finally:
        over.set()


def _train(folders: Sequence[str], num_threads: int) -> int:
    keep_programs()
    notes = [(Checkpoints(folder), _noting(Path(folder) / WORKERS)) for folder in folders]
    for checkpoints, note in notes:
        note("began", checkpoints.list())
    try:
        if len(folders) == 1:
            outcomes = [train(folders[0], num_threads=num_threads)]
        else:
            outcomes = train_many(folders, num_threads=num_threads)
        status = max(screen.tell(outcome) for outcome in outcomes)
        ends = [outcome.status for outcome in outcomes]
        for outcome in outcomes[1:]:  # what all have printed is in the log of the first
            if outcome.message:
                with contextlib.suppress(OSError), open(outcome.folder / LOG, "a") as log:
                    print(f"{outcome.status}: {outcome.message}", file=log)
    except (ValueError, RunError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        status = BUSY if isinstance(error, BusyError) else 1
        ends = ["refused" if status == BUSY else "failed"] * len(folders)
    for (checkpoints, note), end in zip(notes, ends):
        note(end, checkpoints.list())
    return status


def _noting(path: Path) -> Callable[[str, list[int]], None]:
    """Writes a line about this process; what cannot be written does no harm to the run."""

    def note(event: str, checkpoints: list[int]) -> None:
        now, iteration = time.strftime("%F %T"), checkpoints[-1] if checkpoints else 0
        with contextlib.suppress(OSError):
            new = not path.exists()
            with open(path, "a", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                if new:
                    table.writerow(("time", "host", "process", "event", "iteration"))
                table.writerow((now, socket.gethostname(), os.getpid(), event, iteration))

    return note


def last_event(folder: Path) -> str:
    """How the last process of a run has ended by what it noted: the status of an `Outcome`, or `refused`; `began` if it
    was lost."""
    path = folder / WORKERS
    rows = read_csv(path) if path.exists() else []
    return str(rows[-1].get("event")) if rows else ""


class History(NamedTuple):
    """What happened to a run: its workers, those of them that were lost, and where they were."""

    workers: int
    lost: int
    hosts: tuple[str, ...]


def history(folder: Path) -> History:
    """The history of a run that has ended, as `workers.csv` tells it."""
    path = folder / WORKERS
    rows = read_csv(path) if path.exists() else []
    events = [row["event"] for row in rows]
    began = events.count("began")
    lost = began - (len(events) - began)
    return History(began - events.count("refused"), lost, tuple(dict.fromkeys(row["host"] for row in rows)))


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Sends what this process prints, in whatever language, to the end of a file."""
    sys.stdout.flush(), sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    streams = sys.stdout, sys.stderr
    with open(path, "a") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        sys.stdout = sys.stderr = log
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for descriptor, before in zip((1, 2), kept):
                os.dup2(before, descriptor)
                os.close(before)


def _wait_for_the_end() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_file(path: Path, over: threading.Event) -> None:
    while not over.wait(0.5):
        if path.exists():
            os.kill(os.getpid(), signal.SIGTERM)
            return


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
