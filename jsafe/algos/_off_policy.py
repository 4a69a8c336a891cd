"""The off-policy assembler: critic ensemble x actor x constraint rule, on replayed sequences."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.actors import Actor, FrozenQ
from jsafe.components.critics import polyak, q_critics
from jsafe.components.optim import scale_by_adam_epsilon_hat
from jsafe.components.reward_normalizer import ema_reward_normalizer, no_reward_normalizer
from jsafe.components.temperature import default_target_entropy, temperature, temperature_loss
from jsafe.ops.stats import pmean, psum
from jsafe.ops.td_lambda import td_lambda
from jsafe.types import Array, ConstraintRule, EnvSpec, Learner, Params, ReplayData

_POSITIVE = (
    "learning_rate",
    "adam_eps",
    "replicas",
    "initial_temperature",
    "initial_multiplier",
    "normalizer_speed",
    "reward_clip",
    "num_envs",
    "unroll",
    "sequences",
    "frame_stack",
    "replay_rows",
    "updates",
)


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig:
    """Options shared by the off-policy learners; the defaults are SEditor's run on Safety Gym (preset `paper`)."""

    cost_limit_per_step: float | tuple[float, ...] = 5e-4
    """Largest mean cost per environment step, one number or one per cost. 25 per 1000-step episode is 0.025."""
    gamma: float = 0.99
    td_lambda: float = 0.95
    tau: float = 0.005
    """Share of the online critics mixed into the targets after every update."""
    learning_rate: float = 3e-4
    adam_eps: float = 1e-7
    hidden: tuple[int, ...] = (256, 256, 256)
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = "tanh"
    replicas: int = 2
    """Critics per reward; their minimum counts."""
    initial_temperature: float = 1.0
    target_min_prob: float = 0.1
    """Sets the target entropy: `log 2 + log target_min_prob` per action component."""
    initial_multiplier: float = 1.0
    multiplier_learning_rate: float = 0.01
    normalize_reward: bool = True
    normalizer_speed: float = 8.0
    reward_clip: float = 10.0
    num_envs: int = 32
    unroll: int = 5
    """Steps of every environment per iteration."""
    sequences: int = 1024
    sequence_length: int = 8
    frame_stack: int = 4
    replay_rows: int = 50_000
    """Replay capacity in rows per environment."""
    initial_rows: int = 10_000
    """Rows (all environments) collected before the first gradient update."""
    updates: int = 1
    """Gradient updates per iteration."""
    replay_dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self):
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("gamma", "td_lambda", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)!r}")
        if self.sequence_length < 2:
            raise ValueError(f"sequence_length must be at least 2, got {self.sequence_length!r}")
        if not 0 < self.target_min_prob <= 1:
            raise ValueError(f"target_min_prob must be in (0, 1], got {self.target_min_prob!r}")
        if self.sequences % self.num_envs and self.num_envs % self.sequences:
            raise ValueError(f"sequences ({self.sequences}) must be a multiple of num_envs ({self.num_envs})")
        smallest = min(cost_limits(self.cost_limit_per_step, None))
        if smallest < 0:
            raise ValueError(f"cost_limit_per_step must be at least 0, got {smallest!r}")

    def data(self) -> ReplayData:
        """What the collector has to produce for this config."""
        names = [field.name for field in dataclasses.fields(ReplayData) if hasattr(self, field.name)]
        return ReplayData(dtype=self.replay_dtype, **{name: getattr(self, name) for name in names})


def cost_limits(limit: float | tuple[float, ...], num_costs: int | None) -> tuple[float, ...]:
    """One limit per cost; a single number serves all.

    Raises:
      ValueError: If the number of limits is neither 1 nor `num_costs`.
    """
    limits = tuple(limit) if isinstance(limit, tuple) else (limit,) * (num_costs or 1)
    if num_costs is not None and len(limits) != num_costs:
        raise ValueError(f"cost_limit_per_step has {len(limits)} values, the environment {num_costs} costs")
    return limits


class Hyper(NamedTuple):
    """Numbers that people sweep or anneal: scalars, but `cost_limit` is `[M]` (per step)."""

    learning_rate: Array
    cost_limit: Array
    gamma: Array
    td_lambda: Array
    tau: Array


class OffPolicyState(NamedTuple):
    """Everything that an update changes.

    `params` holds `actor`, `critic` and `log_alpha` (one per policy); `target` is the critics' slow copy.
    """

    params: Params
    target: Params
    opt_state: Any
    normalizer: Any
    rule: Any
    hyper: Hyper
    updates: Array


def assemble(
    config: OffPolicyConfig,
    spec: EnvSpec,
    actor: Actor,
    rule: ConstraintRule,
    *,
    entropy_reward: bool = False,
    axis_name: str | None = None,
) -> Learner:
    """Builds a learner of a vector-reward actor-critic on replayed sequences.

    One call of `update`: a gradient step (once the replay is full enough), then one step of the constraint rule on
    the raw costs of the fresh rows. All parameters share one Adam; the loss is the mean over all rows of
    `[row is not last] (L_actor + L_temperature + L_critic)`, `L_critic = sum_j mean_k (G_k - Q_jk(s, a))^2` with the
    lambda return `G` of normalised rewards, bootstrapped by the minimum over replicas of the target critics at a
    fresh action.

    Args:
      config: Options.
      spec: Sizes of the environment.
      actor: Policy and its loss.
      rule: Constraint rule; sees the mean cost per step of the fresh rows and `cost_limit_per_step`.
      entropy_reward: Adds `gamma d_t alpha (-log pi(a_t | s_t))` to all rewards of a row (SAC's soft value).
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner`; metrics are named `loss/*`, `q/*`, `temperature/*`, `entropy/*`, `rule/*`, `edit/*`.

    Collectives: `psum` of gradients of the loss's local share, of the fresh costs and of `learn` (all devices have to
      be ready); `pmean` of the normaliser's moments and of metrics.
    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427) and the released code.
    """
    rewards = 1 + spec.num_costs
    obs_dim = spec.obs_dim * config.frame_stack
    critics = q_critics(
        obs_dim, spec.act_dim, rewards, replicas=config.replicas, hidden=config.hidden, act=config.activation
    )
    if config.normalize_reward:
        normalizer = ema_reward_normalizer(
            rewards, speed=config.normalizer_speed, clip=config.reward_clip, axis_name=axis_name
        )
    else:
        normalizer = no_reward_normalizer()
    adam = scale_by_adam_epsilon_hat(eps=config.adam_eps)
    target_entropy = default_target_entropy(spec.act_dim, config.target_min_prob)
    limits = cost_limits(config.cost_limit_per_step, spec.num_costs)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        start = jnp.log(jnp.float32(config.initial_temperature))
        params = {
            "actor": actor.init(actor_key),
            "critic": critics.init(critic_key),
            "log_alpha": {name: jnp.array(start) for name in actor.policies},
        }
        hyper = Hyper(
            jnp.float32(config.learning_rate),
            jnp.array(limits, jnp.float32),
            jnp.float32(config.gamma),
            jnp.float32(config.td_lambda),
            jnp.float32(config.tau),
        )
        target = jax.tree.map(jnp.copy, params["critic"])
        count = jnp.zeros((), jnp.int32)
        return OffPolicyState(params, target, adam.init(params), normalizer.init(), rule.init(), hyper, count)

    def loss_fn(params, state, batch, reward, weights, key):
        hyper = state.hyper
        length, width = batch.last.shape
        devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        obs = batch.obs.reshape(length * width, obs_dim)
        action = batch.action.reshape(length * width, spec.act_dim)
        alpha = {name: temperature(value) for name, value in params["log_alpha"].items()}

        h = critics.embed(params["critic"], obs)
        frozen, frozen_h = jax.lax.stop_gradient((params["critic"], h))
        utility, utility_h = critics.subset(frozen, [0]), critics.subset(frozen_h, [0])
        q = FrozenQ(
            values=lambda a: critics.values(frozen, frozen_h, a).min(axis=0),
            utility=lambda a: critics.values(utility, utility_h, a).min(axis=0)[:, 0],
        )
        act = actor.loss(params["actor"], obs, key, q, weights, alpha)

        bootstrap = critics.values(state.target, critics.embed(state.target, obs), act.action).min(axis=0)
        if entropy_reward:
            bonus = jnp.reshape(-alpha[actor.policies[0]] * act.log_prob, (length, width, 1))
            reward = reward + hyper.gamma * batch.discount[..., None] * jax.lax.stop_gradient(bonus)
        goal = td_lambda(
            reward,
            batch.discount,
            bootstrap.reshape(length, width, rewards),
            batch.last,
            hyper.gamma,
            hyper.td_lambda,
        )
        values = critics.values(params["critic"], h, action).reshape(-1, length, width, rewards)
        errors = jnp.square(jax.lax.stop_gradient(goal) - values[:, :-1]).mean(axis=-1).sum(axis=0)

        rows = act.loss.reshape(length, width)
        for name, log_prob in act.log_probs.items():
            row_losses = temperature_loss(params["log_alpha"][name], log_prob, target_entropy)
            rows = rows + row_losses.reshape(length, width)
        rows = rows.at[:-1].add(errors)
        # A share of the global mean, for actors clip the gradient of each row: it must not depend on the devices.
        loss = jnp.mean(jnp.where(batch.last, 0.0, rows)) / devices

        metrics = {
            "loss/critic": errors.mean(),
            "q/utility": values[..., 0].mean(),
            "q/cost": values[..., 1:].mean(),
            **act.metrics,
            **{f"entropy/{name}": -log_prob.mean() for name, log_prob in act.log_probs.items()},
            **{f"temperature/{name}": value for name, value in alpha.items()},
        }
        return loss, metrics

    def gradient_step(state, batch, weights, key):
        raw = jnp.concatenate([batch.reward[..., None], -batch.cost], axis=-1)
        moments = normalizer.update(state.normalizer, raw)
        reward = normalizer.apply(moments, raw)
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, state, batch, reward, weights, key)
        direction, opt_state = adam.update(psum(grads, axis_name), state.opt_state, state.params)
        rate = state.hyper.learning_rate
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, direction)
        target = polyak(state.target, params["critic"], state.hyper.tau)
        state = state._replace(
            params=params, target=target, opt_state=opt_state, normalizer=moments, updates=state.updates + 1
        )
        return state, pmean(metrics, axis_name)

    def update(state, batch, key):
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        fresh = psum(batch.fresh, axis_name)
        cost = fresh.total / jnp.maximum(fresh.count, 1)
        weights = rule.weights(state.rule, cost, state.hyper.cost_limit)
        minibatch = batch._replace(fresh=(), learn=())

        def learn(state):
            if config.updates == 1:
                return gradient_step(state, minibatch, weights, key)
            keys = jax.random.split(key, config.updates)
            state, metrics = jax.lax.scan(lambda s, x: gradient_step(s, x[0], weights, x[1]), state, (minibatch, keys))
            return state, jax.tree.map(lambda x: x.mean(axis=0), metrics)

        ready = psum(jnp.logical_not(batch.learn).astype(jnp.int32), axis_name) == 0
        shapes = jax.eval_shape(learn, state)[1]
        state, metrics = jax.lax.cond(
            ready, learn, lambda s: (s, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)), state
        )
        state = state._replace(rule=rule.update(state.rule, cost, state.hyper.cost_limit))
        return state, metrics | {
            "rule/cost_per_step": cost.sum(),
            "rule/limit": state.hyper.cost_limit.sum(),
            "rule/multiplier": (weights.cost / jnp.maximum(weights.reward, 1e-12)).sum(),
            "train/updates": state.updates.astype(jnp.float32),
        }

    def act(policy_state, obs, key, deterministic=False):
        return actor.act(policy_state, obs, key, deterministic)

    return Learner(init, update, act, lambda state: state.params["actor"], config, config.data(), spec)
