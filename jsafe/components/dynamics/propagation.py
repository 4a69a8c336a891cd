"""What a model says that sequences of actions lead to: particles, each of which stays with its net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.dynamics.base import Dynamics, Model, Prediction
from jsafe.components.known import Known
from jsafe.types import Array, Key

Noise = Literal["independent", "common"]


class Rollout(NamedTuple):
    """Sums over the H steps of S candidates, by K particles in each of E nets.

    Attributes:
      reward: `[E, K, S]`, discounted.
      cost: `[E, K, S, M]`.
      worst: `[S, M]`, the sum over the steps of the largest cost of any particle.
      spread: `[K, S]`, the sum over the steps of `max_e ||sd_e(s, a)||_2`: how little is known there.
      final: `[E, K, S, O]`, the last observation.
      left: `[E, K, S]`, the discount of what the last observation is worth, 0 where another problem began.
      afresh: `[E, K, S]`, the discount of what another problem is worth that began within the plan, else 0.
    """

    reward: Array
    cost: Array
    worst: Array
    spread: Array
    final: Array
    left: Array
    afresh: Array


class _Carry(NamedTuple):
    obs: Array
    earns: Array
    afresh: Array
    reward: Array
    cost: Array
    worst: Array
    spread: Array


def simulator(
    dynamics: Dynamics,
    known: Known,
    num_costs: int,
    particles: int,
    *,
    noise: Noise = "independent",
    released: bool = False,
    discount: float = 1.0,
) -> Callable[[Model, Array, Array, Key], Rollout]:
    """`(model, obs [O], actions [H, S, A], key) -> Rollout`: trajectory sampling, TS-infinity.

    All particles of a net share their first step but for the noise: mean and standard deviation are computed once.

    Args:
      dynamics: The ensemble.
      known: What is not learnt.
      num_costs: M.
      particles: K, of each net.
      noise: `independent`; or `common`: the candidates share the draws. Each candidate's estimate keeps its
        distribution, comparisons of candidates get less noisy, and there are S times fewer draws.
      discount: Of rewards, per step.
      released: The spread counts the standard deviation of learnt rewards and costs, too (OmniSafe).

    Source: Chua et al. 2018 (arXiv 1805.12114), section 5.1; Ma et al. 2022 (arXiv 2112.07701), section 4, the spread.
    """
    heads, size = dynamics.heads, dynamics.size

    def outcomes(
        prediction: Prediction, obs: Array, action: Array, ahead: Array | int, key: Key
    ) -> tuple[Array, Array, Array]:
        """Next observations, rewards and costs of `[E, K, S, ...]`; predictions may be shared by the particles."""
        width = prediction.mean.shape[-1]
        shape = (size, particles, 1 if noise == "common" else action.shape[0], width)
        sampled = prediction.mean + prediction.std * jax.random.normal(key, shape)
        following = heads.motion.follow(obs, sampled[..., heads.width :])
        acted = jnp.broadcast_to(action, (*following.shape[:-1], action.shape[-1]))
        reward = sampled[..., 0] if known.reward is None else known.reward(obs, acted, following)
        cost = known.costs(sampled[..., int(heads.reward) : heads.width], obs, acted, following, ahead)
        return following, reward, cost

    def predicted(model: Model, obs: Array, action: Array) -> Prediction:
        """Of `obs [E, k, S, O]`."""
        acted = jnp.broadcast_to(action, (*obs.shape[:-1], action.shape[-1]))
        flat = (x.reshape(size, -1, x.shape[-1]) for x in (obs, acted))
        return Prediction(*(x.reshape(*obs.shape[:-1], -1) for x in dynamics.predict(model, *flat)))

    def spread(prediction: Prediction) -> Array:
        std = prediction.std if released else prediction.std[..., heads.width :]
        return jnp.broadcast_to(jnp.linalg.norm(std, axis=-1).max(axis=0), (particles, std.shape[2]))

    def advanced(carry: _Carry, prediction: Prediction, action: Array, ahead: Array | int, key: Key) -> _Carry:
        following, reward, cost = outcomes(prediction, carry.obs, action, ahead, key)
        earns, afresh = discount * carry.earns, carry.afresh
        if known.reward is not None and known.arrived is not None:
            arrived = known.arrived(following)
            earns, afresh = jnp.where(arrived, 0.0, earns), jnp.where(arrived, afresh + earns, afresh)
        return _Carry(
            following,
            earns,
            afresh,
            carry.reward + carry.earns * reward,
            carry.cost + cost,
            carry.worst + cost.max(axis=(0, 1)),
            carry.spread + spread(prediction),
        )

    def simulate(model: Model, obs: Array, actions: Array, key: Key) -> Rollout:
        steps, candidates, _ = actions.shape
        keys = jax.random.split(key, steps)
        rows = (size, particles, candidates)
        start = jnp.broadcast_to(obs, (size, 1, candidates, obs.shape[-1]))
        carry = _Carry(
            jnp.broadcast_to(obs, (*rows, obs.shape[-1])),
            jnp.ones(rows),
            jnp.zeros(rows),
            jnp.zeros(rows),
            jnp.zeros((*rows, num_costs)),
            jnp.zeros((candidates, num_costs)),
            jnp.zeros((particles, candidates)),
        )
        carry = advanced(carry, predicted(model, start, actions[0]), actions[0], 1, keys[0])

        def step(carry: _Carry, inputs: Any) -> tuple[_Carry, None]:
            action, ahead, key = inputs
            return advanced(carry, predicted(model, carry.obs, action), action, ahead, key), None

        carry, _ = jax.lax.scan(step, carry, (actions[1:], jnp.arange(2, steps + 1), keys[1:]))
        return Rollout(carry.reward, carry.cost, carry.worst, carry.spread, carry.obs, carry.earns, carry.afresh)

    return simulate


def expected(dynamics: Dynamics, model: Model, obs: Array, actions: Array) -> Array:
    """Where each net's means lead, `[E, H, O]`, from `obs [O]` by `actions [H, A]`."""

    def step(obs: Array, action: Array) -> tuple[Array, Array]:
        acted = jnp.broadcast_to(action, (*obs.shape[:-1], action.shape[-1]))
        change = dynamics.predict(model, obs, acted).mean[..., dynamics.heads.width :]
        following = dynamics.heads.motion.follow(obs, change)
        return following, following

    _, path = jax.lax.scan(step, jnp.broadcast_to(obs, (dynamics.size, 1, obs.shape[-1])), actions)
    return path[:, :, 0].swapaxes(0, 1)


def imagined(
    dynamics: Dynamics,
    model: Model,
    obs: Array,
    steps: int,
    policy: Callable[[Array, Key, Array], Array],
    key: Key,
    *,
    nets: Array | None = None,
    redraw: bool = False,
    stack: int = 1,
) -> tuple[Array, Array, Array]:
    """A policy's own trajectories in the model.

    Args:
      dynamics: The ensemble.
      model: Its parameters.
      obs: `[R, S O]`, where they start.
      steps: H.
      policy: `(obs [R, S O], key, t) -> action [R, A]`.
      key: Of nets, noise and actions.
      nets: `[R]`, the net of each trajectory; drawn where None.
      redraw: Draw the nets anew in each step (MBPO).
      stack: Frames S that an observation is made of, oldest first; the model sees the newest.

    Returns:
      Observations `[H + 1, R, S O]`, actions `[H, R, A]` and the learnt reward and costs `[H, R, heads.width]`.
    """
    net_key, key = jax.random.split(key)
    rows, frame = jnp.arange(obs.shape[0]), obs.shape[-1] // stack

    def drawn(key):
        return jax.random.randint(key, rows.shape, 0, dynamics.size)

    fixed = drawn(net_key) if nets is None else nets

    def step(obs, t):
        act_key, noise_key, again = jax.random.split(jax.random.fold_in(key, t), 3)
        action = policy(obs, act_key, t)
        newest = obs[:, -frame:]
        both = (jnp.broadcast_to(x, (dynamics.size, *x.shape)) for x in (newest, action))
        mean, std = (x[drawn(again) if redraw else fixed, rows] for x in dynamics.predict(model, *both))
        sampled = mean + std * jax.random.normal(noise_key, mean.shape)
        width = dynamics.heads.width
        after = dynamics.heads.motion.follow(newest, sampled[:, width:])
        following = jnp.concatenate([obs[:, frame:], after], axis=-1)
        return following, (following, action, sampled[:, :width])

    _, (following, actions, signals) = jax.lax.scan(step, obs, jnp.arange(steps))
    return jnp.concatenate([obs[None], following]), actions, signals
