"""Worker processes of outside environments, from the trainer's side."""

from __future__ import annotations

import contextlib
import logging
import mmap
import multiprocessing as mp
import multiprocessing.connection
import multiprocessing.reduction
import os
import pathlib
import pickle
import select
import signal
import struct
import subprocess
import tempfile
import weakref
from typing import Any

import numpy as np

from jsafe.envs.outside import worker

_LOG = logging.getLogger(__name__)
_PATIENCE = 10
"""Making an environment may take so many times as long as a step."""
_GRACE = 30.0
"""Seconds that a worker has beyond its limit to end by itself."""
_ERRORS = 1 << 20
"""Bytes of error output that are kept of a process."""


class WorkerError(RuntimeError):
    """An outside environment failed; the first line says how, the last ones are its traceback."""


class Worker:
    """One process and the rows that it steps.

    Args:
      python: The interpreter.
      setup: What `worker.serve` gets first.
      script: What the process runs.

    Raises:
      RuntimeError: On a system without POSIX descriptors.
    """

    def __init__(self, python: str, setup: dict[str, Any], script: str = worker.__file__):
        if os.name != "posix":
            raise RuntimeError("outside environments run in POSIX processes, not on Windows itself: WSL2 has them")
        self.rows: list[int] = setup["rows"]
        self._limit, self._asked, self._silent = setup["step_timeout"], 0, False
        self.conn, theirs = mp.Pipe()
        life, ours = os.pipe()
        self._errors = _log_file()
        handles, script = (theirs.fileno(), life), str(pathlib.Path(script).resolve())
        try:
            self.process = subprocess.Popen([python, script, *map(str, handles)], pass_fds=handles,
                                            stdin=subprocess.DEVNULL, stderr=self._errors)  # fmt: skip
        except OSError as error:
            os.close(ours)
            os.close(self._errors)
            raise ValueError(f"python must be an interpreter, got {python!r}: {error}") from None
        finally:
            theirs.close()
            os.close(life)
        self._poll = select.poll()
        self._poll.register(self.conn.fileno(), select.POLLIN)
        self._stop = weakref.finalize(self, _end, self.process, self.conn, ours, self._errors)
        self.ask(setup | {"patience": _PATIENCE})

    def ask(self, message: Any) -> None:
        """Sends a message; that the process is gone shows in the answer."""
        self._asked += 1
        if self._asked % 1024 == 0 and os.fstat(self._errors).st_size > _ERRORS:
            os.ftruncate(self._errors, 0)
        try:
            self.conn.send(message)
        except OSError:
            _LOG.debug("worker %d is gone", self.process.pid)

    def answer(self, times: float | None = None) -> tuple[Any, str | None]:
        """(value, None), or (None, what went wrong). The process ends by itself at its limit; if not, it is ended here.

        Args:
          times: How many of its time limits the answer may take; None: one for each row.
        """
        limit = None if self._limit is None else 1000 * ((times or len(self.rows)) * self._limit + _GRACE)
        if not self._poll.poll(limit):
            self._silent = True
            self.process.kill()
        try:
            state, value = self.conn.recv()
        except (EOFError, OSError):
            return None, self._last_words()
        return (value, None) if state == "ok" else (None, value)

    def prompt(self, framed: bytes) -> None:
        """`ask` with a message that `frame` has made before: a tenth of its time."""
        try:
            os.write(self.conn.fileno(), framed)
        except OSError:
            _LOG.debug("worker %d is gone", self.process.pid)

    def done(self) -> str | None:
        """`answer` where nothing is told, and no limit holds: what went wrong, or None."""
        try:
            said = os.read(self.conn.fileno(), len(DONE))
            if said == DONE:
                return None
            (length,) = struct.unpack_from("!i", said)
            while len(said) < length + 4 and (more := os.read(self.conn.fileno(), length + 4 - len(said))):
                said += more
            return pickle.loads(said[4:])[1]
        except (EOFError, OSError, struct.error, pickle.UnpicklingError):
            return self._last_words()

    def started(self) -> tuple[Any, str | None]:
        """The first answer, which may take longer: what the environments are."""
        return self.answer(_PATIENCE)

    def share(self, handle: int, arrays: dict[str, Any]) -> None:
        """Gives the process the shared memory."""
        self.ask(("memory", arrays))
        try:
            mp.reduction.send_handle(self.conn, handle, self.process.pid)
        except OSError:
            _LOG.debug("worker %d is gone", self.process.pid)

    def _last_words(self) -> str:
        code = self.process.wait()
        words = os.pread(self._errors, 4000, max(0, os.fstat(self._errors).st_size - 4000)).decode(errors="replace")
        how = f"exit status {code}" if code >= 0 else f"killed by signal {-code}"
        if self._silent or (code == -signal.SIGALRM and self._limit is not None):
            how = f"it did nothing for step_timeout = {self._limit:g} s"
        return f"{words.strip()}\nthe process ended ({how})"

    def close(self) -> None:
        """Ends the process."""
        self._stop()


def frame(message: Any) -> bytes:
    """A message as a connection sends it."""
    words = pickle.dumps(message)
    return struct.pack("!i", len(words)) + words


DONE = frame(("ok", None))
"""The answer of a process that has nothing to tell."""


class Shared:
    """Arrays in memory that all processes see.

    Attributes:
      handle: Descriptor of the memory.
      layout: As `worker.layout` gives it.
      arrays: By name.
    """

    def __init__(self, layout: dict[str, Any]):
        self.layout = layout
        self._places, length = worker.slots(layout)
        if hasattr(os, "memfd_create"):
            self.handle = os.memfd_create("jsafe")
        else:
            with tempfile.TemporaryFile() as file:
                self.handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.handle)
        os.ftruncate(self.handle, length)
        memory = mmap.mmap(self.handle, length)
        self.arrays: dict[str, np.ndarray] = worker.views(memory, self._places)
        self._bytes = np.frombuffer(memory, np.uint8)

    def copy(self) -> dict[str, np.ndarray]:
        """Copies of all arrays, which share one piece of memory: that is faster than one by one."""
        return worker.views(self._bytes.copy(), self._places)


def summary(error: str) -> str:
    """The last line of a traceback: what happened."""
    lines = [line for line in error.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def _log_file() -> int:
    """A nameless file whose descriptor only appends, so that it can be cut while somebody writes."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    handle = os.open(path, os.O_RDWR | os.O_APPEND)
    os.unlink(path)
    return handle


def _end(process: subprocess.Popen, conn: Any, life: int, errors: int) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        conn.send(("close",))
    conn.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    os.close(life)
    os.close(errors)
