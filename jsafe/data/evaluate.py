"""Episodes of a fixed policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from jsafe.data import coroutine as acting
from jsafe.data.door import Door
from jsafe.data.episodes import EpisodeTracker
from jsafe.types import Key, Learner, Obs, PolicyState


class Acting(Protocol):
    """`(obs [N, ...], step) -> actions [N, ...]` in the environment's units; `step` led here, None at the start."""

    def __call__(self, obs: Obs, step: Any | None, /) -> np.ndarray: ...


def evaluate(
    env: Any,
    learner: Learner,
    policy_state: PolicyState,
    episodes: int,
    key: Key,
    deterministic: bool = True,
    *,
    seed: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Runs whole episodes, each environment its own fixed number of them.

    Environment i runs `episodes // N` episodes, one more if `i < episodes % N`, and only these count. Taking the first
    E episodes that finish in any environment instead would favour short ones.

    Continuous actions are clipped to `[-1, 1]`. With `learner.feed.transform` the policy sees the transformed problem,
    but episodes end, and reward and cost are counted, as in the environment.

    Args:
      env: Batched environment; it is reset.
      learner: Its `act`, `memory`, `spec` and the transform of its `feed` are used.
      policy_state: What `Learner.policy` returned.
      episodes: Number of episodes E.
      key: Key of the actions (without effect on a deterministic policy).
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the reset; without one the environment's own random streams continue.
      on_step: Told the number of environment steps so far after each step of all environments.

    Returns:
      `return [E]`, `cost [E, M]` (undiscounted sums), `length [E]` (integers), `success [E]` (booleans), ordered by
      environment, then by time.

    Raises:
      ValueError: If `episodes` is less than one, or the environment does not fit the learner.
      BadValueError: If the environment gives a value that cannot be used (`jsafe.data.Door`).
    """
    acting.check_spec(env, learner.spec)
    n = env.num_envs
    actions, memory, count = acting.Actions(env), learner.memory.init(n), itertools.count()
    transform = getattr(learner.feed, "transform", None) or acting.IDENTITY
    params = acting.transform_params(policy_state)
    z = transform.init(params, n)

    def act(obs, step):
        nonlocal memory, z
        started = np.ones(n, bool)
        if step is not None:
            started = step.terminated | step.truncated
            z = transform.step(params, z, step.reward, step.cost, step.terminated, step.truncated).z
        action, _, memory = acting.act(
            learner.act,
            learner.memory.reset,
            policy_state,
            memory,
            started,
            acting.received(transform.augment(acting.received(obs), z)),
            key,
            np.int32(next(count)),
            deterministic,
        )
        return actions.to_env(actions.clipped(action))

    return run_episodes(env, act, episodes, seed=seed, on_step=on_step)


def run_episodes(
    env: Any,
    act: Acting,
    episodes: int,
    *,
    seed: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Runs whole episodes of anything that acts; see `evaluate` for how they are counted, and for what is returned.

    Raises:
      ValueError: If `episodes` is less than one.
      BadValueError: If the environment gives a value that cannot be used (`jsafe.data.Door`).
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    n, m = env.num_envs, env.spec.num_costs
    quota = episodes // n + (np.arange(n) < episodes % n)
    slot = np.cumsum(quota) - quota  # where the next episode of each environment is put
    stop = slot + quota
    result = {
        "return": np.zeros(episodes),
        "cost": np.zeros((episodes, m)),
        "length": np.zeros(episodes, np.int64),
        "success": np.zeros(episodes, bool),
    }
    tracker, door = EpisodeTracker(n, m), Door(env.spec, n)
    obs = env.reset() if seed is None else env.reset(seed=seed)
    door.look_at_first(obs)
    out, steps = None, 0
    while (slot < stop).any():
        out = env.step(act(obs, out))
        door.look(out, tracker.lengths)
        finished = tracker.step(out.reward, out.cost, out.info.get("success"), out.terminated | out.truncated)
        if finished is not None:
            counts = slot[finished.env] < stop[finished.env]
            at = slot[finished.env][counts]
            for name, value in zip(result, finished[1:]):
                result[name][at] = value[counts]
            slot[finished.env[counts]] += 1
        obs, steps = out.obs, steps + n
        if on_step is not None:
            on_step(steps)
    return result
