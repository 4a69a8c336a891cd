"""What a run is made of besides its algorithm."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from jsafe.errors import unknown


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of a run that every algorithm shares.

    None of `num_threads`, `log_interval`, `checkpoint_seconds`, `keep_checkpoints`, `tensorboard` and `wandb` changes
    what is learned.

    Raises:
      ValueError: For a number outside of its range.
    """

    env: str
    """Id of the task, for example Safexp-PointGoal1-v0 (`jsafe list` prints them)."""
    costs: Literal["sum", "separate"] = "sum"
    """One cost signal, or one for each kind of cost of the task."""
    total_steps: int = 1_000_000
    """Environment steps to take, over all environments (5e6 is accepted); a preset may bring its own number."""
    seed: int = 0
    """Seed of everything: parameters, exploration, replay and environments."""
    preset: str | None = None
    """Named set of options of the algorithm, applied before the ones given here."""
    num_threads: int | None = None
    """Threads that step the environments (default: one per core). Results do not depend on it."""
    depth: Literal[0, 1] = 0
    """1 collects the next batch during the update: data is one update old (`jsafe.data.PrefetchCollector`)."""
    log_interval: int = 10_000
    """Environment steps between two rows of progress.csv."""
    checkpoint_seconds: float = 300.0
    """Wall-clock seconds between two checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep."""
    tensorboard: bool = True
    """Write TensorBoard event files beside progress.csv."""
    wandb: bool = False
    """Mirror the rows of progress.csv to Weights & Biases (needs the extra `wandb`)."""

    def __post_init__(self):
        if self.costs not in ("sum", "separate"):
            raise ValueError(unknown("costs", self.costs, ("sum", "separate")))
        if self.depth not in (0, 1) or isinstance(self.depth, bool):
            raise ValueError(f"depth must be 0 or 1, got {self.depth!r}")
        for name, low in (("total_steps", 1), ("seed", 0), ("log_interval", 1), ("keep_checkpoints", 1)):
            _require(name, getattr(self, name), low)
        if self.num_threads is not None:
            _require("num_threads", self.num_threads, 1)
        if not self.checkpoint_seconds >= 0 or math.isinf(self.checkpoint_seconds):
            raise ValueError(f"checkpoint_seconds must be finite and at least 0, got {self.checkpoint_seconds}")


def _require(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")


def env_seed(seed: int, purpose: int = 0) -> int:
    """Seed of environment 0 in a run with this root seed.

    Environment i has the stream of seed s + i, so that the roots 0 and 1 used as they are would share all but one of
    their streams. `purpose` separates training (0) from evaluation (1).
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0] >> 1)
