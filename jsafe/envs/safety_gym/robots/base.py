"""What a robot is: a piece of MJCF, its sensors in the order of the observation, and how it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from jsafe.envs.safety_gym.rng import RandomStream

COMMON_SENSORS = """
<accelerometer name="accelerometer" site="agent"/>
<velocimeter name="velocimeter" site="agent"/>
<gyro name="gyro" site="agent"/>
<magnetometer name="magnetometer" site="agent"/>
"""
"""MJCF of the sensors that every robot of Safety-Gymnasium carries, on its site `agent`."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One named part of the robot's observation.

    Attributes:
      name: Key of the part.
      sensors: Names of MuJoCo sensors, concatenated in this order.
      form: `raw`; `rotation`: one unit quaternion as a row-major rotation matrix; `sin_cos`: each angle as (sin, cos).
      take: Components kept of each sensor; empty: all.
    """

    name: str
    sensors: tuple[str, ...]
    form: str = "raw"
    take: tuple[int, ...] = ()

    def __post_init__(self):
        if self.form not in ("raw", "rotation", "sin_cos"):
            raise ValueError(f"Part.form must be raw, rotation or sin_cos, got {self.form!r}")


COMMON_PARTS = tuple(Part(name, (name,)) for name in ("accelerometer", "velocimeter", "gyro", "magnetometer"))


@dataclasses.dataclass(frozen=True)
class Robot:
    """A robot, independent of any task.

    The MJCF of `body` goes into a body called `agent`, which must hold a site `agent`. Either it has a free joint, or
    (`anchored`) its joints are relative to a frame that each episode puts at the robot's start pose.

    Attributes:
      name: As in task ids.
      body: MJCF of the joints, geoms, sites, cameras and child bodies of `agent`.
      actuators: MJCF of the actuators; all need a ctrlrange, which is the action box.
      parts: Observation parts, in order.
      timestep: Physics step in seconds; ten of them make an environment step.
      height: Height of `agent` at the start, metres.
      defaults: MJCF of the default section (it also holds for the objects' geoms, as officially).
      sensors: MJCF of the sensors.
      integrator: MuJoCo integrator.
      compiler: Extra attributes of the compiler element.
      assets, equality, contact: MJCF of these sections.
      anchored: See above.
      start: `stream -> {joint: value}`: joint positions of a new episode other than zero; may draw random numbers.
      dead_below: The episode terminates when `agent` is at or below this height; None: never.
      push_box: Changes to the push box for this robot (`size`, `z`, `density`, `keepout`).
      substeps: Physics steps per environment step.
    """

    name: str
    body: str
    actuators: str
    parts: tuple[Part, ...]
    timestep: float
    height: float
    defaults: str = '<geom condim="6"/>'
    sensors: str = COMMON_SENSORS
    integrator: str = "Euler"
    compiler: str = ""
    assets: str = ""
    equality: str = ""
    contact: str = ""
    anchored: bool = False
    start: Callable[[RandomStream], Mapping[str, float]] | None = None
    dead_below: float | None = None
    push_box: Mapping[str, object] = dataclasses.field(default_factory=dict)
    substeps: int = 10

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"Robot.name must be an identifier, got {self.name!r}")
        for field in ("timestep", "height"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
                raise ValueError(f"Robot.{field} must be a positive number, got {value!r}")
        if isinstance(self.substeps, bool) or not isinstance(self.substeps, int) or self.substeps < 1:
            raise ValueError(f"Robot.substeps must be an integer of at least 1, got {self.substeps!r}")
