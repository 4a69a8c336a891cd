"""Up the slope of critics, at the policy's own actions."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.improvements.base import Improved, Improvement
from jsafe.components.valuations.base import weighed
from jsafe.ops.mmd import Kernel, mmd
from jsafe.ops.stats import pmean
from jsafe.options import Options, number, part, traced, traced_values
from jsafe.types import Array, EnvSpec


@part("improvement", "climb")
@dataclasses.dataclass(frozen=True)
class Climb(Options):
    """`L = -mean (w_r Q_r - w_c . Q_c)(s, a) + imitation mean loss(s, a_data)`, a ~ pi(s), weights from the rule.

    The second term trains what models the recorded actions: BCQ's auto-encoder, or, of a policy without one, the policy
    itself (TD3+BC's regulariser).

    Source: Fujimoto, Meger & Precup 2019 (arXiv 1812.02900), algorithm 1.
    """

    imitation: float = number(1.0, low=0)
    """Weight of the second term."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Improvement:
        """An `Improvement` that climbs."""
        del spec

        def loss(params, context, frozen, state, key):
            draw_key, loss_key = jax.random.split(key)
            rows, generator = context.rows, context.generator
            action = generator.draw(params, rows.obs, generator.noise(draw_key, 1, rows.obs.shape[0]))[0]
            values = frozen.values(action)
            own = self.objective(values, context).mean()
            imitated = generator.loss(params, rows.obs, rows.action, loss_key).mean()
            metrics = {"loss/actor": own, "loss/imitation": imitated, "q/reward": values.reward.mean()}
            more, seen, state = self.regulariser(params, context, state, jax.random.fold_in(key, 1), axis_name)
            total = own + more + self.imitation * imitated
            return Improved(total, metrics | seen, state, values.cost.mean(axis=0))

        return Improvement(loss, climbs=True)

    def objective(self, values, context) -> Array:
        """What is descended, `[R]`."""
        return -weighed(values, context.weights)

    def regulariser(self, params, context, state, key, axis_name) -> tuple[Array, dict[str, Array], object]:
        """What keeps the policy near the recorded actions besides: a scalar, metrics, and the new state."""
        del params, context, key, axis_name
        return jnp.zeros(()), {}, state


@part("improvement", "climb_feasible")
@dataclasses.dataclass(frozen=True)
class ClimbFeasible(Climb):
    """`L = -mean 1[Q_c(s, a) <= l] Q_r(s, a)` for all costs, besides imitation; l is the limit.

    Once every action of the policy exceeds the limit, this has no gradient, and the policy is stuck (in the paper,
    too). `descend` adds `mean 1[Q_c(s, a) > l] sum_m Q_m(s, a)`.

    Source: Xu, Zhan & Zhu 2022 (CPQ, arXiv 2107.09003).
    """

    infeasible: Literal["stuck", "descend"] = "stuck"
    """What happens where the limit is exceeded."""

    def objective(self, values, context) -> Array:
        """The masked rewards and, with `descend`, the costs of the others."""
        keeps = (jax.lax.stop_gradient(values.cost) <= context.limit).all(axis=-1)
        price = values.cost.sum(axis=-1) if self.infeasible == "descend" else jnp.zeros_like(values.reward)
        return jnp.where(keeps, -values.reward, price)


class SupportState(NamedTuple):
    """`log_alpha`, of the weight of the discrepancy; `numbers.alpha_learning_rate` a scalar."""

    log_alpha: Array
    numbers: NamedTuple


@part("improvement", "climb_in_support")
@dataclasses.dataclass(frozen=True)
class ClimbInSupport(Climb):
    """`Climb` with `alpha (MMD - threshold)`: samples of the policy among samples of a model of the recorded actions.

        log alpha <- clip(log alpha + rate alpha (MMD - threshold), -5, 5)

    MMD is taken over `samples` actions of each, before they are squashed.

    Source: Kumar et al. 2019 (BEAR, arXiv 1906.00949); the step of alpha: OSRL.
    """

    samples: int = number(10, low=2)
    """Actions of each."""
    threshold: float = number(0.05, low=0)
    """Discrepancy that is allowed."""
    kernel: Kernel = "gaussian"
    """Of the discrepancy."""
    sigma: float = number(50.0, above=0)
    """Width of the kernel."""
    alpha: float = number(1.0, above=0)
    """Start of the weight."""
    alpha_learning_rate: float = traced(1e-3, low=0)
    """Of its logarithm, by plain steps."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Improvement:
        """An `Improvement` whose state is a `SupportState`."""
        start = lambda: SupportState(jnp.log(jnp.float32(self.alpha)), traced_values(self))  # noqa: E731
        return super().build(spec, axis_name)._replace(support=True, start=start)

    def regulariser(self, params, context, state, key, axis_name) -> tuple[Array, dict[str, Array], object]:
        """The weighted discrepancy, and a step of its weight."""
        model_key, policy_key = jax.random.split(key)
        support, obs = context.generator.support, context.rows.obs
        recorded = support.raw(params, obs, model_key, self.samples)
        own = support.policy_raw(params, obs, policy_key, self.samples)
        gap = mmd(recorded, own, self.sigma, self.kernel).mean() - self.threshold
        alpha = jnp.exp(state.log_alpha)
        seen = jax.lax.stop_gradient(pmean(gap, axis_name))
        log_alpha = jnp.clip(state.log_alpha + state.numbers.alpha_learning_rate * alpha * seen, -5.0, 5.0)
        metrics = {"support/alpha": alpha, "support/mmd": seen + self.threshold}
        return alpha * gap, metrics, state._replace(log_alpha=log_alpha)
