"""Toy-SpeedLimit as a device environment: move along a visible direction, and pay for speed."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jsafe.envs import checks
from jsafe.envs.api import Spec, Step
from jsafe.envs.device.api import DeviceEnv
from jsafe.envs.toy.speed_limit import SPEED_LIMIT, ToyEnv
from jsafe.spaces import Box


class Course(NamedTuple):
    """State of one episode: `direction [A]` (-1 or 1), `position [A]` in [-1, 1), steps so far."""

    direction: jax.Array
    position: jax.Array
    elapsed: jax.Array


@functools.lru_cache(maxsize=8)
def speed_limit(act_dim: int = 1, horizon: int = 50, terminate_probability: float = 0.0) -> DeviceEnv:
    """The task of `jsafe.envs.ToyEnv` with one quadratic cost and no delay, on streams of its own.

    Args:
      act_dim: Number of action components A.
      horizon: Longest episode, in steps.
      terminate_probability: Chance that a step terminates the episode, in [0, 1).

    Raises:
      ValueError: For a value outside of that.
    """
    checks.integer("act_dim", act_dim)
    host = ToyEnv(1, act_dim=act_dim, horizon=horizon, terminate_probability=terminate_probability).spec
    spec = Spec(
        id=SPEED_LIMIT,
        obs=host.obs,
        action=Box((act_dim,), -1.0, 3.0),
        num_costs=1,
        horizon=horizon,
        cost_names=host.cost_names,
        obs_slices=host.obs_slices,
        dt=host.dt,
    )

    def see(course: Course) -> jax.Array:
        return jnp.concatenate([course.direction, course.position, course.elapsed[None] / horizon])

    def directions(key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, shape=(act_dim,)), 1.0, -1.0)

    def reset(key: jax.Array):
        there, place = jax.random.split(key)
        course = Course(directions(there), jax.random.uniform(place, (act_dim,), minval=-1, maxval=1), jnp.zeros(()))
        return course, see(course)

    def step(course: Course, action: jax.Array, key: jax.Array):
        there, end = jax.random.split(key)
        u = (jnp.clip(action, -1.0, 3.0) - 1) / 2
        speed = course.direction * u
        position = (course.position + spec.dt * u + 1) % 2 - 1
        course = Course(directions(there), position, course.elapsed + 1)
        cost = (speed**2).mean()
        terminated = jax.random.bernoulli(end, terminate_probability)
        truncated = (course.elapsed >= horizon) & ~terminated
        obs = see(course)
        info = {"success": truncated, "diverged": jnp.zeros_like(terminated), host.cost_names[0]: cost}
        return course, Step(obs, speed.mean(), cost[None], terminated, truncated, obs, info)

    return DeviceEnv(spec, reset, step)
