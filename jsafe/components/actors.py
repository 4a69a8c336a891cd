"""Stochastic actors of off-policy learners: networks, sampling, and the losses that train them on frozen critics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe.nets.mlp import FeedForward, mlp
from jsafe.ops import beta
from jsafe.ops.editing import DISTANCES, EDITS, clip_row_gradient, edit_action, edit_distance
from jsafe.registry import unknown
from jsafe.types import ActOutput, Array, Key, Params

CONCENTRATION_GRADIENT_NORM = 0.01
"""Row clip of the gradient at the concentrations, as released."""


class FrozenQ(NamedTuple):
    """Critics as constants, over the observations of a batch of R rows; already the minimum over replicas.

    Attributes:
      values: `action [R, A] -> [R, K]`: reward 0 is the utility, the others the negated costs.
      utility: `action [R, A] -> [R]`: reward 0 alone (half the work).
    """

    values: Callable[[Array], Array]
    utility: Callable[[Array], Array]


class ActorLoss(NamedTuple):
    """Losses per row, and what the rest of the update needs of the samples behind them.

    Attributes:
      loss: `[R]`, to be averaged.
      action: `[R, A]`, a fresh action of the current policy for the critics' bootstrap.
      log_prob: `[R]` of `action`, for the entropy reward where that is on.
      log_probs: Per policy `[R]`, for its temperature.
      metrics: Scalars.
    """

    loss: Array
    action: Array
    log_prob: Array
    log_probs: dict[str, Array]
    metrics: dict[str, Array]


class Actor(NamedTuple):
    """A policy (or a pair of them) and its loss.

    Attributes:
      init: `key -> params`.
      act: `(params, obs [N, O], key, deterministic) -> ActOutput`.
      loss: `(params, obs [R, O], key, q: FrozenQ, weights: Weights, alpha: {policy: scalar}) -> ActorLoss`.
      policies: Names of the policies, one temperature each.
    """

    init: Callable[[Key], Params]
    act: Callable[[Params, Array, Key, bool], ActOutput]
    loss: Callable[..., ActorLoss]
    policies: tuple[str, ...]


def beta_network(obs_dim: int, act_dim: int, hidden: Sequence[int], act: str, late_dim: int = 0) -> FeedForward:
    """A perceptron with a Beta head of 2A units that starts at Beta(2, 2) everywhere (zero weights)."""
    return mlp(
        obs_dim,
        2 * act_dim,
        hidden,
        late_dim=late_dim,
        act=act,
        last_kernel_init=nn.initializers.zeros,
        last_bias=beta.SOFTPLUS_ONE,
    )


def _head(logits: Array, max_norm: float) -> tuple[Array, Array]:
    conc = clip_row_gradient(jnp.concatenate(beta.concentrations(logits), axis=-1), max_norm)
    return tuple(jnp.split(conc, 2, axis=-1))


def _draw(logits: Array, key: Key, deterministic: bool) -> tuple[Array, Array]:
    conc = beta.concentrations(logits)
    action = beta.mode(*conc) if deterministic else beta.sample(key, *conc)
    return action, beta.log_prob(action, *conc)


def beta_actor(
    obs_dim: int,
    act_dim: int,
    *,
    hidden: Sequence[int],
    act: str = "tanh",
    max_norm: float = CONCENTRATION_GRADIENT_NORM,
) -> Actor:
    """One Beta policy, trained on a weighted sum of critics: soft actor-critic's actor.

    `L = -(w_u Q_u(s, a) + sum_m w_m Q_m(s, a)) + alpha log pi(a | s)`, `a ~ pi`; `Q_m` values negated costs.

    Args:
      obs_dim: Width of the (stacked) observation.
      act_dim: Number of action components.
      hidden: Hidden widths.
      act: Activation.
      max_norm: Row clip of the gradient at the concentrations.

    Returns:
      An `Actor` with the policy `actor`.

    Source: Haarnoja et al. 2018 (arXiv 1801.01290) with the Beta head and the vector critics of SEditor's baseline
      SAC-Lag (Yu et al. 2022); one sample serves the actor, the critics' target and the temperature.
    """
    net = beta_network(obs_dim, act_dim, hidden, act)

    def act_fn(params, obs, key, deterministic=False):
        action, log_prob = _draw(net.apply(params, obs), key, deterministic)
        return ActOutput(action, log_prob, {})

    def loss(params, obs, key, q, weights, alpha):
        conc = _head(net.apply(params, obs), max_norm)
        action = beta.sample(key, *conc)
        log_prob = beta.log_prob(action, *conc)
        values = q.values(action)
        objective = weights.reward * values[:, 0] + values[:, 1:] @ weights.cost
        rows = alpha["actor"] * log_prob - objective
        metrics = {"loss/actor": rows.mean()}
        return ActorLoss(rows, jax.lax.stop_gradient(action), log_prob, {"actor": log_prob}, metrics)

    return Actor(net.init, act_fn, loss, ("actor",))


def editor_actor(
    obs_dim: int,
    act_dim: int,
    *,
    hidden: Sequence[int],
    act: str = "tanh",
    distance: str = "hinge",
    edit: str = "add",
    max_norm: float = CONCENTRATION_GRADIENT_NORM,
) -> Actor:
    """SEditor's pair: a utility maximiser proposes, a safety editor edits; both are Beta policies.

    Maximiser (Eq. 7a): `L = -Q_u(s, h(p, d)) + alpha_p log pi(p | s)` with the editor frozen; the derivative of `Q_u`
    is total, through `p` and through the editor's answer `d ~ psi(. | s, p)`.
    Editor (Eq. 7b, 8): `L = -(sum_m w_m Q_m(s, a) - w_u D) + alpha_d log psi(d | s, p)` with the maximiser frozen,
    `a = h(p, d)`, `D = relu(Q_u(s, p) - Q_u(s, a))`.

    The two losses use independent samples. The maximiser's path through the editor is damped by the row clip of the
    concentration gradient, which acts on the derivative of the *sum* over rows, as in the released code.

    Args:
      obs_dim: Width of the (stacked) observation.
      act_dim: Number of action components.
      hidden: Hidden widths of both networks.
      act: Activation.
      distance: `hinge`, `l2` or `none` (`jsafe.ops.editing.edit_distance`).
      edit: `add`, `overwrite` or `soft` (`jsafe.ops.editing.edit_action`).
      max_norm: Row clip of the gradient at the concentrations.

    Returns:
      An `Actor` with the policies `maximizer` and `editor`; `act` gives the `proposal` in its extras.

    Raises:
      ValueError: For an unknown distance or edit.

    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427), section 4 and the released code.
    """
    if distance not in DISTANCES:
        raise ValueError(unknown("distance", distance, DISTANCES))
    if edit not in EDITS:
        raise ValueError(unknown("edit", edit, EDITS))
    maximizer = beta_network(obs_dim, act_dim, hidden, act)
    editor = beta_network(obs_dim, act_dim, hidden, act, late_dim=act_dim)
    frozen = jax.lax.stop_gradient

    def init(key):
        keys = jax.random.split(key)
        return {"maximizer": maximizer.init(keys[0]), "editor": editor.init(keys[1])}

    def act_fn(params, obs, key, deterministic=False):
        keys = jax.random.split(key)
        proposal, log_p = _draw(maximizer.apply(params["maximizer"], obs), keys[0], deterministic)
        delta, log_d = _draw(editor.apply(params["editor"], obs, proposal), keys[1], deterministic)
        extras = {"proposal": proposal, "delta": delta}
        return ActOutput(edit_action(proposal, delta, edit), log_p + log_d, extras)

    def loss(params, obs, key, q, weights, alpha):
        keys = jax.random.split(key, 4)
        conc_p = _head(maximizer.apply(params["maximizer"], obs), max_norm)
        h = editor.embed(params["editor"], obs)

        proposal = beta.sample(keys[0], *conc_p)
        log_p = beta.log_prob(proposal, *conc_p)

        def utility(proposal):
            conc = _head(editor.tail(frozen(params["editor"]), frozen(h), proposal), max_norm)
            action = edit_action(proposal, beta.sample(keys[1], *conc), edit)
            return q.utility(action).sum(), action

        slope, action = jax.grad(utility, has_aux=True)(frozen(proposal))
        rows_p = alpha["maximizer"] * log_p - jnp.sum(frozen(slope) * proposal, axis=-1)

        given = frozen(beta.sample(keys[2], *map(frozen, conc_p)))
        conc_d = _head(editor.tail(params["editor"], h, given), max_norm)
        delta = beta.sample(keys[3], *conc_d)
        log_d = beta.log_prob(delta, *conc_d)
        edited = edit_action(given, delta, edit)
        values = q.values(edited)
        paid = edit_distance(distance, given, edited, q.utility(given), values[:, 0])
        rows_d = alpha["editor"] * log_d - (values[:, 1:] @ weights.cost - weights.reward * paid)

        metrics = {
            "loss/editor": rows_d.mean(),
            "edit/size": jnp.abs(edited - given).mean(),
            "edit/distance": paid.mean(),
            "edit/active": (paid > 0).astype(jnp.float32).mean(),
        }
        log_probs = {"maximizer": log_p, "editor": log_d}
        return ActorLoss(rows_p + rows_d, frozen(action), log_p, log_probs, metrics)

    return Actor(init, act_fn, loss, ("maximizer", "editor"))
