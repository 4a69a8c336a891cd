"""The process of one run of a sweep: `python -m jsafe.sweeps.worker RUN THREADS`."""

from __future__ import annotations

import os
import signal
import sys
import threading

from jsafe.curves import screen
from jsafe.runs.checkpoint import CheckpointError
from jsafe.runs.compiled import keep_programs
from jsafe.runs.folder import RunError
from jsafe.runs.session import train


def main(folder: str, threads: str) -> int:
    """Trains a run from its newest checkpoint; when its standard input is closed, it saves and ends.

    Returns:
      The exit status: 0 finished, 130 or 143 interrupted and saved, 1 failed.
    """
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    keep_programs()
    try:
        return screen.tell(train(folder, num_threads=int(threads)))
    except (ValueError, RunError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _wait_for_the_end() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
