"""Episodes of a fixed policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jsafe.data import coroutine as acting
from jsafe.data.episodes import EpisodeTracker
from jsafe.types import CMDPTransform, Key


def evaluate(
    env: Any,
    act: Callable,
    policy_state: Any,
    episodes: int,
    key: Key,
    deterministic: bool = True,
    *,
    frame_stack: int = 1,
    transform: CMDPTransform | None = None,
    seed: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Runs whole episodes, each environment its own fixed number of them.

    Environment i runs `episodes // N` episodes, one more if `i < episodes % N`, and only these count. Taking the first
    E episodes that finish in any environment instead would favour short ones.

    Args:
      env: Batched environment; it is reset.
      act: `Learner.act`.
      policy_state: What `Learner.policy` returned.
      episodes: Number of episodes E.
      key: Key of the actions (without effect on a deterministic policy).
      deterministic: Take the most likely action rather than a sample.
      frame_stack: Observations that the policy wants stacked (`learner.data.frame_stack`).
      transform: What the policy expects its observations to be augmented by (`learner.data.transform`). Episodes
        end, and reward and cost are counted, as in the environment.
      seed: Seed of the reset; without one the environment's own random streams continue.
      on_step: Told the number of environment steps so far after each step of all environments.

    Returns:
      `return [E]`, `cost [E, M]` (undiscounted sums), `length [E]` (integers), `success [E]` (booleans), ordered by
      environment, then by time.

    Raises:
      ValueError: If `episodes` is less than one.
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
    box, tracker = acting.ActionBox(env.spec), EpisodeTracker(n, m)
    frames = acting.FrameStack(env.reset() if seed is None else env.reset(seed=seed), frame_stack)
    transform = transform or acting.IDENTITY
    params = acting.transform_params(policy_state)
    z = transform.init(params, n)
    step = 0
    while (slot < stop).any():
        obs = np.asarray(transform.augment(frames.stacked, z), np.float32)
        action, _ = acting.act(act, policy_state, obs, key, np.int32(step), deterministic)
        out = env.step(box(np.asarray(action)))
        ended = out.terminated | out.truncated
        z = transform.step(params, z, out.reward, out.cost, out.terminated, out.truncated).z
        finished = tracker.step(out.reward, out.cost, out.info.get("success"), ended)
        if finished is not None:
            counts = slot[finished.env] < stop[finished.env]
            at = slot[finished.env][counts]
            for name, value in zip(result, finished[1:]):
                result[name][at] = value[counts]
            slot[finished.env[counts]] += 1
        frames.push(out.obs, ended)
        step += 1
        if on_step is not None:
            on_step(step * n)
    return result
