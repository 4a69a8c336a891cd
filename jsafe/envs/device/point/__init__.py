"""Safety-Gymnasium's tasks of Point in the program, its motion in closed form: see `env`."""

from jsafe.envs.device.point.env import PointEnv

__all__ = ["PointEnv"]
