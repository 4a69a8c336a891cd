"""Whether what a run keeps fits into memory, asked before anything is made."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jsafe.types import Learner

GIB = 2**30
SPARE = 0.9
"""Share of the available memory that a replay may take."""


def available() -> int | None:
    """Bytes that this process can still take: of the machine and of its control group; None where nobody tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    except (OSError, ValueError):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(found, default=None)


def check(learner: Learner, total_steps: int, processes: int = 1) -> None:
    """Refuses a run whose feed would keep more than there is memory for.

    Args:
      learner: Its `feed` and `spec` are asked (`Feed.stored_bytes`).
      total_steps: Environment steps of the run, over all processes.
      processes: How many share the work, each with a memory of its own.

    Raises:
      ValueError: With what is needed, what there is, and the option to lower.
    """
    need, have = learner.feed.stored_bytes(learner.spec, total_steps) // processes, available()
    if have is not None and need > SPARE * have:
        option = getattr(learner.feed, "memory_option", learner.feed.batch_option)
        value = getattr(learner.feed, option, None)
        raise ValueError(refusal("what this run keeps between updates", need, f"{option} ({value})", have))


def refusal(what: str, need: int, options: str, have: int | None = -1) -> str:
    """The message: what is needed, what there is (asked if it is not given), which options to lower."""
    have = available() if have == -1 else have
    there = "" if have is None else f"{have / GIB:.1f} GiB are available; "
    return f"{what} needs {need / GIB:.1f} GiB of memory: {there}lower {options}"
