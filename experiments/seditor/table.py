"""Summarises the learning curves of this folder: `python experiments/seditor/table.py [CSV ...]` prints a table.

Success and violations are those of training episodes with sampled actions, as in the paper. `violations` counts costs
per 1000 environment steps: over the last 100 episodes, and over the rows of the last tenth of the run.
"""

import sys
from pathlib import Path

import numpy as np

from jsafe.curves.csv_table import read_progress


def first(steps: np.ndarray, success: np.ndarray, level: float) -> str:
    """Steps (thousands) after which success stays above a level for good, measured over 100 episodes."""
    below = np.flatnonzero(~(success > level))
    index = 0 if not len(below) else below[-1] + 1
    return f"{steps[index] / 1e3:.0f}k" if index < len(steps) else "-"


def main(paths: list[str]) -> None:
    """Prints a row for each curve."""
    names = ["run", "steps", "wall, min", "return", "success", "over 0.5 from", "over 0.9 from"]
    names += ["violations, 100 episodes", "last tenth"]
    print("|".join(["", *(f" {name} " for name in names), ""]))
    print("|" + "---|" * len(names))
    for path in map(Path, paths) if paths else sorted(Path(__file__).parent.glob("*/*/progress.csv")):
        data = read_progress(path)
        steps, success = data["env_steps"], data["episode/success"]
        cells = [
            f"{path.parent.parent.name} {path.parent.name}",
            f"{steps[-1] / 1e6:.2f} M",
            f"{data['time/wall_seconds'][-1] / 60:.0f}",
            f"{data['episode/return'][-1]:.2f}",
            f"{success[-1]:.2f}",
            first(steps, success, 0.5),
            first(steps, success, 0.9),
            f"{1e3 * data['episode/cost_rate'][-1]:.2f}",
            f"{1e3 * data['cost/0/per_step'][steps > 0.9 * steps[-1]].mean():.2f}",
        ]
        print("|".join(["", *(f" {cell} " for cell in cells), ""]))


if __name__ == "__main__":
    main(sys.argv[1:])
