"""Sets runs beside published means: `python experiments/table.py experiments/on_policy [RUN ...]`.

Ours: mean over the seeds of the return and cost of training episodes (sampled actions) in the last 5 % of each run.
The published figures are of evaluations with most likely actions. "As good" means that the cost is at most the limit,
or at most the published mean where that is above it, and the return not lower than the published mean by more than one
published standard deviation. Without a limit the return alone counts. The published figures are those of
`experiments/benchmark/published`; runs are named VARIANT-sSEED.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from jsafe import registry
from jsafe.curves import vocabulary
from jsafe.report.benchmark import read_published
from jsafe.report.plot import Run, load

PUBLISHED = Path(__file__).parent / "benchmark" / "published"


def tail(run: Run) -> tuple[float, float, float, float]:
    """Return and cost at the end, steps, and minutes of wall time."""
    steps, data = run.columns["env_steps"], run.columns
    last = steps > 0.95 * steps[-1]
    minutes = data["time/wall_seconds"][-1] / 60
    return data["episode/return"][last].mean(), data["episode/cost"][last].mean(), steps[-1], minutes


def limit(run: Run) -> float:
    """What an episode may cost, over all costs; infinite where nothing holds the costs down."""
    values = {name: column[-1] for name, column in run.columns.items()}
    limits = [cost.limit for cost in vocabulary.costs(values)]
    return float(np.sum(limits)) if registry.get(run.algorithm).config.constrained else np.inf


def main(folder: Path, chosen: list[Path]) -> None:
    """Prints a row for each variant."""
    runs = defaultdict(list)
    for path in chosen or sorted(path.parent for path in folder.glob("*/progress.csv")):
        run = load(path)
        runs[run.folder.name.rsplit("-s", 1)[0]].append(run)
    known = read_published(PUBLISHED)
    print("| run | task | seeds | steps | minutes | return | cost | published return | published cost | as good |")
    print("|" + "---|" * 10)
    for variant, seeds in runs.items():
        name, env = seeds[0].algorithm, seeds[0].env
        ours = np.array([tail(run) for run in seeds]).mean(axis=0)
        cells = [variant, env, len(seeds), f"{ours[2] / 1e6:.1f} M", f"{ours[3]:.0f}"]
        cells += [f"{ours[0]:.2f}", f"{ours[1]:.1f}"]
        if (env, name) in known:
            mean, spread, cost, cost_spread = known[env, name][2:6]
            good = ours[0] >= mean - spread and ours[1] <= max(limit(seeds[0]), cost)
            cells += [f"{mean:.2f} ± {spread:.2f}", f"{cost:.1f} ± {cost_spread:.1f}", "yes" if good else "no"]
        else:
            cells += ["-", "-", "-"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
