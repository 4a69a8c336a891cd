"""The on-policy assembler: advantage estimator x policy step x constraint rule x CMDP transform x policy network.

One call of `update` is an epoch: measured costs, constraint rule, advantages, all passes of the policy step and the
critics, running statistics. Differences between `compat="paper"` (default) and `compat="omnisafe"`:

| | paper | omnisafe |
|---|---|---|
| costs | discounted with `cost_gamma` | with `gamma` |
| trust region, Fisher matrix | KL summed over action components | averaged over them |
| constraint of CPO, PCPO, P3O | in the surrogate's unit: `(J - d) / length` | raw `J - d` |
| CPO, constraint through the trust region | the exact solution | the reward's gradient with the wrong sign |
| PCPO | `H^-1 g` | `H H^-1 g` |
| line search of CPO, PCPO | always shrinks | not where the KL is not finite |
| FOCOPS | loss per row | every row's KL with every row's advantage |
| CUP's projection | left out where the multiplier is 0 | always |
| P3O | gate of the whole batch, cost ratio clipped | relu of each minibatch's mean, not clipped |
| IPO | step `ipo`: barrier on the surrogate | step `ppo`, rule `ipo`: weights `kappa / (d - J)`, capped |
| Saute, Simmer | the task's horizon; truncated steps bootstrap from the budget that is left | 1000; from a full one |
| Simmer, early termination | budget and counter follow the episode | see `components.transforms` |
| reward and cost scales | divided by the running deviation | the running mean is subtracted, too |
| `cost_penalty` | of raw costs | of normalised ones |
| environments | keep running across epochs | are reset at the start of each |
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe import distributions, spaces
from jsafe.algos.on_policy import rows
from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.components import normalizers as normalize
from jsafe.components.compat import build
from jsafe.components.steps import ActorCritic, ConstraintView, CriticFit, Networks, PolicyBatch
from jsafe.ops import advantages, stats
from jsafe.ops.precision import with_precision
from jsafe.options import replace, traced_values
from jsafe.types import ActOutput, Array, Batch, EnvSpec, Estimates, Learner, PolicyState


class OnPolicyState(NamedTuple):
    """Everything that an update changes; each part keeps its numbers in its own state.

    `limit [M]` are the cost limits, `signal_stats` those of `[reward, costs]`, `numbers` the config's own.
    """

    params: ActorCritic
    step: Any
    rule: Any
    transform: Any
    estimator: Any
    obs_stats: Any
    signal_stats: stats.RunningStats
    window: normalize.EpisodeWindow
    limit: Array
    numbers: Any
    iteration: Array


def assemble(config: OnPolicyConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an on-policy learner.

    Args:
      config: Options.
      spec: Of the environment.
      axis_name: Mapped axis to reduce over; every device holds its own environments (axis 1 of the batch).

    Returns:
      A `Learner`, fed with `Rollouts`. Metrics are named `policy/*`, `loss/*`, `update/*`, `cost/*`, `rule/*`,
      `value/*`.

    Raises:
      ValueError: If the number of limits does not fit, or a part does not fit the environment.

    Collectives: `psum` of measured costs and of running statistics; `pmean` of advantage moments and metrics; and those
    of the step. Keys are folded with the device's index.
    """
    released, m, limits = config.compat == "omnisafe", spec.num_costs, config.limit
    rule, transform, estimator, step = (
        build(part, spec, axis_name, config.compat)
        for part in (config.rule, config.transform, config.estimator, config.step)
    )
    feed = config.feed(transform.data)
    warn_of_short_rollouts(config, spec, feed.length)
    seen = spec if transform.data is None else dataclasses.replace(spec, obs=spec.obs_dim + transform.data.extra_obs)
    policy = build(config.policy, seen, axis_name, config.compat)
    rows.check_segments(policy, feed.length)
    fit = getattr(config.step, "critics", CriticFit())
    critics = fit.networks(seen, 1 + m * config.uses_costs, policy.memory_width)
    networks = Networks(policy, critics)
    fresh_stats = normalize.obs_stats_init(spec.obs) if config.normalize_obs else ()
    scales = bool(jax.tree.leaves(fresh_stats))
    scale_obs = normalize.normalize_obs if scales else (lambda stats, obs: obs)
    window_batches = 1 + math.ceil(limits.window * spec.horizon / config.steps_per_epoch)
    limits.values(m)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = ActorCritic(policy.init(actor_key), critics.init(critic_key))
        return OnPolicyState(
            params=params,
            step=step.init(params),
            rule=rule.init(),
            transform=transform.init(limits.per_episode(limits.array(m), spec.horizon)),
            estimator=estimator.init(),
            obs_stats=jax.tree.map(jnp.copy, fresh_stats),
            signal_stats=stats.running_init(1 + m),
            window=normalize.window_init(window_batches, m),
            limit=limits.array(m),
            numbers=traced_values(config),
            iteration=jnp.zeros((), jnp.int32),
        )

    def constraints(state, costs, signal_stats):
        """The rule's next state, and what the step may know."""
        J, aim = costs.J_episodic if limits.per == "episode" else costs.per_step, limits.aim(state.limit)
        rule_state = rule.update(state.rule, J, aim)
        unit = jnp.ones(m)
        if not released:  # of the cost surrogate: per step, and scaled like the costs that are learnt
            unit = unit * jnp.maximum(costs.length, 1.0) if limits.per == "episode" else unit
            unit = unit * stats.running_std(signal_stats)[1:] if config.normalize_cost else unit
        weights = rule.weights(rule_state, J, aim)
        return rule_state, ConstraintView(J, aim, unit, weights, config.remaining(state.iteration), state.estimator)

    def signals(state, steps, signal_stats):
        """Rewards and costs that are learnt from, `[T, N, 1 + M]`."""
        raw = jnp.concatenate([steps.reward[..., None], steps.cost], axis=-1)
        which = {"reward": config.normalize_reward, "cost": config.normalize_cost}
        learnt = normalize.normalize_signals(signal_stats, raw, **which, subtract_mean=released)
        priced = learnt[..., 1:] if released else steps.cost
        penalty = state.numbers.cost_penalty * priced.sum(-1, keepdims=True)
        return jnp.concatenate([learnt[..., :1] - penalty, learnt[..., 1:]], axis=-1)

    def prepare(state, batch, weights, signal_stats):
        """The flattened epoch that the step trains on, and the values of its rows."""
        steps, length = batch.steps, feed.length
        obs, next_obs = (scale_obs(state.obs_stats, x) for x in (steps.obs, steps.next_obs))
        old, *memory, then = rows.recall(policy, state.params.actor, batch, obs, next_obs)
        value, next_value = (
            rows.unflatten(policy, critics.apply(state.params.critics, (rows.flatten(policy, x), remembered)), length)
            for x, remembered in ((obs, memory[-1]), (next_obs, then))
        )
        learnt = signals(state, steps, signal_stats)[..., : value.shape[-1]]
        ends = steps.terminated, steps.truncated
        advantage, target = estimator.estimate(state.estimator, learnt, value, next_value, *ends)
        given = obs, steps.action, steps.extras["log_prob"], advantage, target
        obs, action, log_prob, advantage, target = rows.flatten(policy, given)
        mixed = advantages.mix(advantage, weights.reward, weights.cost, config.standardize, axis_name)
        return PolicyBatch(obs, action, log_prob, old, *mixed, target, *memory), value

    def update(state, batch: Batch, key):
        steps = batch.steps
        rows.check_obs(steps.obs, seen.obs)
        chex.assert_shape(steps.cost, (*steps.reward.shape, m))
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        window, costs = normalize.measure(state.window, batch.measured, limits.window, spec.horizon, axis_name)
        raw = jnp.concatenate([steps.reward[..., None], steps.cost], axis=-1)
        signal_stats = stats.running_update(state.signal_stats, raw, axis_name)
        rule_state, view = constraints(state, costs, signal_stats)
        epoch, value = prepare(state, batch, view.weights, signal_stats)
        params, step_state, metrics = step.step(networks, state.params, state.step, epoch, view, key)
        transform_state = transform.update(
            state.transform, costs.J_episodic, limits.per_episode(view.limit, spec.horizon)
        )
        obs_stats = state.obs_stats
        if scales:  # only now: the batch was acted on, and is trained on, with the old statistics
            obs_stats = normalize.obs_stats_update(obs_stats, steps.obs, axis_name)
            shifted = epoch._replace(obs=rows.flatten(policy, scale_obs(obs_stats, steps.obs)))
            moved = jnp.mean(distributions.kl(epoch.old, networks.distribution(state.params.actor, shifted)))
            metrics["policy/kl_statistics"] = stats.pmean(moved, axis_name)
        metrics |= {
            "value/explained_reward": stats.explained_variance(
                rows.flatten(policy, value[..., 0]), epoch.target[:, 0], axis_name
            ),
            "value/mean_reward": stats.pmean(value[..., 0].mean(), axis_name),
            "rule/reward_weight": view.weights.reward,
            **limits.metrics(costs.J_episodic, costs.per_step, state.limit, view.multiplier),
            **transform.metrics(transform_state),
        }
        state = state._replace(
            params=params,
            step=step_state,
            rule=rule_state,
            transform=transform_state,
            obs_stats=obs_stats,
            signal_stats=signal_stats,
            window=window,
            iteration=state.iteration + 1,
        )
        return state, metrics

    def act(policy_state, memory, obs, key, deterministic=False):
        obs = scale_obs(policy_state.obs_stats, obs)
        dist, memory = policy.apply(policy_state.params, memory, obs)
        action = distributions.mode(dist) if deterministic else distributions.sample(dist, key)
        log_prob = distributions.log_prob(dist, action)
        if isinstance(spec.action, spaces.Discrete):  # a single choice has no axis of its own
            action = action.reshape(*log_prob.shape, *spec.action.shape)
        return ActOutput(action, log_prob, {}, memory)

    def policy_state(state):
        budget = transform.params(state.transform, limits.per_episode(limits.aim(state.limit), spec.horizon))
        return PolicyState(state.params.actor, state.obs_stats, budget)

    def estimate(state, memory, obs, action):
        """Of state values; those of `action` are not known."""
        obs = scale_obs(state.obs_stats, obs)
        value = critics.apply(state.params.critics, (obs, jnp.zeros((len(action), 0))))
        n, count = state.estimator, value.shape[-1]
        if config.normalize_reward or config.normalize_cost:
            scaled = jnp.array([config.normalize_reward] + [config.normalize_cost] * m)[:count]
            value = jnp.where(scaled, value * stats.running_std(state.signal_stats)[:count], value)
        return Estimates(value[:, 0], value[:, 1:], n.gamma, n.gamma if released else n.cost_gamma)

    update, act, estimate = (with_precision(f, config.matmul_precision) for f in (update, act, estimate))
    # A budget changes the problem, and what a policy remembers is nothing that its critics could be asked about alone.
    asked = transform.data is None and not policy.memory_width
    asked = asked and not (released and (config.normalize_reward or config.normalize_cost))  # means are subtracted
    return Learner(init, update, policy_state, act, policy.memory, feed, config, spec, estimate if asked else None)


def warn_of_short_rollouts(config: OnPolicyConfig, spec: EnvSpec, length: int) -> None:
    """Says so where episodes outlast an epoch, and limits are per episode."""
    if length >= spec.horizon or not config.constrained or config.limit.per == "step":
        return
    fix = f"raise steps_per_epoch to {spec.horizon * config.num_envs}, or lower num_envs"
    if config.compat == "omnisafe":
        text = f"compat='omnisafe' resets all environments after {length} steps of each, so that no episode of "
        text += f"{spec.horizon} steps is ever finished: costs per episode are the rate times the horizon. {fix}"
    else:
        text = f"an epoch is {length} steps of each environment, an episode up to {spec.horizon}: the cost of an "
        text += f"episode is measured late, and not in every epoch. {fix}, or limit the cost per step"
    warnings.warn(text, stacklevel=4)


def on_policy(spec: EnvSpec, *, axis_name: str | None = None, **options: Any) -> Learner:
    """Any step with any rule, any transform, any policy and any estimator.

    Args:
      spec: Of the environment.
      axis_name: Mapped axis to reduce over.
      **options: Fields of `OnPolicyConfig`. A part (`step`, `rule`, `transform`, `policy`, `estimator`) is the name of
        its kind, an object with `build`, or what it builds (a `ConstraintRule` of one's own, say). An option of a part
        is given by its name where no other part has one of that name, or as `**{"rule.learning_rate": 0.1}`.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or an ill-typed value.

    Example:
      >>> learner = jsafe.on_policy(jsafe.EnvSpec(60, 2), step=PPO(clip=0.1), rule="pid", transform="saute")
    """
    return assemble(replace(OnPolicyConfig(), options, "on_policy"), spec, axis_name)
