"""A fixed policy in an environment, step by step: what evaluation and recording share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.data import coroutine
from jsafe.data.door import Door
from jsafe.types import Key, Learner, Obs, PolicyState


class Policy(NamedTuple):
    """A policy that does not change: a learner and what its `policy` returned."""

    learner: Learner
    state: PolicyState
    deterministic: bool = True


class Played(NamedTuple):
    """One step of N environments.

    Attributes:
      obs: `[N, ...]`, what was seen, as a learner gets it (`coroutine.received`), without the feed's transform.
      action: `[N, A]` in `[-1, 1]` as it was done, or choices.
      step: What `env.step` returned.
    """

    obs: Obs
    action: np.ndarray
    step: Any


def play(
    env: Any,
    policy: Policy | None,
    key: Key,
    *,
    seed: int | None = None,
    tell: Callable[[dict[str, np.ndarray]], Any] | None = None,
) -> Iterator[Played]:
    """Steps an environment with a policy for as long as it is asked to.

    Continuous actions are clipped to `[-1, 1]`. With `learner.feed.transform` the policy sees the transformed problem,
    but episodes end, and reward and cost are given, as in the environment.

    Args:
      env: Batched environment; it is reset.
      policy: The policy; None for uniformly random actions.
      key: Key of the actions (without effect on a deterministic policy).
      seed: Seed of the reset; without one the environment's own random streams continue.
      tell: Called before each step with the `extras` of the policy's `ActOutput`, arrays with a leading axis N.

    Raises:
      ValueError: If the environment does not fit the learner.
      BadValueError: If the environment gives a value that cannot be used (`jsafe.data.Door`), or the policy no action.
    """
    n = env.num_envs
    if policy is not None:
        coroutine.check_spec(env, policy.learner.spec)
    actions, door = coroutine.Actions(env), Door(env.spec, n)
    first = env.reset() if seed is None else env.reset(seed=seed)
    door.look_at_first(first)
    chosen = _random(actions, key) if policy is None else _chosen(policy, n, key, tell)
    next(chosen)
    seen, lengths, last = coroutine.received(first), np.zeros(n, np.int64), None
    while True:
        action = actions.clipped(chosen.send((seen, last))).astype(actions.dtype, copy=False)
        coroutine.check_actions(action, lengths)
        out = env.step(actions.to_env(action))
        door.look(out, lengths)
        yield Played(seen, action, out)
        lengths = np.where(out.terminated | out.truncated, 0, lengths + 1)
        seen, last = coroutine.received(out.obs), out


def _random(actions: coroutine.Actions, key: Key) -> Any:
    rng, action = coroutine.numpy_rng(key), None
    while True:
        yield action
        action = actions.random(rng)


def _chosen(policy: Policy, n: int, key: Key, tell: Callable | None) -> Any:
    """Takes (observations, the step that led to them or None), gives actions."""
    learner, state = policy.learner, policy.state
    transform = getattr(learner.feed, "transform", None) or coroutine.IDENTITY
    params = coroutine.transform_params(state)
    started, memory, z = np.ones(n, bool), learner.memory.init(n), transform.init(params, n)
    action, count = None, 0
    while True:
        seen, out = yield action
        if out is not None:
            started = out.terminated | out.truncated
            z = transform.step(params, z, out.reward, out.cost, out.terminated, out.truncated).z
        obs = coroutine.received(transform.augment(seen, z))
        action, extras, memory = coroutine.act(
            learner.act,
            learner.memory.reset,
            state,
            memory,
            started,
            obs,
            key,
            np.int32(count),
            policy.deterministic,
            tell is not None,
        )
        if tell is not None:
            tell(jax.device_get(extras))
        count += 1
