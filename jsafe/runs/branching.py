"""Rollouts of the exact engine, branched from the states that a policy visits.

The engine's state can be read and written, so that the same state can be continued many times. The mean over its
branches is what a critic is supposed to know: of reward and of each cost, without bias, with a standard error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.data import coroutine as acting
from jsafe.runs.folder import RunError
from jsafe.types import Estimates, Key, Learner

NEEDED = ("get_state", "set_state", "observe")


class Start(NamedTuple):
    """A state that can be continued: the engine's, and the policy's memory (its rows of one environment)."""

    engine: dict[str, Any]
    memory: Any


class Branches(NamedTuple):
    """What happened in n continuations of each of S states.

    Attributes:
      reward: `[S, n]`, discounted sums of raw rewards.
      cost: `[S, n, M]`, discounted sums of raw costs.
      spent: `[S, n, M]`, costs summed without a discount.
      cut: `[S, n]`, whether the episode was truncated within the branch (at a goal, say): critics look beyond.
      estimate: What the critics say of the states, mean over the first actions of the branches: `reward [S]`,
        `cost [S, M]` (`Estimates` of numpy arrays); None where the learner has no critics to ask.
    """

    reward: np.ndarray
    cost: np.ndarray
    spent: np.ndarray
    cut: np.ndarray
    estimate: Any


def check_branches(env: Any) -> None:
    """Raises RunError if the states of an environment cannot be read and written."""
    missing = [name for name in NEEDED if not hasattr(env, name)]
    if missing:
        raise RunError(f"the states of {env.spec.id} cannot be branched: it has no {', '.join(missing)}")


def visited(
    env: Any,
    learner: Learner,
    policy_state: Any,
    count: int,
    key: Key,
    deterministic: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> list[Start]:
    """States that the policy visits, drawn evenly over an episode's length and over the environments.

    Args:
      env: Batched environment with `get_state` (`jsafe.envs.make` of an official task); it is reset.
      learner: Whose policy acts.
      policy_state: What `Learner.policy` returned.
      count: Number of states S.
      key: Of actions and of the moments.
      deterministic: Take the most likely action rather than a sample.
      on_step: Told the number of environment steps so far.

    Raises:
      ValueError: If there is no state to be drawn.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    n, horizon = env.num_envs, env.spec.horizon
    act_key, when_key = jax.random.split(key)
    # One moment in each of equal slices of the episode, the environments in turn.
    offset = np.asarray(jax.random.uniform(when_key, (count,)))
    moments = ((np.arange(count) + offset) * horizon / count).astype(int)
    found: dict[int, Start] = {}
    actions, started, memory = acting.Actions(env), np.ones(n, bool), learner.memory.init(n)
    obs = acting.received(env.reset())
    for step in range(int(moments.max()) + 1):
        for j in np.flatnonzero(moments == step):
            i = int(j) % n
            rows = jax.tree.map(lambda x, i=i: np.asarray(x)[i], learner.memory.reset(memory, started))
            found[int(j)] = Start(env.get_state(i), rows)
        action, _, memory = acting.act(
            learner.act,
            learner.memory.reset,
            policy_state,
            memory,
            started,
            obs,
            act_key,
            np.int32(step),
            deterministic,
        )
        out = env.step(actions.to_env(actions.clipped(action)))
        started, obs = out.terminated | out.truncated, acting.received(out.obs)
        if on_step is not None:
            on_step((step + 1) * n)
    return [found[j] for j in range(count)]


def cost_to_go(
    env: Any,
    learner: Learner,
    state: Any,
    starts: Sequence[Start],
    rollouts: int,
    length: int,
    key: Key,
    deterministic: bool = False,
    *,
    gamma: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Branches:
    """Continues each state many times, each time with noise and a random stream of its own.

    Every branch begins with the whole horizon ahead of it, because critics do not know how late it is. It goes on until
    the episode ends, for `length` steps at most.

    Args:
      env: Batched environment of the same task; it is reset. Branches run side by side in its N environments.
      learner: Whose policy acts and whose critics are asked.
      state: The learner's.
      starts: S states, as from `visited`.
      rollouts: n, branches per state.
      length: Steps of a branch.
      key: Of the actions.
      deterministic: Take the most likely action rather than a sample.
      gamma: Discount of both sums; by default that of the critics.
      on_step: Told the number of environment steps so far.

    Raises:
      ValueError: If there is no state, a number is below one, or nothing says the discount.
    """
    for name, value in (("starts", len(starts)), ("rollouts", rollouts), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if gamma is None and learner.estimate is None:
        raise ValueError("gamma must be given: the learner has no critics to ask")
    n, m, total = env.num_envs, env.spec.num_costs, len(starts) * rollouts
    policy_state, actions = learner.policy(state), acting.Actions(env)
    which = np.arange(total) // rollouts
    reward, cut = np.zeros(total), np.zeros(total, bool)
    cost, spent = np.zeros((total, m)), np.zeros((total, m))
    said = []
    env.reset()
    for chunk, first in enumerate(range(0, total, n)):
        rows = np.arange(first, min(first + n, total))
        mine = [starts[which[row]] for row in rows] + [starts[which[rows[-1]]]] * (n - len(rows))
        for i, start in enumerate(mine):
            env.set_state(i, start.engine | {"step": 0})
        obs = acting.received(env.observe())
        memory = jax.tree.map(lambda *x: np.stack(x), *(start.memory for start in mine))
        estimate: Any = None
        alive, fresh, chunk_key = np.ones(n, bool), np.zeros(n, bool), jax.random.fold_in(key, chunk)
        discount = cost_discount = 1.0
        for step in range(length):
            before = memory
            action, _, memory = acting.act(
                learner.act,
                learner.memory.reset,
                policy_state,
                memory,
                fresh,
                obs,
                chunk_key,
                np.int32(step),
                deterministic,
            )
            action = actions.clipped(action)
            if step == 0 and learner.estimate is not None:
                estimate = jax.tree.map(np.asarray, _ask(learner.estimate, state, before, obs, action))
                said.append((estimate.reward[: len(rows)], estimate.cost[: len(rows)]))
            out = env.step(actions.to_env(action))
            live = alive[: len(rows)]
            r, c = np.where(live, out.reward[: len(rows)], 0.0), np.where(live[:, None], out.cost[: len(rows)], 0.0)
            reward[rows] += discount * r
            cost[rows] += cost_discount * c
            spent[rows] += c
            cut[rows] |= live & (out.truncated & ~out.terminated)[: len(rows)] & (step + 1 < env.spec.horizon)
            discount *= float(estimate.gamma) if gamma is None else gamma
            cost_discount *= float(estimate.cost_gamma) if gamma is None else gamma
            fresh, obs = out.terminated | out.truncated, acting.received(out.obs)
            alive &= ~fresh
            if on_step is not None:
                on_step((chunk * length + step + 1) * n)
            if not alive[: len(rows)].any():
                break
    shape = (len(starts), rollouts)
    mean = None
    if estimate is not None:
        first_reward, first_cost = (np.concatenate(x) for x in zip(*said))
        mean = Estimates(
            first_reward.reshape(shape).mean(axis=1),
            first_cost.reshape(*shape, -1).mean(axis=1),
            estimate.gamma,
            estimate.cost_gamma,
        )
    return Branches(reward.reshape(shape), cost.reshape(*shape, m), spent.reshape(*shape, m), cut.reshape(shape), mean)


@functools.partial(jax.jit, static_argnums=0)
def _ask(estimate: Callable[..., Estimates], state: Any, memory: Any, obs: Any, action: Any) -> Estimates:
    return estimate(state, memory, obs, action)
