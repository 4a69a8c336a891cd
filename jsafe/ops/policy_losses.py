"""Policy objectives on a minibatch of b rows, all to be *minimised*.

`ratio [b]` is `pi(a|s) / mu(a|s)` with the behaviour policy mu; `mean` averages over the minibatch (over devices too,
when the caller passes such a mean), so that objectives that are not linear in averages stay exact.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array

Mean = Callable[[Array], Array]


def policy_gradient(ratio: Array, advantage: Array, mean: Mean = jnp.mean) -> Array:
    """`-mean(ratio A)`: the surrogate whose gradient at the behaviour policy is the policy gradient.

    Source: Sutton et al. 1999; Kakade & Langford 2002.
    """
    chex.assert_equal_shape([ratio, advantage])
    return -mean(ratio * advantage)


def clipped(ratio: Array, advantage: Array, clip: Array, mean: Mean = jnp.mean) -> Array:
    """`-mean(min(ratio A, clip(ratio, 1 - clip, 1 + clip) A))`.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
    """
    chex.assert_equal_shape([ratio, advantage])
    bounded = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -mean(jnp.minimum(ratio * advantage, bounded * advantage))


def focops(
    ratio: Array,
    advantage: Array,
    kl: Array,
    temperature: Array,
    radius: Array,
    mean: Mean = jnp.mean,
    *,
    pairwise: bool = False,
) -> Array:
    """First-order solution of the constrained update: `mean(1[KL <= radius] (KL - ratio A / temperature))`.

    Args:
      ratio: `[b]`.
      advantage: `[b]`, the Lagrangian mix.
      kl: `[b]`, `KL(pi || pi_old)` in each state.
      temperature: Scalar, `lambda` in the paper.
      radius: Scalar, `eta`: rows further away do not count.
      mean: Average over the minibatch.
      pairwise: What OmniSafe computes, because its `[b, 1]` and `[b]` arrays broadcast: every row's KL is paired with
        every row's advantage, `mean(m KL) - mean(m) mean(ratio A) / temperature`.

    Source: Zhang, Vuong & Ross 2020 (arXiv 2002.06506), algorithm 1.
    """
    chex.assert_equal_shape([ratio, advantage, kl])
    near = jax.lax.stop_gradient((kl <= radius).astype(ratio.dtype))
    if pairwise:
        return mean(near * kl) - mean(near) * mean(ratio * advantage) / temperature
    return mean(near * (kl - ratio * advantage / temperature))


def cost_surrogates(ratio: Array, advantage_cost: Array, clip: Array | None = None, mean: Mean = jnp.mean) -> Array:
    """`mean(ratio A_c,i)` of each cost, `[M]`: how the cost per step changes with the policy.

    Args:
      ratio: `[b]`.
      advantage_cost: `[b, M]`.
      clip: The pessimistic bound `max(ratio A_c, clip(ratio) A_c)`; None for the plain ratio.
      mean: Average over the minibatch.
    """
    chex.assert_rank([ratio, advantage_cost], [1, 2])
    surrogate = ratio[:, None] * advantage_cost
    if clip is not None:
        surrogate = jnp.maximum(surrogate, jnp.clip(ratio, 1 - clip, 1 + clip)[:, None] * advantage_cost)
    return jnp.stack([mean(surrogate[:, i]) for i in range(surrogate.shape[1])])


def exact_penalty(surrogate: Array, gap: Array, kappa: Array) -> Array:
    """P3O's penalty `kappa sum_i max(0, surrogate_i + gap_i)`.

    Its kink is that of expectations: on a minibatch the noise of the mean opens it at random.

    Args:
      surrogate: `[M]`, `cost_surrogates`.
      gap: `[M]`, cost minus limit per step (the paper's `(1 - gamma) (J - d)`): the unit of the surrogate.
      kappa: Scalar.

    Source: Zhang et al. 2022 (arXiv 2205.11814), section 4. OmniSafe neither clips the surrogate nor scales the gap.
    """
    chex.assert_equal_shape([surrogate, gap])
    return kappa * jax.nn.relu(surrogate + gap).sum()


def log_barrier(excess: Array, kappa: Array, slope: Array) -> Array:
    """IPO's barrier `-kappa sum_i log(-excess_i)`, continued by its tangent where that is steep.

    The paper's barrier is infinite at and beyond the limit, where a sampled policy may well be. From the point where
    its slope reaches `slope` (at `-excess = kappa / slope`), it continues as the tangent line.

    Args:
      excess: `[M]`, cost surrogate plus gap: cost minus limit per step.
      kappa: Scalar, `1 / t` in the paper.
      slope: Scalar, the largest slope.

    Source: Liu, Ding & Liu 2020 (arXiv 1910.09615), section 4. OmniSafe uses the rule `ipo` instead.
    """
    knee = kappa / slope
    inside = -kappa * jnp.log(jnp.maximum(-excess, knee))
    return jnp.sum(inside + slope * jnp.maximum(knee + excess, 0.0))


def log_barrier_slope(excess: Array, kappa: Array, slope: Array) -> Array:
    """`[M]`: the derivative of `log_barrier` by each `excess`, between 0 and `slope`."""
    return kappa / jnp.maximum(-excess, kappa / slope)


def cup_projection(
    ratio: Array, advantage_cost: Array, kl: Array, multiplier: Array, scale: Array, mean: Mean = jnp.mean
) -> Array:
    """CUP's projection: `mean(scale sum_i nu_i ratio A_c,i + KL(pi || pi_mid))`.

    Args:
      ratio: `[b]`, to the behaviour policy.
      advantage_cost: `[b, M]`.
      kl: `[b]`, to the policy after the first stage.
      multiplier: `[M]`, `nu`.
      scale: Scalar, `(1 - gamma lambda) / (1 - gamma)`.
      mean: Average over the minibatch.

    Source: Yang et al. 2022 (arXiv 2209.07089), algorithm 1.
    """
    chex.assert_rank([ratio, advantage_cost, multiplier], [1, 2, 1])
    return mean(scale * ratio * (advantage_cost @ multiplier) + kl)
