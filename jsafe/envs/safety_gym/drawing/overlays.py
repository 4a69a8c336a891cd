"""What pictures of the navigation tasks show besides the physics model: objects without bodies, lidars, costs."""

from __future__ import annotations

import numpy as np

from jsafe.envs.safety_gym.drawing.frustum import Frustum
from jsafe.envs.safety_gym.drawing.overhead import MARK, MARK_RADIUS
from jsafe.envs.safety_gym.drawing.painter import Shape
from jsafe.envs.safety_gym.objects import DRIVEN, PASSIVE, STATIC, Objects
from jsafe.envs.safety_gym.observe import rotation
from jsafe.envs.safety_gym.simulation import Simulation

_SPHERES, _SPHERE, _RING, _RING_HEIGHT, _RING_STEP = 16, 0.025, 0.15, 0.5, 0.06


def passive(sim: Simulation, i: int) -> list[Shape]:
    """What stands in environment i without a body: passive objects, and the ghosts that pull the driven ones."""
    world, data, shapes = sim.world, sim.physics.data[i], []
    solid = {kind.size[0] for kind in world.groups if kind.shape == "cylinder" and kind.motion == STATIC}
    for kind in world.groups:
        rows = world.slices[kind.group]
        if kind.motion == PASSIVE:
            turns, size = rotation(sim.quat[i, rows]), kind.size
            if kind.group == "goal" and size[0] in solid:
                size = (size[0] + 0.05, size[1])  # a goal as wide as its button would hide in it
            rgba = (*kind.rgba[:3], kind.rgba[3] * _share(sim, i, kind))
            shapes += [Shape(kind.shape, size, pos, rgba, rot) for pos, rot in zip(sim.pos[i, rows], turns)]
        elif kind.motion == DRIVEN:
            mocap, rgba = world.mocap[rows], (*kind.rgba[:3], 0.1)
            turns = rotation(data.mocap_quat[mocap])
            shapes += [Shape(kind.shape, kind.size, pos, rgba, rot) for pos, rot in zip(data.mocap_pos[mocap], turns)]
    return shapes


def opacity(sim: Simulation, i: int) -> dict[str, float]:
    """Geoms of environment i that have faded, and the share of their colour that is left."""
    kinds = [kind for kind in sim.world.groups if kind.motion != PASSIVE and kind.group in sim.task.fading]
    return {name: _share(sim, i, kind) for kind in kinds for name in kind.names}


def _share(sim: Simulation, i: int, kind: Objects) -> float:
    return float(sim.task.opacity(sim.scene, kind.group)[i]) if kind.group in sim.task.fading else 1.0


def halo(sim: Simulation, i: int, view: Frustum | None = None) -> list[Shape]:
    """What the robot's lidars see, as rings of small spheres above it: one for each group, brighter where closer.

    Rings are 0.15 m wide; the first is 0.5 m above the robot's origin, each group of objects adds 0.06 m, sensed or
    not. There is a sphere in the middle of each bin; of more than 31 rays, neighbours share one that shows the
    largest value.

    Args:
      sim: The environments.
      i: Index.
      view: Spheres that it does not see are left out; a robot's own camera hardly ever sees any.
    """
    lidar, scene = sim.task.lidar, sim.scene
    sensed = [(k, kind) for k, kind in enumerate(sim.world.groups) if kind.lidar_key in sim.observer.slices]
    if not sensed:
        return []
    share = max(1, lidar.bins // _SPHERES)
    first = np.arange(0, lidar.bins, share)
    angle = 2 * np.pi * (first + (0.5 if lidar.kind == "pseudo" else 0.5 * (share - 1))) / lidar.bins
    heights = _RING_HEIGHT + _RING_STEP * np.array([float(k) for k, _ in sensed])
    rings = np.empty((len(sensed), len(angle), 3))
    rings[..., 0], rings[..., 1], rings[..., 2] = _RING * np.cos(angle), _RING * np.sin(angle), heights[:, None]
    points = scene.agent_pos[i] + rings @ scene.agent_rot[i].T
    seen = np.ones(points.shape[:2], bool) if view is None else view.sees(points, _SPHERE)
    if not seen.any():
        return []
    obs = sim.observe_rows(np.array([i]))[0]
    shapes = []
    for (_, kind), ring, shown in zip(sensed, points, seen):
        values = np.maximum.reduceat(obs[slice(*sim.observer.slices[kind.lidar_key])], first)
        shapes += [
            Shape("sphere", (_SPHERE,), point, _glow(kind, value)) for point, value in zip(ring[shown], values[shown])
        ]
    return shapes


def _glow(kind: Objects, value: float) -> np.ndarray:
    return np.array([*kind.rgba[:3], 1.0]) * min(1.0, max(value, 0.0) + 0.1)


def alarm(sim: Simulation, i: int) -> list[Shape]:
    """A red sphere around a robot whose last step cost something."""
    if not sim.last_cost[i] > 0:
        return []
    return [Shape("sphere", (0.25,), sim.scene.agent_pos[i], (0.5, 0.0, 0.0, 0.5))]


def marks(points: np.ndarray) -> list[Shape]:
    """Small spheres a little above the floor, at places `[P, 2]` in the world, metres."""
    return [Shape("sphere", (MARK_RADIUS,), (x, y, 2 * MARK_RADIUS), (*MARK, 1.0)) for x, y in points]
