"""What a run is made of besides its algorithm."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from jsafe.options import Options, number, to_json, told

Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class RunConfig(Options):
    """Settings of a run that every algorithm shares.

    Fields that are declared as `told` change nothing that is learned.

    Raises:
      ValueError: For a number outside of its range.
    """

    env: str
    """Id of the task, for example Safexp-PointGoal1-v0 (`jsafe list` prints them); `none` for a data set alone."""
    env_options: tuple[tuple[str, Value], ...] = ()
    """Options of the environment's constructor, by name (`--env.horizon 200`)."""
    imports: tuple[str, ...] = ()
    """Modules to import first, which register tasks or algorithms of one's own; the current folder is searched, too."""
    data: str | None = None
    """Data set to learn from, a file of `jsafe dataset` or of others; for offline algorithms."""
    data_sha256: str | None = None
    """Of the data set when the run was made; another one is refused."""
    eval_interval: int | None = told(None, low=0, high=10**15)
    """Steps (updates on a data set) between two evaluations, which are reported, not learnt from; 0: none. By default
    none, or 5000 updates on a data set. Most likely actions, fresh seeds; in an environment the best policy that keeps
    the limit is kept (`--checkpoint best`)."""
    eval_episodes: int = told(10, low=1, high=10**6)
    """Episodes of each of these evaluations."""
    costs: Literal["sum", "separate"] = "sum"
    """One cost signal, or one for each kind of cost of the task."""
    total_steps: int = number(1_000_000, low=1, high=10**15)
    """Environment steps to take, over all environments (5e6 is accepted); a preset may bring its own number. On a data
    set: gradient updates."""
    seed: int = number(0, low=0, high=2**32 - 1)
    """Seed of everything: parameters, exploration, replay and environments."""
    preset: str | None = told(None)
    """Named set of options of the algorithm, applied before the ones given here."""
    on_bad: Literal["stop", "end"] = "stop"
    """What to do with a reward, cost or observation that no learner can use (not finite, or absurdly large): `stop` the
    run, whose last checkpoint is from before it, or `end` that episode, leave the step out and count it."""
    num_threads: int | None = told(None, low=1, high=4096)
    """Threads that step the environments (default: one per core). Results do not depend on it."""
    backend: Literal["host", "device"] = "host"
    """`host`: the exact engine feeds the program; `device`: environments and update are one compiled program, for tasks
    that have one (`jsafe.device.make`)."""
    depth: Literal[0, 1] = 0
    """1 collects the next batch during the update: data is one update old (`jsafe.data.PrefetchCollector`)."""
    log_interval: int = told(10_000, low=1, high=10**15)
    """Environment steps between two rows of progress.csv."""
    checkpoint_seconds: float = told(300.0, low=0, high=1e9)
    """Wall-clock seconds between two checkpoints."""
    keep_checkpoints: int = told(2, low=1, high=10**6)
    """Newest checkpoints to keep."""
    episodes_csv: bool = told(False)
    """Write a row for each episode of the training to episodes.csv."""
    tensorboard: bool = told(True)
    """Write TensorBoard event files beside progress.csv."""
    wandb: bool = told(False)
    """Mirror the rows of progress.csv to Weights & Biases (needs the extra `wandb`)."""
    wandb_project: str = told("jsafe")
    """Project there."""
    wandb_group: str | None = told(None)
    """Group there, by which it averages runs."""
    wandb_tags: tuple[str, ...] = told(())
    """Tags there."""

    def __post_init__(self):
        options = self.env_options
        pairs = tuple(options.items()) if isinstance(options, dict) else tuple(tuple(pair) for pair in options)
        for pair in pairs:
            if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], Value):
                raise ValueError(f"env_options must be pairs of a name and a plain value, got {pair!r}")
        object.__setattr__(self, "env_options", ())
        super().__post_init__()
        object.__setattr__(self, "env_options", pairs)
        if self.backend == "device":
            if self.depth:
                raise ValueError("depth must be 0 with backend='device', where collecting and updating are one program")
            if self.on_bad != "stop":
                raise ValueError(f"on_bad must be 'stop' with backend='device', got {self.on_bad!r}")
            if self.episodes_csv:
                raise ValueError("episodes_csv is for backend='host': single episodes do not leave the program")
        if self.episodes_csv and self.depth:
            raise ValueError("depth must be 0 with episodes_csv: the next batch would bring its episodes too early")
        if self.episodes_csv and self.data is not None:
            raise ValueError("episodes_csv is for runs that step an environment, not for a data set")

    def meaning(self) -> dict[str, Any]:
        """What decides what is learned, as a JSON tree. (What a preset made is in the algorithm's options.)"""
        telling = {field.name for field in dataclasses.fields(self) if field.metadata.get("told")}
        return {name: value for name, value in to_json(self).items() if name not in telling}

    @property
    def evaluated_every(self) -> int:
        """`eval_interval` with its default filled in; 0: never."""
        if self.eval_interval is None:
            return 0 if self.data is None else 5_000
        return self.eval_interval


def env_seed(seed: int, purpose: int = 0, number: int = 0) -> int:
    """Seed of environment 0 in a run with this root seed.

    Environment i has the stream of seed s + i, so that the roots 0 and 1 used as they are would share all but one of
    their streams. `purpose` separates training (0) from evaluation (1) and from whatever comes later, `number` one time
    from another.
    """
    return int(np.random.SeedSequence([seed, purpose, number]).generate_state(1)[0] >> 1)
