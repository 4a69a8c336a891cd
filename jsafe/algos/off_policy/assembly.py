"""The off-policy assembler: critic ensemble x actor x constraint rule, on replayed sequences.

What `compat="omnisafe"` changes, for the actors `gaussian`, `ddpg` and `td3`:

| | paper | omnisafe |
|---|---|---|
| targets of the costs | at the action of the reward's targets | at the current actor's deterministic action |
| DDPG's targets | at the slow actor's action | at the current actor's |
| entropy in SAC's actor loss | `alpha log pi` beside the Lagrangian | divided by `1 + lambda` like the rest of it |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import registry
from jsafe.algos.off_policy.config import ActorName, OffPolicyConfig, RuleName, TextbookConfig
from jsafe.algos.off_policy.parts import make_actor, make_critics, make_rule
from jsafe.components import normalizers as normalize
from jsafe.components.actors import Actor, FrozenQ
from jsafe.components.critics import polyak
from jsafe.components.optim import scale_by_adam_epsilon_hat
from jsafe.components.reward_normalizer import ema_reward_normalizer, no_reward_normalizer
from jsafe.components.temperature import default_target_entropy, temperature, temperature_loss
from jsafe.ops import stats
from jsafe.ops.stats import pmean, psum
from jsafe.ops.td_lambda import td_lambda
from jsafe.registry import Algorithm
from jsafe.types import Array, ConstraintRule, EnvSpec, Learner, Params


class Hyper(NamedTuple):
    """Numbers that people sweep or anneal: scalars, but `cost_limit` is `[M]` (per step or per episode)."""

    learning_rate: Array
    actor_learning_rate: Array
    cost_limit: Array
    gamma: Array
    td_lambda: Array
    tau: Array


class OptimizerState(NamedTuple):
    """Adam's state of the critics, and of actor and temperatures."""

    critic: Any
    policy: Any


class OffPolicyState(NamedTuple):
    """Everything that an update changes.

    `params` holds `actor`, `critic` and `log_alpha` (one per policy); `target` is the critics' slow copy and
    `target_actor` the actor's, `()` where no target wants one. `obs_stats` and `episodes` (recent finished ones) are
    `()` where they are not used. `updates` counts gradient updates, `iteration` calls of `update`.
    """

    params: Params
    target: Params
    target_actor: Params
    opt_state: OptimizerState
    normalizer: Any
    obs_stats: Any
    rule: Any
    episodes: Any
    hyper: Hyper
    updates: Array
    iteration: Array


class PolicyState(NamedTuple):
    """What acting needs where observations are normalised; the actor's parameters alone where not."""

    actor: Params
    obs_stats: stats.RunningStats


def assemble(
    config: OffPolicyConfig,
    spec: EnvSpec,
    actor: Actor | None = None,
    rule: ConstraintRule | None = None,
    *,
    axis_name: str | None = None,
) -> Learner:
    """Builds a learner of a vector-reward actor-critic on replayed sequences.

    One call of `update`: gradient steps (once the replay is full enough), then a step of the constraint rule on the
    raw costs of the fresh rows, or of the last finished episodes. The loss is the mean over rows of
    `[row is not last] (L_actor + L_temperature + L_critic)`, `L_critic = sum_j mean_k (G_k - Q_jk(s, a))^2` with the
    lambda return `G` of rewards and negated costs, bootstrapped by the minimum over replicas of the target critics (of
    a cost: the largest) at a fresh action. With an actor that has no `bootstrap` one action per row serves actor,
    temperature and targets, else the actor learns on all rows of a window but the last.

    With `entropy_reward` the reward of a row (with `entropy_costs`: and the negated costs) gains
    `gamma d_t alpha (-log pi(a_t | s_t))`: for one-step targets `r + gamma d (min Q' - alpha log pi)`, SAC's.

    Args:
      config: Options.
      spec: Sizes of the environment.
      actor: Policy and its loss; that of the config by default.
      rule: Constraint rule; that of the config by default. It sees the mean cost per step and `cost_limit_per_step`,
        or the mean cost of episodes and `cost_limit`, each limit less its `limit_margin`.
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner`; metrics are named `loss/*`, `q/*`, `temperature/*`, `entropy/*`, `rule/*`, `edit/*`. Those of the
      actor are means over its own updates, 0 in a call without one.

    Collectives: `psum` of gradients of the loss's local share, of the fresh costs, of episode sums, of observation
      statistics and of `learn` (all devices have to be ready); `pmean` of the normaliser's moments and of metrics.
    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427) and the released code; Fujimoto et al. 2018 (arXiv 1802.09477);
      Haarnoja et al. 2018 (arXiv 1812.05905).
    """
    actor = make_actor(config, spec) if actor is None else actor
    rule = make_rule(config, spec.num_costs) if rule is None else rule
    critics = make_critics(config, spec)
    num_rewards = 1 if config.cost_replicas == 0 else 1 + spec.num_costs
    obs_dim = spec.obs_dim * config.frame_stack
    limits = config.cost_limits(spec.num_costs)
    episodic, released = config.cost_limit is not None, config.compat == "omnisafe"
    if config.normalize_reward or config.normalize_cost:
        normalizer = ema_reward_normalizer(
            num_rewards, speed=config.normalizer_speed, clip=config.reward_clip, axis_name=axis_name
        )
    else:
        normalizer = no_reward_normalizer()
    scaled = np.array([config.normalize_reward] + [config.normalize_cost] * (num_rewards - 1))
    softened = np.array([1.0] + [float(config.entropy_costs)] * (num_rewards - 1), np.float32)
    adam = scale_by_adam_epsilon_hat(eps=config.adam_eps)
    target_entropy = default_target_entropy(spec.act_dim, config.target_min_prob)
    if config.target_entropy_per_dim is not None:
        target_entropy = spec.act_dim * config.target_entropy_per_dim

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        start = jnp.log(jnp.float32(config.initial_temperature))
        params = {
            "actor": actor.init(actor_key),
            "critic": critics.init(critic_key),
            "log_alpha": {name: jnp.array(start) for name in actor.policies},
        }
        hyper = Hyper(
            learning_rate=jnp.float32(config.learning_rate),
            actor_learning_rate=jnp.float32(config.actor_learning_rate or config.learning_rate),
            cost_limit=jnp.array(limits, jnp.float32),
            gamma=jnp.float32(config.gamma),
            td_lambda=jnp.float32(config.td_lambda),
            tau=jnp.float32(config.tau),
        )
        return OffPolicyState(
            params=params,
            target=jax.tree.map(jnp.copy, params["critic"]),
            target_actor=jax.tree.map(jnp.copy, params["actor"]) if actor.slow else (),
            opt_state=OptimizerState(adam.init(params["critic"]), adam.init(_policy(params))),
            normalizer=normalizer.init(),
            obs_stats=stats.running_init(obs_dim) if config.normalize_obs else (),
            rule=rule.init(),
            episodes=normalize.window_init(config.cost_window, spec.num_costs) if episodic else (),
            hyper=hyper,
            updates=jnp.zeros((), jnp.int32),
            iteration=jnp.zeros((), jnp.int32),
        )

    def frozen_q(params, h):
        frozen, frozen_h = jax.lax.stop_gradient((params, h))
        if config.actor_critic == "first":
            frozen, frozen_h = critics.replica(frozen, 1), critics.replica(frozen_h, 1)
        utility, utility_h = critics.subset(frozen, [0]), critics.subset(frozen_h, [0])
        return FrozenQ(
            values=lambda a: critics.values(frozen, frozen_h, a).min(axis=0),
            utility=lambda a: critics.values(utility, utility_h, a).min(axis=0)[:, 0],
        )

    def bootstrap_values(params, state, obs, action):
        """Target values `[R, K]` at the next action."""
        target, h = state.target, critics.embed(state.target, obs)
        if not released or num_rewards == 1:
            return critics.values(target, h, action).min(axis=0)
        best = actor.act(params["actor"], obs, jax.random.key(0), True).action
        split = (([0], action), (list(range(1, num_rewards)), best))
        parts = [critics.values(critics.subset(target, i), critics.subset(h, i), a).min(axis=0) for i, a in split]
        return jnp.concatenate(parts, axis=-1)

    def loss_fn(params, state, batch, reward, weights, key, with_policy):
        hyper = state.hyper
        length, width = batch.last.shape
        devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        shared = with_policy and actor.bootstrap is None
        learning = length if shared else length - 1  # rows with a loss
        obs = batch.obs.reshape(length * width, obs_dim)
        here = obs[: learning * width]
        alpha = {name: temperature(value) for name, value in params["log_alpha"].items()}
        actor_key, next_key = (key, key) if shared else jax.random.split(key)

        h = critics.embed(params["critic"], here)
        rows, policy_metrics, acted = jnp.zeros((learning, width)), {}, None
        if with_policy:
            scale = weights.reward if released else 1.0
            q = frozen_q(params["critic"], h)
            acted = actor.loss(params["actor"], here, actor_key, q, weights, {k: scale * v for k, v in alpha.items()})
            rows = acted.loss.reshape(learning, width)
            for name, log_prob in acted.log_probs.items():
                if config.temperature == "learned":
                    row_losses = temperature_loss(params["log_alpha"][name], log_prob, target_entropy)
                    rows = rows + row_losses.reshape(learning, width)
            entropies = {f"entropy/{name}": -log_prob.mean() for name, log_prob in acted.log_probs.items()}
            policy_metrics = {**acted.metrics, **entropies}

        skip = 0 if shared else 1
        if shared:
            action, log_prob = acted.action, acted.log_prob
        elif actor.bootstrap is None:
            action, log_prob, _ = actor.act(params["actor"], obs[width:], next_key, False)
        else:
            action, log_prob = actor.bootstrap(params["actor"], state.target_actor, obs[width:], next_key)
        value = bootstrap_values(params, state, obs[skip * width :], action).reshape(-1, width, num_rewards)
        if config.entropy_reward and actor.policies:
            bonus = jnp.reshape(-alpha[actor.policies[0]] * log_prob, (-1, width, 1))
            bonus = hyper.gamma * batch.discount[skip:, :, None] * jax.lax.stop_gradient(bonus)
            reward = reward.at[skip:].add(bonus if softened.all() else bonus * softened)
        # The value of the first row cancels from its own target, and nobody bootstraps from it.
        value = jnp.concatenate([jnp.zeros((skip, width, num_rewards)), value])
        goal = td_lambda(reward, batch.discount, value, batch.last, hyper.gamma, hyper.td_lambda)
        taken = batch.action.reshape(length * width, spec.act_dim)[: learning * width]
        values = critics.values(params["critic"], h, taken).reshape(-1, learning, width, num_rewards)
        errors = jnp.square(jax.lax.stop_gradient(goal) - values[:, : length - 1])
        if critics.counts is not None:
            errors = errors * critics.counts[:, None]
        errors = errors.mean(axis=-1).sum(axis=0)

        rows = rows.at[: length - 1].add(errors)
        # A share of the global mean, for actors clip the gradient of each row: it must not depend on the devices.
        loss = jnp.mean(jnp.where(batch.last[:learning], 0.0, rows)) / devices
        metrics = {
            "loss/critic": errors.mean(),
            "q/utility": values[..., 0].mean(),
            "q/cost": values[..., 1:].mean() if num_rewards > 1 else jnp.zeros(()),
            **{f"temperature/{name}": value for name, value in alpha.items()},
        }
        return loss, (metrics, policy_metrics)

    def gradients(state, batch, reward, weights, key, due):
        """Gradients of all parameters, and metrics; without the actor's work where it is not `due`."""

        def compute(with_policy):
            grad = jax.grad(loss_fn, has_aux=True)
            return grad(state.params, state, batch, reward, weights, key, with_policy)

        if config.policy_delay == 1:
            return compute(True)
        absent = jax.eval_shape(lambda: compute(True)[1][1])

        def critic_only():
            grads, (metrics, _) = compute(False)
            return grads, (metrics, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), absent))

        return jax.lax.cond(due, lambda: compute(True), critic_only)

    def clipped(grads):
        if config.max_grad_norm is None:
            return grads
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1.0, config.max_grad_norm / jnp.maximum(norm, 1e-12))
        return jax.tree.map(lambda g: scale * g, grads)

    def gradient_step(state, batch, weights, key):
        raw = jnp.concatenate([batch.reward[..., None], -batch.cost], axis=-1)[..., :num_rewards]
        moments = normalizer.update(state.normalizer, raw)
        reward = normalizer.apply(moments, raw)
        reward = reward if scaled.all() else jnp.where(scaled, reward, raw)
        due = (state.updates + 1) % config.policy_delay == 0
        grads, (metrics, policy_metrics) = gradients(state, batch, reward, weights, key, due)
        grads = psum(grads, axis_name)
        grads |= {"critic": clipped(grads["critic"]), "actor": clipped(grads["actor"])}

        hyper = state.hyper
        critic_step, critic_opt = adam.update(grads["critic"], state.opt_state.critic, state.params["critic"])
        policy_step, policy_opt = adam.update(_policy(grads), state.opt_state.policy, _policy(state.params))
        params = {
            "actor": _descend(state.params["actor"], policy_step["actor"], hyper.actor_learning_rate),
            "critic": _descend(state.params["critic"], critic_step, hyper.learning_rate),
            "log_alpha": _descend(state.params["log_alpha"], policy_step["log_alpha"], hyper.learning_rate),
        }
        target_actor = polyak(state.target_actor, params["actor"], hyper.tau) if actor.slow else ()
        new = (_policy(params), policy_opt, polyak(state.target, params["critic"], hyper.tau), target_actor)
        if config.policy_delay > 1:
            old = (_policy(state.params), state.opt_state.policy, state.target, state.target_actor)
            new = jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)
        policy, policy_opt, target, target_actor = new
        state = state._replace(
            params=params | policy,
            target=target,
            target_actor=target_actor,
            opt_state=OptimizerState(critic_opt, policy_opt),
            normalizer=moments,
            updates=state.updates + 1,
        )
        return state, (*pmean((metrics, policy_metrics), axis_name), due)

    def measure(state, batch):
        """Cost per step, the cost that the rule looks at, and the window of episodes."""
        fresh = psum(batch.fresh, axis_name)
        rate = fresh.total / jnp.maximum(fresh.count, 1)
        if not episodic:
            return rate, rate, ()
        new = psum(batch.episodes, axis_name)
        pushed = normalize.window_push(state.episodes, new)  # iterations without an end take no place
        window = jax.tree.map(lambda a, b: jnp.where(new.count > 0, a, b), pushed, state.episodes)
        return rate, normalize.window_means(window, config.cost_window, rate, spec.horizon)[0], window

    def update(state, batch, key):
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        rate, cost, window = measure(state, batch)
        limit = state.hyper.cost_limit
        aim = (1 - config.limit_margin) * limit
        weights = rule.weights(state.rule, cost, aim)
        used = weights._replace(cost=weights.cost[: num_rewards - 1])
        minibatch = batch._replace(fresh=(), episodes=(), learn=())

        def learn(state):
            rows = minibatch
            if config.normalize_obs:
                state = state._replace(obs_stats=stats.running_update(state.obs_stats, rows.obs, axis_name))
                rows = rows._replace(obs=normalize.normalize_obs(state.obs_stats, rows.obs))
            if config.updates == 1:
                state, (metrics, policy_metrics, _) = gradient_step(state, rows, used, key)
                return state, metrics | policy_metrics
            keys = jax.random.split(key, config.updates)
            state, (metrics, policy_metrics, due) = jax.lax.scan(
                lambda s, x: gradient_step(s, x[0], used, x[1]), state, (rows, keys)
            )
            if config.policy_delay == 1:
                return state, jax.tree.map(lambda x: x.mean(axis=0), metrics | policy_metrics)
            policy_metrics = {k: x.sum(axis=0) / jnp.maximum(due.sum(), 1) for k, x in policy_metrics.items()}
            return state, {k: x.mean(axis=0) for k, x in metrics.items()} | policy_metrics

        ready = psum(jnp.logical_not(batch.learn).astype(jnp.int32), axis_name) == 0
        shapes = jax.eval_shape(learn, state)[1]
        state, metrics = jax.lax.cond(
            ready, learn, lambda s: (s, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)), state
        )
        moved = state.rule
        for _ in range(config.rule_steps):
            moved = rule.update(moved, cost, aim)
        iteration = state.iteration + 1
        if config.rule_warmup_steps > 0:
            begun = iteration * (config.num_envs * config.unroll) > config.rule_warmup_steps
            moved = jax.tree.map(lambda a, b: jnp.where(begun, a, b), moved, state.rule)
        state = state._replace(rule=moved, episodes=window, iteration=iteration)
        return state, metrics | {
            **({"rule/cost_episodic": cost.sum()} if episodic else {}),
            "rule/cost_per_step": rate.sum(),
            "rule/limit_episodic" if episodic else "rule/limit": limit.sum(),
            "rule/multiplier": (weights.cost / jnp.maximum(weights.reward, 1e-12)).sum(),
            "train/updates": state.updates.astype(jnp.float32),
        }

    def act(policy_state, obs, key, deterministic=False):
        if not config.normalize_obs:
            return actor.act(policy_state, obs, key, deterministic)
        return actor.act(policy_state.actor, normalize.normalize_obs(policy_state.obs_stats, obs), key, deterministic)

    def policy(state):
        return PolicyState(state.params["actor"], state.obs_stats) if config.normalize_obs else state.params["actor"]

    return Learner(init, update, act, policy, config, config.data(), spec)


def _policy(tree: Params) -> Params:
    """The part that is updated together with the actor."""
    return {name: tree[name] for name in ("actor", "log_alpha")}


def _descend(params: Params, direction: Params, rate: Array) -> Params:
    return jax.tree.map(lambda p, u: p - rate * u, params, direction)


def build(config: OffPolicyConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """The learner of a config; see `assemble`."""
    return assemble(config, spec, axis_name=axis_name)


def off_policy(
    spec: EnvSpec,
    *,
    actor: ActorName | Actor = "gaussian",
    rule: RuleName | ConstraintRule = "lagrange",
    axis_name: str | None = None,
    **options,
) -> Learner:
    """Any actor with any rule.

    Args:
      spec: Sizes of the environment.
      actor: Name of an actor, which brings the defaults of its algorithm (`seditor`; `beta`: `sac_lag`; `gaussian`:
        `TextbookConfig`; `ddpg`: `ddpg_lag`; `td3`: `td3_lag`), or an `Actor` of one's own, with `TextbookConfig`.
      rule: Name of a constraint rule, or a `ConstraintRule` of one's own.
      axis_name: Mapped axis to reduce over.
      **options: Other fields of `OffPolicyConfig`.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or an ill-typed value.

    Example:
      >>> learner = jsafe.off_policy(jsafe.EnvSpec(60, 2), actor="td3", rule="crpo", cost_limit=10.0)
    """
    own_actor, own_rule = isinstance(actor, Actor), isinstance(rule, ConstraintRule)
    named = {"seditor": "seditor", "beta": "sac_lag", "ddpg": "ddpg_lag", "td3": "td3_lag"}
    kind = registry.get(named[actor]).config if isinstance(actor, str) and actor in named else TextbookConfig
    generic = Algorithm("off_policy", "off_policy", kind, build, {}, "", "")
    names = ({} if own_actor else {"actor": actor}) | ({} if own_rule else {"rule": rule})
    config = registry.make_config(generic, **names, **options)
    return assemble(config, spec, actor if own_actor else None, rule if own_rule else None, axis_name=axis_name)


def define(
    name: str, config: type, *, paper: str, summary: str, presets: dict[str, dict], total_steps: dict[str, int]
) -> Algorithm:
    """Registers a preset of the assembly.

    Args:
      name: Name of the algorithm.
      config: Subclass of `OffPolicyConfig` with its defaults.
      paper: Citation with the arXiv number.
      summary: One line.
      presets: Named sets of options.
      total_steps: Environment steps of a full run, by preset.
    """
    return registry.register(Algorithm(name, "off_policy", config, build, presets, paper, summary, total_steps))
