"""One owner for a folder: a lock that dies with its process, and says who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"


class LockedError(RuntimeError):
    """Another process works in the folder; the message names its host and number."""


@contextlib.contextmanager
def lock(folder: str | os.PathLike, what: str = "training") -> Iterator[int]:
    """Holds a folder until the block is left or the process dies, however that happens.

    Args:
      folder: An existing folder; the file `.lock` in it names the owner.
      what: What is being done, for the message that others get.

    Yields:
      The file's descriptor, which may be handed to child processes that are to hold the lock, too.

    Raises:
      LockedError: If somebody else holds it.
      OSError: If the file cannot be made.
    """
    path = Path(folder) / NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(descriptor):
            raise LockedError(f"{folder} is in use: {_owner(descriptor)}; wait for it, or stop it")
        me = {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(me).encode(), 0) if hasattr(os, "pwrite") else None
        yield descriptor
    finally:
        os.close(descriptor)  # frees the lock; the file stays, because removing it would race with the next owner


def _owner(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = json.loads(os.read(descriptor, 4096))
        return f"{owner['what']} by process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that has not said its name"


def _take(descriptor: int) -> bool:
    """Whether the lock is ours now; without waiting."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # past the name, so that others can read it
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
