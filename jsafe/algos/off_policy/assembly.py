"""The off-policy assembler: actor x critics x constraint rule, on replayed windows.

One call of `update`: gradient steps (once the replay is full enough), then a step of the constraint rule. A gradient
step moves critics, actor and temperatures together, all from the same parameters, as ALF does; in the papers of DDPG,
TD3 and SAC the actor climbs critics that have just moved.

What `compat="omnisafe"` changes, for the actors `gaussian` and `deterministic`:

| | paper | omnisafe |
|---|---|---|
| targets of the costs | at the action of the reward's targets | at the current actor's deterministic action |
| entropy in SAC's actor loss | `alpha log pi` beside the Lagrangian | divided by `1 + lambda` like the rest of it |

DDPG's targets at the current actor's action, also OmniSafe's, are `actor.slow=False`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.gradient import GradientStep
from jsafe.algos.off_policy.losses import Parts
from jsafe.components import memories, normalizers, rules
from jsafe.components.actors import Actor
from jsafe.components.critics import Critics
from jsafe.components.temperature import temperature
from jsafe.nets.encoders import as_encoder
from jsafe.ops.precision import with_precision
from jsafe.ops.stats import pmean, psum
from jsafe.options import replace, traced_values
from jsafe.types import (
    NO_MEMORY,
    ActOutput,
    Array,
    ConstraintRule,
    EnvSpec,
    Estimates,
    Learner,
    Params,
    Part,
    PolicyState,
)


class OffPolicyState(NamedTuple):
    """Everything that an update changes.

    `params` holds `actor`, `critic`, `log_alpha` (one per policy) and, where it learns, the `encoder`; `opt_state`
    Adam's state of each; `target` is the critics' slow copy and `target_actor` the actor's, `()` where none is wanted;
    `actor` is what the actor keeps besides (dual variables). `obs_stats` is `()` where it is not used. `limit [M]` and
    `numbers` may be swept or annealed. `updates` counts gradient updates, `iteration` calls of `update`.
    """

    params: dict[str, Params]
    target: Params
    target_actor: Params
    opt_state: dict[str, Any]
    actor: Any
    normalizer: Any
    obs_stats: Any
    rule: Any
    episodes: Any
    limit: Array
    numbers: Any
    updates: Array
    iteration: Array


def assemble(config: OffPolicyConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an off-policy learner from its parts.

    Args:
      config: Options.
      spec: What the environment is like.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the number of limits does not fit, or a part does not fit the environment.

    Returns:
      A `Learner`. Metrics of the actor are means over its own updates, 0 in a call without one.

    Collectives: `psum` of gradients of each loss's local share, of costs and episode sums, of observation statistics
      and of `ready` (all devices have to be); `pmean` of the normaliser's moments and of metrics.
    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427) and the released code; Fujimoto et al. 2018 (arXiv 1802.09477);
      Haarnoja et al. 2018 (arXiv 1812.05905).
    """
    feed, limit, stack = config.feed, config.limit, config.feed.frame_stack
    limit.values(spec.num_costs)
    space = spaces.stacked(spec.obs, stack)
    encoder = as_encoder(config.encoder, dataclasses.replace(spec, obs=space))
    seen = dataclasses.replace(spec, obs=spaces.space(encoder.width))
    actor, critics, rule, heat, normalizer = (
        getattr(config, name).build(seen, axis_name)
        for name in ("actor", "critics", "rule", "temperature", "normalizer")
    )
    heat = heat.serving(actor.policies)
    augmentation = config.augmentation.build(dataclasses.replace(spec, obs=space), axis_name)
    parts = Parts(actor, critics, encoder, heat, spec.action, config.compat == "omnisafe", devices=1)
    gradient_step = GradientStep(config, spec, parts, augmentation, normalizer, rule, axis_name)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        log_alpha = {name: heat.init() for name in actor.policies}
        params = {"actor": actor.init(actor_key), "critic": critics.init(critic_key), "log_alpha": log_alpha}
        if encoder.learns:
            params["encoder"] = encoder.init(jax.random.fold_in(key, 1))
        return OffPolicyState(
            params=params,
            target=jax.tree.map(jnp.copy, params["critic"]),
            target_actor=jax.tree.map(jnp.copy, params["actor"]) if actor.slow else (),
            opt_state={name: gradient_step.adam.init(tree) for name, tree in params.items()},
            actor=actor.start(),
            normalizer=normalizer.init(),
            obs_stats=normalizers.obs_stats_init(space) if config.normalize_obs else (),
            rule=rule.init(),
            episodes=normalizers.window_init(limit.window, spec.num_costs),
            limit=limit.array(spec.num_costs),
            numbers=traced_values(config),
            updates=jnp.zeros((), jnp.int32),
            iteration=jnp.zeros((), jnp.int32),
        )

    def learn(state, steps, weights, key):
        """All gradient steps of an iteration, and the means of their metrics."""
        if config.normalize_obs:
            state = state._replace(obs_stats=normalizers.obs_stats_update(state.obs_stats, steps.obs, axis_name))
            steps = steps._replace(obs=normalizers.normalize_obs(state.obs_stats, steps.obs))
        if feed.updates == 1:
            state, metrics, actors, due = gradient_step(state, steps, weights, key)
            metrics, actors, due = jax.tree.map(lambda x: x[None], (metrics, actors, due))
        else:

            def body(state, inputs):
                state, *seen = gradient_step(state, inputs[0], weights, inputs[1])
                return state, seen

            keys = jax.random.split(key, feed.updates)
            state, (metrics, actors, due) = jax.lax.scan(body, state, (steps, keys))
        shares = {name: x.sum(axis=0) / jnp.maximum(due.sum(), 1) for name, x in actors.items()}
        return state, pmean({name: x.mean(axis=0) for name, x in metrics.items()} | shares, axis_name)

    def step_rule(state, cost, aim):
        return rules.paced(
            rule,
            state.rule,
            cost,
            aim,
            iteration=state.iteration,
            steps=feed.steps_per_batch * spec.action_repeat,
            interval=config.rule_interval,
            warmup=config.rule_warmup,
        )

    def update(state, batch, key):
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        window, costs = normalizers.measure_ended(state.episodes, batch.measured, limit.window, spec.horizon, axis_name)
        aim = limit.aim(state.limit)
        measured = costs.J_episodic if limit.per == "episode" else costs.per_step
        weights = rule.weights(state.rule, aim if config.cost_estimate == "critics" else measured, aim)
        ready = psum(jnp.logical_not(batch.ready).astype(jnp.int32), axis_name) == 0
        shapes = jax.eval_shape(learn, state, batch.steps, weights, key)[1]
        state, metrics = jax.lax.cond(
            ready,
            lambda s: learn(s, batch.steps, weights, key),
            lambda s: (s, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)),
            state,
        )
        if config.cost_estimate == "measured":
            state = state._replace(rule=step_rule(state, measured, aim))
        state = state._replace(episodes=window, iteration=state.iteration + 1)
        alpha = {f"temperature/{name}": temperature(x) for name, x in state.params["log_alpha"].items()}
        told = limit.metrics(costs.J_episodic, costs.per_step, state.limit, rules.multiplier(weights))
        counts = {"rule/reward_weight": weights.reward, "train/updates": state.updates.astype(jnp.float32)}
        return state, told | metrics | alpha | counts

    def policy(state):
        if not encoder.learns:
            return PolicyState(state.params["actor"], state.obs_stats)
        return PolicyState({name: state.params[name] for name in ("actor", "encoder")}, state.obs_stats)

    def act(policy_state, memory, obs, key, deterministic=False):
        if stack > 1:
            memory, obs = memories.push(memory, obs)
        if config.normalize_obs:
            obs = normalizers.normalize_obs(policy_state.obs_stats, obs)
        params = policy_state.params
        params, coder = (params["actor"], params["encoder"]) if encoder.learns else (params, ())
        draw = actor.draw(params, encoder.apply(coder, obs), key, deterministic)
        log_prob = sum(draw.log_probs.values(), jnp.zeros(draw.action.shape[0]))
        return ActOutput(draw.action, log_prob, draw.extras or {}, memory)

    def estimate(state, memory, obs, action):
        """Of action values, the reward's with the entropy where targets have it (`soft`)."""
        if stack > 1:
            obs = memories.push(memory, obs)[1]
        if config.normalize_obs:
            obs = normalizers.normalize_obs(state.obs_stats, obs)
        params = state.params["critic"]
        latent = encoder.apply(state.params.get("encoder", ()), obs)
        found = critics.values(params, critics.embed(params, latent), parts.encoded(action))
        gamma = state.numbers.gamma
        raw = normalizer.restore(state.normalizer, jnp.concatenate([found.reward[:, None], found.cost], -1), gamma)
        return Estimates(raw[:, 0], raw[:, 1:], gamma, gamma)

    update, act, estimate = (with_precision(f, config.matmul_precision) for f in (update, act, estimate))
    memory = memories.frames(spec.obs, stack) if stack > 1 else NO_MEMORY
    return Learner(init, update, policy, act, memory, feed, config, spec, estimate)


def off_policy(
    spec: EnvSpec,
    *,
    actor: str | Part | Actor = "gaussian",
    critics: str | Part | Critics = "ensemble",
    rule: str | Part | ConstraintRule = "lagrange",
    axis_name: str | None = None,
    **options: Any,
) -> Learner:
    """Any actor with any critics and any rule.

    Args:
      spec: What the environment is like.
      actor: The name of a kind of actor, a part (`Deterministic(exploration_noise=0.2)`), or an `Actor` of one's own.
      critics: Likewise.
      rule: Likewise.
      axis_name: Mapped axis to reduce over.
      **options: Other options of `OffPolicyConfig` and of its parts, as `jsafe.options.replace` takes them.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or a value that is not allowed.

    Example:
      >>> learner = jsafe.off_policy(jsafe.EnvSpec(60, 2), actor="deterministic", rule="crpo", cost_limit=10.0)
    """
    changes = {"actor": actor, "critics": critics, "rule": rule, **options}
    return assemble(replace(OffPolicyConfig(), changes, "off_policy"), spec, axis_name)
