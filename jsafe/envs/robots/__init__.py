"""Robots: one short file each."""

from jsafe.envs.robots.ant import ANT
from jsafe.envs.robots.base import COMMON_PARTS, COMMON_SENSORS, Part, Robot
from jsafe.envs.robots.car import CAR
from jsafe.envs.robots.doggo import DOGGO
from jsafe.envs.robots.point import POINT
from jsafe.envs.robots.racecar import RACECAR

ROBOTS: dict[str, Robot] = {robot.name: robot for robot in (POINT, CAR, DOGGO, RACECAR, ANT)}
"""Stock robots by name."""

__all__ = ["COMMON_PARTS", "COMMON_SENSORS", "ROBOTS", "Part", "Robot"]
