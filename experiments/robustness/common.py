"""What the robustness campaigns share: running the command line, reading what it left, and the table of outcomes.

The program is entered through `jsafe.cli.main` alone. A command runs in a fork of this process, which has imported the
large libraries already (a new interpreter would spend its first second on that), in a session of its own; where file
descriptors, environment variables or signals matter, `Shell.start(..., fresh=True)` starts a new interpreter instead:

    python experiments/robustness/common.py train ppo_lag --env Toy-SpeedLimit-v0 ...
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import csv
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
_UNCAUGHT = "ROBUSTNESS_UNCAUGHT"


class Done(NamedTuple):
    """How a command ended.

    Attributes:
      status: Exit status, negative for a signal; None if the time limit ended it.
      out, err: What it printed.
      seconds: How long it took.
      uncaught: The exception that left `main`, or an empty string.
      orphans: Processes of its session that were alive two seconds after it had ended.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    uncaught: str
    orphans: int

    @property
    def text(self) -> str:
        """Both streams."""
        return f"{self.out}\n{self.err}"

    @property
    def trace(self) -> bool:
        """Whether an exception left the program."""
        return bool(self.uncaught)

    def last(self, width: int = 160) -> str:
        """The line that says most: the uncaught exception, or the last line that is not part of a box."""
        if self.uncaught:
            return self.uncaught[:width]
        lines = [line.strip(" │") for line in (self.err.splitlines() or self.out.splitlines())]
        errors = [line for line in lines if line.lower().startswith("error")]
        lines = [line for line in lines if re.search(r"\w", line)]
        return (errors or lines or [""])[-1][:width]


def enter(words: Sequence[str]) -> int:
    """The command line in this process; an exception that leaves it is noted."""
    sys.argv = ["jsafe", *words]
    try:
        from jsafe.cli import main

        status = main(list(words))
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
        if path := os.environ.get(_UNCAUGHT):
            Path(path).write_text("".join(traceback.format_exception_only(error)).strip())
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    return int(status or 0)


class Child:
    """A command at work."""

    def __init__(self, pid: int, files: Path, started: float, patience: float = 1.0):
        self.pid, self._files, self._started, self._patience = pid, files, started, patience
        self._status: int | None = None

    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self._status is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def send(self, number: int, group: bool = False) -> None:
        """A signal to the process, or to its whole session."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def read(self) -> str:
        """What it has printed so far."""
        return "".join((self._files / name).read_text(errors="replace") for name in ("out", "err"))

    def wait(self, limit: float = 60.0) -> Done:
        """Waits for the end; after `limit` seconds everything of its session is killed."""
        end, late = time.monotonic() + limit * self._patience, False
        while self.running():
            if time.monotonic() > end:
                late = True
                self.send(signal.SIGKILL, group=True)
            time.sleep(0.01)
        seconds = time.monotonic() - self._started
        patience = time.monotonic() + 2
        while not late and (left := members(self.pid)) and time.monotonic() < patience:
            time.sleep(0.02)
        left = [] if late else left
        self.send(signal.SIGKILL, group=True)
        out, err, uncaught = (self._files / name for name in ("out", "err", "uncaught"))
        words = uncaught.read_text() if uncaught.exists() else ""
        texts = [path.read_text(errors="replace")[-400_000:] for path in (out, err)]
        shutil.rmtree(self._files, ignore_errors=True)
        return Done(None if late else self._status, *texts, seconds, words, len(left))


def members(session: int) -> list[int]:
    """Living processes of a session (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
            if int(sid) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


class Shell:
    """Runs commands, one at a time unless the caller starts several.

    Args:
      work: Scratch folder.
      memory: Address space of a command in bytes, so that a mistaken size hurts nobody else.
      patience: Factor of all time limits, for a machine that has other work.
    """

    def __init__(self, work: Path, memory: int = 14 << 30, patience: float = 1.0):
        self.work, self._memory, self._number, self._patience = work, memory, 0, patience
        self._children: list[Child] = []
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)

    def run(self, words: Iterable[Any], cwd: Path | None = None, limit: float = 60.0, **options: Any) -> Done:
        """Starts a command and waits for it."""
        return self.start(words, cwd, **options).wait(limit)

    def start(
        self,
        words: Iterable[Any],
        cwd: Path | None = None,
        *,
        env: Mapping[str, str | None] | None = None,
        fresh: bool = False,
        setup: Callable[[], Any] | None = None,
        shell: str | None = None,
    ) -> Child:
        """Starts a command.

        Args:
          words: The command line without `jsafe`.
          cwd: Where; the scratch folder by default.
          env: Environment variables to set, or to remove (None).
          fresh: In a new interpreter.
          setup: Called in the new process before anything else.
          shell: A bash line with `{}` for the command, for redirections; implies `fresh`.
        """
        self._number += 1
        files = self.work / f".io{self._number}"
        files.mkdir(parents=True)
        words, started = [str(word) for word in words], time.monotonic()
        changes = {_UNCAUGHT: str(files / "uncaught"), "PYTHONPATH": _path(), **(env or {})}
        place = cwd or self.work
        place.mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if pid == 0:
            try:
                self._become(words, files, changes, place, fresh or shell is not None, setup, shell)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        self._children = [
            *(child for child in self._children if child.running()),
            Child(pid, files, started, self._patience),
        ]
        return self._children[-1]

    def close(self) -> None:
        """Ends what still runs."""
        for child in self._children:
            if child.running():
                child.send(signal.SIGKILL, group=True)

    def _become(self, words, files, changes, place, fresh, setup, shell) -> None:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(files / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place)
        for name, value in changes.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        resource.setrlimit(resource.RLIMIT_AS, (self._memory, self._memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if setup is not None:
            setup()
        if fresh:
            command = [sys.executable, str(Path(__file__).resolve()), *words]
            if shell is not None:
                import shlex

                command = ["bash", "-c", shell.format(shlex.join(command))]
            os.execvp(command[0], command)
        status = enter(words)
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status & 255)


def known(shell: Shell, algorithm: str) -> dict[str, str]:
    """The options of `jsafe train ALGORITHM` with what its help says of their values."""
    help_text = shell.run(["train", algorithm, "--help"], env={"COLUMNS": "300"}).out
    found = re.findall(r"^[ │|]*(--[a-z][\w.-]*)((?:, --[\w.-]+)*)(?: (\S+))?", help_text, re.MULTILINE)
    return {option: metavar for option, _, metavar in found if option != "--help"}


def _path() -> str:
    """PYTHONPATH for new interpreters: what this one was given, and the folder of the misbehaving environments."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([str(HERE), *filter(None, given)]))


class Table:
    """The outcomes: a line on the terminal and a row in the csv file for each case, as they come.

    Args:
      path: The csv file.
      more: Keep the rows that are as they should be, and let their cases be left out (`has`).
    """

    COLUMNS = ("case", "wanted", "outcome", "ok", "seconds", "detail")

    def __init__(self, path: Path, more: bool = False):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []
        if more and path.exists():
            with open(path, newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if row["ok"] == "yes"]
        self._kept = {row["case"] for row in self.rows}
        self._file = open(path, "w", newline="")  # noqa: SIM115
        self._writer = csv.DictWriter(self._file, self.COLUMNS, lineterminator="\n")
        self._writer.writeheader()
        self._writer.writerows(self.rows)
        self._file.flush()

    def has(self, case: str) -> bool:
        """Whether a case was as it should be in an earlier session."""
        return case in self._kept

    def add(self, case: str, wanted: Iterable[str] | str, outcome: str, seconds: float = 0.0, detail: str = "") -> bool:
        """Notes a case; whether its outcome is one of the wanted ones."""
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        ok = outcome in wanted
        shown = " ".join(detail.split())[:300]
        values = (case, "|".join(wanted), outcome, "yes" if ok else "NO", round(seconds, 2), shown)
        self.rows.append(dict(zip(self.COLUMNS, values)))
        self._writer.writerow(self.rows[-1])
        self._file.flush()
        print(
            f"{'ok  ' if ok else 'FAIL'} {case[:100]}: {outcome}  ({seconds:.1f} s) {'' if ok else shown}", flush=True
        )
        return ok

    def close(self) -> int:
        """Prints the sums; the exit status of the script."""
        self._file.close()
        bad = [row for row in self.rows if row["ok"] != "yes"]
        sums = Counter((row["outcome"], row["ok"]) for row in self.rows)
        print(f"\n{len(self.rows)} cases, {len(bad)} not as they should be")
        for (outcome, ok), count in sorted(sums.items()):
            print(f"  {count:5d}  {outcome}{'' if ok == 'yes' else '  <- not wanted'}")
        return 1 if bad else 0


def options(description: str, name: str, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The options that every campaign has, and some of its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few cases, for the test-suite")
    parser.add_argument("--only", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of all time limits, for a busy machine")
    parser.add_argument("--more", action="store_true", help="only cases that the table lacks, or has as wrong")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is random in the campaign")
    parser.add_argument("--out", type=Path, default=Path(f"{name}.csv"), help="table to write")
    parser.add_argument("--keep", type=Path, help="scratch folder, kept (default: a temporary one)")
    for option, about in more.items():
        parser.add_argument(f"--{option.replace('_', '-')}", **about)
    return parser.parse_args()


@contextlib.contextmanager
def workplace(given: argparse.Namespace):
    """(shell, table) in a scratch folder, with a compilation cache that the commands share."""
    folder = (given.keep or Path(tempfile.mkdtemp(prefix="jsafe-robustness-"))).resolve()
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    warm(folder)
    shell = Shell(work, patience=given.patience)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the `finally` below
    try:
        yield shell, Table(given.out, given.more)
    finally:
        shell.close()
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def warm(folder: Path) -> None:
    """Sets the environment of all commands and imports what takes long, but nothing that starts a backend."""
    defaults = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PJRT_NPROC": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import flax.linen
    import mujoco
    import optax
    import tensorboardX
    import tyro

    import jsafe.cli

    del flax, mujoco, optax, tensorboardX, tyro, jsafe


if __name__ == "__main__":
    sys.exit(enter(sys.argv[1:]))
