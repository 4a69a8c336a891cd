"""Policy steps: what an on-policy algorithm does with one batch of advantages.

A `PolicyStep` owns all passes over the batch, the critics' included, so that an epoch is one compiled program.
First-order steps train actor and critics on the same minibatches; second-order steps move the actor once on the full
batch, then fit the critics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe.distributions import gaussian as gaussian
from jsafe.distributions.gaussian import Gaussian
from jsafe.nets.heads import GaussianActor, ValueFunctions
from jsafe.ops.stats import pmean
from jsafe.types import Array, Key, Metrics, Params, Weights


class ActorCritic(NamedTuple):
    """Parameters: `actor`, and `critics` with a leading axis K (the reward, then each cost)."""

    actor: Params
    critics: Params


class Networks(NamedTuple):
    """The functions that `ActorCritic` belongs to."""

    actor: GaussianActor
    critics: ValueFunctions


class PolicyBatch(NamedTuple):
    """An epoch, flattened to B rows.

    `obs [B, O]` is normalised, `log_prob [B]` of the behaviour policy, `old` the policy before the step (means
    `[B, A]`), `advantage [B]` the mix by the rule's weights, `advantage_reward [B]` and `advantage_cost [B, M]` its
    parts, `target [B, K]` what the critics regress on.
    """

    obs: Array
    action: Array
    log_prob: Array
    old: Gaussian
    advantage: Array
    advantage_reward: Array
    advantage_cost: Array
    target: Array


class ConstraintView(NamedTuple):
    """What a step may know of the constraints, all global over devices.

    `J_cost` and `limit` `[M]` are episodic; `gap [M]` is their difference in the unit of the cost surrogate
    `mean(ratio A_c)`, per step; `weights` come from the constraint rule.
    """

    J_cost: Array
    limit: Array
    gap: Array
    weights: Weights

    @property
    def multiplier(self) -> Array:
        """`[M]`: cost weights relative to the reward's (the cost weights themselves where the reward has none)."""
        reward = self.weights.reward
        return self.weights.cost / jnp.where(reward > 0, reward, 1.0)


class PolicyStep(NamedTuple):
    """One policy update.

    Attributes:
      init: `params -> state` (optimisers).
      step: `(params, state, batch, view, hyper, key) -> (params, state, metrics)`.
    """

    init: Callable[[ActorCritic], Any]
    step: Callable[..., tuple[ActorCritic, Any, Metrics]]


class Optimizers(NamedTuple):
    """Optimiser states; every step has the same ones, so that steps can follow each other."""

    actor: Any
    critics: Any


class Outputs(NamedTuple):
    """The current policy on a minibatch: its distribution, and `ratio [b]` to the behaviour policy."""

    dist: Gaussian
    ratio: Array


Objective = Callable[[Outputs, PolicyBatch, ConstraintView, Any, Callable], Array]
"""`(outputs, minibatch, view, hyper, mean) -> loss`, to be minimised."""


def evaluate(actor: GaussianActor, params: Params, batch: PolicyBatch) -> Outputs:
    """The policy with `params` on the rows of `batch`."""
    dist = actor.apply(params, batch.obs)
    return Outputs(dist, jnp.exp(gaussian.log_prob(dist, batch.action) - batch.log_prob))


def optimizer(name: str) -> optax.GradientTransformation:
    """`adam` or `sgd`, without a learning rate (that one is traced).

    Raises:
      ValueError: For another name.
    """
    table = {"adam": optax.scale_by_adam, "sgd": optax.identity}
    if name not in table:
        raise ValueError(f"unknown optimizer {name!r}; allowed: {', '.join(table)}")
    return table[name]()


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


def _pack(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """Concatenates the leaves `[B]` and `[B, d]` to rows `[B, D]`, so that shuffling is one gather; and its inverse."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [leaf.reshape(leaf.shape[0], -1) for leaf in leaves]
    stops = [0]
    for column in columns:
        stops.append(stops[-1] + column.shape[1])

    def unpack(rows):
        parts = [rows[:, a:b].reshape(-1, *leaf.shape[1:]) for a, b, leaf in zip(stops[:-1], stops[1:], leaves)]
        return jax.tree.unflatten(structure, parts)

    return jnp.concatenate(columns, axis=1), unpack


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


class Trainer(NamedTuple):
    """The parts that steps share: networks, optimiser, minibatch size, the reduced axis."""

    networks: Networks
    optimizer: optax.GradientTransformation
    minibatch: int
    axis_name: str | None = None

    def init(self, params: ActorCritic) -> Optimizers:
        """Optimiser states, of parameters flattened to `[1, D]` (actor) and `[K, D']` (critics)."""
        sizes = (1, jax.tree.leaves(params.critics)[0].shape[0])
        return Optimizers(*(self.optimizer.init(_flatten(tree, k)[0]) for tree, k in zip(params, sizes)))

    def mean(self, x: Array) -> Array:
        """Average over rows and devices."""
        return pmean(jnp.mean(x), self.axis_name)

    def critic_loss(self, critics: Params, batch: PolicyBatch, hyper: Any) -> Array:
        """`[K]`: squared error plus `critic_l2` times the squared norm of all parameters, each value function."""
        error = self.networks.critics.apply(critics, batch.obs) - batch.target
        norms = [jnp.sum(leaf * leaf, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(critics)]
        return jnp.mean(error * error, axis=0) + hyper.critic_l2 * sum(norms)

    def descend(self, params: Params, grads: Params, state: Any, rate: Array, hyper: Any, count: int):
        """One optimiser step for `count` stacked networks on this device's gradients. `(params, state)`.

        Gradients are averaged over devices, then clipped, each network's on its own.
        """
        rows, unflatten = _flatten(params, count)
        gradient = clip_rows(pmean(_flatten(grads, count)[0], self.axis_name), hyper.max_grad_norm)
        updates, state = self.optimizer.update(gradient, state, rows)
        return unflatten(rows - rate * updates), state

    def metrics(self, params: ActorCritic, batch: PolicyBatch) -> Metrics:
        """Figures of the whole batch after a step."""
        out = evaluate(self.networks.actor, params.actor, batch)
        error = self.networks.critics.apply(params.critics, batch.obs) - batch.target
        squared = pmean(jnp.mean(error * error, axis=0), self.axis_name)
        return {
            "policy/kl": self.mean(gaussian.kl(batch.old, out.dist)),
            "policy/entropy": self.mean(gaussian.entropy(out.dist)),
            "policy/std": self.mean(jnp.exp(out.dist.log_std)),
            "policy/ratio_gap": self.mean(jnp.abs(out.ratio - 1)),
            "loss/value_reward": squared[0],
            "loss/value_cost": squared[1:].mean() if squared.shape[0] > 1 else jnp.zeros(()),
        }


def first_order(
    trainer: Trainer, objective: Objective, *, passes: int, early_stop: bool, train_critics: bool = True
) -> PolicyStep:
    """Minibatch descent on an objective, with critics along, stopped once the policy has moved too far.

    After each pass, with `early_stop`: stops everything when the mean `KL(old || new)` (summed over action
    components) exceeds `hyper.target_kl`.

    Args:
      trainer: Networks, optimiser, minibatch size.
      objective: What the actor minimises; `entropy_coef` times the entropy is subtracted.
      passes: Most passes over the batch.
      early_stop: Watch the KL divergence.
      train_critics: Also fit the critics.

    Collectives: `pmean` of gradients (and inside `mean` of the objective) and of the KL divergence.
    """
    actor = trainer.networks.actor

    def step(params, state, batch, view, hyper, key):
        rows, unpack = _pack(batch._replace(old=batch.old.mean))

        def update(carry, minibatch_rows):
            params, state = carry
            minibatch = unpack(minibatch_rows)
            minibatch = minibatch._replace(old=Gaussian(minibatch.old, batch.old.log_std))

            def loss(params):
                out = evaluate(actor, params.actor, minibatch)
                value = objective(out, minibatch, view, hyper, trainer.mean)
                value = value - hyper.entropy_coef * trainer.mean(gaussian.entropy(out.dist))
                if not train_critics:
                    return value
                return value + trainer.critic_loss(params.critics, minibatch, hyper).sum()

            grads = jax.grad(loss)(params)
            policy, policy_state = trainer.descend(params.actor, grads.actor, state.actor, hyper.actor_lr, hyper, 1)
            if not train_critics:
                return ActorCritic(policy, params.critics), Optimizers(policy_state, state.critics)
            critics, critics_state = trainer.descend(
                params.critics, grads.critics, state.critics, hyper.critic_lr, hyper, batch.target.shape[1]
            )
            return ActorCritic(policy, critics), Optimizers(policy_state, critics_state)

        def one_pass(i, carry):
            return minibatch_pass(update, carry, rows, jax.random.fold_in(key, i), trainer.minibatch, trainer.axis_name)

        if early_stop:

            def running(carry):
                i, kl, _ = carry
                return (i < passes) & (kl <= hyper.target_kl)

            def body(carry):
                i, _, inner = carry
                inner = one_pass(i, inner)
                kl = trainer.mean(gaussian.kl(batch.old, actor.apply(inner[0].actor, batch.obs)))
                return i + 1, kl, inner

            done, _, carry = jax.lax.while_loop(running, body, (0, jnp.zeros(()), (params, state)))
        else:
            done, carry = passes, jax.lax.fori_loop(0, passes, one_pass, (params, state))
        params, state = carry
        return params, state, {"update/passes": jnp.float32(done), **trainer.metrics(params, batch)}

    return PolicyStep(trainer.init, step)


def fit_critics(trainer: Trainer, params, state, batch: PolicyBatch, hyper, key, passes: int):
    """Passes of minibatch regression for the critics alone (after a second-order actor step). `(params, state)`."""
    rows, unpack = _pack((batch.obs, batch.target))

    def update(carry, minibatch_rows):
        critics, opt_state = carry
        obs, target = unpack(minibatch_rows)
        part = batch._replace(obs=obs, target=target)
        grads = jax.grad(lambda p: trainer.critic_loss(p, part, hyper).sum())(critics)
        return trainer.descend(critics, grads, opt_state, hyper.critic_lr, hyper, batch.target.shape[1])

    def one_pass(i, carry):
        return minibatch_pass(update, carry, rows, jax.random.fold_in(key, i), trainer.minibatch, trainer.axis_name)

    critics, opt_state = jax.lax.fori_loop(0, passes, one_pass, (params.critics, state.critics))
    return ActorCritic(params.actor, critics), Optimizers(state.actor, opt_state)


def sequence(trainer: Trainer, *steps: PolicyStep) -> PolicyStep:
    """Steps one after the other on one batch; `batch.old` is the policy that each of them starts from.

    Metrics are those of the last step, with `update/passes` summed, `update/passes_i` of each, and the divergence of
    the whole sequence as `policy/kl`.
    """

    def step(params, state, batch, view, hyper, key):
        start, passes = batch, []
        for i, part in enumerate(steps):
            batch = start._replace(old=trainer.networks.actor.apply(params.actor, start.obs)) if i else start
            params, state, metrics = part.step(params, state, batch, view, hyper, jax.random.fold_in(key, i))
            passes.append(metrics["update/passes"])
        metrics = {**metrics, **trainer.metrics(params, start), "update/passes": sum(passes)}
        return params, state, metrics | {f"update/passes_{i}": count for i, count in enumerate(passes)}

    return PolicyStep(steps[0].init, step)
