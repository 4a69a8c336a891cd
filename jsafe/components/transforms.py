"""CMDP transforms: safety budgets in the observation (Saute, Simmer) and early termination.

A `Transform` pairs the functions that the collector applies to fresh data (`CMDPTransform`) with the small state that
the learner keeps for them: Simmer moves its budget once per iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jsafe.ops import cmdp
from jsafe.types import Array, CMDPTransform, TransformStep


class Transform(NamedTuple):
    """A change of the problem.

    Attributes:
      data: What the collector applies, or None.
      init: `hyper -> state`.
      update: `(state, J_cost [M], hyper) -> state`, once per iteration.
      params: `(state, hyper) -> params` of `data`; part of the policy state.
    """

    data: CMDPTransform | None
    init: Callable[[Any], Any]
    update: Callable[[Any, Array, Any], Any]
    params: Callable[[Any, Any], Any]


def identity() -> Transform:
    """Leaves the problem as it is."""
    return Transform(None, lambda hyper: (), lambda state, J_cost, hyper: state, lambda state, hyper: ())


class BudgetParams(NamedTuple):
    """What a budget transform needs: `[M]` each, but `gamma` and `unsafe_reward` (scalars).

    `start` is z after a reset by the collector, `refill` after the end of an episode, `budget` what z = 1 is worth.
    """

    start: Array
    refill: Array
    budget: Array
    gamma: Array
    unsafe_reward: Array


def _local(params: Any, like: Any) -> tuple[Any, Any]:
    """The array namespace of `like`, and `params` in it (host collectors hold params as jax arrays)."""
    xp = like.__array_namespace__()
    return xp, type(params)(*(xp.asarray(leaf) for leaf in params))


def budget_data(num_costs: int) -> CMDPTransform:
    """Appends the remaining budget `z [N, M]` to the observation and replaces the reward once one is used up.

    `z' = (z - c / budget) / gamma`; reward `r` if all `z' > 0`, else `unsafe_reward`.

    Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
    """

    def init(params, num_envs):
        return np.tile(np.asarray(params.start, np.float32), (num_envs, 1))

    def augment(obs, z):
        xp = obs.__array_namespace__()
        return xp.concatenate([obs, xp.asarray(z).astype(obs.dtype)], axis=-1)

    def step(params, z, reward, cost, terminated, truncated):
        xp, p = _local(params, z)
        z_final = cmdp.saute_budget(z, cost, p.budget, p.gamma).astype(z.dtype)
        safe = xp.all(z_final > 0, axis=-1)
        ended = xp.asarray(terminated | truncated)
        z_next = xp.where(ended[:, None], p.refill, z_final).astype(z.dtype)
        shaped = xp.where(safe, reward, p.unsafe_reward).astype(reward.dtype)
        return TransformStep(z_next, z_final, shaped, terminated)

    return CMDPTransform(num_costs, init, augment, step)


def saute(num_costs: int, horizon: int) -> Transform:
    """Saute: a fixed budget, `cmdp.discounted(cost_limit, saute_gamma, horizon)`, in the observation.

    Args:
      num_costs: M.
      horizon: Longest episode.

    Source: Sootla et al. 2022 (arXiv 2202.06558).
    """

    def params(state, hyper):
        ones = jnp.ones((num_costs,), jnp.float32)
        budget = cmdp.discounted(hyper.cost_limit, hyper.saute_gamma, horizon)
        return BudgetParams(ones, ones, budget, hyper.saute_gamma, hyper.unsafe_reward)

    return Transform(budget_data(num_costs), lambda hyper: (), lambda state, J_cost, hyper: state, params)


class SimmerState(NamedTuple):
    """`budget`, `action` and `raw_action` are `[M]`; `errors [W, M]` are the last filtered errors, newest first."""

    budget: Array
    errors: Array
    action: Array
    raw_action: Array


def simmer(
    num_costs: int,
    horizon: int,
    *,
    kp: float = 5e-4,
    ki: float = 1e-5,
    kd: float = 0.0,
    polyak: float = 0.995,
    window: int = 10,
    omnisafe: bool = False,
) -> Transform:
    """Simmer: Saute with a budget that a PI controller moves towards what the policy keeps.

    With budgets in discounted units, `upper = discounted(cost_limit)`: `e = budget - J`, filtered
    `f <- polyak f + (1 - polyak) e`, `a_raw = kp f + ki sum(last f) + kd (a_prev - a_raw_prev)`,
    `a = clip(a_raw, -1, 1)`, `budget <- clip(budget + a, 1e-6, upper)`. An episode starts at `z = budget / upper`,
    and a cost takes `c / upper` from it.

    Args:
      num_costs: M.
      horizon: Longest episode.
      kp: Proportional gain.
      ki: Integral gain.
      kd: Anti-windup gain.
      polyak: Smoothing of the error.
      window: Iterations over which the error is summed.
      omnisafe: As released: a cost takes `c / budget`, and episodes that follow another in an epoch start at 1.

    Source: Sootla et al. 2022 (arXiv 2206.02675), section 4.
    """

    def upper(hyper):
        return cmdp.discounted(hyper.cost_limit, hyper.saute_gamma, horizon)

    def init(hyper):
        zeros = [jnp.zeros((num_costs,), jnp.float32) for _ in range(2)]
        return SimmerState(upper(hyper), jnp.zeros((window, num_costs), jnp.float32), *zeros)

    def update(state, J_cost, hyper):
        error = state.budget - cmdp.discounted(J_cost, hyper.saute_gamma, horizon)
        filtered = polyak * state.errors[0] + (1 - polyak) * error
        errors = jnp.concatenate([filtered[None], state.errors[:-1]])
        raw = kp * filtered + ki * errors.sum(0) + kd * (state.action - state.raw_action)
        action = jnp.clip(raw, -1.0, 1.0)
        return SimmerState(jnp.clip(state.budget + action, 1e-6, upper(hyper)), errors, action, raw)

    def params(state, hyper):
        start = state.budget / upper(hyper)
        refill = jnp.ones_like(start) if omnisafe else start
        worth = state.budget if omnisafe else upper(hyper)
        return BudgetParams(start, refill, worth, hyper.saute_gamma, hyper.unsafe_reward)

    return Transform(budget_data(num_costs), init, update, params)


class TerminationParams(NamedTuple):
    """`limit [M]`, cost per episode."""

    limit: Array


def early_termination(num_costs: int, *, omnisafe: bool = False) -> Transform:
    """Ends an episode, with reward 0, as soon as its accumulated cost exceeds a limit.

    Args:
      num_costs: M; any of them may end the episode.
      omnisafe: As released: the counter is not reset where an episode ends by itself, so cost carries over.

    Source: Sun et al. 2021 (arXiv 2107.04200), definition 2. The context models of the paper are not part of it.
    """

    def init(params, num_envs):
        return np.zeros((num_envs, num_costs), np.float32)

    def step(params, z, reward, cost, terminated, truncated):
        xp, p = _local(params, z)
        z_final = (z + cost).astype(z.dtype)
        over = xp.any(z_final > p.limit, axis=-1)
        fresh = over if omnisafe else over | xp.asarray(terminated | truncated)
        z_next = xp.where(fresh[:, None], 0, z_final).astype(z.dtype)
        return TransformStep(z_next, z_final, xp.where(over, 0, reward).astype(reward.dtype), terminated | over)

    data = CMDPTransform(0, init, lambda obs, z: obs, step)
    return Transform(
        data,
        lambda hyper: (),
        lambda state, J_cost, hyper: state,
        lambda state, hyper: TerminationParams(hyper.cost_limit),
    )
