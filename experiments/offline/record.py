"""Data sets of our own agents, by the recipes in recordings.toml.

    python experiments/offline/record.py NAME [--small] [--runs DIR] [--out DIR] [--threads N]

Agents that are in DIR already are not trained again. Beside each file NAME.npz: NAME.json (`jsafe dataset info --json`)
and NAME.png (cost against return).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

from jsafe.curves import screen
from jsafe.data import datasets
from jsafe.data.datasets.select import between
from jsafe.report import dataset as report
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.recording import record

HERE = Path(__file__).parent


def trained(folder: Path, words: str, env: str, threads: int | None, more: tuple[str, ...] = ()) -> Path:
    """The run folder of an agent, trained to its end."""
    command = [sys.executable, "-m", "jsafe.cli", "train"]
    if (folder / "config.json").exists():
        command += ["--resume", str(folder)]
    else:
        command += [*words.split(), "--env", env, "--run-dir", str(folder), "--no-tensorboard", *more]
    subprocess.run(command + ([] if threads is None else ["--num-threads", str(threads)]), check=True)
    return folder


def mixed(recipe: dict, runs: Path, small: bool, threads: int | None):
    """One set for each share of the careful agent. Each agent is recorded once, for the largest of its shares, both in
    the same episodes (the seed is one)."""
    steps = recipe["small_steps" if small else "steps"]
    parts = []
    for who, largest in (("bold", 1 - min(recipe["shares"])), ("careful", max(recipe["shares"]))):
        folder = trained(runs / who, recipe[who], recipe["env"], threads)
        part = record(
            [str(folder)], steps=round(largest * steps), half=small, num_threads=threads, console=screen.console()
        )
        parts.append(part)
    for share in recipe["shares"]:
        wanted = ((1 - share) * steps, share * steps)
        chosen = [part.take(np.cumsum(part.lengths) <= count) for part, count in zip(parts, wanted)]
        yield f"b{round(100 * share)}", datasets.concatenate(chosen)


def broad(recipe: dict, runs: Path, small: bool, threads: int | None):
    """Episodes of many checkpoints at many limits, thinned."""
    sources = []
    keep = ("--checkpoint-seconds", "0", "--keep-checkpoints", "1000000")
    for limit in recipe["limits"]:
        words = f"{recipe['agent']} --cost-limit {limit:g}"
        folder = trained(runs / f"limit-{limit:g}", words, recipe["env"], threads, keep)
        there = Checkpoints(folder).list()
        chosen = np.unique(np.linspace(0, len(there) - 1, recipe["checkpoints"]).astype(int))
        sources += [f"{folder}@{there[i]}" for i in chosen]
    episodes = record(sources, episodes=recipe["episodes"], half=small, num_threads=threads, console=screen.console())
    episodes = episodes.take(between(episodes.costs.max(axis=1), 0, recipe["largest_cost"]))
    target = recipe["small_episodes"] if small else recipe["target"]
    side = max(1, round(target**0.5))
    yield "", episodes.take(datasets.grid(episodes, (side, side), np.random.default_rng(0), target=target))


def main() -> None:
    """Reads the recipe, and writes its files."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("name")
    words.add_argument("--small", action="store_true", help="observations in float16, few episodes: at most 5 MB")
    words.add_argument("--runs", type=Path, default=Path("runs/recordings"))
    words.add_argument("--out", type=Path, default=Path("runs/recordings"))
    words.add_argument("--threads", type=int)
    given = words.parse_args()
    recipes = tomllib.loads((HERE / "recordings.toml").read_text())
    defaults = recipes.pop("defaults")
    if given.name not in recipes:
        raise SystemExit(f"unknown recipe {given.name!r}; known: {', '.join(recipes)}")
    recipe = defaults[recipes[given.name]["kind"]] | recipes[given.name]
    make = {"mixed": mixed, "broad": broad}[recipe["kind"]]
    for suffix, episodes in make(recipe, given.runs / given.name, given.small, given.threads):
        stem = "-".join(filter(None, (given.name, suffix, "small" if given.small else "")))
        path = given.out / f"{stem}.npz"
        datasets.write(episodes, path)
        path.with_suffix(".json").write_text(json.dumps(report.describe(episodes), indent=1) + "\n")
        report.save(episodes, path.with_suffix(".png"), [25.0])
        print(f"{path}: {len(episodes)} episodes, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
