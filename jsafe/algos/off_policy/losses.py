"""The losses of off-policy learners, on the rows of a replayed window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.components.actors import Actor, ActorInputs, ActorLoss, Draw, FrozenQ, Values
from jsafe.components.critics import Critics
from jsafe.components.temperature import Temperature, temperature
from jsafe.distributions.categorical import one_hot
from jsafe.nets.encoders import Encoder
from jsafe.ops.stats import psum
from jsafe.ops.td_lambda import td_lambda
from jsafe.types import Array, Key, Metrics, Obs, Params, Steps, Weights


class Parts(NamedTuple):
    """The built parts that the losses use.

    `released`: costs bootstrap at the deterministic action. `devices`: losses are a share of the mean over so many.
    """

    actor: Actor
    critics: Critics
    encoder: Encoder
    temperature: Temperature
    action: spaces.Space
    released: bool
    devices: int

    def encoded(self, action: Array) -> Array:
        """An action as the critics take it: choices as one-hot vectors."""
        if not isinstance(self.action, spaces.Discrete):
            return action
        return one_hot(action, self.action.sizes, bool(self.action.shape))

    @property
    def shared(self) -> bool:
        """Whether the draw of the actor's loss serves the targets, too; the actor then learns on all rows."""
        return self.actor.bootstrap is None


class Window(NamedTuple):
    """A minibatch in rows, time by time.

    Attributes:
      obs: `[T B, O]`, encoded.
      taken: `[(T - 1) B, A]`, as the critics take it.
      signals: `reward [T - 1, B, 1]` and `cost [T - 1, B, M]`, as the critics learn them.
      terminated: `[T - 1, B]` bool.
      weight: `[T, B]`, 0 for rows that are no steps.
      rows: Number of rows that the actor learns on: all, or all but the last of each sequence.
    """

    obs: Array
    taken: Array
    signals: dict[str, Array]
    terminated: Array
    weight: Array
    rows: int

    @property
    def width(self) -> int:
        """B."""
        return self.weight.shape[1]


def encoded_obs(parts: Parts, params: Params, obs: Obs) -> tuple[Array, Callable[[Array], Params] | None]:
    """Observations `[T, B, ...]` as rows `[T B, O]`, once for all losses, and what pulls gradients back.

    Critics alone train the encoder: actors, targets and the rule see its output as a constant. The slow critics read
    the same latents; there is no slow encoder.

    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427), released code of the racing tasks; Kostrikov et al. 2021 (DrQ, arXiv
      2004.13649) stop the actor's gradient likewise, but encode targets with a slow copy.
    """
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
    if not parts.encoder.learns:
        return parts.encoder.apply((), rows), None
    latent, pull = jax.vjp(lambda p: parts.encoder.apply(p, rows), params["encoder"])
    return latent, lambda gradient: pull(gradient)[0]


def read_window(parts: Parts, steps: Steps, obs: Array, signals: Array) -> Window:
    """The rows of a minibatch `[T, B, ...]`.

    Args:
      parts: Built parts.
      steps: The minibatch.
      obs: Its observations, encoded.
      signals: `[T - 1, B, 1 + M]`, the reward and the costs to learn.
    """
    weight = cast(Array, steps.weight)  # rows of a replay have one
    length, width = weight.shape
    taken = steps.action[:-1].reshape((length - 1) * width, *steps.action.shape[2:])
    return Window(
        obs=obs,
        taken=parts.encoded(taken),
        signals={"reward": signals[..., :1], "cost": signals[..., 1:]},
        terminated=steps.terminated[:-1],
        weight=weight,
        rows=(length if parts.shared else length - 1) * width,
    )


def masked_mean(rows: Array, weight: Array, count: int) -> Array:
    """Sum of the rows of weight above 0, over a given count: rows that are no steps count as zeros."""
    return jnp.where(weight.reshape(-1)[: rows.shape[0]] > 0, rows, 0.0).sum() / count


def first_rows(h: Params, count: int) -> Params:
    """The first so many rows of an embedding."""
    return jax.tree.map(lambda x: x[..., :count, :], h)


def critic_loss(params: Params, parts: Parts, state: Any, window: Window, draw: Draw) -> tuple[Array, Metrics]:
    """`mean_t w_t (loss of the reward's critics + loss of the costs')`; targets come from slow critics.

    With a soft temperature the reward of a row gains `gamma d_t sum_k alpha_k (-log pi_k(a_{t+1} | s_{t+1}))`: for
    one-step targets `r + gamma d (min Q' - alpha log pi)`, SAC's.

    Args:
      params: Of the critics.
      parts: Built parts.
      state: The learner's state, a constant.
      window: The minibatch.
      draw: Actions `[(T - 1) B]` from which the rows 1 to T - 1 bootstrap.
    """
    critics, (steps, width) = parts.critics, window.terminated.shape
    there = jax.lax.stop_gradient(window.obs[width:])
    action = cost_action = parts.encoded(draw.action)
    if parts.released and critics.costs:
        cost_action = parts.actor.draw(state.params["actor"], there, jax.random.key(0), True).action
    following = critics.bootstrap(state.target, critics.embed(state.target, there), action, cost_action)
    if draw.chance is not None:
        following = {name: jnp.einsum("nr,nrkd->rkd", draw.chance, x) for name, x in following.items()}
    following = {name: x.reshape(steps, width, *x.shape[1:]) for name, x in following.items()}

    def returns(signal, following, *, power=1, lam=None):
        lam = state.numbers.td_lambda if lam is None else lam
        signal = jnp.broadcast_to(signal[..., None], following.shape).reshape(steps, width, -1)
        flat = following.reshape(steps, width, -1)
        goal = td_lambda(signal, window.terminated, flat, window.weight[1:], state.numbers.gamma**power, lam)
        return goal.reshape(following.shape)

    signals = softened(parts, state, window, draw)
    h = first_rows(critics.embed(params, window.obs[: window.rows]), steps * width)  # the actor shares the work
    losses = critics.loss(params, h, window.taken, signals, following, returns)
    by_row = {name: loss.sum(axis=-1) for name, loss in losses.items()}
    metrics = {f"loss/critic_{name}": rows.mean() for name, rows in by_row.items()}
    return masked_mean(cast(Array, sum(by_row.values())), window.weight, window.rows * parts.devices), metrics


def softened(parts: Parts, state: Any, window: Window, draw: Draw) -> dict[str, Array]:
    """The signals with the entropy of the next action."""
    reward, cost = parts.temperature.soft
    alpha = jax.tree.map(temperature, state.params["log_alpha"])
    if not (reward and alpha):
        return window.signals
    bonus = sum(-alpha[name] * draw.log_probs[name] for name in alpha)
    discount = state.numbers.gamma * (1.0 - window.terminated)
    bonus = (discount * jax.lax.stop_gradient(bonus).reshape(discount.shape))[..., None]
    signals = window.signals
    return {"reward": signals["reward"] + bonus, "cost": signals["cost"] - bonus if cost else signals["cost"]}


def frozen_q(critics: Critics, params: Params, embedding: Callable[[], Params]) -> FrozenQ:
    """Critics as constants, over observations that are embedded when they are asked for."""
    params = jax.lax.stop_gradient(params)
    return FrozenQ(
        lambda a: critics.values(params, embedding(), a),
        lambda a: critics.reward(params, embedding(), a),
    )


def actor_inputs(parts: Parts, state: Any, window: Window, h: Params, weights: Weights, limit: Array) -> ActorInputs:
    """What the actor's loss may look at; `h` are its rows, embedded for the critics."""
    obs, critics = window.obs[: window.rows], parts.critics
    alpha = jax.tree.map(temperature, state.params["log_alpha"])
    if parts.released:
        alpha = jax.tree.map(lambda value: weights.reward * value, alpha)
    return ActorInputs(
        obs=obs,
        taken=window.taken,
        weight=window.weight.reshape(-1)[: window.rows],
        q=frozen_q(critics, state.params["critic"], lambda: h),
        slow_q=frozen_q(critics, state.target, lambda: critics.embed(state.target, obs)),
        slow=state.target_actor,
        weights=weights._replace(cost=weights.cost[: critics.costs]),
        limit=limit,
        alpha=alpha,
        state=state.actor,
    )


def actor_loss(params: Params, parts: Parts, inputs: ActorInputs, key: Key) -> tuple[Array, ActorLoss]:
    """`mean_t w_t L_actor`, `Actor.loss` of each row."""
    out = parts.actor.loss(params, key, inputs)
    # A share of the global mean, for actors clip the gradient of each row: it must not depend on the devices.
    return masked_mean(out.loss, inputs.weight, inputs.weight.size * parts.devices), out


def temperature_loss(log_alpha: Params, parts: Parts, weight: Array, log_probs: dict[str, Array]) -> Array:
    """`mean_t w_t sum_k log alpha_k (H_k - H_target)`."""
    number = {name: i for i, name in enumerate(parts.actor.policies)}
    rows = sum(parts.temperature.loss(log_alpha[name], log_prob, number[name]) for name, log_prob in log_probs.items())
    return masked_mean(cast(Array, rows), weight, weight.size * parts.devices) if log_probs else jnp.zeros(())


def replayed_values(parts: Parts, state: Any, window: Window, h: Params) -> Values:
    """Values `[(T - 1) B]` of the replayed actions, as the actor sees them; `h` as in `actor_inputs`."""
    return parts.critics.values(state.params["critic"], first_rows(h, window.taken.shape[0]), window.taken)


def mean_cost(values: Values, window: Window, axis_name: str | None) -> Array:
    """Mean cost value `[M]` of the rows that count, of all devices."""
    weight = window.weight[:-1].reshape(-1, 1)
    total, count = psum(((weight * values.cost).sum(axis=0), weight.sum()), axis_name)
    return total / jnp.maximum(count, 1.0)
