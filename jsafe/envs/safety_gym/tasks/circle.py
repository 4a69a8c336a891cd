"""Circle: run fast around a circle, inside walls that may be crossed (safety-gymnasium 1.0.0, section 2.6)."""

import functools

import numpy as np

from jsafe.envs.safety_gym.objects import place
from jsafe.envs.safety_gym.tasks.base import Lidar, Task

WALL = 1.125
"""Distance of the walls from the centre, metres."""


class Circle(Task):
    """Level 0: no walls. 1: crossing the walls at x = +-1.125 costs. 2: those at y = +-1.125, too."""

    agent_keepout = 0.0
    agent_box = (-0.8, -0.8, 0.8, 0.8)
    horizon = 500
    lidar = Lidar(max_dist=6.0)
    moving = ("agent",)

    def __init__(self, robot, level: int):
        super().__init__(robot)
        self.level = level
        self.objects = (place("circle"),)
        if level:
            walls = ((WALL, 0.0), (-WALL, 0.0), (0.0, WALL), (0.0, -WALL))[: 2 * level]
            yaws = (0.0, 0.0, np.pi / 2, np.pi / 2)[: 2 * level]
            self.objects += (place("sigwalls", count=2 * level, locations=walls, yaws=yaws),)
            self.cost_groups = {"out_of_boundary": ("out_of_boundary",)}

    @functools.cached_property
    def _walls(self) -> np.ndarray:
        """Distance of the outermost walls along x, and y at level 2."""
        return np.abs(self.kind("sigwalls").locations).max(axis=0)[: self.level]

    def begin(self, episode):
        episode.move("circle", (0.0, 0.0))  # the layout sampler leaves it a nanometre off
        return True

    def reward(self, scene, now, met):
        (x, y), (u, v) = scene.agent_pos[:, :2].T, scene.vel["agent"][:, 0, :2].T
        r = scene.xp.sqrt(x * x + y * y)
        return 0.1 * ((-u * y + v * x) / r) / (1 + scene.xp.abs(r - self.kind("circle").radius))

    def costs(self, scene):
        if not self.level:
            return {}
        out = scene.xp.abs(scene.agent_pos[:, : self.level]) > self._walls
        return {"out_of_boundary": out.any(axis=1).astype(float)}
