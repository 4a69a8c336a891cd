"""Constraint rules: from measured cost to the weights of reward and costs in an objective.

Every rule is a `ConstraintRule(init, update, weights)`. `update` is called once per iteration with the measured costs
`J_cost [M]` and the limits `[M]` (one unit for both: an episodic sum on-policy, a cost per step in SEditor); `weights`
then says how the objective mixes: `reward * R - sum_i cost_i * C_i`. Several costs keep one multiplier each.

Numbers that people sweep (learning rates, gains) are arrays in the rule's state, so that they can be vmapped.

Collectives: none unless a rule takes `axis_name`. Callers hand in costs that are already global
(`psum(total) / psum(count)`), which makes every state replicated by construction.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jsafe.components import optim
from jsafe.types import Array, ConstraintRule, Weights

Normalize = Literal["sum", "none"]


def mix(multiplier: Array, normalize: Normalize = "sum") -> Weights:
    """Weights of a Lagrangian `R - sum_i lam_i C_i`.

    `sum`: reward `1 / (1 + sum(lam))`, costs `lam / (1 + sum(lam))`, so the weights add up to one and a large
    multiplier does not act as a large step size. `none`: reward 1, costs `lam`.

    Args:
      multiplier: `[M]`, non-negative.
      normalize: `sum` or `none`.
    """
    scale = 1.0 / (1.0 + multiplier.sum()) if normalize == "sum" else jnp.ones(())
    return Weights(scale, scale * multiplier)


def _check(num_costs: int, normalize: str = "sum") -> None:
    if isinstance(num_costs, bool) or not isinstance(num_costs, int) or num_costs < 1:
        raise ValueError(f"num_costs must be an integer of at least 1, got {num_costs!r}")
    if normalize not in ("sum", "none"):
        raise ValueError(f"normalize must be 'sum' or 'none', got {normalize!r}")


def _non_negative(**values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}")


def none(num_costs: int) -> ConstraintRule:
    """Ignores the costs: reward weight 1, cost weights 0."""
    _check(num_costs)
    return ConstraintRule(
        init=lambda: (),
        update=lambda state, J_cost, limit: state,
        weights=lambda state, J_cost, limit: Weights(jnp.ones(()), jnp.zeros(num_costs)),
    )


class LagrangeState(NamedTuple):
    """`parameter [M]` is the multiplier itself (`clamp`) or its inverse softplus; `learning_rate` is a scalar."""

    parameter: Array
    opt_state: Any
    learning_rate: Array


def lagrange(
    num_costs: int,
    *,
    learning_rate: float,
    init: float | None = None,
    transform: Literal["softplus", "clamp"] = "softplus",
    optimizer: Literal["adam", "sgd"] | optax.GradientTransformation = "adam",
    upper_bound: float | None = None,
    normalize: Normalize = "sum",
    axis_name: str | None = None,
) -> ConstraintRule:
    """A multiplier per cost, moved by one optimiser step per call on the dual loss.

    `softplus`: `lam = softplus(rho)`, loss `softplus(rho) * (limit - J)`, Adam in TensorFlow's form (SEditor).
    `clamp`: raw `lam >= 0`, loss `-lam * (J - limit)`, Adam, then clipped to `[0, upper_bound]` (OmniSafe and the
    Safety-Gym baselines). With Adam a step has the size of the learning rate however large the violation is; `sgd`
    is plain dual ascent.

    Args:
      num_costs: M.
      learning_rate: Step size of the multiplier (kept in the state as a traced scalar).
      init: Initial multiplier, each cost; default 1 for `softplus` and 0.001 for `clamp`.
      transform: How the multiplier is kept non-negative.
      optimizer: Direction of the step *without* a learning rate: `adam` (`scale_by_adam_epsilon_hat(eps=1e-7)` for
        `softplus`, `optax.scale_by_adam()` for `clamp`), `sgd` (plain dual ascent), or a transformation of one's own.
      upper_bound: Largest multiplier.
      normalize: How the weights are formed, see `mix`.
      axis_name: Averages the dual gradient over this axis. Needed only when `J_cost` differs between devices, and
        exact only when every device counted the same number of steps: hand in global costs instead where you can.

    Returns:
      A `ConstraintRule` with a `LagrangeState`.

    Raises:
      ValueError: If an argument is out of range.

    Collectives: `pmean` of the gradient over `axis_name`, when given.

    Source: Yu et al. 2022 (arXiv 2201.12427), section 4; Ray et al. 2019, "Benchmarking safe exploration".
    """
    _check(num_costs, normalize)
    if transform not in ("softplus", "clamp"):
        raise ValueError(f"transform must be 'softplus' or 'clamp', got {transform!r}")
    soft = transform == "softplus"
    initial = (1.0 if soft else 0.001) if init is None else init
    _non_negative(learning_rate=learning_rate, init=initial)
    if soft and initial == 0:
        raise ValueError("init must be positive with transform='softplus', got 0")
    if upper_bound is not None and upper_bound < initial:
        raise ValueError(f"upper_bound must be at least init ({initial!r}), got {upper_bound!r}")
    if optimizer == "adam":
        optimizer = optim.scale_by_adam_epsilon_hat() if soft else optax.scale_by_adam()
    elif optimizer == "sgd":
        optimizer = optax.identity()
    elif isinstance(optimizer, str):
        raise ValueError(f"optimizer must be 'adam', 'sgd' or a transformation, got {optimizer!r}")

    def inverse(multiplier):
        return jnp.log(jnp.expm1(multiplier)) if soft else multiplier

    def value(parameter):
        return jax.nn.softplus(parameter) if soft else parameter

    def start():
        parameter = inverse(jnp.full((num_costs,), initial, jnp.float32))
        return LagrangeState(parameter, optimizer.init(parameter), jnp.float32(learning_rate))

    def update(state, J_cost, limit):
        chex.assert_shape([J_cost, limit], (num_costs,))
        grad = jax.grad(lambda p: jnp.sum(value(p) * (limit - J_cost)))(state.parameter)
        if axis_name is not None:
            grad = jax.lax.pmean(grad, axis_name)
        direction, opt_state = optimizer.update(grad, state.opt_state, state.parameter)
        parameter = state.parameter - state.learning_rate * direction
        if not soft:
            parameter = jnp.maximum(parameter, 0.0)
        if upper_bound is not None:
            parameter = jnp.minimum(parameter, inverse(jnp.float32(upper_bound)))
        return LagrangeState(parameter, opt_state, state.learning_rate)

    def weights(state, J_cost, limit):
        return mix(value(state.parameter), normalize)

    return ConstraintRule(start, update, weights)


class PIDState(NamedTuple):
    """Controller memory: `integral`, `error`, `cost`, `multiplier` are `[M]`, `history` is `[delay, M]`, oldest first.

    `gains` is `[3]`: proportional, integral, derivative.
    """

    integral: Array
    error: Array
    cost: Array
    history: Array
    multiplier: Array
    gains: Array


def pid(
    num_costs: int,
    *,
    kp: float = 0.1,
    ki: float = 0.01,
    kd: float = 0.01,
    init: float = 0.001,
    error_decay: float = 0.95,
    cost_decay: float = 0.95,
    delay: int = 10,
    upper_bound: float | None = None,
    normalize: Normalize = "sum",
) -> ConstraintRule:
    """A multiplier set by a PID controller on the violation.

    With `e = J - limit`: `I <- max(0, I + ki e)`; `E <- a E + (1 - a) e`; `C <- b C + (1 - b) J`;
    `D = max(0, C - C[delay calls ago])` (zeros before the first call); `lam = max(0, kp E + I + kd D)`.

    Args:
      num_costs: M.
      kp: Proportional gain.
      ki: Integral gain (inside the integral, so that a change of gain does not jump).
      kd: Derivative gain; only rising costs count.
      init: Initial integral.
      error_decay: `a`, smoothing of the proportional term.
      cost_decay: `b`, smoothing of the derivative term.
      delay: Calls over which the derivative is taken.
      upper_bound: Largest multiplier.
      normalize: How the weights are formed, see `mix`.

    Raises:
      ValueError: If an argument is out of range.

    Source: Stooke, Achiam & Abbeel 2020 (arXiv 2007.03964), algorithm 2, with the smoothing and the delay of the
    authors' code. OmniSafe's `penalty_max` has no effect at its defaults; `upper_bound` always holds.
    """
    _check(num_costs, normalize)
    _non_negative(kp=kp, ki=ki, kd=kd, init=init)
    for name, value in (("error_decay", error_decay), ("cost_decay", cost_decay)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value!r}")
    if delay < 1:
        raise ValueError(f"delay must be at least 1, got {delay!r}")
    if upper_bound is not None:
        _non_negative(upper_bound=upper_bound)

    def start():
        return PIDState(
            integral=jnp.full(num_costs, init, jnp.float32),
            error=jnp.zeros(num_costs, jnp.float32),
            cost=jnp.zeros(num_costs, jnp.float32),
            history=jnp.zeros((delay, num_costs), jnp.float32),
            multiplier=jnp.full(num_costs, init, jnp.float32),
            gains=jnp.array([kp, ki, kd], jnp.float32),
        )

    def update(state, J_cost, limit):
        chex.assert_shape([J_cost, limit], (num_costs,))
        k_p, k_i, k_d = state.gains
        violation = J_cost - limit
        integral = jnp.maximum(state.integral + k_i * violation, 0.0)
        error = error_decay * state.error + (1 - error_decay) * violation
        cost = cost_decay * state.cost + (1 - cost_decay) * J_cost
        rise = jnp.maximum(cost - state.history[0], 0.0)
        multiplier = jnp.maximum(k_p * error + integral + k_d * rise, 0.0)
        if upper_bound is not None:
            multiplier = jnp.minimum(multiplier, upper_bound)
        history = jnp.concatenate([state.history[1:], cost[None]])
        return PIDState(integral, error, cost, history, multiplier, state.gains)

    return ConstraintRule(start, update, lambda state, J_cost, limit: mix(state.multiplier, normalize))


def crpo(num_costs: int, *, distance: float = 0.0) -> ConstraintRule:
    """Switches: reward while every cost is within `limit + distance`, else only the most violated cost.

    Args:
      num_costs: M.
      distance: Tolerance `eta` above the limit, in its unit.

    Source: Xu, Liang & Lan 2021 (arXiv 2011.05869), algorithm 1 (any violated constraint may be picked there).
    """
    _check(num_costs)
    _non_negative(distance=distance)

    def weights(state, J_cost, limit):
        chex.assert_shape([J_cost, limit], (num_costs,))
        violation = J_cost - limit - distance
        unsafe = jnp.any(violation > 0)
        worst = jax.nn.one_hot(jnp.argmax(violation), num_costs)
        return Weights(1.0 - unsafe.astype(jnp.float32), unsafe * worst)

    return ConstraintRule(lambda: (), lambda state, J_cost, limit: state, weights)


def ipo(
    num_costs: int, *, kappa: float = 0.01, penalty_max: float = 1.0, normalize: Normalize = "sum"
) -> ConstraintRule:
    """A log barrier, linearised at the measured cost: `lam = kappa / (limit - J)`, `penalty_max` beyond the limit.

    Args:
      num_costs: M.
      kappa: Strength of the barrier (`1 / t` in the paper).
      penalty_max: Largest multiplier, also used at and beyond the limit.
      normalize: How the weights are formed, see `mix`.

    Source: Liu, Ding & Liu 2020 (arXiv 1910.09615), linearised at the current policy as in OmniSafe. The
    objective `policy_losses.log_barrier` keeps the barrier on the surrogate, as the paper does.
    """
    _check(num_costs, normalize)
    _non_negative(kappa=kappa, penalty_max=penalty_max)

    def weights(state, J_cost, limit):
        chex.assert_shape([J_cost, limit], (num_costs,))
        multiplier = kappa / (limit - J_cost + 1e-8)
        bad = (multiplier < 0) | (multiplier > penalty_max)
        return mix(jnp.where(bad, penalty_max, multiplier), normalize)

    return ConstraintRule(lambda: (), lambda state, J_cost, limit: state, weights)


class AugmentedState(NamedTuple):
    """`multiplier [M]`; `learning_rate` and `penalty` are scalars."""

    multiplier: Array
    learning_rate: Array
    penalty: Array


def augmented(
    num_costs: int,
    *,
    learning_rate: float = 0.01,
    penalty: float = 0.01,
    init: float = 0.0,
    upper_bound: float | None = None,
    normalize: Normalize = "sum",
) -> ConstraintRule:
    """Augmented Lagrangian: dual ascent on `lam` plus a quadratic penalty that damps its oscillation.

    `lam <- max(0, lam + learning_rate (J - limit))`; weight `max(0, lam + penalty (J - limit))`.

    Args:
      num_costs: M.
      learning_rate: Step of the multiplier, per unit of violation.
      penalty: Weight of the quadratic term.
      init: Initial multiplier.
      upper_bound: Largest multiplier (and weight before mixing).
      normalize: How the weights are formed, see `mix`.

    Source: Platt & Barr 1988, "Constrained differential optimization" (modified method of multipliers).
    """
    _check(num_costs, normalize)
    _non_negative(learning_rate=learning_rate, penalty=penalty, init=init)
    ceiling = jnp.inf if upper_bound is None else upper_bound

    def start():
        return AugmentedState(jnp.full(num_costs, init, jnp.float32), jnp.float32(learning_rate), jnp.float32(penalty))

    def update(state, J_cost, limit):
        chex.assert_shape([J_cost, limit], (num_costs,))
        raised = state.multiplier + state.learning_rate * (J_cost - limit)
        return state._replace(multiplier=jnp.clip(raised, 0.0, ceiling))

    def weights(state, J_cost, limit):
        return mix(jnp.clip(state.multiplier + state.penalty * (J_cost - limit), 0.0, ceiling), normalize)

    return ConstraintRule(start, update, weights)
