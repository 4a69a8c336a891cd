"""The seam of valuations: what a learner without an environment makes of recorded rows, beside its policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax.numpy as jnp

from jsafe.components.actors.base import Values, mixture
from jsafe.components.generators.base import Generator
from jsafe.ops import cmdp
from jsafe.types import Array, Key, Metrics, Params, Weights

Unit = Literal["endless", "cut", "episode", "step"]
"""Of the costs that a valuation estimates, and in which the limit has to be told:

- `endless`: discounted sum, bootstrapped where an episode is only cut, `k / ((1 - gamma) T)`;
- `cut`: discounted sum up to the horizon T, `k (1 - gamma^T) / ((1 - gamma) T)`;
- `episode`: the limit as it is (OmniSafe compares discounted sums with it);
- `step`: mean over steps, `k / T`.
"""


def in_unit(episodic: Array, unit: Unit, gamma: Array, horizon: int) -> Array:
    """A cost per episode in another unit, `[M] -> [M]`."""
    if unit == "endless":
        return cmdp.discounted_endless(episodic, gamma, horizon)
    if unit == "cut":
        return cmdp.discounted(episodic, gamma, horizon)
    return episodic / horizon if unit == "step" else episodic


class Rows(NamedTuple):
    """Transitions: `obs`, `next_obs`, `initial_obs [R, O]`, `action [R, A]`, `reward [R]`, `cost [R, M]`.

    `terminated [R]` is bool. `initial_obs` starts an episode drawn beside the row; None where nobody asks for it.
    """

    obs: Array
    action: Array
    reward: Array
    cost: Array
    next_obs: Array
    terminated: Array
    initial_obs: Array | None


class Context(NamedTuple):
    """What a valuation may look at; all constants.

    Attributes:
      rows: The minibatch.
      generator: The policy's functions.
      policy: Its parameters.
      slow_policy: The same, the slow copies in their places.
      weights: Of reward and costs, from the constraint rule.
      limit: `[M]`, in the valuation's unit.
      gamma: Scalar.
      state: The valuation's own state.
    """

    rows: Rows
    generator: Generator
    policy: Params
    slow_policy: Params
    weights: Weights
    limit: Array
    gamma: Array
    state: Any

    @property
    def discount(self) -> Array:
        """`[R]`: `gamma`, 0 where the episode terminated."""
        return self.gamma * (1.0 - self.rows.terminated)


class Judgement(NamedTuple):
    """What recorded actions are worth, for the weights of a regression; None where a valuation does not know.

    Attributes:
      advantage: `Values`, `reward [R]`, `cost [R, M]` (above 0: costlier than what the policy would do).
      ratio: `[R]`, of the best policy's occupancy to the data's.
      reach: `(V_h, Q_h)`, `[R]` each: above 0 where a violation cannot be avoided.
      cost: `[M]`, the policy's mean cost in the states of the rows, if it was found on the way.
    """

    advantage: Any = None
    ratio: Any = None
    reach: Any = None
    cost: Array | None = None


class Valued(NamedTuple):
    """A loss and what came with it.

    Attributes:
      loss: Scalar, a mean over the rows of this device.
      metrics: Scalars.
      state: The valuation's own new state.
      cost: `[M]`, the policy's mean cost on this device, if it was found on the way.
    """

    loss: Array
    metrics: Metrics
    state: Any = ()
    cost: Array | None = None


class ValuationLossFn(Protocol):
    """`(params, slow, context, key) -> Valued`."""

    def __call__(self, params: Params, slow: Params, context: Context, key: Key, /) -> Valued: ...


class JudgeFn(Protocol):
    """`(params, slow, context, key) -> Judgement`."""

    def __call__(self, params: Params, slow: Params, context: Context, key: Key, /) -> Judgement: ...


class Valuation(NamedTuple):
    """Critics and the like, their loss, and what they say of actions.

    Attributes:
      init: `key -> params`, a dict of groups.
      loss: See `ValuationLossFn`.
      judge: See `JudgeFn`.
      values: `(params, obs [R, O], action [..., R, A]) -> Values`; costs are positive. None where there are none.
      knows: Fields of `Judgement` that `judge` fills.
      slow: Groups that have a slow copy.
      acting: Groups that acting may need.
      unit: In which it estimates costs, if not the learner's; the multiplier is then its own.
      needs: Names of `feeds.Dataset.extras`.
      support: Whether the policy has to have a model of the recorded actions (`Generator.support`).
      prices: Whether the costs of `values` are those that have limits, in the unit of the limit.
      price: `(params, context, obs [R, O], key) -> [R, M]`, what the policy would cost from there, where that is more
        than the value of a sample. None: it is that.
      start: `() -> state` of its own.
      project: `params -> params`, after each step.
    """

    init: Callable[[Key], Params]
    loss: ValuationLossFn
    judge: JudgeFn
    values: Callable[[Params, Array, Array], Values] | None = None
    knows: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    acting: tuple[str, ...] = ()
    unit: Unit | None = None
    needs: tuple[str, ...] = ()
    support: bool = False
    prices: bool = False
    price: Callable[[Params, Context, Array, Key], Array] | None = None
    start: Callable[[], Any] = tuple
    project: Callable[[Params], Params] = lambda params: params


def expectation(values: Array) -> Array:
    """Mean of the numbers `[..., D]` that targets bootstrap from."""
    return values.mean(axis=-1) if values.shape[-1] > 1 else values[..., 0]


def one_step(discount: Array):
    """`components.critics.Returns` of single transitions `[1, R, K]`: `signal + discount following`."""

    def returns(signal, following, *, power: int = 1, lam: float | None = None):
        del lam
        return signal[..., None] + (discount**power)[None, :, None, None] * following

    return returns


def signals_of(rows: Rows) -> dict[str, Array]:
    """`reward [1, R, 1]` and `cost [1, R, M]`."""
    return {"reward": rows.reward[None, :, None], "cost": rows.cost[None]}


def critic_metrics(losses: dict[str, Array]) -> Metrics:
    """`loss/critic_reward` and `loss/critic_cost` of losses by row `[R, K]`."""
    return {f"loss/critic_{name}": rows.sum(axis=-1).mean() for name, rows in losses.items()}


def weighed(values: Values, weights: Weights) -> Array:
    """`w_r Q_r - w_c . Q_c`, `[..., R]`; the reward alone where costs have no critics (the rule is then `none`)."""
    return mixture(values, weights._replace(cost=weights.cost[: values.cost.shape[-1]]))


def pick(values: Array, index: Array) -> Array:
    """`values [n, R, ...]` at `index [R]`: `[R, ...]`."""
    return jnp.take_along_axis(values, index.reshape(1, -1, *(1,) * (values.ndim - 2)), axis=0)[0]
