"""Names and options of the environments that run in the compiled program; naming them needs no JAX."""

from __future__ import annotations

import dataclasses

from jsafe.envs import checks

HORIZON = 1000
TOYS = ("Toy-SpeedLimit-v0",)
"""Toys that have a device environment beside the host's."""
OBSERVATIONS = ("pixels", "state")
SIZE = 96
"""Rows and columns of the authors' picture of SafeRacing."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Options of a racing task (`racing.make`).

    Attributes:
      obstacle_ratio: Obstacles per tile. Without any, leaving the road costs; with some, hitting them does.
      observation: `"pixels"` (a grey picture and the car's vector) or `"state"` (a flat vector).
      size: Rows and columns of the picture; a smaller one shows the same view in fewer points.
      tracks: Number of roads that episodes draw from.
      track_seed: Seed of the roads.
      horizon: Steps after which an episode is truncated.
    """

    obstacle_ratio: float = 0.0
    observation: str = "pixels"
    size: int = SIZE
    tracks: int = 512
    track_seed: int = 0
    horizon: int = HORIZON

    def __post_init__(self):
        checks.integer("tracks", self.tracks)
        if checks.integer("size", self.size, 8) != SIZE and self.observation != "pixels":
            raise ValueError(f"size={self.size} is for observation='pixels', not for {self.observation!r}")
        checks.integer("track_seed", self.track_seed, 0)
        checks.integer("horizon", self.horizon)
        checks.one_of("observation", self.observation, OBSERVATIONS)
        ratio = self.obstacle_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
            raise ValueError(f"obstacle_ratio must be a number in [0, 1], got {ratio!r}")


IDS: dict[str, Task] = {
    "SafeRacing-v0": Task(),
    "SafeRacingObstacle-v0": Task(obstacle_ratio=0.1),
    "SafeRacing-state-v0": Task(observation="state"),
    "SafeRacingObstacle-state-v0": Task(obstacle_ratio=0.1, observation="state"),
}
"""The racing tasks by id."""
ALIASES = {"SafeCarRacing0-v0": "SafeRacing-v0", "SafeCarRacing1-v0": "SafeRacingObstacle-v0"}
"""The authors' names of them."""
