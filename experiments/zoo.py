"""Puts the policy of a run into the zoo, with what it does in 100 episodes: those of `jsafe evaluate RUN`, or new ones.

python experiments/zoo.py RUN NAME            # its newest checkpoint
python experiments/zoo.py RUN NAME best       # the best one that kept the limit, of `jsafe train --eval-interval`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.deploy import evaluation, writing, zoo

EPISODES = 100


def add(run: str, name: str, checkpoint: str | None = None) -> None:
    """Exports, evaluates, and writes the results into the file."""
    path = writing.export(run, zoo.FOLDER / f"{name}.npz", checkpoint)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    about = json.loads(str(arrays.pop("about")))
    report = evaluated(Path(run), about) or evaluation.evaluate(path, episodes=EPISODES)
    about["results"] = {
        "episodes": EPISODES,
        "seed": report["seed"],
        "return": report["return"]["mean"],
        "success": report["success"],
        "costs": report["costs"],
    }
    path.write_bytes(writing.pack(about, arrays))
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, return {report['return']['mean']:.2f}", report["costs"])


def evaluated(run: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What `jsafe evaluate` has written of this policy in so many episodes of the exact engine."""
    file = run / "evaluation.json"
    wanted = {"env": about["env"], "env_steps": about["env_steps"], "episodes": EPISODES}
    wanted |= {"backend": "host", "deterministic": True}
    report = json.loads(file.read_text()) if file.exists() else {}
    return report if all(report.get(name) == value for name, value in wanted.items()) else None


if __name__ == "__main__":
    add(*sys.argv[1:])
