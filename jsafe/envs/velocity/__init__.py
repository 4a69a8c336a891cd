"""Velocity tasks: the bodies of Gymnasium's MuJoCo environments with a speed limit as cost."""

from jsafe.envs.velocity.env import VelocityEnv
from jsafe.envs.velocity.tasks import RUNNERS, Runner

VELOCITY_IDS: dict[str, tuple[Runner, int]] = {
    f"Safety{name}Velocity-v{version}": (runner, version) for name, runner in RUNNERS.items() for version in (0, 1)
}
"""Runner and version of each id."""

__all__ = ["RUNNERS", "VELOCITY_IDS", "Runner", "VelocityEnv"]
