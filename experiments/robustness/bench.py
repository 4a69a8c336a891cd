"""A place for one scenario of `machine.py`, and what the scenarios share."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from common import Child, Done, Shell
from folders import checkpoints, curve, same_run, small

TOTAL = 30_000


class Scenario(NamedTuple):
    """A named function `(bench) -> (outcome, detail)` with the outcomes that are wanted, and whether it is quick."""

    name: str
    wanted: tuple[str, ...]
    play: Callable[[Bench], tuple[str, str]]
    quick: bool


SCENARIOS: list[Scenario] = []


def scenario(name: str, *wanted: str, quick: bool = False):
    """Decorator: adds a scenario."""

    def add(function: Callable[[Bench], tuple[str, str]]):
        SCENARIOS.append(Scenario(name, wanted, function, quick))
        return function

    return add


class Bench:
    """One scenario's folder.

    Args:
      shell: Starts commands.
      place: An empty folder.
    """

    def __init__(self, shell: Shell, place: Path):
        self.shell, self.place = shell, place
        place.mkdir(parents=True, exist_ok=True)
        self.run = place / "run"

    def words(self, algorithm: str = "ppo_lag", total: int = TOTAL, **options: Any) -> list[str]:
        """A training that writes a checkpoint twenty times a second."""
        given = {"run_dir": self.run, "total_steps": total, "checkpoint_seconds": 0.05, "log_interval": 1000}
        return small(algorithm, options.pop("env", "Toy-SpeedLimit-v0"), **(given | options))

    def start(self, words: list[Any] | None = None, **options: Any) -> Child:
        """Starts a command, by default the training."""
        return self.shell.start(self.words() if words is None else words, self.place, **options)

    def do(self, words: list[Any] | None = None, limit: float = 90.0, **options: Any) -> Done:
        """Runs a command to its end."""
        return self.start(words, **options).wait(limit)

    def resume(self, run: Path | None = None, **options: Any) -> Done:
        """Continues a run."""
        return self.do(["train", "--resume", run or self.run], **options)

    def until_saved(self, child: Child, run: Path | None = None, limit: float = 60.0) -> bool:
        """Waits for another checkpoint; whether the process is alive then."""
        run, end = run or self.run, time.monotonic() + limit
        before = newest(run)
        while child.running() and newest(run) <= before and time.monotonic() < end:
            time.sleep(0.01)
        return child.running()

    def unbroken(self, algorithm: str = "ppo_lag", total: int = TOTAL) -> Path:
        """The same training with nothing in its way; done once."""
        run = self.shell.work / f"unbroken-{algorithm}-{total}"
        if not run.exists():
            done = self.shell.run(self.words(algorithm, total, run_dir=run, checkpoint_seconds=1e6), limit=120)
            assert done.status == 0, done.text
        return run

    def finished(self, run: Path | None = None, algorithm: str = "ppo_lag", total: int = TOTAL) -> list[str]:
        """What differs from the unbroken training."""
        return same_run(self.unbroken(algorithm, total), run or self.run)


def newest(run: Path) -> int:
    """Iteration of the newest checkpoint, or -1."""
    with contextlib.suppress(OSError):
        return (checkpoints(run) or [-1])[-1]
    return -1


def ended(done: Done, good: str = "finished") -> tuple[str, str]:
    """Outcome of a command that should have ended well."""
    if done.status is None:
        return "hangs", done.last()
    if done.trace or "Traceback (most recent call last)" in done.text:
        return "traceback", done.last()
    if done.status < 0 or done.status > 2:
        return f"status {done.status}", done.last()
    if done.status:
        return ("refused" if re.search("error", done.text, re.IGNORECASE) else "unclear"), done.last()
    return good, done.last()


def last_steps(run: Path) -> float:
    """Environment steps in the last row of a run."""
    rows = curve(run)
    return float(rows[-1]["env_steps"]) if rows else 0.0


@contextlib.contextmanager
def small_disk(place: Path, size: int):
    """A file system of `size` bytes at `place / "disk"`; PermissionError where this user cannot mount one."""
    disk = place / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={size} none '{disk}' 2>/dev/null"):
        raise PermissionError("cannot mount a small disk here")
    try:
        yield disk
    finally:
        os.system(f"umount -l '{disk}'")
        shutil.rmtree(disk, ignore_errors=True)


def fill(disk: Path) -> Path:
    """Takes the rest of a disk."""
    path = disk / "filler"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)
    return path
