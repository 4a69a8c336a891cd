"""The on-policy assembler: advantage estimator x policy step x constraint rule x CMDP transform.

One call of `update` is an epoch: episodic costs, constraint rule, advantages, all passes of the policy step and the
critics, running statistics. Differences between `compat="paper"` (default) and `compat="omnisafe"`:

| | paper | omnisafe |
|---|---|---|
| costs | discounted with `cost_gamma` | with `gamma` |
| trust region, Fisher matrix | KL summed over action components | averaged over them |
| constraint of CPO, PCPO, P3O, IPO | `(J - d) / episode length`, the unit of the cost surrogate | raw `J - d` |
| PCPO | `H^-1 g` | `H H^-1 g` |
| line search of CPO, PCPO | always shrinks | not where the KL is not finite |
| FOCOPS | loss per row | every row's KL with every row's advantage |
| P3O | cost ratio clipped | not clipped |
| IPO | barrier on the surrogate | weights `kappa / (d - J)`, capped |
| Simmer, early termination | budget and counter follow the episode | see `components.transforms` |
| reward and cost scales | divided by the running deviation | the running mean is subtracted, too |
| environments | keep running across epochs | are reset at the start of each |
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.algos.on_policy.config import CONSTRAINED, SECOND_ORDER, OnPolicyConfig, SecondOrderConfig
from jsafe.components import normalizers as normalize
from jsafe.components import objectives, rules, steps, transforms
from jsafe.components.second_order_steps import second_order
from jsafe.distributions import gaussian as distributions
from jsafe.nets.heads import gaussian_actor, value_functions
from jsafe.ops import stats
from jsafe.ops.advantages import ESTIMATORS
from jsafe.ops.cmdp import per_step
from jsafe.registry import Algorithm, make_config, register
from jsafe.types import ActOutput, Array, ConstraintRule, EnvSpec, Learner, Params, RolloutBatch


class Hyper(NamedTuple):
    """Numbers that people sweep or anneal, traced: scalars, but `cost_limit` is `[M]`. Meanings as in the config."""

    cost_limit: Array
    gamma: Array
    cost_gamma: Array
    lam: Array
    cost_lam: Array
    cost_penalty: Array
    actor_lr: Array
    critic_lr: Array
    max_grad_norm: Array
    critic_l2: Array
    entropy_coef: Array
    target_kl: Array
    clip: Array
    focops_temperature: Array
    focops_radius: Array
    p3o_kappa: Array
    ipo_kappa: Array
    ipo_slope: Array
    damping: Array
    margin_lr: Array
    saute_gamma: Array
    unsafe_reward: Array


class PolicyState(NamedTuple):
    """What acting needs: the actor, the observation statistics, the parameters of the collector's transform."""

    actor: Params
    obs_stats: stats.RunningStats
    transform: Any


class OnPolicyState(NamedTuple):
    """Everything that an update changes.

    `signal_stats` are those of `[reward, costs]`; `margin [M]` is added to episodic costs in constraints.
    """

    params: steps.ActorCritic
    optimizers: Any
    rule: Any
    transform: Any
    obs_stats: stats.RunningStats
    signal_stats: stats.RunningStats
    window: normalize.EpisodeWindow
    margin: Array
    hyper: Hyper
    iteration: Array


def _rule(config: OnPolicyConfig, num_costs: int) -> ConstraintRule:
    smoothing = config.pid_smoothing
    table = {
        "none": rules.none,
        "lagrange": functools.partial(
            rules.lagrange,
            transform="clamp",
            init=config.multiplier_init,
            learning_rate=config.multiplier_lr,
            optimizer=config.multiplier_optimizer,
            upper_bound=config.multiplier_bound,
        ),
        "pid": functools.partial(
            rules.pid,
            kp=config.pid_kp,
            ki=config.pid_ki,
            kd=config.pid_kd,
            init=config.multiplier_init,
            delay=config.pid_delay,
            error_decay=smoothing,
            cost_decay=smoothing,
            upper_bound=config.multiplier_bound,
        ),
        "crpo": functools.partial(rules.crpo, distance=config.crpo_distance),
        "ipo": functools.partial(rules.ipo, kappa=config.ipo_kappa, penalty_max=config.ipo_penalty_max),
        "augmented": functools.partial(
            rules.augmented,
            learning_rate=config.augmented_lr,
            penalty=config.augmented_penalty,
            init=config.multiplier_init,
            upper_bound=config.multiplier_bound,
        ),
    }
    return table[config.rule](num_costs)


def _transform(config: OnPolicyConfig, spec: EnvSpec) -> transforms.Transform:
    released = config.compat == "omnisafe"
    if config.transform == "saute":
        return transforms.saute(spec.num_costs, spec.horizon)
    if config.transform == "simmer":
        return transforms.simmer(
            spec.num_costs,
            spec.horizon,
            kp=config.simmer_kp,
            ki=config.simmer_ki,
            kd=config.simmer_kd,
            polyak=config.simmer_polyak,
            omnisafe=released,
        )
    if config.transform == "early_termination":
        return transforms.early_termination(spec.num_costs, omnisafe=released)
    return transforms.identity()


def _step(config: OnPolicyConfig, trainer: steps.Trainer) -> steps.PolicyStep:
    released = config.compat == "omnisafe"
    if config.step in SECOND_ORDER:
        kind = {"natural_pg": "natural", "trpo": "trust_region"}.get(config.step, config.step)
        return second_order(
            trainer,
            kind,
            passes=config.passes,
            cg_iterations=config.cg_iterations,
            kl_per_dim=released,
            omnisafe=released,
        )
    first_order = functools.partial(steps.first_order, trainer, passes=config.passes, early_stop=config.early_stop)
    if config.step == "cup":
        project = first_order(objectives.cup_projection(), train_critics=False)
        return steps.sequence(trainer, first_order(objectives.clipped_reward()), project)
    table = {
        "policy_gradient": objectives.policy_gradient(),
        "ppo": objectives.clipped(),
        "focops": objectives.focops(omnisafe=released),
        "p3o": objectives.p3o(omnisafe=released),
        "ipo": objectives.ipo(),
    }
    return first_order(table[config.step])


def assemble(config: OnPolicyConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an on-policy learner.

    Args:
      config: Options.
      spec: Sizes of the environment.
      axis_name: Mapped axis to reduce over; every device holds its own environments (axis 1 of the batch).

    Returns:
      A `Learner`; `update` takes a `RolloutBatch`. Metrics are named `policy/*`, `loss/*`, `update/*`, `cost/*`,
      `rule/*`, `value/*`, `transform/*`.

    Raises:
      ValueError: If the number of limits does not fit.

    Collectives: `psum` of episode sums, of costs per step and of running statistics; `pmean` of advantage moments and
    metrics; and those of the step. Keys are folded with the device's index.
    """
    if config.compat == "omnisafe" and config.step == "ipo":
        # As released, IPO is PPO under a rule.
        rule_name = "ipo" if config.rule == "none" else config.rule
        return assemble(dataclasses.replace(config, step="ppo", rule=rule_name), spec, axis_name)._replace(
            config=config
        )
    released, m = config.compat == "omnisafe", spec.num_costs
    limits = config.cost_limits(m)
    uses_costs = config.rule != "none" or config.step in CONSTRAINED
    rule, transform = _rule(config, m), _transform(config, spec)
    data = config.data(transform.data)
    obs_dim = spec.obs_dim + (transform.data.extra_obs if transform.data is not None else 0)
    networks = steps.Networks(
        gaussian_actor(obs_dim, spec.act_dim, hidden=config.hidden, act=config.activation, log_std=config.init_log_std),
        value_functions(obs_dim, 1 + m * uses_costs, hidden=config.hidden, act=config.activation),
    )
    trainer = steps.Trainer(networks, steps.optimizer(config.optimizer), config.minibatch, axis_name)
    policy_step = _step(config, trainer)
    estimate = ESTIMATORS[config.estimator]
    normalized_columns = spec.obs_dim if config.normalize_obs else 0
    window_batches = 1 + math.ceil(config.cost_window * spec.horizon / config.steps_per_epoch)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        params = steps.ActorCritic(networks.actor.init(actor_key), networks.critics.init(critic_key))
        values = {name: jnp.asarray(getattr(config, name), jnp.float32) for name in Hyper._fields[1:]}
        hyper = Hyper(cost_limit=jnp.array(limits, jnp.float32), **values)
        return OnPolicyState(
            params=params,
            optimizers=policy_step.init(params),
            rule=rule.init(),
            transform=transform.init(hyper),
            obs_stats=stats.running_init(normalized_columns),
            signal_stats=stats.running_init(1 + m),
            window=normalize.window_init(window_batches, m),
            margin=jnp.zeros(m),
            hyper=hyper,
            iteration=jnp.zeros((), jnp.int32),
        )

    def annealed(state):
        hyper = state.hyper._replace(cost_gamma=state.hyper.gamma) if released else state.hyper
        if config.decay_iterations == 0 or config.step in SECOND_ORDER:
            return hyper
        left = jnp.maximum(0.0, 1.0 - state.iteration / config.decay_iterations)
        return hyper._replace(actor_lr=hyper.actor_lr * left)

    def signals(batch, signal_stats, hyper):
        """Rewards and costs that are learnt from, `[T, N, 1 + M]`."""
        reward, cost = batch.reward[..., None], batch.cost
        if config.normalize_reward or config.normalize_cost:
            scaled = normalize.normalize_signal(
                signal_stats, jnp.concatenate([reward, cost], axis=-1), subtract_mean=released
            )
            reward = scaled[..., :1] if config.normalize_reward else reward
            cost = scaled[..., 1:] if config.normalize_cost else cost
        reward = reward - hyper.cost_penalty * batch.cost.sum(-1, keepdims=True)
        return jnp.concatenate([reward, cost], axis=-1)

    def values(critics, obs):
        flat = networks.critics.apply(critics, obs.reshape(-1, obs.shape[-1]))
        return flat.reshape(*obs.shape[:2], -1)

    def update(state, batch: RolloutBatch, key):
        chex.assert_rank([batch.obs, batch.cost, batch.reward], [3, 3, 2])
        chex.assert_axis_dimension(batch.obs, 2, obs_dim)
        chex.assert_axis_dimension(batch.cost, 2, m)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        hyper = annealed(state)
        limit = hyper.cost_limit

        window = normalize.window_push(state.window, stats.psum(batch.episodes, axis_name))
        cost_rate = stats.pmean(batch.cost.mean((0, 1)), axis_name)
        J_cost, length = normalize.window_means(window, config.cost_window, cost_rate, spec.horizon)
        rule_state = rule.update(state.rule, J_cost, limit)
        weights = rule.weights(rule_state, J_cost, limit)
        margin = jnp.maximum(state.margin + hyper.margin_lr * (J_cost - limit), 0.0)
        gap = J_cost - limit + margin
        gap = gap if released else per_step(gap, length)
        view = steps.ConstraintView(J_cost, limit, gap, weights)

        raw = jnp.concatenate([batch.reward[..., None], batch.cost], axis=-1)
        signal_stats = stats.running_update(state.signal_stats, raw, axis_name)
        learnt = signals(batch, signal_stats, hyper)
        obs = normalize.normalize_obs(state.obs_stats, batch.obs)
        value = values(state.params.critics, obs)
        next_value = values(state.params.critics, normalize.normalize_obs(state.obs_stats, batch.next_obs))
        k = value.shape[-1]
        gamma = jnp.stack([hyper.gamma] + [hyper.cost_gamma] * m)[:k]
        lam = jnp.stack([hyper.lam] + [hyper.cost_lam] * m)[:k]
        advantage, target = estimate(learnt[..., :k], value, next_value, batch.terminated, batch.truncated, gamma, lam)
        advantage = advantage.reshape(-1, k)
        centred = stats.standardize(advantage, axis_name, scale=False)
        cost_part = centred[:, 1:] if k > 1 else jnp.zeros((advantage.shape[0], m), advantage.dtype)
        unit = stats.standardize(advantage[:, :1], axis_name)
        reward_part = centred[:, :1] if config.standardize in ("none", "mix") else unit
        mixed = weights.reward * reward_part - (cost_part @ weights.cost)[:, None]
        if config.standardize == "mix":
            mixed = stats.standardize(mixed, axis_name)

        flat_obs = obs.reshape(-1, obs_dim)
        policy_batch = steps.PolicyBatch(
            obs=flat_obs,
            action=batch.action.reshape(-1, spec.act_dim),
            log_prob=batch.log_prob.reshape(-1),
            old=networks.actor.apply(state.params.actor, flat_obs),
            advantage=mixed[:, 0],
            advantage_reward=(centred[:, :1] if config.standardize == "none" else unit)[:, 0],
            advantage_cost=cost_part,
            target=target.reshape(-1, k),
        )
        params, optimizers, metrics = policy_step.step(state.params, state.optimizers, policy_batch, view, hyper, key)
        transform_state = transform.update(state.transform, J_cost, hyper)
        # Statistics move only now: the batch was acted on, and is trained on, with the old ones.
        obs_stats = stats.running_update(state.obs_stats, batch.obs[..., :normalized_columns], axis_name)

        multiplier = view.multiplier
        metrics |= {
            "value/explained_reward": stats.explained_variance(value[..., 0], target[..., 0], axis_name),
            "value/mean_reward": stats.pmean(value[..., 0].mean(), axis_name),
            "rule/weight_reward": weights.reward,
        }
        for i in range(m):
            metrics |= {
                f"cost/episodic_{i}": J_cost[i],
                f"cost/per_step_{i}": cost_rate[i],
                f"cost/margin_{i}": margin[i],
                f"rule/multiplier_{i}": multiplier[i],
                f"rule/limit_episodic_{i}": limit[i],
            }
            if config.transform == "simmer":
                metrics[f"transform/budget_{i}"] = transform_state.budget[i]
        new = OnPolicyState(
            params=params,
            optimizers=optimizers,
            rule=rule_state,
            transform=transform_state,
            obs_stats=obs_stats,
            signal_stats=signal_stats,
            window=window,
            margin=margin,
            hyper=state.hyper,
            iteration=state.iteration + 1,
        )
        return new, metrics

    def act(policy_state, obs, key, deterministic):
        obs = normalize.normalize_obs(policy_state.obs_stats, obs)
        dist = networks.actor.apply(policy_state.actor, obs)
        action = dist.mean if deterministic else distributions.sample(dist, key)
        return ActOutput(action, distributions.log_prob(dist, action), {})

    def policy(state):
        return PolicyState(state.params.actor, state.obs_stats, transform.params(state.transform, state.hyper))

    return Learner(init, update, act, policy, config, data, spec)


def on_policy(
    spec: EnvSpec,
    *,
    step: str = "ppo",
    rule: str = "none",
    transform: str = "identity",
    axis_name: str | None = None,
    **options,
) -> Learner:
    """Any step with any rule and any transform.

    Args:
      spec: Sizes of the environment.
      step: Name of a policy step; second-order ones come with `SecondOrderConfig`'s defaults.
      rule: Name of a constraint rule.
      transform: Name of a CMDP transform.
      axis_name: Mapped axis to reduce over.
      **options: Other fields of `OnPolicyConfig`.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or an ill-typed value.

    Example:
      >>> learner = jsafe.on_policy(jsafe.EnvSpec(60, 2), step="focops", rule="pid", transform="saute")
    """
    kind = SecondOrderConfig if step in SECOND_ORDER else OnPolicyConfig
    generic = Algorithm("on_policy", "on_policy", kind, assemble, {}, "", "")
    config = make_config(generic, step=step, rule=rule, transform=transform, **options)
    return assemble(config, spec, axis_name)


def define(
    name: str,
    config: type,
    *,
    paper: str,
    summary: str,
    omnisafe: dict | None = None,
    navigation: dict | None = None,
    jsafe: dict | None = None,
) -> Algorithm:
    """Registers a preset of the assembly.

    Args:
      name: Name of the algorithm.
      config: Subclass of `OnPolicyConfig` with its defaults.
      paper: Citation with the arXiv number.
      summary: One line.
      omnisafe: What the released configuration changes beyond `compat` and the window of 100 episodes.
      navigation: What it changes further on the Goal tasks: the preset `omnisafe_navigation`.
      jsafe: The preset of that name, where other settings than the published ones do better.
    """
    presets = {"omnisafe": {"compat": "omnisafe", "cost_window": 100, **(omnisafe or {})}}
    if navigation is not None:
        presets["omnisafe_navigation"] = presets["omnisafe"] | navigation
    if jsafe is not None:
        presets["jsafe"] = jsafe
    return register(Algorithm(name, "on_policy", config, assemble, presets, paper, summary))
