"""What transforms share, and the budget that Saute and Simmer put into the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from jsafe.ops import cmdp
from jsafe.types import Array, CMDPTransform, Metrics, TransformStep

RELEASED_HORIZON = 1000
"""The length of an episode in OmniSafe's budgets, whatever the task's."""


class TransformUpdateFn(Protocol):
    """`(state, J_episodic [M], limit [M]) -> state`, once per iteration."""

    def __call__(self, state: Any, J_episodic: Array, limit: Array, /) -> Any: ...


class Transform(NamedTuple):
    """A change of the problem, and the small state that the learner keeps for it. Limits are per episode.

    Attributes:
      data: What the collector applies, or None.
      init: `limit [M] -> state`.
      update: `(state, J_episodic, limit) -> state`.
      params: `(state, limit) -> params` of `data`; part of the policy state.
      metrics: `state -> metrics`.
    """

    data: CMDPTransform | None
    init: Callable[[Array], Any]
    update: TransformUpdateFn = lambda state, J_episodic, limit: state
    params: Callable[[Any, Array], Any] = lambda state, limit: ()
    metrics: Callable[[Any], Metrics] = lambda state: {}


class BudgetParams(NamedTuple):
    """What a budget transform needs: `[M]` each, but `gamma` and `unsafe_reward` (scalars).

    `start` is z after a reset by the collector, `refill` after the end of an episode, `budget` what z = 1 is worth.
    """

    start: Array
    refill: Array
    budget: Array
    gamma: Array
    unsafe_reward: Array


def local(params: Any, like: Any) -> tuple[Any, Any]:
    """The array namespace of `like`, and `params` in it (host collectors hold params as jax arrays)."""
    xp = like.__array_namespace__()
    return xp, type(params)(*(xp.asarray(leaf) for leaf in params))


def budget_data(num_costs: int, *, full_at_end: bool = False) -> CMDPTransform:
    """Appends the remaining budget `z [N, M]` to the observation and replaces the reward once one is used up.

    `z' = (z - c / budget) / gamma`; reward `r` if all `z' > 0`, else `unsafe_reward`.

    Args:
      num_costs: M.
      full_at_end: The final observation of an episode shows the budget of the next one (OmniSafe: truncated steps
        bootstrap from it).

    Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
    """

    def init(params, num_envs):
        xp = params.start.__array_namespace__()
        return xp.tile(params.start.astype(np.float32), (num_envs, 1))

    def augment(obs, z):
        xp = obs.__array_namespace__()
        return xp.concatenate([obs, xp.asarray(z).astype(obs.dtype)], axis=-1)

    def step(params, z, reward, cost, terminated, truncated):
        xp, p = local(params, z)
        z_final = cmdp.saute_budget(z, cost, p.budget, p.gamma).astype(z.dtype)
        safe = xp.all(z_final > 0, axis=-1)
        ended = xp.asarray(terminated | truncated)
        z_next = xp.where(ended[:, None], p.refill, z_final).astype(z.dtype)
        shaped = xp.where(safe, reward, p.unsafe_reward).astype(reward.dtype)
        return TransformStep(z_next, z_next if full_at_end else z_final, shaped, terminated)

    return CMDPTransform(num_costs, init, augment, step)
