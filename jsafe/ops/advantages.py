"""Advantage estimators for time-major rollouts `[T, N, K]` of K signals (the reward, then each cost).

All take values of the observations acted on and of those that followed (the final one where an episode ended), and
both flags: a terminated step is worth its reward alone, a truncated one and the last row bootstrap from `next_value`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import chex
import jax.numpy as jnp

from jsafe.ops import stats
from jsafe.ops.returns import discounted_sum, reward_to_go
from jsafe.types import Array


class Advantages(NamedTuple):
    """`advantage [T, N, K]` and the regression `target [T, N, K]` of the value functions."""

    advantage: Array
    target: Array


def _masks(reward, value, next_value, terminated, truncated):
    """Checks shapes; returns (not terminated, episode goes on), each `[T, N, 1]`."""
    chex.assert_rank([reward, value, next_value], 3)
    chex.assert_equal_shape([reward, value, next_value])
    chex.assert_equal_shape([reward[..., 0], terminated, truncated])
    alive = 1.0 - terminated[..., None].astype(reward.dtype)
    return alive, alive * (1.0 - truncated[..., None].astype(reward.dtype))


def gae(reward, value, next_value, terminated, truncated, gamma, lam) -> Advantages:
    """Generalised advantage estimation: `A_t = sum_l (gamma lam)^l delta_{t+l}`, target `A + V`.

    `delta_t = r_t + gamma (1 - terminated_t) V(next_t) - V(obs_t)`.

    Args:
      reward: `[T, N, K]`.
      value: `[T, N, K]`, of the observations acted on.
      next_value: `[T, N, K]`, of the observations that followed.
      terminated: `[T, N]` bool.
      truncated: `[T, N]` bool.
      gamma: Discount, scalar or `[K]`.
      lam: Trace decay, scalar or `[K]`.

    Returns:
      `Advantages`, neither centred nor scaled.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equation 16.
    """
    alive, going = _masks(reward, value, next_value, terminated, truncated)
    delta = reward + gamma * alive * next_value - value
    advantage = discounted_sum(delta, gamma * lam * going)
    return Advantages(advantage, advantage + value)


def gae_rtg(reward, value, next_value, terminated, truncated, gamma, lam) -> Advantages:
    """The advantage of `gae` with the discounted reward to go as target. Arguments as in `gae`."""
    advantage = gae(reward, value, next_value, terminated, truncated, gamma, lam).advantage
    return Advantages(advantage, reward_to_go(reward, next_value, terminated, truncated, gamma))


def plain(reward, value, next_value, terminated, truncated, gamma, lam=None) -> Advantages:
    """One-step advantage `r + gamma V' - V`, target the discounted reward to go. Arguments as in `gae`; no `lam`."""
    del lam
    alive, _ = _masks(reward, value, next_value, terminated, truncated)
    advantage = reward + gamma * alive * next_value - value
    return Advantages(advantage, reward_to_go(reward, next_value, terminated, truncated, gamma))


def vtrace(
    reward, value, next_value, terminated, truncated, gamma, lam=1.0, log_rho=0.0, rho_bar=1.0, c_bar=1.0
) -> Advantages:
    """V-trace: `v_t = V_t + sum_l gamma^l (prod c) rho_{t+l} delta_{t+l}`, `A_t = rho_t (r_t + gamma v_{t+1} - V_t)`.

    With `log_rho = 0` (on-policy) the target is the multi-step return. Arguments as in `gae`, and:

    Args:
      log_rho: `log pi - log mu` of the actions, `[T, N]` or scalar.
      rho_bar: Ceiling of the ratio that weights `delta`.
      c_bar: Ceiling of the ratio that cuts traces, which also decay with `lam`.

    Source: Espeholt et al. 2018 (arXiv 1802.01561), equation 1 and section 4.2.
    """
    alive, going = _masks(reward, value, next_value, terminated, truncated)
    ratio = jnp.broadcast_to(jnp.exp(log_rho), terminated.shape)[..., None]
    rho = jnp.minimum(ratio, rho_bar)
    c = lam * jnp.minimum(ratio, c_bar)
    delta = rho * (reward + gamma * alive * next_value - value)
    target = value + discounted_sum(delta, gamma * c * going)
    following = jnp.concatenate([target[1:], next_value[-1:]])
    mask = going * (jnp.arange(going.shape[0]) < going.shape[0] - 1)[:, None, None]
    following = mask * following + (1 - mask) * next_value
    return Advantages(rho * (reward + gamma * alive * following - value), target)


class Mixed(NamedTuple):
    """`advantage [B]` of the Lagrangian; its parts `reward [B]` and `cost [B, M]` before the weights."""

    advantage: Array
    reward: Array
    cost: Array


def mix(
    advantage: Array,
    reward_weight: Array,
    cost_weight: Array,
    standardize: Literal["reward", "all", "mix", "none"] = "reward",
    axis_name: str | None = None,
) -> Mixed:
    """`w_r A_r - sum_i w_i A_i` of centred advantages.

    Args:
      advantage: `[B, 1 + M]`, the reward's and each cost's; `[B, 1]` where costs are not estimated (and count 0).
      reward_weight: Scalar.
      cost_weight: `[M]`.
      standardize: What is scaled to unit deviation besides. `reward`: the reward's advantage, before the mix (Ray et
        al. 2019). `all`: each one, before the mix (FOCOPS' authors). `mix`: the mix. `none`: nothing.
      axis_name: Mapped axis over which moments are taken.

    Collectives: those of `ops.stats.standardize`.
    """
    rows, m = advantage.shape[0], cost_weight.shape[0]
    centred = stats.standardize(advantage, axis_name, scale=False)
    unit = stats.standardize(advantage, axis_name)
    costs = unit if standardize == "all" else centred
    cost = costs[:, 1:] if advantage.shape[1] > 1 else jnp.zeros((rows, m), advantage.dtype)
    reward = (unit if standardize in ("reward", "all") else centred)[:, 0]
    mixed = reward_weight * reward - cost @ cost_weight
    if standardize == "mix":
        mixed = stats.standardize(mixed[:, None], axis_name)[:, 0]
    alone = centred if standardize == "none" else unit
    return Mixed(mixed, alone[:, 0], cost)
