"""One gradient step of an off-policy learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.algos.off_policy import losses
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.losses import Parts
from jsafe.components.actors import ActorInputs, Draw
from jsafe.components.augmentations import Augmentation
from jsafe.components.critics import polyak
from jsafe.components.optim import clip_norm, descend, scale_by_adam_epsilon_hat
from jsafe.components.reward_normalizer import RewardNormalizer
from jsafe.components.rules import exceeds
from jsafe.ops.stats import psum
from jsafe.types import Array, ConstraintRule, EnvSpec, Key, Metrics, Params, Steps, Weights

AUGMENTATION = 3
"""Folded into the key of an update that moves pictures; others draw as if there were none."""
POLICY = ("actor", "log_alpha")
"""The parameters that are updated together with the actor."""


class GradientStep:
    """`(state, steps, weights, key) -> (state, metrics, actor's metrics, whether the actor moved)`.

    Critics, actor and temperatures move together, all from the same parameters.
    """

    def __init__(
        self,
        config: OffPolicyConfig,
        spec: EnvSpec,
        parts: Parts,
        augmentation: Augmentation,
        normalizer: RewardNormalizer,
        rule: ConstraintRule,
        axis_name: str | None,
    ):
        self.config, self.spec, self.parts, self.axis_name = config, spec, parts, axis_name
        self.augmentation, self.normalizer, self.rule = augmentation, normalizer, rule
        self.adam = scale_by_adam_epsilon_hat(eps=config.adam_eps)
        self.steps_per_update = config.feed.steps_per_batch / config.feed.updates

    def __call__(self, state: Any, steps: Steps, weights: Weights, key: Key) -> tuple[Any, Metrics, Metrics, Array]:
        config = self.config
        parts = self.parts
        if self.axis_name is not None:
            parts = parts._replace(devices=jax.lax.axis_size(self.axis_name))
        actor_key, next_key = (key, key) if parts.shared else jax.random.split(key)
        due = (state.updates + 1) % config.policy_delay == 0
        raw = jnp.concatenate([steps.reward[:-1, :, None], steps.cost[:-1]], axis=-1)
        state = state._replace(normalizer=self.normalizer.update(state.normalizer, raw), updates=state.updates + 1)
        if (augment := self.augmentation.apply) is not None:
            steps = steps._replace(obs=augment(jax.random.fold_in(key, AUGMENTATION), steps.obs))
        obs, pull = losses.encoded_obs(parts, state.params, steps.obs)
        window = losses.read_window(parts, steps, obs, self.normalizer.apply(state.normalizer, raw))
        aim = self.discounted_aim(state)
        h = parts.critics.embed(state.params["critic"], window.obs[: window.rows])
        values = losses.replayed_values(parts, state, window, h)
        metrics = {"q/reward": values.reward.mean(), "q/cost": values.cost.sum() / max(1, values.cost.size)}
        if config.cost_estimate == "critics":
            state, weights, estimated = self.estimate(state, losses.mean_cost(values, window, self.axis_name), aim)
            metrics |= estimated

        inputs = losses.actor_inputs(parts, state, window, h, weights, aim)
        moved, draw, actor_metrics = self.delayed(due, state, parts, inputs, actor_key)
        if (bootstrap := parts.actor.bootstrap) is None:
            draw = jax.tree.map(lambda x: x[window.width :], draw)
        else:
            draw = bootstrap(state.params["actor"], state.target_actor, window.obs[window.width :], next_key)
        fitted, losses_seen = self.fit(state, parts, window, jax.lax.stop_gradient(draw), pull)
        params, opt_state, own = moved
        tau = state.numbers.tau
        if config.rates == "step":
            tau = 1.0 - (1.0 - tau) ** self.steps_per_update
        tau = jnp.where(due, tau, 0.0) if config.policy_delay > 1 else tau
        state = state._replace(
            params={**{name: new for name, (new, _) in fitted.items()}, **params},
            opt_state={**{name: new for name, (_, new) in fitted.items()}, **opt_state},
            target=polyak(state.target, fitted["critic"][0], tau),
            target_actor=polyak(state.target_actor, params["actor"], tau) if parts.actor.slow else (),
            actor=own,
        )
        return state, metrics | losses_seen, actor_metrics, due

    def fit(
        self, state: Any, parts: Parts, window: losses.Window, draw: Draw, pull: Callable[[Array], Params] | None
    ) -> tuple[dict[str, tuple[Params, Any]], Metrics]:
        """A step of the critics and of the encoder, where it learns: parameters and Adam's states, metrics."""
        config, rate = self.config, state.numbers.critic_learning_rate

        def loss(params, obs):
            return losses.critic_loss(params, parts, state, window._replace(obs=obs), draw)

        which = 0 if pull is None else (0, 1)
        grads, seen = jax.grad(loss, which, has_aux=True)(state.params["critic"], window.obs)
        own: Any
        latent: Any
        own, latent = (grads, None) if pull is None else grads
        clipped = parts.critics.clip(self.total(own), config.max_grad_norm)
        fitted = {"critic": self.descended(state, "critic", clipped, rate)}
        if pull is not None:
            pulled = clip_norm(self.total(pull(latent)), config.max_grad_norm)
            fitted["encoder"] = self.descended(state, "encoder", pulled, rate)
        return fitted, seen

    def discounted_aim(self, state: Any) -> Array:
        """`[M]`: what the rule steers for as the sum that the cost critics estimate, `limit per step / (1 - gamma)`.

        Episodes that are only cut go on in the critics' eyes, hence no `(1 - gamma^T)`.
        """
        limit = self.config.limit
        per_step = limit.aim(state.limit) / (self.spec.horizon if limit.per == "episode" else 1)
        return per_step / jnp.maximum(1.0 - state.numbers.gamma, 1e-6)

    def estimate(self, state: Any, cost: Array, aim: Array) -> tuple[Any, Weights, Metrics]:
        """The rule driven by the critics: its weights, and a step of it."""
        weights = self.rule.weights(state.rule, cost, aim)
        moved = self.rule.update(state.rule, cost, aim)
        if self.config.rule_warmup:
            steps = self.config.feed.steps_per_batch * self.spec.action_repeat
            begun = exceeds(state.iteration + 1, steps, self.config.rule_warmup)
            moved = jax.tree.map(lambda new, old: jnp.where(begun, new, old), moved, state.rule)
        columns = {"discounted": cost, "limit_discounted": aim}
        metrics = {f"cost/{i}/{name}": x[i] for i in range(cost.shape[0]) for name, x in columns.items()}
        return state._replace(rule=moved), weights, metrics

    def delayed(
        self, due: Array, state: Any, parts: Parts, inputs: ActorInputs, key: Key
    ) -> tuple[Any, Draw | None, Metrics]:
        """`improve` where it is due."""
        if self.config.policy_delay == 1:
            return self.improve(state, parts, inputs, key)
        absent = jax.eval_shape(lambda: self.improve(state, parts, inputs, key)[2])

        def rest():
            kept = [{name: tree[name] for name in POLICY} for tree in (state.params, state.opt_state)]
            draw = parts.actor.draw(state.params["actor"], inputs.obs, key, False)._replace(extras=None)
            metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), absent)
            return (*kept, state.actor), draw if parts.shared else None, metrics

        return jax.lax.cond(due, lambda: self.improve(state, parts, inputs, key), rest)

    def improve(self, state: Any, parts: Parts, inputs: ActorInputs, key: Key) -> tuple[Any, Draw | None, Metrics]:
        """A step of the actor and of its temperatures: parameters, Adam's states, the actor's own; draw; metrics."""
        old, numbers = state.params, state.numbers
        grads, out = jax.grad(losses.actor_loss, has_aux=True)(old["actor"], parts, inputs, key)
        pull = jax.grad(losses.temperature_loss)(old["log_alpha"], parts, inputs.weight, out.draw.log_probs)
        grads = clip_norm(self.total(grads), self.config.max_grad_norm)
        actor, actor_opt = self.descended(state, "actor", grads, numbers.actor_learning_rate)
        rate = numbers.critic_learning_rate * (self.steps_per_update if self.config.rates == "step" else 1)
        log_alpha, heat = self.descended(state, "log_alpha", self.total(pull), rate)
        log_alpha = jax.tree.map(parts.temperature.project, log_alpha)
        entropies = {f"entropy/{name}": -log_prob.mean() for name, log_prob in out.draw.log_probs.items()}
        moved = {"actor": actor, "log_alpha": log_alpha}, {"actor": actor_opt, "log_alpha": heat}, out.state
        return moved, out.draw._replace(extras=None) if parts.shared else None, out.metrics | entropies

    def total(self, grads: Any) -> Any:
        """The gradients of all devices."""
        return psum(grads, self.axis_name)

    def descended(self, state: Any, name: str, grads: Any, rate: Array) -> tuple[Any, Any]:
        """Parameters and Adam's state after a step."""
        direction, opt_state = self.adam.update(grads, state.opt_state[name], state.params[name])
        return descend(state.params[name], direction, rate), opt_state
