"""DSRL's `.hdf5`: `observations, next_observations, actions, rewards, costs, terminals, timeouts`, a row per step.

Actions are in the units of their box (without a task it is taken to be `[-1, 1]`). What follows the last end of an
episode is dropped, as all released loaders do. Files of the D4RL kind, without `next_observations`, are read, too.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.data.datasets.hdf5 import array, h5py, opened
from jsafe.data.datasets.rows import from_rows, from_units, to_units

KEYS = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "cost": "costs",
    "terminated": "terminals",
    "truncated": "timeouts",
}


def read(
    path: str | os.PathLike, about: About | None = None, *, clip: bool = False, cost_key: str = "costs", **_: Any
) -> Episodes:
    """Reads a file of DSRL's.

    Args:
      path: The file.
      about: What is known of the task; the shapes say the rest.
      clip: Clip actions to `[-1, 1]`.
      cost_key: Name of the costs.

    Raises:
      DatasetError: If an array is missing or its values cannot be used.
      OSError: If the file cannot be opened.
    """
    with opened(path) as file:
        rows = {name: array(file, key, str(path)) for name, key in (KEYS | {"cost": cost_key}).items()}
        following = array(file, "next_observations", str(path)) if "next_observations" in file else None
    if not len(rows["obs"]):
        raise DatasetError(f"{path}: it is empty: observations has shape {rows['obs'].shape}")
    if about is not None:
        rows["action"] = from_units(rows["action"], about.action)
    return from_rows(next_obs=following, where=str(path), clip=clip, about=about, unfinished="drop", **rows)


def write(episodes: Episodes, path: str | os.PathLike) -> None:
    """Writes a file that DSRL reads; costs are added up, and an episode that was stopped ends with a timeout."""
    steps = episodes.flat()
    stopped = np.zeros(len(steps["reward"]), bool)
    stopped[np.cumsum(episodes.lengths) - 1] = ~episodes.finished
    columns = {
        "observations": steps["obs"].astype(np.float32),
        "next_observations": steps["next_obs"].astype(np.float32),
        "actions": to_units(steps["action"], episodes.about.action),
        "rewards": steps["reward"],
        "costs": steps["cost"].sum(axis=1),
        "terminals": steps["terminated"],
        "timeouts": steps["truncated"] | stopped,
    }
    with h5py().File(path, "w") as file:
        for name, value in columns.items():
            file.create_dataset(name, data=value, compression="gzip")
