"""The offline assembler: policy x critic x improvement x weights x constraint rule, on the rows of a data set.

One call of `update` is K gradient steps on K minibatches. A gradient step moves critics and policy together, all from
the same parameters, then the constraint rule by the critics' estimate of the policy's cost, then the slow copies.

Limits are told per episode and converted once, into the unit in which the critics estimate costs. What a policy really
costs, only episodes show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.algos.offline import fitting
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.gradient import GradientStep
from jsafe.components import normalizers
from jsafe.components.actors import Values
from jsafe.components.choices import ActParams
from jsafe.components.generators import Generator
from jsafe.components.improvements import Improvement
from jsafe.components.regression_weights import RowWeights
from jsafe.components.transforms.remaining import RemainingParams
from jsafe.components.valuations import Rows, Valuation
from jsafe.ops.precision import with_precision
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
    Steps,
)


class OfflineState(NamedTuple):
    """Everything that an update changes.

    `params` and `slow` hold the groups of `policy` and `critic` (of slow copies: those that want one); `opt_state`
    Adam's state of all; `own` the states of valuation, improvement and weights; `cost [M]` the last estimate of the
    policy's cost, in the critics' unit. `obs_stats` is `()` where it is not used. `limit [M]` and `numbers` may be
    swept. `updates` counts gradient steps.
    """

    params: dict[str, Params]
    slow: dict[str, Params]
    opt_state: Any
    own: dict[str, Any]
    obs_stats: Any
    rule: Any
    cost: Array
    limit: Array
    numbers: Any
    updates: Array


def assemble(config: OfflineConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an offline learner from its parts.

    Args:
      config: Options.
      spec: What the environment is like.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the number of limits does not fit, or parts do not fit each other or the environment.

    Returns:
      A `Learner` that is fed with minibatches `[K, B, ...]` of a data set. Its `estimate` is of raw rewards;
      None without critics of actions, or where rewards are scaled by the range of the data, which it does not know.

    Collectives: `pmean` of gradients, of the estimated cost and of metrics; those of the observation statistics, and
      of the parts.
    Source: the papers of the algorithms; the seams are ours.
    """
    fitting.check_flat(spec)
    config.limit.values(spec.num_costs)
    conditioned = config.condition == "cost"
    seen = dataclasses.replace(spec, obs=spaces.space(spec.obs_dim + conditioned * spec.num_costs))
    parts = fitting.built(config, seen, axis_name)
    gradient_step = GradientStep(config, spec, parts, axis_name)
    extras = dict.fromkeys((*config.feed.extras, *parts.critic.needs))
    extras |= dict.fromkeys(["episode_cost"] * conditioned + ["initial_obs"] * (config.cost_estimate == "initial"))
    feed = dataclasses.replace(config.feed, extras=tuple(extras), transform=parts.choice.transform)

    def init(key):
        policy_key, critic_key = jax.random.split(key)
        params = {"policy": parts.policy.init(policy_key), "critic": parts.critic.init(critic_key)}
        groups = {"policy": parts.policy.slow, "critic": parts.critic.slow}
        slow = {name: {group: params[name][group] for group in wanted} for name, wanted in groups.items()}
        return OfflineState(
            params=params,
            slow=jax.tree.map(jnp.copy, slow),
            opt_state=gradient_step.adam.init(params),
            own={name: getattr(parts, name).start() for name in ("critic", "improve", "weight")},
            obs_stats=normalizers.obs_stats_init(spec.obs) if config.normalize_obs else (),
            rule=parts.rule.init(),
            cost=jnp.zeros((spec.num_costs,), jnp.float32),
            limit=config.limit.array(spec.num_costs),
            numbers=traced_values(config),
            updates=jnp.zeros((), jnp.int32),
        )

    def prepared(state, steps: Steps) -> Rows:
        """The minibatches `[K, B, ...]` as the parts take them."""

        def view(obs):
            obs = normalizers.normalize_obs(state.obs_stats, obs) if config.normalize_obs else obs
            return jnp.concatenate([obs, steps.extras["episode_cost"]], axis=-1) if conditioned else obs

        initial = steps.extras.get("initial_obs")
        return Rows(
            obs=view(steps.obs),
            action=steps.action,
            reward=steps.reward,
            cost=steps.cost,
            next_obs=view(steps.next_obs),
            terminated=steps.terminated,
            initial_obs=None if initial is None else view(initial),
        )

    def update(state, batch, key):
        steps = batch.steps
        if config.normalize_obs:
            state = state._replace(obs_stats=normalizers.obs_stats_update(state.obs_stats, steps.obs, axis_name))

        def body(state, inputs):
            return gradient_step(state, *inputs)

        return fitting.minibatches(body, state, prepared(state, steps), key, axis_name)

    def policy(state):
        critic = {name: state.params["critic"][name] for name in parts.critic.acting} if parts.choice.asks else {}
        weights = gradient_step.weights(state)
        actor = state.params["policy"] | (state.slow["policy"] if parts.policy.acts_slow else {})
        params = ActParams(actor, critic, weights, state.numbers.gamma)
        known: dict[str, Any] = {"limit": gradient_step.episodic_limit(state)} if conditioned else {}
        transform: Any = ()
        if parts.choice.transform is not None:
            transform = RemainingParams(gradient_step.episodic_limit(state), jnp.float32(spec.horizon))
        return PolicyState({"act": params, **known}, state.obs_stats, transform)

    def seen_by(stats, limit, obs):
        """What the networks see of an observation, and the columns of the transform."""
        obs, more = obs[..., : spec.obs_dim], obs[..., spec.obs_dim :]
        if config.normalize_obs:
            obs = normalizers.normalize_obs(stats, obs)
        if conditioned:
            told = jnp.broadcast_to(limit, (*obs.shape[:-1], spec.num_costs))
            obs = jnp.concatenate([obs, told], axis=-1)
        return obs, more

    def act(policy_state, memory, obs, key, deterministic=False):
        obs, more = seen_by(policy_state.obs_stats, policy_state.params.get("limit"), obs)
        params = policy_state.params["act"]
        action = parts.choice.act(parts.policy, parts.critic, params, obs, more, key, deterministic)
        return ActOutput(action, jnp.zeros(action.shape[0]), {}, memory)

    def estimate(state, memory, obs, action):
        obs, _ = seen_by(state.obs_stats, gradient_step.episodic_limit(state), obs)
        found = cast(Callable[..., Values], parts.critic.values)(state.params["critic"], obs, action)
        cost = found.cost if parts.critic.prices else jnp.zeros((*found.reward.shape, 0))
        gamma = state.numbers.gamma
        return Estimates(found.reward / cast(float, feed.reward_scale), cost, gamma, gamma)

    update, act, estimate = (with_precision(f, config.matmul_precision) for f in (update, act, estimate))
    asked = None if parts.critic.values is None or feed.reward_scale == "range" else estimate
    return Learner(init, update, policy, act, NO_MEMORY, feed, config, spec, asked)


def offline(
    spec: EnvSpec,
    *,
    policy: str | Part | Generator = "deterministic",
    critic: str | Part | Valuation = "none",
    improve: str | Part | Improvement = "regress",
    weight: str | Part | RowWeights = "one",
    rule: str | Part | ConstraintRule = "none",
    axis_name: str | None = None,
    **options: Any,
) -> Learner:
    """Any policy with any critics, any way to improve it, and any rule, from a data set.

    Args:
      spec: What the environment is like.
      policy: The name of a kind of generator, a part (`CVAE(phi=0.1)`), or a `Generator` of one's own.
      critic: Likewise, of a valuation.
      improve: Likewise, of an improvement.
      weight: Likewise, of the weights of recorded actions.
      rule: Likewise, of a constraint rule.
      axis_name: Mapped axis to reduce over.
      **options: Other options of `OfflineConfig` and of its parts, as `jsafe.options.replace` takes them;
        `filter="safe"` learns from episodes within the limit alone.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, a value that is not allowed, or parts that do not fit each other.

    Example:
      >>> spec = jsafe.EnvSpec(60, 2)
      >>> learner = jsafe.offline(spec, policy="gaussian", critic="expectile", weight="exp", rule="lagrange")
    """
    changes = {"policy": policy, "critic": critic, "improve": improve, "weight": weight, "rule": rule, **options}
    return assemble(replace(OfflineConfig(), changes, "offline"), spec, axis_name)
