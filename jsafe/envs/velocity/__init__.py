"""Velocity tasks: the bodies of Gymnasium's MuJoCo environments with a speed limit as cost."""

from jsafe.envs.velocity.tasks import RUNNERS, VELOCITY_IDS, Runner

__all__ = ["RUNNERS", "VELOCITY_IDS", "Runner"]
