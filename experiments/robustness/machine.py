"""Full disks, lost terminals, two owners, vanished folders, strange names: is anything lost, and is it said?

    python experiments/robustness/machine.py [--quick] [--only REGEX] [--out machine.csv]

Each scenario is a training (or another command) in a folder of its own; the scenarios are in `folder_scenarios.py` and
`surroundings.py`, each with the outcomes that are wanted. Scenarios with a full disk need the right to mount one and
are skipped otherwise.

Outcomes:
  finished   status 0, complete, and where it is said so equal to an unbroken training
  refused    status 1 or 2 and an error line; nothing is changed
  restored   what had vanished is there again, and the run is complete
  failed     status 1 and a message that says what is lost, at the next write
  unsaved    status 1, and said; the run continues to the unbroken training's end afterwards
  saved      ended by a signal (130, 143, 129), saved, and continues to the unbroken training's end
  useless    status 0, but the run cannot be used
  silent     something is gone and nothing was said
  deleted    files of the user's are gone
  ruined     two trainings wrote into one folder
  eaten      the folder's name is not in the output as it is
  skipped    cannot be tried here
  traceback, hangs, noise, orphans, status N   as they say
"""

from __future__ import annotations

import re
import shutil
import sys
import time

import folder_scenarios  # noqa: F401 (adds its scenarios)
import surroundings  # noqa: F401
from bench import SCENARIOS, Bench
from common import options, workplace


def main() -> int:
    """Plays the scenarios."""
    given = options(__doc__, "machine")
    with workplace(given) as (shell, table):
        for number, (name, wanted, play, quick) in enumerate(SCENARIOS):
            if not re.search(given.only, name) or (given.quick and not quick) or table.has(name):
                continue
            bench, started = Bench(shell, shell.work / f"m{number}"), time.monotonic()
            try:
                outcome, detail = play(bench)
            except PermissionError as error:
                outcome, detail = "skipped", str(error)
            except (OSError, AssertionError, IndexError, ValueError) as error:
                outcome, detail = "broken scenario", f"{type(error).__name__}: {error}"
            table.add(name, (*wanted, "skipped"), outcome, time.monotonic() - started, detail)
            shutil.rmtree(bench.place, ignore_errors=True)
        return table.close()


if __name__ == "__main__":
    sys.exit(main())
