"""What policy steps share: their data, their options, passes over minibatches, descent of stacked networks."""

from __future__ import annotations

import dataclasses
import itertools
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
from jsafe.nets.encoders import OWN, Auto, as_encoder
from jsafe.nets.heads import Activation, value_functions
from jsafe.ops.stats import pmean
from jsafe.options import Options, number, seam, traced, traced_values, word
from jsafe.types import Array, EnvSpec, Key, Metrics, Obs, Params, Part, Weights

# ---- data --------------------------------------------------------------------------------------------------------


class ActorCritic(NamedTuple):
    """Parameters: `actor`, and `critics` with a leading axis K (the reward, then each cost)."""

    actor: Params
    critics: Params


class Critics(NamedTuple):
    """`init(key) -> params`, leaves with a leading axis K; `apply(params, (obs [B, ...], remembered)) -> [B, K]`."""

    init: Callable[[Key], Params]
    apply: Callable[[Params, tuple[Obs, Any]], Array]


class Networks(NamedTuple):
    """The functions that `ActorCritic` belongs to."""

    policy: PolicyNetwork
    critics: Critics

    def distribution(self, params: Params, batch: PolicyBatch) -> Any:
        """Of the actions of a batch; through its segments, where the policy has a memory."""
        if self.policy.unroll is None:
            return self.policy.apply(params, (), batch.obs)[0]
        length = self.policy.segment
        obs, started = jax.tree.map(lambda x: x.reshape(-1, length, *x.shape[1:]), (batch.obs, batch.started))
        return self.policy.unroll(params, batch.memory, obs, started)[0]


class PolicyBatch(NamedTuple):
    """An epoch, flattened to B rows.

    `obs [B, O]` is normalised, `log_prob [B]` of the behaviour policy, `old` the policy before the step (parameters
    `[B, ...]`, or vectors that all rows share), `advantage [B]` the mix by the rule's weights, `advantage_reward [B]`
    and `advantage_cost [B, M]` its parts, `target [B, K]` what the critics regress on.

    Where the policy has a memory the rows are `B / L` segments of L steps, one after the other: `started [B]` tells
    where an episode starts, `memory [B / L, ...]` is the policy's before each segment, and `remembered [B, H]` its
    memory after each row, as numbers for the critics.
    """

    obs: Obs
    action: Array
    log_prob: Array
    old: Any
    advantage: Array
    advantage_reward: Array
    advantage_cost: Array
    target: Array
    started: Array | tuple[()] = ()
    memory: Any = ()
    remembered: Array | tuple[()] = ()

    @property
    def seen(self) -> tuple[Obs, Array | tuple[()]]:
        """What the critics take."""
        return self.obs, self.remembered


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
    """The value functions (of the reward, then of each cost), and how they are fitted.

    Each has an encoder of its own: those of the reward and of the costs have other scales, and each one's gradient is
    clipped on its own; were it the policy's, fitting the values would move the policy out of its trust region. Where
    the policy has a memory they see it as it was before the update, besides the observation: they need none of their
    own, and their rows can be shuffled one by one.
    """

    hidden: tuple[int, ...] = number((64, 64), low=1)
    activation: Activation = "tanh"
    encoder: Part = seam("encoder", Auto(), OWN)
    """From an observation to what the perceptrons see; a part, or a flax module of one's own."""
    learning_rate: float = traced(3e-4, above=0)
    l2: float = traced(0.001, low=0)
    """Weight of the squared parameters in each loss."""

    def networks(self, spec: EnvSpec, count: int, memory_width: int = 0) -> Critics:
        """`count` value functions of an observation and of the numbers of a memory."""
        coder = as_encoder(self.encoder, spec)
        heads = value_functions(coder.width + memory_width, count, hidden=self.hidden, act=self.activation)

        def init(key):
            if not coder.learns:
                return heads.init(key)
            head_key, coder_key = jax.random.split(key)
            coders = [coder.init(k) for k in jax.random.split(coder_key, count)]
            return {"heads": heads.init(head_key), "encoder": jax.tree.map(lambda *x: jnp.stack(x), *coders)}

        def apply(params, seen):
            obs, remembered = seen
            if not coder.learns:
                x = coder.apply((), obs)
                return heads.apply(params, jnp.concatenate([x, remembered], axis=-1) if memory_width else x)
            # One by one: convolutions in groups, as a vmap makes them, are slow on CPUs.
            encoders = [jax.tree.map(lambda leaf, k=k: leaf[k], params["encoder"]) for k in range(count)]
            x = jnp.stack([coder.apply(encoder, obs) for encoder in encoders])
            if memory_width:
                x = jnp.concatenate([x, jnp.broadcast_to(remembered, (count, *remembered.shape))], axis=-1)
            return heads.stacked(params["heads"], x)

        return Critics(init, apply)


@dataclasses.dataclass(frozen=True)
class Step(Released):
    """Options that all steps have."""

    constrained: ClassVar[bool] = False
    """Whether it looks at the costs itself, with or without a constraint rule."""
    discounted: ClassVar[bool] = False
    """Whether it only makes sense with a discount below 1."""
    first_order: ClassVar[bool] = True
    """Whether the actor has an optimiser."""

    passes: int = number(40, low=1, high=10**6)
    """Most passes over a batch."""
    minibatch: int = number(64, low=1, high=10**8)
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


Rows = list[Array]
"""Arrays with the same number of rows: the numbers side by side, then each array of bytes."""


def pack(tree: Any, count: int) -> tuple[Rows, Callable[[Rows], Any]]:
    """Concatenates the leaves `[B, ...]` to `count` rows, so that shuffling is one gather; and its inverse.

    Bytes (pictures) stay bytes, in arrays of their own. A row is B / count rows of a leaf, one after the other.
    """
    leaves, structure = jax.tree.flatten(tree)
    columns = [leaf.reshape(count, -1) for leaf in leaves]
    apart = [leaf.dtype == jnp.uint8 for leaf in leaves]
    numbers = [column.astype(jnp.float32) for column, alone in zip(columns, apart) if not alone]
    stops = np.cumsum([0] + [column.shape[1] for column in numbers])

    def unpack(rows):
        slices = iter([rows[0][:, a:b] for a, b in itertools.pairwise(stops)])
        bytes_ = iter(rows[1:])
        parts = [
            next(bytes_ if alone else slices).reshape(-1, *leaf.shape[1:]).astype(leaf.dtype)
            for alone, leaf in zip(apart, leaves)
        ]
        return jax.tree.unflatten(structure, parts)

    rows = [jnp.concatenate(numbers, axis=1), *(column for column, alone in zip(columns, apart) if alone)]
    return rows, unpack


def pack_batch(batch: PolicyBatch, segment: int = 1) -> tuple[Rows, Callable[[Rows], PolicyBatch]]:
    """`pack` to whole segments; parameters of `old` that all rows share stay where they are."""
    leaves, structure = jax.tree.flatten(batch.old)
    own = [leaf.ndim > 1 for leaf in leaves]
    count = batch.log_prob.shape[0] // segment
    rows, unpack = pack(batch._replace(old=[leaf for leaf, o in zip(leaves, own) if o]), count)

    def unpack_batch(rows):
        part = unpack(rows)
        mine = iter(part.old)
        old = [next(mine) if o else leaf for leaf, o in zip(leaves, own)]
        return part._replace(old=jax.tree.unflatten(structure, old))

    return rows, unpack_batch


def minibatch_pass(
    update: Callable[[Any, Rows], Any], carry: Any, rows: Rows, key: Key, minibatch: int, axis_name: str | None
) -> Any:
    """One pass over all rows in a fresh random order; the last minibatch may be smaller.

    Args:
      update: `(carry, rows [b, D]) -> carry`.
      carry: Anything.
      rows: `[B, D]` each, of this device.
      key: Of this device.
      minibatch: Rows per update over all devices.
      axis_name: Mapped axis.

    Raises:
      ValueError: If the devices cannot share a minibatch equally.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    if minibatch % devices:
        raise ValueError(
            f"minibatch must be a multiple of the number of devices, {devices}, got {minibatch} "
            "(segments, if the policy has a memory)"
        )
    size = min(minibatch // devices, count)
    order = jnp.argsort(jax.random.bits(key, (count,)))  # one sort; where two draws tie, two rows keep their order
    rows = jax.tree.map(lambda x: x.at[order].get(mode="promise_in_bounds", unique_indices=True), rows)
    whole = count // size
    body = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, -1), rows)
    carry, _ = jax.lax.scan(lambda c, x: (update(c, x), None), carry, body)
    return carry if whole * size == count else update(carry, jax.tree.map(lambda x: x[whole * size :], rows))


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

    @property
    def segments(self) -> int:
        """Segments per minibatch; rows, where the policy has no memory."""
        return max(1, self.minibatch // self.networks.policy.segment)

    def policy(self, params: Params, batch: PolicyBatch) -> Any:
        """The distribution of actions."""
        return self.networks.distribution(params, batch)

    def evaluate(self, params: Params, batch: PolicyBatch) -> Outputs:
        """The policy with `params` on the rows of `batch`."""
        return self.outputs(self.policy(params, batch), batch)

    def outputs(self, dist: Any, batch: PolicyBatch) -> Outputs:
        """A distribution of the actions of `batch`, beside the behaviour policy."""
        return Outputs(dist, jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob))

    def critic_loss(self, critics: Params, seen: tuple[Obs, Any], target: Array) -> Array:
        """`[K]`: squared error plus `l2` times the squared norm of all parameters, each value function."""
        error = self.networks.critics.apply(critics, seen) - target
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
        rows, unpack = pack((batch.seen, batch.target), batch.target.shape[0])

        def update(carry, minibatch_rows):
            critics, opt_state = carry
            seen, target = unpack(minibatch_rows)
            grads = jax.grad(lambda p: self.critic_loss(p, seen, target).sum())(critics)
            return self.descend(critics, grads, opt_state, self.fit.learning_rate, batch.target.shape[1])

        def one_pass(i, carry):
            return minibatch_pass(update, carry, rows, jax.random.fold_in(key, i), self.minibatch, self.axis_name)

        critics, opt_state = jax.lax.fori_loop(0, passes, one_pass, (params.critics, state.critics))
        return params._replace(critics=critics), state._replace(critics=opt_state)

    def metrics(self, params: ActorCritic, batch: PolicyBatch) -> Metrics:
        """Figures of the whole batch after a step."""
        out = self.evaluate(params.actor, batch)
        error = self.networks.critics.apply(params.critics, batch.seen) - batch.target
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
