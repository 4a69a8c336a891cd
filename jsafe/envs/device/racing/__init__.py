"""SafeRacing as a device environment: see `make`."""

from jsafe.envs.device.racing.env import ALIASES, IDS, Task, make, racing

__all__ = ["ALIASES", "IDS", "Task", "make", "racing"]
