"""Run: get down a straight lane fast, between walls that may be crossed (safety-gymnasium 1.0.0, section 2.6)."""

import functools

import numpy as np

from jsafe.envs.safety_gym.objects import place
from jsafe.envs.safety_gym.tasks.base import Task, planar

WALL = 0.5
"""Distance of the walls from the middle of the lane, metres."""
FAR = np.array([0.0, -1000.0])
"""Point towards which progress counts, metres."""
GAIN = 60.0
"""Reward for each metre of progress."""


class Run(Task):
    """There is level 0 only."""

    agent_keepout = 0.0
    agent_box = (-0.2, 16.5, 0.2, 16.5)
    horizon = 500
    memory = ("old_potential",)
    cost_groups = {"out_of_boundary": ("out_of_boundary",)}  # noqa: RUF012
    reward_clip = None
    floor = 17.5

    def __init__(self, robot, level: int):
        super().__init__(robot)
        walls = ((WALL, 0.0), (-WALL, 0.0))
        self.objects = (place("sigwalls", count=2, size=(0.05, 17.5, 0.3), locations=walls),)

    @functools.cached_property
    def _wall(self) -> float:
        return max(abs(x) for x, _ in self.kind("sigwalls").locations)

    def measure(self, scene):
        return {"old_potential": -GAIN * planar(scene.agent_pos, FAR)}

    def reward(self, scene, now, met):
        return now["old_potential"] - scene.memory["old_potential"]

    def costs(self, scene):
        return {"out_of_boundary": (scene.xp.abs(scene.agent_pos[:, 0]) > self._wall).astype(float)}
