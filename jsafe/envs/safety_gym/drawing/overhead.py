"""A map of a navigation task from straight above, in plain numpy: for places where nothing draws."""

from __future__ import annotations

import numpy as np

from jsafe.envs.safety_gym.objects import DRIVEN, Objects
from jsafe.envs.safety_gym.simulation import Simulation

OVERHEAD = "overhead"
"""Its name among the cameras."""

_REACH = 2.2
"""Half the height of the map, metres."""
_TILES = np.array([(219, 215, 195), (242, 233, 218)], float)
_ROBOT, _NOSE = (189, 11, 47), (1, 39, 101)
MARK, MARK_RADIUS = (1.0, 0.55, 0.0), 0.025
"""Colour, and radius in metres, of what marks a place."""
_LEAST = 0.4
"""Opacity of the palest things, which would not be seen among few pixels."""


def overhead(sim: Simulation, i: int, width: int, height: int, points: np.ndarray) -> np.ndarray:
    """Environment i, the robot in the middle, x to the right and y upwards, uint8 `[height, width, 3]`.

    The floor has tiles of half a metre; the robot is red with a blue nose, and stands on red where its last step cost
    something; `points [P, 2]` are marked in orange. Everything else has its official colour.
    """
    x, y, _ = sim.scene.agent_pos[i]
    step = 2 * _REACH / height
    xs = x + step * (np.arange(width) + 0.5 - width / 2)
    ys = y - step * (np.arange(height) + 0.5 - height / 2)
    grid = np.stack(np.broadcast_arrays(xs, ys[:, None]), axis=-1)
    picture = _TILES[(np.floor(2 * grid[..., 0]) + np.floor(2 * grid[..., 1])).astype(int) % 2]
    kinds = [(kind, k) for kind in sim.world.groups for k in range(kind.count)]
    flat_first = sorted(range(len(kinds)), key=lambda at: kinds[at][0].span[1])
    for at in flat_first:
        kind, _ = kinds[at]
        share = sim.task.opacity(sim.scene, kind.group)[i] if kind.group in sim.task.fading else 1.0
        alpha = share * max(kind.rgba[3], _LEAST if kind.group not in ("circle", "sigwalls") else 0.2)
        inside = _inside(kind, grid - sim.pos[i, at, :2], _turn(sim, i, at, kind), step)
        picture[inside] += alpha * (255 * np.array(kind.rgba[:3]) - picture[inside])
    if sim.last_cost[i] > 0:
        alarm = np.hypot(*np.moveaxis(grid - (x, y), -1, 0)) < 0.25
        picture[alarm] += 0.5 * (np.array([255.0, 0, 0]) - picture[alarm])
    ahead = _ahead(sim, i)
    for offset, radius, colour in ((0.0, 0.11, _ROBOT), (0.13, 0.06, _NOSE)):
        distance = np.hypot(*np.moveaxis(grid - ((x, y) + offset * ahead), -1, 0))
        picture[distance < max(radius, 0.75 * step)] = colour
    for point in points:
        distance = np.hypot(*np.moveaxis(grid - point, -1, 0))
        picture[distance < max(MARK_RADIUS, 0.75 * step)] = 255 * np.array(MARK)
    return picture.round().astype(np.uint8)


def _inside(kind: Objects, offset: np.ndarray, yaw: float, step: float) -> np.ndarray:
    if kind.shape in ("cylinder", "sphere"):
        return np.hypot(offset[..., 0], offset[..., 1]) < max(kind.size[0], 0.75 * step)
    cos, sin = np.cos(yaw), np.sin(yaw)
    along, across = offset @ (cos, sin), offset @ (-sin, cos)
    half = kind.size[:2] if kind.shape == "box" else (1.5 * kind.size[0],) * 2
    return (np.abs(along) < max(half[0], 0.5 * step)) & (np.abs(across) < max(half[1], 0.5 * step))


def _turn(sim: Simulation, i: int, at: int, kind: Objects) -> float:
    """Heading of an object as it is now, radians."""
    if at >= sim.free:
        name = kind.names[at - sim.world.slices[kind.group].start]
        matrix = sim.physics.data[i].body(f"{name}obj" if kind.motion == DRIVEN else name).xmat
        return float(np.arctan2(matrix[3], matrix[0]))
    w, _, _, z = sim.quat[i, at]
    return float(2 * np.arctan2(z, w))


def _ahead(sim: Simulation, i: int) -> np.ndarray:
    """Where the robot's own camera looks, in the plane; its x axis where it has none."""
    model, data = sim.world.model, sim.physics.data[i]
    cameras = [model.camera(c).name for c in range(model.ncam)]
    axis = -data.camera("vision").xmat[[2, 5]] if "vision" in cameras else sim.scene.agent_rot[i][:2, 0]
    return axis / max(float(np.hypot(*axis)), 1e-9)
