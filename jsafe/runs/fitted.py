"""Fitted Q evaluation: what a policy is worth, from recorded data alone."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe.data import coroutine
from jsafe.data.datasets import DatasetError, Episodes
from jsafe.data.datasets.collector import check_fit
from jsafe.nets.perceptron import ensemble, fan_in_uniform, mlp
from jsafe.runs.evaluation import restore
from jsafe.runs.folder import read
from jsafe.spaces import Box
from jsafe.types import Learner, PolicyState

CHUNK = 250
"""Updates of a compiled call."""


class Fitted(NamedTuple):
    """Estimates for the first observations of the data; index 0 is the reward, then the costs, `[1 + M]` each.

    Attributes:
      J_discounted: Mean of `Q(s0, pi(s0))`: discounted sums without an end, since cut episodes are bootstrapped.
      J_episodic: `J_discounted (1 - gamma) T`: per episode of T steps, as if it were spread evenly. Episodes that
        terminate early are not accounted for.
      loss: Mean squared error of the last updates.
    """

    J_discounted: np.ndarray
    J_episodic: np.ndarray
    loss: np.ndarray


def evaluate(
    folder: str | os.PathLike,
    episodes: Episodes,
    *,
    iteration: int | None = None,
    on_update: Callable[[int], None] | None = None,
    **options: Any,
) -> Fitted:
    """`fitted_q` of the policy of a run, most likely actions.

    Args:
      folder: The run folder.
      episodes: What to evaluate it on; recorded by anybody on the same task.
      iteration: Of the checkpoint, in place of the newest.
      on_update: Told the number of updates so far, now and then.
      **options: Of `fitted_q`.

    Raises:
      RunError: If there is no run.
      DatasetError: If data and policy do not fit together.
    """
    learner, loaded = restore(folder, iteration)
    data = episodes.with_costs(read(folder).config.costs)
    check_fit(data, learner)
    return fitted_q(learner, learner.policy(loaded.state), data, on_update=on_update, **options)


def fitted_q(
    learner: Learner,
    policy_state: PolicyState,
    episodes: Episodes,
    *,
    updates: int = 100_000,
    batch_size: int = 256,
    gamma: float = 0.99,
    learning_rate: float = 3e-4,
    tau: float = 0.005,
    hidden: tuple[int, ...] = (256, 256),
    seed: int = 0,
    on_update: Callable[[int], None] | None = None,
) -> Fitted:
    """Fits the action values of a policy that does not change, one network for the reward and one for each cost.

        y = c + gamma (1 - terminated) Q'(s', pi(s')),    loss = (y - Q(s, a))^2,    J = mean of Q(s0, pi(s0))

    The policy's actions at all observations of the data are computed once.

    Args:
      learner: Its `act` is used; without memory and transform.
      policy_state: What `Learner.policy` returned.
      episodes: The data.
      updates: Gradient updates (rounded up to `CHUNK`).
      batch_size: Transitions of each.
      gamma: Discount, below 1.
      learning_rate: Adam's.
      tau: Share of the values mixed into their slow copy after each update.
      hidden: Widths of the networks.
      seed: Of parameters and minibatches.
      on_update: Told the number of updates so far.

    Raises:
      DatasetError: If observations are no vectors, or actions are choices.
      ValueError: For a policy with a memory, or numbers out of range.

    Source: Le, Voloshin & Yue 2019 (arXiv 1903.08738), algorithm 3, with a slow copy in the place of a fit to the end
      for each target.
    """
    if updates < 1 or batch_size < 1 or not 0 <= gamma < 1:
        raise ValueError(
            f"updates and batch_size must be at least 1 and gamma below 1: {updates}, {batch_size}, {gamma}"
        )
    if coroutine.has_memory(learner) or getattr(learner.feed, "transform", None) is not None:
        raise ValueError("fitted Q evaluation is for policies that see the observation alone")
    if not (isinstance(episodes.about.obs, Box) and episodes.about.obs.flat and isinstance(episodes.about.action, Box)):
        raise DatasetError("fitted Q evaluation is for vectors of observations and continuous actions")
    seen = episodes.obs.astype(np.float32)
    rows = episodes.rows()
    mean, std = seen[rows].mean(axis=0), seen[rows].std(axis=0) + 1e-6
    following = seen[rows + 1] if episodes.next_obs is None else episodes.next_obs[rows].astype(np.float32)
    first = seen[episodes.start[:-1]]
    signal = np.concatenate([episodes.reward[rows, None], episodes.cost[rows]], axis=1)
    act = functools.partial(_actions, learner, policy_state)
    table = {
        "obs": (seen[rows] - mean) / std,
        "action": episodes.action[rows],
        "signal": signal,
        "going": 1.0 - episodes.terminated[rows].astype(np.float32),
        "next_obs": (following - mean) / std,
        "next_action": act(following),
    }
    table = {name: jnp.asarray(value) for name, value in table.items()}
    width, signals = seen.shape[1], signal.shape[1]
    net = mlp(width, 1, hidden, late_dim=table["action"].shape[1], act="relu", kernel_init=fan_in_uniform())
    q = ensemble(net, signals)
    key = jax.random.key(seed)
    params = q.init(key)
    adam = optax.adam(learning_rate)

    def values(params, obs, action):
        return q.apply(params, obs, action)[..., 0].T  # [B, 1 + M]

    def step(carry, key):
        params, slow, opt, table = carry
        index = jax.random.randint(key, (batch_size,), 0, len(rows))
        row = {name: value[index] for name, value in table.items()}
        target = row["signal"] + gamma * row["going"][:, None] * values(slow, row["next_obs"], row["next_action"])

        def loss(params):
            errors = jnp.square(values(params, row["obs"], row["action"]) - jax.lax.stop_gradient(target))
            return errors.mean(axis=0).sum(), errors.mean(axis=0)

        slope, errors = jax.grad(loss, has_aux=True)(params)
        change, opt = adam.update(slope, opt)
        params = optax.apply_updates(params, change)
        slow = optax.incremental_update(params, slow, tau)
        return (params, slow, opt, table), errors

    @jax.jit
    def chunk(params, slow, opt, table, key):
        carry, errors = jax.lax.scan(step, (params, slow, opt, table), jax.random.split(key, CHUNK))
        return carry[:3], errors.mean(axis=0)

    state = (params, params, adam.init(params))
    for number in range(-(-updates // CHUNK)):
        state, errors = chunk(*state, table, jax.random.fold_in(key, number))
        if on_update is not None:
            jax.block_until_ready(errors)  # what is told has been done
            on_update(min((number + 1) * CHUNK, updates))
    start = values(state[0], jnp.asarray((first - mean) / std), jnp.asarray(act(first)))
    J = np.asarray(start.mean(axis=0), np.float64)
    return Fitted(J, J * (1 - gamma) * episodes.about.horizon, np.asarray(errors, np.float64))


def _actions(learner: Learner, policy_state: PolicyState, obs: np.ndarray, size: int = 4096) -> np.ndarray:
    """The most likely action at each observation, `[R, A]`, in `[-1, 1]`."""
    act = jax.jit(lambda state, obs: learner.act(state, learner.memory.init(size), obs, jax.random.key(0), True).action)
    parts = []
    for start in range(0, len(obs), size):
        part = obs[start : start + size]
        padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
        parts.append(np.asarray(act(policy_state, padded))[: len(part)])
    return np.concatenate(parts).clip(-1, 1)
