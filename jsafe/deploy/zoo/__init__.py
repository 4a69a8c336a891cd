"""Trained policies that come with the library: `jsafe.load("zoo:ppo_lag")`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.errors import unknown

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Their names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def path(name: str) -> Path:
    """The file of a policy.

    Raises:
      ValueError: If there is none of that name; the message names the closest match.
    """
    if name not in names():
        raise ValueError(unknown("policy of the zoo", name, names()))
    return FOLDER / f"{name}.npz"


def about(name: str) -> dict[str, Any]:
    """What a policy is: `algorithm`, `env`, `env_steps`, `limit`, and `results`: of 100 episodes (see `evaluate`).

    Raises:
      ValueError: If there is none of that name.
    """
    with np.load(path(name), allow_pickle=False) as file:
        found = json.loads(str(file["about"]))
    return {key: value for key, value in found.items() if key not in ("program", "numbers")}
