"""What can stand in a task: one table of objects, and how a task asks for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jsafe.envs import checks
from jsafe.errors import closest

PASSIVE, STATIC, FREE, DRIVEN = "passive", "static", "free", "driven"
"""Passive: drawn and sensed only. Static: an obstacle. Free: six degrees of freedom. Driven: pulled along a circle."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Objects:
    """A group of equal objects: a row of `KINDS`, changed where a task wants something else (`place`).

    Attributes:
      group: Key in observations (`hazards_lidar`), costs and scene arrays.
      body: Name of the body; numbered from 0 (`hazard0`) unless `single`.
      motion: One of `passive`, `static`, `free`, `driven`.
      shape: `cylinder` (size: radius, half height), `box` (three half sizes), `sphere` (radius) or `push_box`
        (half width and half height: a box with four columns on its vertical edges).
      size: Sizes in metres, as above.
      z: Height of the body's origin, metres.
      rgba: Colour.
      density: kg/m^3 (matters for free and driven objects only).
      geom_group: MuJoCo geom group, 0 to 10 in the official models.
      single: There is one, and its name carries no number.
      count: How many.
      keepout: Radius that the layout sampler keeps free around it, metres.
      lidar: Whether the robot senses the group.
      label: Key of its lidar in the observation; empty: `{group}_lidar`.
      spin: Random yaw at reset; otherwise `yaws` (the random numbers are drawn all the same).
      yaws: Yaw of each object in radians where `spin` is false.
      locations: Fixed xy of each object, or empty: sampled.
      travel: Radius of a driven object's circle, metres.
      lift: How far above its start the drive holds a driven object, metres.
    """

    group: str
    body: str
    motion: str
    shape: str
    size: tuple[float, ...]
    z: float
    rgba: tuple[float, float, float, float]
    geom_group: int
    density: float = 0.001
    single: bool = False
    count: int = 1
    keepout: float = 0.2
    lidar: bool = True
    label: str = ""
    spin: bool = True
    yaws: tuple[float, ...] = ()
    locations: tuple[tuple[float, float], ...] = ()
    travel: float = 0.3
    lift: float = 0.1

    def __post_init__(self):
        sizes = {"cylinder": 2, "box": 3, "sphere": 1, "push_box": 2}
        if self.motion not in (PASSIVE, STATIC, FREE, DRIVEN):
            raise ValueError(f"Objects.motion must be passive, static, free or driven, got {self.motion!r}")
        if self.shape not in sizes:
            raise ValueError(f"Objects.shape must be one of {sorted(sizes)}, got {self.shape!r}")
        if not isinstance(self.size, (tuple, list)) or len(self.size) != sizes[self.shape]:
            raise ValueError(f"Objects.size of a {self.shape} has {sizes[self.shape]} numbers, got {self.size!r}")
        for field, values in (("size", self.size), ("density", (self.density,)), ("keepout", (self.keepout,))):
            if not all(_is_number(v) and (v > 0 or (v == 0 and field == "keepout")) and v < np.inf for v in values):
                raise ValueError(f"Objects.{field} must be finite and positive, got {getattr(self, field)!r}")
        object.__setattr__(self, "size", tuple(self.size))
        if self.count < 1 or (self.single and self.count != 1):
            raise ValueError(f"Objects.count must be at least 1 (1 for {self.group!r} if single), got {self.count}")
        for field in ("locations", "yaws"):
            value = getattr(self, field)
            if value and len(value) != self.count:
                raise ValueError(f"Objects.{field} must have one entry for each of {self.count} objects, got {value!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bodies."""
        return (self.body,) if self.single else tuple(f"{self.body}{i}" for i in range(self.count))

    @property
    def lidar_key(self) -> str:
        """Key of its lidar in the observation."""
        return self.label or f"{self.group}_lidar"

    @property
    def radius(self) -> float:
        """What the official tasks call its size: radius, or half width."""
        return self.size[0]

    @property
    def span(self) -> tuple[float, float]:
        """Heights between which an upright object lies, as it is held at rest, metres."""
        half = self.size[0] if self.shape == "sphere" else self.size[-1]
        middle = self.z + (self.lift if self.motion == DRIVEN else 0.0)
        return middle - half, middle + half

    @property
    def collides(self) -> bool:
        """Whether the robot can touch it."""
        return self.motion != PASSIVE


_TABLE = (
    Objects("goal", "goal", PASSIVE, "cylinder", (0.3, 0.15), 0.16, (0, 1, 0, 0.25), 9, single=True, keepout=0.305),
    Objects("hazards", "hazard", PASSIVE, "cylinder", (0.2, 0.01), 0.02, (0, 0, 1, 0.25), 3, keepout=0.18),
    Objects("vases", "vase", FREE, "box", (0.1, 0.1, 0.1), 0.1 - 4e-5, (0, 1, 1, 1), 4, keepout=0.15),
    Objects("pillars", "pillar", STATIC, "cylinder", (0.2, 0.5), 0.5, (0.5, 0.5, 1, 1), 2, keepout=0.3),
    Objects("buttons", "button", STATIC, "sphere", (0.1,), 0.1, (1, 0.5, 0, 1), 1, keepout=0.2),
    Objects("gremlins", "gremlin", DRIVEN, "box", (0.1, 0.1, 0.1), 0.1, (0.5, 0, 1, 1), 5, keepout=0.4),
    Objects("push_box", "push_box", FREE, "push_box", (0.2, 0.2), 0.2, (1, 1, 0, 1), 1, single=True, keepout=0.2),
    Objects("circle", "circle", PASSIVE, "cylinder", (1.5, 0.01), 0.01, (0, 1, 0, 0.1), 6, single=True, keepout=0.0,
            spin=False, locations=((0.0, 0.0),)),
    Objects("sigwalls", "sigwall", PASSIVE, "box", (0.05, 3.5, 0.3), 0.25, (1, 1, 0, 0.1), 10, keepout=0.0, lidar=False,
            spin=False),
)  # fmt: skip
KINDS: dict[str, Objects] = {kind.group: kind for kind in _TABLE}
"""Stock objects by group (safety-gymnasium 1.0.0)."""


def place(group: str, /, **changes: Any) -> Objects:
    """A stock object with some fields changed: `place("hazards", count=8, keepout=0.18)`.

    Any field of `Objects` can be changed, its own name too: `place("goal", group="parcel", body="parcel")`. A single
    number as `size` means what it means officially: the radius, or half the width of a box (a cube stays one), and the
    object stands on the floor as before.

    Raises:
      ValueError: If the group or a field is unknown, or a value does not fit.
    """
    checks.one_of("group of objects", group, KINDS)
    stock, fields = KINDS[group], [field.name for field in dataclasses.fields(Objects)]
    for name in changes:
        if name not in fields:
            raise ValueError(f"Objects has no field {name!r}{closest(name, fields)}")
    if _is_number(changes.get("size")):
        size = _resized(stock, float(changes["size"]))
        changes = {"z": stock.z + size[-1] - stock.size[-1]} | changes | {"size": size}
    return dataclasses.replace(stock, **changes)


def in_order(objects: tuple[Objects, ...]) -> tuple[Objects, ...]:
    """Order in which objects are placed, turned and sensed: passive and static, free, driven."""
    rank = {FREE: 1, DRIVEN: 2}
    return tuple(sorted(objects, key=lambda kind: rank.get(kind.motion, 0)))


def _resized(kind: Objects, size: float) -> tuple[float, ...]:
    """Sizes of an object whose width is told by one number."""
    if kind.shape == "sphere":
        return (size,)
    if kind.shape in ("cylinder", "push_box"):
        return (size, kind.size[1])
    if len(set(kind.size)) > 1:
        raise ValueError(f"Objects.size of {kind.group} needs three numbers, got {size!r}")
    return (size, size, size)
