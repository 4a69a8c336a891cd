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
from optax import scale_by_adam

from jsafe import spaces
from jsafe.algos.offline.config import OfflineConfig
from jsafe.components import compat, normalizers, rules
from jsafe.components.actors import Values
from jsafe.components.choices import ActParams, Choice
from jsafe.components.critics import polyak
from jsafe.components.generators import BEHAVIOUR, Generator
from jsafe.components.improvements import Frozen, Improvement
from jsafe.components.optim import descend
from jsafe.components.regression_weights import RowWeights
from jsafe.components.rules import NoRule
from jsafe.components.transforms.remaining import RemainingParams
from jsafe.components.valuations import Context, Rows, Valuation, in_unit
from jsafe.ops.precision import with_precision
from jsafe.ops.stats import pmean
from jsafe.options import replace, traced_values
from jsafe.types import (
    NO_MEMORY,
    ActOutput,
    Array,
    ConstraintRule,
    EnvSpec,
    Key,
    Learner,
    Metrics,
    Params,
    Part,
    PolicyState,
    Steps,
    Weights,
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


class Parts(NamedTuple):
    """The built parts."""

    policy: Generator
    critic: Valuation
    improve: Improvement
    weight: RowWeights
    rule: ConstraintRule
    choice: Choice


def assemble(config: OfflineConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an offline learner from its parts.

    Args:
      config: Options.
      spec: What the environment is like.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the number of limits does not fit, or parts do not fit each other or the environment.

    Returns:
      A `Learner` that is fed with minibatches `[K, B, ...]` of a data set.

    Collectives: `pmean` of gradients, of the estimated cost and of metrics; those of the observation statistics, and of
      the parts.
    Source: the papers of the algorithms; the seams are ours.
    """
    if not (isinstance(spec.obs, spaces.Box) and spec.obs.flat):
        raise ValueError(f"offline learners take observations that are flat vectors, got {spec.obs}")
    config.limit.values(spec.num_costs)
    conditioned = config.condition == "cost"
    seen = dataclasses.replace(spec, obs=spaces.space(spec.obs_dim + conditioned * spec.num_costs))
    parts = _build(config, seen, axis_name)
    _check(config, parts)
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
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        steps = batch.steps
        if config.normalize_obs:
            state = state._replace(obs_stats=normalizers.obs_stats_update(state.obs_stats, steps.obs, axis_name))
        keys = jax.random.split(key, feed.updates)

        def body(state, inputs):
            return gradient_step(state, *inputs)

        state, metrics = jax.lax.scan(body, state, (prepared(state, steps), keys))
        metrics = pmean({name: x.mean(axis=0) for name, x in metrics.items()}, axis_name)
        return state, metrics | {"train/updates": state.updates.astype(jnp.float32)}

    def policy(state):
        critic = {name: state.params["critic"][name] for name in parts.critic.acting} if parts.choice.asks else {}
        weights = gradient_step.weights(state)
        params = ActParams(state.params["policy"], critic, weights, state.numbers.gamma)
        known: dict[str, Any] = {"limit": gradient_step.episodic_limit(state)} if conditioned else {}
        transform: Any = ()
        if parts.choice.transform is not None:
            transform = RemainingParams(gradient_step.episodic_limit(state), jnp.float32(spec.horizon))
        return PolicyState({"act": params, **known}, state.obs_stats, transform)

    def act(policy_state, memory, obs, key, deterministic=False):
        obs, more = obs[..., : spec.obs_dim], obs[..., spec.obs_dim :]
        if config.normalize_obs:
            obs = normalizers.normalize_obs(policy_state.obs_stats, obs)
        if conditioned:
            told = jnp.broadcast_to(policy_state.params["limit"], (*obs.shape[:-1], spec.num_costs))
            obs = jnp.concatenate([obs, told], axis=-1)
        params = policy_state.params["act"]
        action = parts.choice.act(parts.policy, parts.critic, params, obs, more, key, deterministic)
        return ActOutput(action, jnp.zeros(action.shape[0]), {}, memory)

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, policy, act, NO_MEMORY, feed, config, spec)


class GradientStep:
    """`(state, rows, key) -> (state, metrics)`."""

    def __init__(self, config: OfflineConfig, spec: EnvSpec, parts: Parts, axis_name: str | None):
        self.config, self.spec, self.parts, self.axis_name = config, spec, parts, axis_name
        self.adam = scale_by_adam(eps=config.adam_eps)
        self.ruled = not isinstance(config.rule, NoRule)

    def __call__(self, state: OfflineState, rows: Rows, key: Key) -> tuple[OfflineState, Metrics]:
        parts, params, slow = self.parts, state.params, state.slow
        critic_key, policy_key, cost_key = jax.random.split(key, 3)
        context = self.context(state, rows)
        frozen = self.frozen(state, context)

        def loss(params):
            valued = parts.critic.loss(params["critic"], slow["critic"], context, critic_key)
            improved = parts.improve.loss(params["policy"], context, frozen, state.own["improve"], policy_key)
            return valued.loss + improved.loss, (valued, improved)

        grads, (valued, improved) = jax.grad(loss, has_aux=True)(params)
        direction, opt_state = self.adam.update(pmean(grads, self.axis_name), state.opt_state, params)
        moved = self.descended(state, direction)
        state = state._replace(
            params=moved,
            opt_state=opt_state,
            slow={
                name: polyak(tree, {group: moved[name][group] for group in tree}, state.numbers.tau)
                for name, tree in slow.items()
            },
            own=state.own | {"critic": valued.state, "improve": improved.state},
            updates=state.updates + 1,
        )
        metrics = valued.metrics | improved.metrics
        cost = self.expected_cost(params, context, valued.cost, improved.cost, cost_key)
        if cost is not None:
            state = self.ruled_by(state, context, pmean(cost, self.axis_name))
        return state, self.told(state, context, cost is not None) | metrics

    def context(self, state: OfflineState, rows: Rows) -> Context:
        """What the valuation may look at."""
        params = jax.lax.stop_gradient(state.params["policy"])
        return Context(
            rows=rows,
            generator=self.parts.policy,
            policy=params,
            slow_policy=params | state.slow["policy"],
            weights=self.weights(state),
            limit=self.limit(state),
            gamma=state.numbers.gamma,
            state=state.own["critic"],
        )

    def frozen(self, state: OfflineState, context: Context) -> Frozen:
        """The critics as constants."""
        valuation = self.parts.critic
        params = jax.lax.stop_gradient(state.params["critic"])
        ask = valuation.values
        weight, own, like = self.parts.weight, state.own["weight"], context.rows.reward
        return Frozen(
            values=None if ask is None else lambda action: ask(params, context.rows.obs, action),
            judge=lambda key: valuation.judge(params, state.slow["critic"], context, key),
            weigh=lambda judgement: weight.apply(judgement, context.weights, own, like),
        )

    def descended(self, state: OfflineState, direction: Params) -> dict[str, Params]:
        """Parameters after a step, each group at its rate."""
        numbers, config = state.numbers, self.config
        fall = jnp.ones(())
        if config.cosine_updates is not None:
            done = jnp.minimum(state.updates / config.cosine_updates, 1.0)
            fall = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        rates = {BEHAVIOUR: numbers.cvae_learning_rate}
        if config.multiplier_learning_rate is not None:
            rates["multiplier"] = jnp.float32(config.multiplier_learning_rate)
        others = {"policy": numbers.policy_learning_rate * fall, "critic": numbers.critic_learning_rate}
        moved = {
            name: {
                group: descend(tree[group], step, rates.get(group, others[name]))
                for group, step in direction[name].items()
            }
            for name, tree in state.params.items()
        }
        return moved | {"critic": self.parts.critic.project(moved["critic"])}

    def expected_cost(
        self, params: Params, context: Context, valued: Array | None, improved: Array | None, key: Key
    ) -> Array | None:
        """`[M]`, of this device's rows: the policy's cost as the critics see it, None where nobody asks."""
        valuation, rows = self.parts.critic, context.rows
        if valuation.unit is not None:
            return valued
        if not self.ruled:
            return None
        found = valued if valued is not None else improved
        if self.config.cost_estimate == "states" and found is not None:
            return found
        obs = rows.obs if self.config.cost_estimate == "states" else cast(Array, rows.initial_obs)
        if valuation.price is not None:
            return valuation.price(params["critic"], context, obs, key).mean(axis=0)
        generator = self.parts.policy
        action = generator.draw(params["policy"], obs, generator.noise(key, 1, obs.shape[0]))[0]
        ask = cast(Callable[..., Values], valuation.values)
        return ask(params["critic"], obs, action).cost.mean(axis=0)

    def ruled_by(self, state: OfflineState, context: Context, cost: Array) -> OfflineState:
        """After a step of the rule."""
        if not self.ruled:
            return state._replace(cost=cost)
        rule = self.parts.rule.update(state.rule, cost, context.limit)
        begun = state.updates > self.config.rule_warmup
        rule = jax.tree.map(lambda new, old: jnp.where(begun, new, old), rule, state.rule)
        return state._replace(cost=cost, rule=rule)

    def weights(self, state: OfflineState) -> Weights:
        """Of reward and costs."""
        return self.parts.rule.weights(state.rule, state.cost, self.limit(state))

    def episodic_limit(self, state: OfflineState) -> Array:
        """`[M]`: what the rule steers for, per episode."""
        limit = self.config.limit.aim(state.limit)
        return limit if self.config.limit.per == "episode" else limit * self.spec.horizon

    def limit(self, state: OfflineState) -> Array:
        """`[M]`: the same in the critics' unit."""
        return self.converted(state, self.episodic_limit(state))

    def converted(self, state: OfflineState, episodic: Array) -> Array:
        unit = self.parts.critic.unit or self.config.limit_unit
        return in_unit(episodic, unit, state.numbers.gamma, self.spec.horizon)

    def told(self, state: OfflineState, context: Context, known: bool) -> Metrics:
        """Limits, multipliers and estimated costs, per episode and in the critics' unit."""
        name = "limit" if self.config.limit.per == "episode" else "limit_per_step"
        columns = {name: state.limit}
        if self.ruled:
            columns["multiplier"] = rules.multiplier(context.weights)
        if known:
            one = self.converted(state, jnp.ones_like(state.cost))
            columns |= {"estimated": state.cost / one, "critic": state.cost, "critic_limit": context.limit}
        return {f"cost/{i}/{key}": x[i] for i in range(self.spec.num_costs) for key, x in columns.items()}


def _build(config: OfflineConfig, spec: EnvSpec, axis_name: str | None) -> Parts:
    names = Parts._fields
    if config.hidden is not None:
        sized = {name: _sized(getattr(config, name), config.hidden) for name in names}
        config = dataclasses.replace(config, **sized)
    return Parts(*(compat.build(getattr(config, name), spec, axis_name, config.compat) for name in names))


def _sized(part: Any, hidden: tuple[int, ...]) -> Any:
    """A part, and those inside it, with these hidden widths wherever it has any."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    changes = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name.endswith("hidden"):
            changes[field.name] = hidden
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _sized(value, hidden)
    return dataclasses.replace(part, **changes) if changes else part


def _check(config: OfflineConfig, parts: Parts) -> None:
    """Parts that do not fit each other are an error here, not a wrong number later."""

    def kind(name):
        return f"{name}={getattr(type(getattr(config, name)), 'kind', '') or type(getattr(config, name)).__name__!r}"

    critic, heads = parts.critic, parts.policy.heads
    missing = [need for need in parts.weight.needs if need not in critic.knows]
    if parts.improve.weighs and missing:
        raise ValueError(f"{kind('weight')} needs the {' and '.join(missing)} of actions, which {kind('critic')} lacks")
    if not parts.improve.weighs and parts.weight.needs:
        raise ValueError(f"{kind('weight')} has no effect with {kind('improve')}, which weighs no recorded actions")
    if parts.improve.climbs and critic.values is None:
        raise ValueError(f"{kind('improve')} needs critics of actions, which {kind('critic')} has not")
    if parts.choice.asks and critic.values is None:
        raise ValueError(f"{kind('choice')} needs critics of actions, which {kind('critic')} has not")
    if not isinstance(config.rule, NoRule) and not critic.prices:
        raise ValueError(f"{kind('rule')} needs critics of the costs, which {kind('critic')} has not: take rule='none'")
    if (critic.support or parts.improve.support) and parts.policy.support is None:
        who = kind("critic") if critic.support else kind("improve")
        raise ValueError(f"{who} needs a model of the recorded actions: policy='supported', not {kind('policy')}")
    if parts.weight.heads not in (None, heads) or (heads > 1 and parts.weight.heads is None and parts.weight.needs):
        raise ValueError(f"{kind('weight')} is for {parts.weight.heads or 1} heads, {kind('policy')} has {heads}")
    if config.feed.length != 1:
        raise ValueError(f"feed.length must be 1 (single transitions), got {config.feed.length}")
    if config.limit_unit != "endless" and critic.unit is not None:
        raise ValueError(
            f"limit_unit={config.limit_unit!r} has no meaning with {kind('critic')}, which has a unit of its own"
        )


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
