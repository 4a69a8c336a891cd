"""Actors of off-policy learners: networks, sampling, and the losses that train them on frozen critics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe.distributions import beta
from jsafe.distributions import squashed_gaussian as tanh_gaussian
from jsafe.errors import unknown
from jsafe.nets.perceptron import FeedForward, fan_in_uniform, mlp, uniform
from jsafe.ops.editing import DISTANCES, EDITS, clip_row_gradient, edit_action, edit_distance
from jsafe.types import ActOutput, Array, Key, Params, Weights

CONCENTRATION_GRADIENT_NORM = 0.01
"""Row clip of the gradient at the concentrations, as released."""


class FrozenQ(NamedTuple):
    """Critics as constants, over the observations of a batch of R rows; already one number per reward, the minimum
    over replicas (or, where the learner says so, the first of them).

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
      action: `[R, A]`, a fresh action of the current policy, for the critics' bootstrap where the actor has no
        `bootstrap`.
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
      policies: Names of the policies that have an entropy, one temperature each.
      bootstrap: `(params, slow, obs [R, O], key) -> (action [R, A], log_prob [R])`: the action from which targets
        bootstrap, drawn apart from the loss's. None: the action of the loss serves, on the same rows.
      slow: Whether `bootstrap` wants a slow copy of the parameters (else `slow` is `()`).
    """

    init: Callable[[Key], Params]
    act: Callable[[Params, Array, Key, bool], ActOutput]
    loss: Callable[..., ActorLoss]
    policies: tuple[str, ...]
    bootstrap: Callable[..., tuple[Array, Array]] | None = None
    slow: bool = False


def mixture(values: Array, weights: Weights) -> Array:
    """`w_u Q_u + sum_m w_m Q_m` of values `[R, K]`; `Q_m` values negated costs."""
    return weights.reward * values[:, 0] + values[:, 1:] @ weights.cost


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
        rows = alpha["actor"] * log_prob - mixture(q.values(action), weights)
        metrics = {"loss/actor": rows.mean()}
        return ActorLoss(rows, jax.lax.stop_gradient(action), log_prob, {"actor": log_prob}, metrics)

    return Actor(net.init, act_fn, loss, ("actor",))


def gaussian_actor(obs_dim: int, act_dim: int, *, hidden: Sequence[int], act: str = "relu") -> Actor:
    """A tanh-Gaussian policy: soft actor-critic's actor.

    `L = -(w_u Q_u(s, a) + sum_m w_m Q_m(s, a)) + alpha log pi(a | s)`, `a = tanh(mean + std xi)`.

    Args:
      obs_dim: Width of the (stacked) observation.
      act_dim: Number of action components.
      hidden: Hidden widths.
      act: Activation.

    Returns:
      An `Actor` with the policy `actor`; targets bootstrap from a fresh draw of the current policy.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), equation 7, with the weighted critics in the place of one.
    """
    net = mlp(obs_dim, 2 * act_dim, hidden, act=act, kernel_init=fan_in_uniform())

    def draw(params, obs, key, deterministic=False):
        dist = tanh_gaussian.head(net.apply(params, obs))
        return tanh_gaussian.median(dist) if deterministic else tanh_gaussian.sample(dist, key)

    def act_fn(params, obs, key, deterministic=False):
        return ActOutput(*draw(params, obs, key, deterministic), {})

    def loss(params, obs, key, q, weights, alpha):
        action, log_prob = draw(params, obs, key)
        rows = alpha["actor"] * log_prob - mixture(q.values(action), weights)
        return ActorLoss(
            rows, jax.lax.stop_gradient(action), log_prob, {"actor": log_prob}, {"loss/actor": rows.mean()}
        )

    def bootstrap(params, slow, obs, key):
        del slow
        return draw(params, obs, key)

    return Actor(net.init, act_fn, loss, ("actor",), bootstrap)


def deterministic_actor(
    obs_dim: int,
    act_dim: int,
    *,
    hidden: Sequence[int],
    act: str = "relu",
    exploration_noise: float = 0.1,
    smoothing_noise: float = 0.0,
    smoothing_clip: float = 0.5,
    slow: bool = True,
) -> Actor:
    """A deterministic policy `mu(s) = tanh(f(s))`, trained up the slope of the critics.

    `L = -(w_u Q_u(s, mu(s)) + sum_m w_m Q_m(s, mu(s)))`. Sampled actions are `clip(mu(s) + N(0, sigma^2), -1, 1)`;
    targets bootstrap from `clip(mu'(s) + clip(N(0, s^2), -c, c), -1, 1)` of the slow copy `mu'`.

    Args:
      obs_dim: Width of the (stacked) observation.
      act_dim: Number of action components.
      hidden: Hidden widths; the output layer starts in `+-0.003`.
      act: Activation.
      exploration_noise: `sigma`.
      smoothing_noise: `s`; 0 for none (DDPG).
      smoothing_clip: `c`.
      slow: Bootstrap from a slow copy of the actor; False from the current one (OmniSafe's DDPG).

    Returns:
      An `Actor` without policies that have an entropy; its log-probabilities are 0.

    Source: Lillicrap et al. 2016 (arXiv 1509.02971), algorithm 1, with white noise in the place of Ornstein-Uhlenbeck
      noise; Fujimoto et al. 2018 (arXiv 1802.09477), section 5.3 (smoothing) and algorithm 1.
    """
    net = mlp(obs_dim, act_dim, hidden, act=act, kernel_init=fan_in_uniform(), last_kernel_init=uniform(0.003))

    def best(params, obs):
        return jnp.tanh(net.apply(params, obs))

    def act_fn(params, obs, key, deterministic=False):
        action = best(params, obs)
        if not deterministic:
            noise = exploration_noise * jax.random.normal(key, action.shape, action.dtype)
            action = jnp.clip(action + noise, -1.0, 1.0)
        return ActOutput(action, jnp.zeros(action.shape[:-1]), {})

    def loss(params, obs, key, q, weights, alpha):
        action = best(params, obs)
        rows = -mixture(q.values(action), weights)
        return ActorLoss(rows, jax.lax.stop_gradient(action), jnp.zeros_like(rows), {}, {"loss/actor": rows.mean()})

    def bootstrap(params, copy, obs, key):
        action = best(copy if slow else params, obs)
        if smoothing_noise > 0:
            noise = smoothing_noise * jax.random.normal(key, action.shape, action.dtype)
            action = jnp.clip(action + jnp.clip(noise, -smoothing_clip, smoothing_clip), -1.0, 1.0)
        return action, jnp.zeros(action.shape[:-1])

    return Actor(net.init, act_fn, loss, (), bootstrap, slow)


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
