"""Puts the policy of a run into the zoo, with what it does in 100 episodes.

python experiments/zoo.py RUN NAME
"""

from __future__ import annotations

import json
import sys

import numpy as np

from jsafe.deploy import evaluation, writing, zoo

EPISODES = 100


def add(run: str, name: str) -> None:
    """Exports, evaluates, and writes the results into the file."""
    path = writing.export(run, zoo.FOLDER / f"{name}.npz")
    report = evaluation.evaluate(path, episodes=EPISODES)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    about = json.loads(str(arrays.pop("about")))
    about["results"] = {
        "episodes": EPISODES,
        "seed": report["seed"],
        "return": report["return"]["mean"],
        "success": report["success"],
        "costs": report["costs"],
    }
    path.write_bytes(writing.pack(about, arrays))
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, return {report['return']['mean']:.2f}", report["costs"])


if __name__ == "__main__":
    add(*sys.argv[1:])
