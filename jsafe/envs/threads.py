"""Threads that step the chunks of a batch."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

CHUNKS_PER_THREAD = 8


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split(count: int, threads: int) -> list[Sequence[int]]:
    """Rows 0 ... count - 1 in chunks, a few for each thread."""
    size = max(1, count // (CHUNKS_PER_THREAD * threads))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class Workers:
    """Threads that share the chunks of a job with the caller's thread."""

    def __init__(self, count: int):
        self.count = count
        self._inbox: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(count - 1)]
        self._outbox: queue.SimpleQueue = queue.SimpleQueue()
        for k, inbox in enumerate(self._inbox, 1):
            args = (k, inbox, self._outbox)
            threading.Thread(target=self._serve, args=args, daemon=True, name=f"jsafe-envs-{k}").start()
        self._stop = weakref.finalize(self, _stop, self._inbox)

    @staticmethod
    def _serve(k, inbox, outbox):
        while (job := inbox.get()) is not None:
            work, chunks = job
            error = None
            try:
                for chunk in chunks:
                    work(k, chunk)
            except BaseException as caught:
                error = caught
            del work, chunks, job  # a waiting thread must not keep the engine alive
            outbox.put(error)

    def run(self, work: Callable[[int, Any], None], chunks: Iterable[Sequence[int]]) -> None:
        """Calls `work(thread, chunk)` once for every chunk, in any order, on all threads; raises what a call raised."""
        shared = iter(chunks)  # next() of a list iterator is atomic
        for inbox in self._inbox:
            inbox.put((work, shared))
        try:
            for chunk in shared:
                work(0, chunk)
        finally:
            errors = [self._outbox.get() for _ in self._inbox]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the threads."""
        self._stop()


def _stop(inboxes: Iterable[queue.SimpleQueue]) -> None:
    for inbox in inboxes:
        inbox.put(None)
