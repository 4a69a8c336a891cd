"""Sets runs of this folder beside OmniSafe's published means: `python experiments/on_policy/table.py [RUN ...]`.

Ours: mean over the seeds of the return and cost of training episodes (sampled actions) in the last 5 % of each run.
"As good" means that the cost is within the published standard deviation of the limit (or below it), and the return not
lower than the published mean by more than one published standard deviation.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from jsafe.plot import load

HERE = Path(__file__).parent
TASK = "SafetyPointGoal1-v0"
UNCONSTRAINED = ("policy_gradient", "natural_pg", "trpo", "ppo")


def published() -> dict[str, list[float]]:
    """Algorithm: return, its standard deviation, cost, its standard deviation."""
    with open(HERE / "published.csv") as file:
        return {row[0]: list(map(float, row[1:])) for row in list(csv.reader(file))[1:]}


def tail(run) -> tuple[float, float, float, float]:
    """Return and cost at the end, steps, and minutes of wall time."""
    steps, data = run.columns["env_steps"], run.columns
    last = steps > 0.95 * steps[-1]
    minutes = data["time/wall_seconds"][-1] / 60
    return data["episode/return"][last].mean(), data["episode/cost"][last].mean(), steps[-1], minutes


def main(folders: list[str]) -> None:
    """Prints a row for each algorithm and variant, as the folders are named (VARIANT-sSEED)."""
    runs = defaultdict(list)
    for folder in map(Path, folders) if folders else sorted(path.parent for path in HERE.glob("*/progress.csv")):
        run = load(folder)
        if run.env == TASK:
            runs[run.folder.name.rsplit("-s", 1)[0]].append(run)
    known = published()
    print("| run | seeds | steps | minutes | return | cost | published return | published cost | as good |")
    print("|" + "---|" * 9)
    for variant, seeds in runs.items():
        name = seeds[0].algorithm
        ours = np.array([tail(run) for run in seeds]).mean(axis=0)
        limit = seeds[0].options["cost_limit"]
        cells = [variant, len(seeds), f"{ours[2] / 1e6:.1f} M", f"{ours[3]:.0f}", f"{ours[0]:.2f}", f"{ours[1]:.1f}"]
        if name in known:
            mean, spread, cost, cost_spread = known[name]
            bound = np.inf if name in UNCONSTRAINED else limit + cost_spread
            good = ours[0] >= mean - spread and ours[1] <= bound
            cells += [f"{mean:.2f} ± {spread:.2f}", f"{cost:.1f} ± {cost_spread:.1f}", "yes" if good else "no"]
        else:
            cells += ["-", "-", "-"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
