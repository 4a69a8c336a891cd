"""Robots: one short file each."""

from jsafe.envs.safety_gym.robots.ant import ANT
from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, COMMON_SENSORS, Part, Robot
from jsafe.envs.safety_gym.robots.car import CAR
from jsafe.envs.safety_gym.robots.doggo import DOGGO
from jsafe.envs.safety_gym.robots.point import POINT
from jsafe.envs.safety_gym.robots.racecar import RACECAR

ROBOTS: dict[str, Robot] = {robot.name: robot for robot in (POINT, CAR, DOGGO, RACECAR, ANT)}
"""Stock robots by name."""

__all__ = ["COMMON_PARTS", "COMMON_SENSORS", "ROBOTS", "Part", "Robot"]
