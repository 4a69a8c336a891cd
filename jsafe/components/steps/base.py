"""What policy steps share: their data, their options, passes over minibatches, descent of stacked networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe import distributions
from jsafe.components.compat import Compat, Released
from jsafe.components.policies import PolicyNetwork
from jsafe.components.rules import multiplier
from jsafe.nets.heads import Activation, ValueFunctions, value_functions
from jsafe.ops.stats import pmean
from jsafe.options import Options, number, traced, traced_values, word
from jsafe.types import Array, EnvSpec, Key, Metrics, Params, Weights

# ---- data --------------------------------------------------------------------------------------------------------


class ActorCritic(NamedTuple):
    """Parameters: `actor`, and `critics` with a leading axis K (the reward, then each cost)."""

    actor: Params
    critics: Params


class Networks(NamedTuple):
    """The functions that `ActorCritic` belongs to."""

    policy: PolicyNetwork
    critics: ValueFunctions


class PolicyBatch(NamedTuple):
    """An epoch, flattened to B rows.

    `obs [B, O]` is normalised, `log_prob [B]` of the behaviour policy, `old` the policy before the step (parameters
    `[B, ...]`, or vectors that all rows share), `advantage [B]` the mix by the rule's weights, `advantage_reward [B]`
    and `advantage_cost [B, M]` its parts, `target [B, K]` what the critics regress on.
    """

    obs: Array
    action: Array
    log_prob: Array
    old: Any
    advantage: Array
    advantage_reward: Array
    advantage_cost: Array
    target: Array


class ConstraintView(NamedTuple):
    """What a step may know of the constraints and of the run, all global over devices.

    `J_cost` and `limit` `[M]` have one unit, `unit [M]` is how much of it one unit of the cost surrogate
    `mean(ratio A_c)` is worth (the length of an episode, where limits are per episode); `weights` come from the
    constraint rule. `remaining` is the share of the run that is left, 1 to 0; `discounts` are the estimator's numbers
    (`gamma`, `lam`). `margin [M]` is added to `J_cost`.
    """

    J_cost: Array
    limit: Array
    unit: Array
    weights: Weights
    remaining: Array
    discounts: Any = ()
    margin: Array | float = 0.0

    @property
    def gap(self) -> Array:
        """`[M]`: cost minus limit, in the unit of the cost surrogate."""
        return (self.J_cost - self.limit + self.margin) / self.unit

    @property
    def multiplier(self) -> Array:
        """`[M]`: cost weights relative to the reward's."""
        return multiplier(self.weights)


class StepFn(Protocol):
    """`(networks, params, state, batch, view, key) -> (params, state, metrics)`."""

    def __call__(
        self, networks: Networks, params: ActorCritic, state: Any, batch: PolicyBatch, view: ConstraintView, key: Key, /
    ) -> tuple[ActorCritic, Any, Metrics]: ...


class PolicyStep(NamedTuple):
    """One policy update.

    Attributes:
      init: `params -> state` (optimisers, numbers).
      step: `(networks, params, state, batch, view, key) -> (params, state, metrics)`.
    """

    init: Callable[[ActorCritic], Any]
    step: StepFn


class StepState(NamedTuple):
    """Optimiser states of actor (`()` for second-order steps) and critics; numbers of the step and of its `CriticFit`.

    `margin` is `[M]` for steps that learn one, else `()`.
    """

    actor: Any
    critics: Any
    numbers: Any
    fit: Any
    margin: Any


# ---- options -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CriticFit(Options):
    """The value functions (of the reward, then of each cost), and how they are fitted."""

    hidden: tuple[int, ...] = number((64, 64), low=1)
    activation: Activation = "tanh"
    learning_rate: float = traced(3e-4, low=0)
    l2: float = traced(0.001, low=0)
    """Weight of the squared parameters in each loss."""

    def networks(self, spec: EnvSpec, count: int) -> ValueFunctions:
        """`count` value functions."""
        return value_functions(spec.obs_dim, count, hidden=self.hidden, act=self.activation)


@dataclasses.dataclass(frozen=True)
class Step(Released):
    """Options that all steps have."""

    constrained: ClassVar[bool] = False
    """Whether it looks at the costs itself, with or without a constraint rule."""
    discounted: ClassVar[bool] = False
    """Whether it only makes sense with a discount below 1."""
    first_order: ClassVar[bool] = True
    """Whether the actor has an optimiser."""

    passes: int = number(40, low=1)
    """Most passes over a batch."""
    minibatch: int = number(64, low=1)
    """Rows per minibatch, over all devices."""
    target_kl: float = traced(0.02, above=0)
    """Largest `KL(old || new)`, summed over action components."""
    optimizer: Literal["adam", "sgd"] = word("adam", optax.GradientTransformation)
    """Direction of a step without its rate: `adam`, `sgd`, or in code a transformation of one's own."""
    max_grad_norm: float = traced(40.0, above=0)
    """Of each network's gradient."""
    critics: CriticFit = CriticFit()

    def update(self, spec: EnvSpec, axis_name: str | None, compat: Compat) -> Callable[..., Any]:
        """`(descent, params, state, batch, view, key) -> (params, state, metrics)`."""
        raise NotImplementedError

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> PolicyStep:
        """The step, with a `StepState`."""
        tx, learns_margin = optimizer(self.optimizer), isinstance(self, WithMargin)
        update = self.update(spec, axis_name, compat)

        def init(params):
            count = jax.tree.leaves(params.critics)[0].shape[0]
            return StepState(
                actor=tx.init(_flatten(params.actor, 1)[0]) if self.first_order else (),
                critics=tx.init(_flatten(params.critics, count)[0]),
                numbers=traced_values(self),
                fit=traced_values(self.critics),
                margin=jnp.zeros(spec.num_costs) if learns_margin else (),
            )

        def step(networks, params, state, batch, view, key):
            descent = Descent(networks, tx, self.minibatch, axis_name, state.numbers, state.fit)
            metrics = {}
            if learns_margin:
                raised = state.margin + state.numbers.margin_learning_rate * (view.J_cost - view.limit)
                state = state._replace(margin=jnp.maximum(raised, 0.0))
                view = view._replace(margin=state.margin)
                metrics = {f"cost/{i}/margin": state.margin[i] for i in range(spec.num_costs)}
            params, state, figures = update(descent, params, state, batch, view, key)
            return params, state, metrics | figures

        return PolicyStep(init, step)


@dataclasses.dataclass(frozen=True)
class WithMargin(Options):
    """Steps that take `J - d` as their constraint, and may learn a safety margin for it."""

    margin_learning_rate: float = traced(0.0, low=0)
    """The constraint is `J - d + margin`, where `margin <- max(0, margin + rate (J - d))` once per iteration. The
    surrogate fits the noise of its own batch, so that without a margin (0) the cost stays above the limit."""


def optimizer(name: str | optax.GradientTransformation) -> optax.GradientTransformation:
    """`adam` or `sgd`, without a learning rate (that one is traced); a transformation as it is.

    Raises:
      KeyError: For another name.
    """
    return {"adam": optax.scale_by_adam, "sgd": optax.identity}[name]() if isinstance(name, str) else name


# ---- passes over minibatches -------------------------------------------------------------------------------------


def _flatten(tree: Params, count: int) -> tuple[Array, Callable[[Array], Params]]:
    """Parameters of `count` networks as rows `[count, D]`, and the inverse: few large operations beat many small."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [leaf.reshape(count, -1) for leaf in leaves]
    stops = np.cumsum([column.shape[1] for column in columns])[:-1]

    def unflatten(rows):
        parts = jnp.split(rows, stops, axis=1)
        return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)])

    return jnp.concatenate(columns, axis=1), unflatten


def clip_rows(rows: Array, limit: Array) -> Array:
    """Scales each row of `[K, D]` down to norm `limit` where it is longer."""
    norm = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    return rows * jnp.minimum(1.0, limit / (norm + 1e-6))


def pack(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """Concatenates the leaves `[B]` and `[B, d]` to rows `[B, D]`, so that shuffling is one gather; and its inverse."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [leaf.reshape(leaf.shape[0], -1) for leaf in leaves]
    stops = np.cumsum([0] + [column.shape[1] for column in columns])

    def unpack(rows):
        parts = [
            rows[:, a:b].reshape(-1, *leaf.shape[1:]).astype(leaf.dtype)
            for a, b, leaf in zip(stops[:-1], stops[1:], leaves)
        ]
        return jax.tree.unflatten(structure, parts)

    return jnp.concatenate([column.astype(jnp.float32) for column in columns], axis=1), unpack


def pack_batch(batch: PolicyBatch) -> tuple[Array, Callable[[Array], PolicyBatch]]:
    """`pack`; parameters of `old` that all rows share stay where they are."""
    leaves, structure = jax.tree.flatten(batch.old)
    own = [leaf.ndim > 1 for leaf in leaves]
    rows, unpack = pack(batch._replace(old=[leaf for leaf, o in zip(leaves, own) if o]))

    def unpack_batch(rows):
        part = unpack(rows)
        mine = iter(part.old)
        old = [next(mine) if o else leaf for leaf, o in zip(leaves, own)]
        return part._replace(old=jax.tree.unflatten(structure, old))

    return rows, unpack_batch


def minibatch_pass(
    update: Callable[[Any, Array], Any], carry: Any, rows: Array, key: Key, minibatch: int, axis_name: str | None
) -> Any:
    """One pass over all rows in a fresh random order; the last minibatch may be smaller.

    Args:
      update: `(carry, rows [b, D]) -> carry`.
      carry: Anything.
      rows: `[B, D]`, of this device.
      key: Of this device.
      minibatch: Rows per update over all devices.
      axis_name: Mapped axis.

    Raises:
      ValueError: If the devices cannot share a minibatch equally.
    """
    count = rows.shape[0]
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    if minibatch % devices:
        raise ValueError(f"minibatch must be a multiple of the number of devices, {devices}, got {minibatch}")
    size = min(minibatch // devices, count)
    order = jnp.argsort(jax.random.bits(key, (count,)))  # one sort; where two draws tie, two rows keep their order
    rows = rows.at[order].get(mode="promise_in_bounds", unique_indices=True)
    whole = count // size
    body = rows[: whole * size].reshape(whole, size, -1)
    carry, _ = jax.lax.scan(lambda c, x: (update(c, x), None), carry, body)
    return carry if whole * size == count else update(carry, rows[whole * size :])


# ---- descent -----------------------------------------------------------------------------------------------------


class Outputs(NamedTuple):
    """The current policy on some rows: its distribution, and `ratio [b]` to the behaviour policy."""

    dist: Any
    ratio: Array


class Descent(NamedTuple):
    """What steps do alike, with the numbers of the step and of its critics."""

    networks: Networks
    optimizer: optax.GradientTransformation
    minibatch: int
    axis_name: str | None
    numbers: Any
    fit: Any

    def mean(self, x: Array) -> Array:
        """Average over rows and devices."""
        return pmean(jnp.mean(x), self.axis_name)

    def policy(self, params: Params, obs: Array) -> Any:
        """The distribution of actions."""
        return self.networks.policy.apply(params, (), obs)[0]

    def evaluate(self, params: Params, batch: PolicyBatch) -> Outputs:
        """The policy with `params` on the rows of `batch`."""
        dist = self.policy(params, batch.obs)
        return Outputs(dist, jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob))

    def critic_loss(self, critics: Params, obs: Array, target: Array) -> Array:
        """`[K]`: squared error plus `l2` times the squared norm of all parameters, each value function."""
        error = self.networks.critics.apply(critics, obs) - target
        norms = [jnp.sum(leaf * leaf, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(critics)]
        return jnp.mean(error * error, axis=0) + self.fit.l2 * sum(norms)

    def descend(self, params: Params, grads: Params, state: Any, rate: Array, count: int) -> tuple[Params, Any]:
        """One optimiser step for `count` stacked networks on this device's gradients. `(params, state)`.

        Gradients are averaged over devices, then clipped, each network's on its own.
        """
        rows, unflatten = _flatten(params, count)
        gradient = clip_rows(pmean(_flatten(grads, count)[0], self.axis_name), self.numbers.max_grad_norm)
        updates, state = self.optimizer.update(gradient, state, rows)
        return unflatten(rows - rate * updates), state

    def fit_critics(
        self, params: ActorCritic, state: StepState, batch: PolicyBatch, key: Key, passes: int
    ) -> tuple[ActorCritic, StepState]:
        """Passes of minibatch regression for the critics alone (after a second-order actor step)."""
        rows, unpack = pack((batch.obs, batch.target))

        def update(carry, minibatch_rows):
            critics, opt_state = carry
            obs, target = unpack(minibatch_rows)
            grads = jax.grad(lambda p: self.critic_loss(p, obs, target).sum())(critics)
            return self.descend(critics, grads, opt_state, self.fit.learning_rate, batch.target.shape[1])

        def one_pass(i, carry):
            return minibatch_pass(update, carry, rows, jax.random.fold_in(key, i), self.minibatch, self.axis_name)

        critics, opt_state = jax.lax.fori_loop(0, passes, one_pass, (params.critics, state.critics))
        return params._replace(critics=critics), state._replace(critics=opt_state)

    def metrics(self, params: ActorCritic, batch: PolicyBatch) -> Metrics:
        """Figures of the whole batch after a step."""
        out = self.evaluate(params.actor, batch)
        error = self.networks.critics.apply(params.critics, batch.obs) - batch.target
        squared = pmean(jnp.mean(error * error, axis=0), self.axis_name)
        figures = distributions.figures(out.dist)
        return {
            "policy/kl": self.mean(distributions.kl(batch.old, out.dist)),
            "policy/entropy": self.mean(distributions.entropy(out.dist)),
            "policy/ratio_gap": self.mean(jnp.abs(out.ratio - 1)),
            "loss/actor": -self.mean(out.ratio * batch.advantage),
            "loss/critic_reward": squared[0],
            "loss/critic_cost": squared[1:].mean() if squared.shape[0] > 1 else jnp.zeros(()),
            **{name: self.mean(value) for name, value in figures.items()},
        }
