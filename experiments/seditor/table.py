"""Summarises the learning curves of this folder: `python experiments/seditor/table.py [CSV ...]` prints a table.

Success and violations are those of training episodes with sampled actions, as in the paper. `violations` counts costs
per 1000 environment steps: over the last 100 episodes, and over the rows of the last tenth of the run.
"""

import sys
from pathlib import Path

import numpy as np

from jsafe.logging import read_progress


def first(steps: np.ndarray, success: np.ndarray, level: float) -> str:
    """Steps (thousands) after which success stays above a level for good, measured over 100 episodes."""
    below = np.flatnonzero(~(success > level))
    index = 0 if not len(below) else below[-1] + 1
    return f"{steps[index] / 1e3:.0f}k" if index < len(steps) else "-"


def main(paths: list[str]) -> None:
    print(
        "| run | steps | wall, min | return | success | over 0.5 from | over 0.9 from | violations, 100 episodes | last tenth |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for path in paths or sorted(map(str, Path(__file__).parent.glob("*/*/progress.csv"))):
        data = read_progress(path)
        steps, success = data["env_steps"], data["episode/success"]
        tail = steps > 0.9 * steps[-1]
        rate = 1e3 * data["rule/cost_per_step"][tail].mean()
        print(
            f"| {Path(path).parent.parent.name} {Path(path).parent.name} | {steps[-1] / 1e6:.2f} M | {data['time/wall_seconds'][-1] / 60:.0f}"
            f" | {data['episode/return'][-1]:.2f} | {success[-1]:.2f} | {first(steps, success, 0.5)}"
            f" | {first(steps, success, 0.9)} | {1e3 * data['episode/cost_rate'][-1]:.2f} | {rate:.2f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
