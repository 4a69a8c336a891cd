"""Pendulums that start balanced and must never tip: the tasks of CRABS, where safety is a box of states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PENDULUMS: dict[str, dict[str, Any]] = {
    "SafeInvertedPendulum-v2": {
        "body": "cart",
        "task": "upright",
        "summary": "Keep a pole on a cart upright; tilting it beyond 0.2 rad, or leaving the track, costs and ends it.",
    },
    "SafeInvertedPendulumSwing-v2": {
        "body": "cart",
        "task": "swing",
        "summary": "Tilt a pole on a cart as far as it goes; beyond 1.5 rad it costs and ends.",
    },
    "SafeInvertedPendulumMove-v2": {
        "body": "cart",
        "task": "move",
        "summary": "Drive a cart far from the middle with the pole within 0.2 rad; beyond, it costs and ends.",
    },
    "MyPendulumUpright-v0": {
        "body": "torque",
        "task": "upright",
        "summary": "Hold a rod upright with a weak motor; beyond 1.5 rad it costs and ends.",
    },
    "MyPendulumTilt-v0": {
        "body": "torque",
        "task": "tilt",
        "summary": "Hold a rod as far to the side as a weak motor can; beyond 1.5 rad it costs and ends.",
    },
}
"""The ids of the authors' and of OmniSafe's environments, and what they are."""


def factory(id: str) -> Callable[..., Any]:
    """`(num_envs, seed, **options) -> environment` of an id."""
    from jsafe.envs.pendulum.cart import CartPole
    from jsafe.envs.pendulum.torque import TorquePendulum

    bodies: dict[str, Callable[..., Any]] = {"cart": CartPole, "torque": TorquePendulum}
    made = bodies[PENDULUMS[id]["body"]]

    def make(
        num_envs: int, seed: int, *, horizon: int | None = None, penalty: float | None = None, terminates: bool = True
    ) -> Any:
        given = {"horizon": horizon, "penalty": penalty}
        options = {name: value for name, value in given.items() if value is not None}
        return made(id, num_envs, seed, task=PENDULUMS[id]["task"], terminates=terminates, **options)

    return make
