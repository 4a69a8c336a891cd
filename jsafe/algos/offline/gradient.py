"""One gradient step of an offline learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from optax import scale_by_adam

from jsafe.algos.offline.config import OfflineConfig
from jsafe.components import rules
from jsafe.components.actors import Values
from jsafe.components.choices import Choice
from jsafe.components.critics import polyak
from jsafe.components.generators import BEHAVIOUR, Generator
from jsafe.components.improvements import Frozen, Improvement
from jsafe.components.optim import descend
from jsafe.components.regression_weights import RowWeights
from jsafe.components.rules import NoRule
from jsafe.components.valuations import Context, Rows, Valuation, in_unit
from jsafe.ops.stats import pmean
from jsafe.types import Array, ConstraintRule, EnvSpec, Key, Metrics, Params, Weights


class Parts(NamedTuple):
    """The built parts."""

    policy: Generator
    critic: Valuation
    improve: Improvement
    weight: RowWeights
    rule: ConstraintRule
    choice: Choice


class GradientStep:
    """`(state, rows, key) -> (state, metrics)`."""

    def __init__(self, config: OfflineConfig, spec: EnvSpec, parts: Parts, axis_name: str | None):
        self.config, self.spec, self.parts, self.axis_name = config, spec, parts, axis_name
        self.adam = scale_by_adam(eps=config.adam_eps)
        self.ruled = not isinstance(config.rule, NoRule)

    def __call__(self, state: Any, rows: Rows, key: Key) -> tuple[Any, Metrics]:
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

    def context(self, state: Any, rows: Rows) -> Context:
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

    def frozen(self, state: Any, context: Context) -> Frozen:
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

    def descended(self, state: Any, direction: Params) -> dict[str, Params]:
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

    def ruled_by(self, state: Any, context: Context, cost: Array) -> Any:
        """After a step of the rule."""
        if not self.ruled:
            return state._replace(cost=cost)
        rule = self.parts.rule.update(state.rule, cost, context.limit)
        begun = state.updates > self.config.rule_warmup
        rule = jax.tree.map(lambda new, old: jnp.where(begun, new, old), rule, state.rule)
        return state._replace(cost=cost, rule=rule)

    def weights(self, state: Any) -> Weights:
        """Of reward and costs."""
        return self.parts.rule.weights(state.rule, state.cost, self.limit(state))

    def episodic_limit(self, state: Any) -> Array:
        """`[M]`: what the rule steers for, per episode."""
        return self.config.limit.per_episode(self.config.limit.aim(state.limit), self.spec.horizon)

    def limit(self, state: Any) -> Array:
        """`[M]`: the same in the critics' unit."""
        return self.converted(state, self.episodic_limit(state))

    def converted(self, state: Any, episodic: Array) -> Array:
        unit = self.parts.critic.unit or self.config.limit_unit
        return in_unit(episodic, unit, state.numbers.gamma, self.spec.horizon)

    def told(self, state: Any, context: Context, known: bool) -> Metrics:
        """Limits, multipliers and estimated costs, per episode and in the critics' unit."""
        columns = {}
        if self.ruled:
            columns["multiplier"] = rules.multiplier(context.weights)
        if known:
            one = self.converted(state, jnp.ones_like(state.cost))
            columns |= {"estimated": state.cost / one, "critic": state.cost, "critic_limit": context.limit}
        return self.config.limit.columns(state.limit, columns)
