"""Critics that call actions unlike the recorded ones costly, and do not bootstrap rewards from costly ones."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.critics import Blended, Critics
from jsafe.components.valuations.base import (
    Judgement,
    Valuation,
    Valued,
    critic_metrics,
    expectation,
    one_step,
    signals_of,
)
from jsafe.ops.stats import gathered, pmean
from jsafe.options import Options, number, part, seam, traced, traced_values
from jsafe.types import Array, EnvSpec, Part


class PenaltyState(NamedTuple):
    """`log_alpha [M]`, of the penalty's weight; `numbers.penalty_learning_rate` a scalar."""

    log_alpha: Array
    numbers: NamedTuple


@part("valuation", "penalised")
@dataclasses.dataclass(frozen=True)
class Penalised(Options):
    """CPQ's critics.

        y_r = r + gamma d 1[Q'_c(s', a') <= l] Q'_r(s', a'),   y_c = c + gamma d Q'_c(s', a'),   a' ~ pi(s')
        L_c = sum_j mean (y_c - Q_c,j)^2 - alpha mean_ood Q_c(s, a)
        log alpha <- clip(log alpha + rate alpha (1.5 l - mean_ood Q_c), -5, 5)

    `ood` are those of `samples` policy actions per state whose divergence from the recorded actions
    (`Generator.support`) is out of the ordinary: `quarter`, in the top quarter of the minibatch (the paper's code),
    whether the data cover them or not; `calibrated`, above the 99th percentile of the *recorded* actions' divergence.
    The means are over these alone.

    Source: Xu, Zhan & Zhu 2022 (arXiv 2107.09003). OSRL computes the penalty from slow critics
      without a gradient, so that its CPQ has none; counts the other three quarters as zeros; takes the smaller of two
      costs; and bootstraps costs through terminations.
    """

    critics: Part = seam("critics", Blended(), Critics)
    """Networks, loss and reductions."""
    samples: int = number(10, low=1)
    """Policy actions per state that are looked at."""
    ood: Literal["quarter", "calibrated", "none"] = "quarter"
    """Which of them count as unlike the recorded ones; `none`: there is no penalty."""
    penalty: float = number(1.0, above=0)
    """Start of alpha."""
    penalty_learning_rate: float = traced(1e-4, low=0)
    """Of `log alpha`, by plain steps."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Valuation:
        """A `Valuation` with the group `critic`; its state is a `PenaltyState`."""
        critics: Critics = self.critics.build(spec, axis_name)
        if not critics.costs:
            raise ValueError("the valuation 'penalised' needs critics of the costs")

        def values(params, obs, action):
            return critics.values(params["critic"], critics.embed(params["critic"], obs), action)

        def bootstrap(slow, context, key):
            rows, generator, net = context.rows, context.generator, slow["critic"]
            action = generator.draw(context.slow_policy, rows.next_obs, generator.noise(key, 1, rows.obs.shape[0]))[0]
            found = critics.bootstrap(net, critics.embed(net, rows.next_obs), action, action)
            keeps = (expectation(found["cost"]) <= context.limit).all(axis=-1)
            return found | {"reward": keeps[:, None, None] * found["reward"]}

        def unlike(context, key):
            """Policy actions `[n, R, A]`, and which of them `[n, R]` are unlike the recorded ones."""
            rows, generator, params = context.rows, context.generator, context.policy
            action = generator.draw(params, rows.obs, generator.noise(key, self.samples, rows.obs.shape[0]))
            divergence = generator.support.divergence
            found = divergence(params, rows.obs, action)
            if self.ood == "quarter":
                return action, found > jnp.quantile(gathered(found, axis_name), 0.75)
            usual = jnp.quantile(gathered(divergence(params, rows.obs, rows.action), axis_name), 0.99)
            return action, found > usual

        def loss(params, slow, context, key):
            rows = context.rows
            next_key, own_key = jax.random.split(key)
            following = jax.lax.stop_gradient(bootstrap(slow, context, next_key))
            following = {name: x[None] for name, x in following.items()}
            net, returns = params["critic"], one_step(context.discount)
            h = critics.embed(net, rows.obs)
            losses = critics.loss(net, h, rows.action, signals_of(rows), following, returns)
            total = sum(x.sum(axis=-1).mean() for x in losses.values())
            metrics = critic_metrics(losses)
            if self.ood == "none":
                return Valued(jnp.asarray(total), metrics, context.state)
            action, flagged = jax.lax.stop_gradient(unlike(context, own_key))
            costs = jnp.where(flagged[..., None], critics.values(net, h, action).cost, 0.0)
            count = pmean(flagged.sum().astype(jnp.float32), axis_name)  # its mean, for a share of the global mean
            mean = costs.sum(axis=(0, 1)) / jnp.maximum(count, 1e-6)
            alpha = jnp.exp(context.state.log_alpha)
            seen = jax.lax.stop_gradient(pmean(mean, axis_name))
            step = context.state.numbers.penalty_learning_rate * alpha * (1.5 * context.limit - seen)
            log_alpha = jnp.clip(context.state.log_alpha + jnp.where(count > 0, step, 0.0), -5.0, 5.0)
            metrics |= {
                "penalty/alpha": alpha.mean(),
                "penalty/share": flagged.mean(),
                "penalty/cost": seen.mean(),
            }
            return Valued(total - alpha @ mean, metrics, context.state._replace(log_alpha=log_alpha))

        def start():
            return PenaltyState(jnp.full(spec.num_costs, jnp.log(self.penalty), jnp.float32), traced_values(self))

        return Valuation(
            init=lambda key: {"critic": critics.init(key)},
            loss=loss,
            judge=lambda params, slow, context, key: Judgement(),
            values=values,
            slow=("critic",),
            acting=("critic",),
            prices=True,
            support=self.ood != "none",
            start=start,
        )
