"""Episodes of a fixed policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from jsafe.data.door import Door
from jsafe.data.episodes import EpisodeTracker
from jsafe.data.playing import Policy, play
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
      BadValueError: If the environment gives a value that cannot be used (`jsafe.data.Door`), or the policy no action.
    """
    steps = (played.step for played in play(env, Policy(learner, policy_state, deterministic), key, seed=seed))
    return _count(env, steps, episodes, on_step)


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

    def steps() -> Iterator[Any]:
        door, lengths, out = Door(env.spec, env.num_envs), np.zeros(env.num_envs, np.int64), None
        obs = env.reset() if seed is None else env.reset(seed=seed)
        door.look_at_first(obs)
        while True:
            out = env.step(act(obs, out))
            door.look(out, lengths)
            yield out
            lengths = np.where(out.terminated | out.truncated, 0, lengths + 1)
            obs = out.obs

    return _count(env, steps(), episodes, on_step)


def _count(
    env: Any, steps: Iterator[Any], episodes: int, on_step: Callable[[int], None] | None
) -> dict[str, np.ndarray]:
    """What whole episodes in a stream of steps sum up to."""
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
    tracker = EpisodeTracker(n, m)
    for count, out in enumerate(steps, 1):
        finished = tracker.step(out.reward, out.cost, out.info.get("success"), out.terminated | out.truncated)
        if finished is not None:
            counts = slot[finished.env] < stop[finished.env]
            at = slot[finished.env][counts]
            for name, value in zip(result, finished[1:]):
                result[name][at] = value[counts]
            slot[finished.env[counts]] += 1
        if on_step is not None:
            on_step(count * n)
        if not (slot < stop).any():
            break
    return result
