"""What a task is: objects, goals, reward and cost, all as functions of arrays of poses and contacts.

Nothing here knows MuJoCo. A task sees a `Scene` (arrays over the batch) in its per-step functions and an `Episode`
(one environment, with its random stream) where an episode begins or a goal is reached. Per-step functions that use
`scene.xp` in place of numpy, `where` in place of writes and no `if` on values run on the device, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jsafe.envs.api import AnyArray
from jsafe.envs.safety_gym.objects import Objects
from jsafe.envs.safety_gym.robots import Robot


@dataclasses.dataclass
class Scene:
    """What a task can see, for n environments; dictionaries are keyed by group of objects.

    Attributes:
      agent_pos: Origin of the robot `[n, 3]`, metres.
      agent_rot: Its rotation matrix `[n, 3, 3]`.
      pos: Positions of the objects `[n, K, 3]`.
      rot: Rotation matrices `[n, K, 3, 3]` of box-shaped groups that a natural lidar sees.
      vel: World linear velocities, m/s: `[n, K, 3]` for groups, `[n, 1, 3]` for `agent`; the task's `moving` groups.
      touch: Number of contacts with the robot `[n, K]`, for the task's `touching` groups.
      memory: What the task remembers, `[n]` each: its `memory` entries.
    """

    agent_pos: AnyArray
    agent_rot: AnyArray
    pos: dict[str, AnyArray]
    rot: dict[str, AnyArray]
    vel: dict[str, AnyArray]
    touch: dict[str, AnyArray]
    memory: dict[str, AnyArray]

    @property
    def xp(self) -> Any:
        """The array namespace: numpy on the host, jax.numpy in the program."""
        return self.agent_pos.__array_namespace__()

    def rows(self, index) -> Scene:
        """Copies of some environments' rows."""

        def pick(value):
            return {k: v[index] for k, v in value.items()} if isinstance(value, dict) else value[index]

        return Scene(**{f.name: pick(getattr(self, f.name)) for f in dataclasses.fields(self)})


class Episode(Protocol):
    """One environment while its episode begins or its goal changes.

    Attributes:
      stream: Its random numbers: `random()`, `uniform(lo, hi)`, `choice(n)`; those of `rng.RandomStream` on the host.
      memory: The task's memory: scalars to read and write.
    """

    stream: Any
    memory: Any

    def xy(self, group: str, index: int = 0) -> np.ndarray:
        """Where object `index` of a group stands `[2]`."""

    def move(self, group: str, xy: Sequence[float] | np.ndarray, index: int = 0) -> None:
        """Puts a passive object somewhere else."""

    def resample(self, group: str, index: int = 0) -> bool:
        """Draws a new free place for a passive object; False if none was found."""


@dataclasses.dataclass(frozen=True)
class Lidar:
    """How objects are sensed.

    Attributes:
      kind: `pseudo` (bins of closeness, max over objects) or `natural` (rays, exp(-distance)).
      bins: Bins or rays.
      max_dist: Range of a pseudo lidar, metres.
      height: Of the rays of a natural lidar, metres above the floor. They pass over boxes that are lower; cylinders and
        spheres are seen at any height. Stock vases and gremlins are 0.2 m tall: 0.1 sees them.
    """

    kind: str = "pseudo"
    bins: int = 16
    max_dist: float = 3.0
    height: float = 0.3

    def __post_init__(self):
        if self.kind not in ("pseudo", "natural"):
            raise ValueError(f"Lidar.kind must be pseudo or natural, got {self.kind!r}")
        least = 3 if self.kind == "pseudo" else 1
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < least:
            raise ValueError(f"Lidar.bins must be an integer of at least {least}, got {self.bins!r}")
        for name in ("max_dist", "height"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
                raise ValueError(f"Lidar.{name} must be a positive number, got {value!r}")


class Task:
    """Base of all tasks: set the attributes, override the functions.

    Attributes:
      objects: Groups of objects, in order of addition.
      extent: Half width of the square in which things are placed, metres.
      agent_keepout: Keepout of the robot in the layout, metres.
      agent_box: Rectangle (xmin, ymin, xmax, ymax) for the robot instead of the square.
      horizon: Steps until truncation.
      lidar: How objects are sensed.
      memory: Names of what is remembered between steps (numbers, 0 at first).
      touching: Groups whose contacts with the robot matter.
      cost_groups: Columns of the cost with `costs="separate"`, and the keys of `costs` in each.
      moving: Groups (or `agent`) whose velocities matter.
      reward_clip: Bound of |reward|, or None.
      success_ends: The episode is truncated when the goal is reached.
      indicator: Every cost becomes 1 where positive, as officially; otherwise raw values are returned.
      margin, tries, layouts: Of the layout sampler.
      by_keepout: Place in order of falling keepout instead of robot, static, free, driven.
      alphabetical: Sort the parts of the observation by name.
      floor: Half width of the drawn floor, metres.
      aims: Groups that the reward may be about; where coordinates are observed they come first.
      fading: Groups that lose their colour in pictures (`opacity`).
    """

    objects: tuple[Objects, ...] = ()
    extent: float = 1.0
    agent_keepout: float = 0.4
    agent_box: tuple[float, float, float, float] | None = None
    horizon: int = 1000
    lidar: Lidar = Lidar()
    memory: tuple[str, ...] = ()
    touching: tuple[str, ...] = ()
    cost_groups: Mapping[str, tuple[str, ...]] = {}
    moving: tuple[str, ...] = ()
    reward_clip: float | None = 10.0
    success_ends: bool = False
    indicator: bool = True
    margin: float = 0.0
    tries: int = 100
    layouts: int = 10_000
    by_keepout: bool = False
    alphabetical: bool = False
    floor: float = 3.5
    aims: tuple[str, ...] = ("goal", "push_box", "circle")
    fading: tuple[str, ...] = ()

    def __init__(self, robot: Robot):
        self.robot = robot

    def kind(self, group: str) -> Objects:
        """The task's objects of a group, as they are now (a subclass may have changed them)."""
        for kind in self.objects:
            if kind.group == group:
                return kind
        raise ValueError(f"{type(self).__name__} has no objects {group!r}: {[kind.group for kind in self.objects]}")

    def begin(self, episode: Episode) -> bool:
        """Sets the first goal; False if there is no room for it."""
        return self.next_goal(episode)

    def next_goal(self, episode: Episode) -> bool:
        """Sets the next goal after the old one was reached; False if there is no room for it."""
        return True

    def measure(self, scene: Scene) -> dict[str, np.ndarray]:
        """Quantities that the next step's reward compares with; stored in `memory` under the same names."""
        return {}

    def met(self, scene: Scene, now: dict[str, np.ndarray]) -> np.ndarray:
        """Whether the goal is reached, bool `[n]`; `now` is what `measure` returned."""
        return scene.xp.zeros(len(scene.agent_pos), bool)

    def reward(self, scene: Scene, now: dict[str, np.ndarray], met: np.ndarray) -> np.ndarray:
        """Reward of the step `[n]`; `scene.memory` still holds the values of the step before."""
        raise NotImplementedError

    def costs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Raw costs `[n]` by key; positive means violated."""
        return {}

    def tick(self, scene: Scene) -> dict[str, np.ndarray]:
        """Memory that changes with time, after the costs and before a new goal."""
        return {}

    def sense(self, scene: Scene, group: str, values: np.ndarray) -> np.ndarray:
        """What the robot gets of a group's lidar values `[n, bins]`."""
        return values

    def opacity(self, scene: Scene, group: str) -> np.ndarray:
        """How much of its colour one of the `fading` groups shows in pictures, 0 to 1 `[n]`."""
        return scene.xp.ones(len(scene.agent_pos))


def planar(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Horizontal distance of points `[..., 2 or 3]`."""
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    return dx.__array_namespace__().sqrt(dx * dx + dy * dy)


def length(vector: np.ndarray) -> np.ndarray:
    """Length of vectors `[..., 3]`."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    return x.__array_namespace__().sqrt(x * x + y * y + z * z)


def hazard_cost(scene: Scene, radius: float) -> np.ndarray:
    """How deep the robot's origin is inside hazards, summed `[n]`."""
    depth = radius - planar(scene.agent_pos[:, None], scene.pos["hazards"])
    return depth.__array_namespace__().maximum(depth, 0.0).sum(axis=1)


def cost_columns(
    raw: Mapping[str, AnyArray], scene: Scene, indicator: bool, groups: Mapping[str, tuple[str, ...]] | None
) -> tuple[AnyArray, dict[str, AnyArray]]:
    """Cost columns `[n, M]` and the step's info, from raw costs `[n]` by key.

    Args:
      raw: What `Task.costs` returned.
      scene: What it was told.
      indicator: Every cost becomes 1 where positive.
      groups: Columns, and the keys in each; None: one column with the sum.
    """
    xp = scene.xp
    info = {f"cost_{name}": value for name, value in raw.items()}
    total: Any = sum(raw.values()) if raw else xp.zeros(len(scene.agent_pos))
    info["cost_sum"] = total.copy() if len(raw) == 1 else total
    if indicator:
        info = {name: (value > 0).astype(float) for name, value in info.items()}
    if groups is None:
        return info["cost_sum"][:, None].copy(), info
    combine = xp.max if indicator else xp.sum
    columns = [combine(xp.stack([info[f"cost_{key}"] for key in keys]), axis=0) for keys in groups.values()]
    return xp.stack(columns, axis=1), info
