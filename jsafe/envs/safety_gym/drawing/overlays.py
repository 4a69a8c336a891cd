"""What pictures of the navigation tasks show besides the physics model: objects without bodies, lidars, costs."""

from __future__ import annotations

import numpy as np

from jsafe.envs.safety_gym.drawing.painter import Shape
from jsafe.envs.safety_gym.objects import DRIVEN, PASSIVE, STATIC, Objects
from jsafe.envs.safety_gym.observe import rotation
from jsafe.envs.safety_gym.simulation import Simulation

_SPHERES, _RING, _RING_HEIGHT, _RING_STEP = 16, 0.15, 0.5, 0.06


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
            shapes += [Shape(kind.shape, size, pos, kind.rgba, rot) for pos, rot in zip(sim.pos[i, rows], turns)]
        elif kind.motion == DRIVEN:
            mocap, rgba = world.mocap[rows], (*kind.rgba[:3], 0.1)
            turns = rotation(data.mocap_quat[mocap])
            shapes += [Shape(kind.shape, kind.size, pos, rgba, rot) for pos, rot in zip(data.mocap_pos[mocap], turns)]
    return shapes


def halo(sim: Simulation, i: int) -> list[Shape]:
    """What the robot's lidars see, as rings of small spheres above it: one for each group, brighter where closer.

    Rings are 0.15 m wide; the first is 0.5 m above the robot's origin, each group of objects adds 0.06 m, sensed or
    not. There is a sphere in the middle of each bin; of more than 31 rays, neighbours share one that shows the
    largest value.
    """
    lidar, scene = sim.task.lidar, sim.scene
    obs = sim.observe_rows(np.array([i]))[0]
    share = max(1, lidar.bins // _SPHERES)
    first = np.arange(0, lidar.bins, share)
    angle = 2 * np.pi * (first + (0.5 if lidar.kind == "pseudo" else 0.5 * (share - 1))) / lidar.bins
    shapes = []
    for number, kind in enumerate(sim.world.groups):
        if kind.lidar_key not in sim.observer.slices:
            continue
        start, stop = sim.observer.slices[kind.lidar_key]
        values = np.maximum.reduceat(obs[start:stop], first)
        height = np.full(len(angle), _RING_HEIGHT + _RING_STEP * number)
        ring = np.stack([_RING * np.cos(angle), _RING * np.sin(angle), height], axis=1)
        points = scene.agent_pos[i] + ring @ scene.agent_rot[i].T
        shapes += [Shape("sphere", (0.025,), point, _glow(kind, value)) for point, value in zip(points, values)]
    return shapes


def _glow(kind: Objects, value: float) -> np.ndarray:
    return np.array([*kind.rgba[:3], 1.0]) * min(1.0, max(value, 0.0) + 0.1)


def alarm(sim: Simulation, i: int) -> list[Shape]:
    """A red sphere around a robot whose last step cost something."""
    if not sim.last_cost[i] > 0:
        return []
    return [Shape("sphere", (0.25,), sim.scene.agent_pos[i], (0.5, 0.0, 0.0, 0.5))]
