"""Offline learners on recorded tasks, beside each other: return and cost of the last checkpoint.

    python experiments/offline/compare.py FILE.npz ... --csv results.csv --limits 20 25 40 80 --seeds 3
    python experiments/offline/compare.py FILE.npz --csv results.csv --only caps bc_safe --limits 25
    python experiments/offline/compare.py --table results.csv                    # beside the published figures

The settings are those of `ROWS`: preset `jsafe`, networks of (128, 128), minibatches of 256, normalised inputs. A row
is written as soon as it is there; what the table holds already (set, row, limit, seed, updates) is not made again, so
that a command that was stopped goes on where it was. `--together N` trains N of the missing runs in one program: worth
it on an accelerator, not on a core. The environment is asked at the end alone, for episodes with most likely actions.
What has no limit in its training is trained once for all limits.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.curves import screen
from jsafe.data import datasets, evaluate
from jsafe.data.datasets import ManyDatasets, scores

HERE = Path(__file__).parent
COMMON = {"hidden": (128, 128), "batch_size": 256, "updates": 250}
SEEN = {"normalize_obs": True}
SLOW = {**SEEN, "tau": 0.05}
"""Slow copies make the errors of values fall like `exp(-tau (1 - gamma) n)` in n updates: at the presets' 0.005 and a
discount of 0.99 a seventh of a cost is seen after 3000, and limits are not kept."""
FAST = {"learning_rate": 1e-3}
CAPS = {**SLOW, **FAST, "reward_scale": 1.0}
ROWS = {
    "bc": ("bc", SEEN),
    "bc_safe": ("bc_safe", SEEN),
    "bc_frontier": ("bc_frontier", SEEN),
    "bc_conditioned": ("bc_conditioned", SEEN),
    "vae_bc": ("vae_bc", SEEN),
    "bcq_lag": ("bcq_lag", SLOW),
    "ccrr": ("ccrr", SLOW),
    "coptidice": ("coptidice", {**SEEN, **FAST}),
    "cpq": ("cpq", SLOW),
    "bear_lag": ("bear_lag", SLOW),
    "caps": ("caps", CAPS),
    "caps, tau 0.005": ("caps", {**CAPS, "tau": 0.005}),
    "fisor": ("fisor", {**SLOW, **FAST}),
    "lspc": ("lspc", {**SLOW, **FAST}),
    "trac": ("trac", {"batch_size": 16, "learning_rate": 1e-3, "rate_warmup": 200}),
    "cdt": ("cdt", {"hidden": (64, 64), "batch_size": 32}),
}
"""Algorithm, and options beside `COMMON` and the preset `jsafe`."""
FREE = {"bc", "bc_frontier", "bc_conditioned", "vae_bc", "fisor", "lspc", "caps"}
"""No limit in their training. Of those that take one all the same, it is the one that they act on."""
UPDATES = 3000
"""Of a row, unless another number is asked for."""
KEY = ("set", "algorithm", "limit", "seed", "updates")
COLUMNS = (*KEY, "return", "cost", "worst", "within", "estimated", "cpu_s")


def learner_of(row: str, data: datasets.Episodes, limit: float, updates: int, changes: Mapping[str, Any] = {}):
    """The learner of a row, with some options changed."""
    algorithm, more = ROWS[row]
    options = {**COMMON, **more, **changes}
    if algorithm == "trac":  # two fifths of the updates for cloning
        options["clone_updates"] = 2 * updates // 5
    return jsafe.make(algorithm, data.spec, preset="jsafe", cost_limit=limit, **options)


def trained(learners: Sequence, seeds: Sequence[int], data: datasets.Episodes, updates: int, told):
    """The last state of each run, its last metrics, and its CPU seconds."""
    collector = ManyDatasets(None, learners, seeds, data=data)
    keys, start = [jax.random.key(seed) for seed in seeds], time.process_time()
    for step in jsafe.train.run_many(learners, collector, keys=keys, total_steps=updates):
        told(step.env_steps)
        state, metrics = step.state, step.metrics
    seconds = (time.process_time() - start) / len(seeds)
    return [jax.tree.map(lambda x, r=r: x[r], state) for r in range(len(seeds))], metrics, seconds


def programs(given: argparse.Namespace, name: str, row: str) -> Iterator[list[tuple[float, int]]]:
    """The runs (limit, seed) that are missing, those of one program together."""

    def missing(limit: float, seed: int) -> bool:
        return (name, row, f"{limit:g}", str(seed), str(given.updates)) not in given.there

    algorithm = ROWS[row][0]
    if algorithm in FREE:
        seeds = [seed for seed in range(given.seeds) if any(missing(limit, seed) for limit in given.limits)]
        groups = [[(given.limits[0], seed) for seed in seeds]]
    else:
        groups = [[(limit, seed) for seed in range(given.seeds) if missing(limit, seed)] for limit in given.limits]
    if algorithm != "bc_safe":  # which learns from other episodes at another limit
        groups = [[run for group in groups for run in group]]
    for group in groups:
        yield from (group[i : i + given.together] for i in range(0, len(group), given.together))


def rows_of(name: str, data: datasets.Episodes, row: str, given: argparse.Namespace, console) -> Iterator[dict]:
    """The rows that are not there yet."""
    for runs in programs(given, name, row):
        by_limit = {limit: learner_of(row, data, limit, given.updates) for limit, _ in runs}
        learners, seeds = [by_limit[limit] for limit, _ in runs], [seed for _, seed in runs]
        title = f"{name}: {row}, limit, seed {', '.join(f'{limit:g}, {seed}' for limit, seed in runs)}"
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        progress = screen.Progress(console, given.updates, unit="updates")
        try:
            states, metrics, seconds = trained(
                learners, seeds, data, given.updates, lambda done, progress=progress: progress.update(done, {})
            )
        finally:
            progress.close()
        env = jsafe.envs.make(data.about.env, num_envs=given.episodes, seed=0, num_threads=1)
        for (own, seed), learner, state, seen in zip(runs, learners, states, metrics):
            for limit in given.limits if ROWS[row][0] in FREE else [own]:
                if (name, row, f"{limit:g}", str(seed), str(given.updates)) in given.there:
                    continue
                if hasattr(state, "limit"):
                    state = state._replace(limit=jnp.full_like(state.limit, limit))
                policy = learner.policy(state)
                found = evaluate(env, learner, policy, given.episodes, jax.random.key(seed), seed=1000 + seed)
                cost = found["cost"][:, 0]
                yield {
                    "set": name,
                    "algorithm": row,
                    "limit": f"{limit:g}",
                    "seed": seed,
                    "updates": given.updates,
                    "return": f"{found['return'].mean():.2f}",
                    "cost": f"{cost.mean():.1f}",
                    "worst": f"{cost.max():.0f}",
                    "within": f"{(cost <= limit).mean():.2f}",
                    "estimated": f"{float(seen.get('cost/0/estimated', np.nan)):.1f}",
                    "cpu_s": f"{seconds:.0f}",
                }
        env.close()


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict) -> None:
    """Adds a row to a table; several commands may do so at once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists():
        writer.writeheader()
    writer.writerow(row)
    with path.open("a") as file:
        file.write(text.getvalue())


def task(name: str) -> str:
    """The environment behind the name of a set."""
    recipes = tomllib.loads((HERE / "recordings.toml").read_text())
    known = [recipe for recipe in recipes if name.startswith(recipe)]
    if not known:
        raise SystemExit(f"no recipe of recordings.toml makes {name!r}; known: {', '.join(recipes)}")
    return recipes[max(known, key=len)]["env"]


def mean(rows: Sequence[dict[str, str]], *columns: str) -> list[float]:
    """Means over rows."""
    return [float(np.mean([float(row[column]) for row in rows])) for column in columns]


def table(path: Path) -> None:
    """Prints a table for each set, in the form of a README: return / cost at each limit, means over seeds (the largest
    seed's cost), the same in DSRL's normalised units over limits of 20, 40 and 80, and what is published.
    """
    rows, published = read(path), read(HERE / "published.csv")
    for name in dict.fromkeys(row["set"] for row in rows):
        here = [row for row in rows if row["set"] == name]
        env, limits = task(name), sorted({float(row["limit"]) for row in here})
        print(f"\n| {name} |", " | ".join(f"{limit:g}" for limit in limits), "| normalised | DSRL's | OmniSafe's |")
        print("|---|", "---|" * (len(limits) + 3), sep="")
        rows_here = sorted({(list(ROWS).index(each["algorithm"]), int(each["updates"])) for each in here})
        for row, updates in ((list(ROWS)[number], updates) for number, updates in rows_here):
            own = [each for each in here if each["algorithm"] == row and int(each["updates"]) == updates]
            cells, ratios = [], []
            for limit in limits:
                mine = [each for each in own if float(each["limit"]) == limit]
                if not mine:
                    cells.append("")
                    continue
                earned, cost = mean(mine, "return", "cost")
                worst = max(float(each["cost"]) for each in mine)
                cells.append(f"{earned:.1f} / {cost:.0f}" + (f" ({worst:.0f})" if len(mine) > 1 else ""))
                if limit in (20, 40, 80):
                    ratios.append(scores.score(env, earned, cost, limit))
            whole = len(ratios) == 3
            cells.append("{:.2f} / {:.2f}".format(*np.mean(ratios, axis=0)) if whole else "")
            for source in ("DSRL", "OmniSafe"):
                theirs = [p for p in published if p["of"] in (env, name) and (p["row"], p["source"]) == (row, source)]
                cells.append(f"{theirs[0]['return']} / {theirs[0]['cost']}" if theirs else "")
            title = row if updates == UPDATES else f"{row}, {updates} updates"
            print(f"| {title} |", " | ".join(cells), "|")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("files", nargs="*", type=Path)
    words.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS))
    words.add_argument("--limits", nargs="*", type=float, default=[25.0])
    words.add_argument("--seeds", type=int, default=1)
    words.add_argument("--updates", type=int, default=UPDATES)
    words.add_argument("--episodes", type=int, default=20)
    words.add_argument("--together", type=int, default=1, help="runs in one program")
    words.add_argument("--csv", type=Path)
    words.add_argument("--table", type=Path, help="print this table, and do nothing else")
    given = words.parse_args()
    if given.table is not None:
        return table(given.table)
    done = [] if given.csv is None else read(given.csv)
    given.there = {tuple(row[name] for name in KEY) for row in done}
    console = screen.console()
    for path in given.files:
        data = datasets.read(path)
        for row in given.only:
            for made in rows_of(path.stem, data, row, given, console):
                print(made, flush=True)
                if given.csv is not None:
                    append(given.csv, made)
    return None


if __name__ == "__main__":
    main()
