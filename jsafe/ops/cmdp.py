"""Units of cost, and the recursions of budgets. All functions work on numpy and jax arrays alike.

Three units occur: `J_episodic`, the undiscounted sum over an episode (limits are stated in it); `cost_per_step`, its
mean over steps (surrogates `mean(ratio * A_c)` are in it); `J_discounted`, the sum of `gamma^t c_t`.
"""

from __future__ import annotations

from jsafe.types import Array


def per_step(J_episodic: Array, length: Array) -> Array:
    """Cost per step of an episode of `length` steps, from its sum. Lengths below 1 count as 1."""
    return J_episodic / (length * (length > 1) + 1.0 * (length <= 1))


def discounted(J_episodic: Array, gamma: Array, horizon: int | Array) -> Array:
    """Discounted sum of a cost that is spread evenly over `horizon` steps.

    `J (1 - gamma^T) / ((1 - gamma) T)`; the sum itself at `gamma = 1`.

    Source: Sootla et al. 2022 (arXiv 2202.06558), the safety budget of Saute.
    """
    near_one = 1.0 * (gamma > 1 - 1e-6)
    rest = (1 - near_one) * (1 - gamma) + near_one
    return J_episodic * (near_one + (1 - near_one) * (1 - gamma**horizon) / (rest * horizon))


def discounted_endless(J_episodic: Array, gamma: Array, horizon: int) -> Array:
    """Discounted sum, without end, of a cost that is spread evenly over `horizon` steps: `J / ((1 - gamma) T)`.

    The unit of critics that bootstrap where an episode is only cut: 25 in 1000 steps at gamma 0.99 is 2.5.

    Args:
      J_episodic: Undiscounted sum over an episode.
      gamma: Below 1.
      horizon: Its length T.
    """
    return J_episodic / ((1 - gamma) * horizon)


def saute_budget(z: Array, cost: Array, budget: Array, gamma: Array) -> Array:
    """Share of the budget that is left after a step: `z' = (z - cost / budget) / gamma`.

    Args:
      z: `[N, M]`, share left before the step (1 at the start of an episode).
      cost: `[N, M]`.
      budget: `[M]`, discounted budget of an episode (`discounted`).
      gamma: Scalar, discount of the budget.

    Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
    """
    return (z - cost / budget) / gamma
