"""The on-policy assembler: advantage estimator x policy step x constraint rule x CMDP transform x policy network.

One call of `update` is an epoch: measured costs, constraint rule, advantages, all passes of the policy step and the
critics, running statistics. Differences between `compat="paper"` (default) and `compat="omnisafe"`:

| | paper | omnisafe |
|---|---|---|
| costs | discounted with `cost_gamma` | with `gamma` |
| trust region, Fisher matrix | KL summed over action components | averaged over them |
| conjugate gradients | stop at a relative residual | at an absolute one |
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

from jsafe import distributions
from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.components import normalizers as normalize
from jsafe.components.compat import build
from jsafe.components.steps import ActorCritic, ConstraintView, CriticFit, Networks, PolicyBatch
from jsafe.ops import advantages, stats
from jsafe.options import replace, traced_values
from jsafe.types import NO_MEMORY, ActOutput, Array, Batch, EnvSpec, Learner, PolicyState


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
    if policy.memory is not NO_MEMORY:
        raise ValueError("on-policy steps train policies without a memory so far")
    critics = getattr(config.step, "critics", CriticFit()).networks(seen, 1 + m * config.uses_costs)
    networks = Networks(policy, critics)
    scale_obs = normalize.normalize_obs if config.normalize_obs else (lambda stats, obs: obs)
    window_batches = 1 + math.ceil(limits.window * spec.horizon / config.steps_per_epoch)
    limits.values(m)

    def episodic(limit):
        return limit if limits.per == "episode" else limit * spec.horizon

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = ActorCritic(policy.init(actor_key), critics.init(critic_key))
        return OnPolicyState(
            params=params,
            step=step.init(params),
            rule=rule.init(),
            transform=transform.init(episodic(limits.array(m))),
            estimator=estimator.init(),
            obs_stats=stats.running_init(spec.obs_dim) if config.normalize_obs else (),
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

    def values(params, obs):
        flat = critics.apply(params.critics, obs.reshape(-1, obs.shape[-1]))
        return flat.reshape(*obs.shape[:2], -1)

    def prepare(state, steps, weights, signal_stats):
        """The flattened epoch that the step trains on, and the values of its rows."""
        obs = scale_obs(state.obs_stats, steps.obs)
        value, next_value = values(state.params, obs), values(state.params, scale_obs(state.obs_stats, steps.next_obs))
        learnt = signals(state, steps, signal_stats)[..., : value.shape[-1]]
        ends = steps.terminated, steps.truncated
        advantage, target = estimator.estimate(state.estimator, learnt, value, next_value, *ends)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (obs, steps.action, advantage, target))
        mixed = advantages.mix(flat[2], weights.reward, weights.cost, config.standardize, axis_name)
        old = policy.apply(state.params.actor, (), flat[0])[0]
        log_prob = steps.extras["log_prob"].reshape(-1)
        return PolicyBatch(flat[0], flat[1], log_prob, old, *mixed, flat[3]), value

    def update(state, batch: Batch, key):
        steps = batch.steps
        chex.assert_axis_dimension(steps.obs, 2, seen.obs_dim)
        chex.assert_shape(steps.cost, (*steps.reward.shape, m))
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        window, costs = normalize.measure(state.window, batch.measured, limits.window, spec.horizon, axis_name)
        raw = jnp.concatenate([steps.reward[..., None], steps.cost], axis=-1)
        signal_stats = stats.running_update(state.signal_stats, raw, axis_name)
        rule_state, view = constraints(state, costs, signal_stats)
        rows, value = prepare(state, steps, view.weights, signal_stats)
        params, step_state, metrics = step.step(networks, state.params, state.step, rows, view, key)
        transform_state = transform.update(state.transform, costs.J_episodic, episodic(view.limit))
        obs_stats = state.obs_stats
        if config.normalize_obs:  # only now: the batch was acted on, and is trained on, with the old statistics
            obs_stats = stats.running_update(obs_stats, steps.obs[..., : spec.obs_dim], axis_name)
            shifted = policy.apply(state.params.actor, (), scale_obs(obs_stats, steps.obs).reshape(rows.obs.shape))[0]
            moved = jnp.mean(distributions.kl(rows.old, shifted))
            metrics["policy/kl_statistics"] = stats.pmean(moved, axis_name)
        metrics |= {
            "value/explained_reward": stats.explained_variance(value[..., 0].reshape(-1), rows.target[:, 0], axis_name),
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
        return ActOutput(action, distributions.log_prob(dist, action), {}, memory)

    def policy_state(state):
        budget = transform.params(state.transform, episodic(limits.aim(state.limit)))
        return PolicyState(state.params.actor, state.obs_stats, budget)

    return Learner(init, update, policy_state, act, policy.memory, feed, config, spec)


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
