"""Trained policies in the program and on the exact engine: return and cost of whole episodes, and how far apart.

    python experiments/device/trained.py RUN... --episodes 1000 --csv experiments/device/trained.csv

A run is any that `jsafe train ... --backend device` made. `apart` is the difference of the means, host less device, in
standard errors; two is the bar, which one row in twenty misses by chance alone. Rows of a run that are in the table
are replaced.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

from jsafe.curves import screen
from jsafe.runs import evaluation

COLUMNS = ("run", "env", "algorithm", "env_steps", "episodes", "of", "device", "device_error", "host", "host_error")


def rows_of(run: Path, given: argparse.Namespace):
    """A row for the return, and one for the cost."""
    asked = {"episodes": given.episodes, "seed": given.seed, "num_threads": given.threads, "console": screen.console()}
    made = evaluation.evaluate(run, backend="host", **asked)
    if "trained_on" not in made:
        raise SystemExit(f"{run}: was trained on the host's engine: there is nothing to compare")
    for of in ("return", "cost"):
        row = {"run": run.name, **{key: made[key] for key in ("env", "algorithm", "env_steps", "episodes")}, "of": of}
        errors = []
        for where, found in (("host", made), ("device", made["trained_on"])):
            errors.append(found[of]["std"] / math.sqrt(given.episodes))
            row |= {where: f"{found[of]['mean']:.3f}", f"{where}_error": f"{errors[-1]:.3f}"}
        difference = made[of]["mean"] - made["trained_on"][of]["mean"]
        yield row | {"apart": f"{difference / max(math.hypot(*errors), 1e-12):.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="of both; by default one that the training never used")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    table = []
    if given.csv is not None and given.csv.exists():
        with open(given.csv, newline="") as file:
            table = list(csv.DictReader(file))
    for run in given.runs:
        start = time.process_time()
        rows = list(rows_of(run, given))
        table = [row for row in table if row["run"] != run.name] + rows
        for row in rows:
            print(*(row[key] for key in (*COLUMNS, "apart")), f"{time.process_time() - start:.0f} s", flush=True)
        if given.csv is not None:
            with open(given.csv, "w", newline="") as file:
                writer = csv.DictWriter(file, (*COLUMNS, "apart"), lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)


if __name__ == "__main__":
    main()
