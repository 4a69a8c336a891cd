"""How recorded actions weigh in a regression: the seam `weight`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.valuations.base import Judgement, weighed
from jsafe.ops.regression import binary_weights, exp_weights
from jsafe.options import Options, number, part, traced, traced_values
from jsafe.types import Array, EnvSpec, Weights


class RowWeights(NamedTuple):
    """Weights of recorded actions.

    Attributes:
      apply: `(judgement, weights, numbers, like [R]) -> [H or 1, R]`: what the rows weigh, for each loss of the policy.
        `weights` are the constraint rule's, `numbers` those of `start`; `like` has the shape of a row.
      needs: Fields of `Judgement`.
      start: `() -> numbers`, kept in the learner's state.
      heads: How many losses it has weights for; None: one for all.
    """

    apply: Callable[[Judgement, Weights, object, Array], Array]
    needs: tuple[str, ...] = ()
    start: Callable[[], object] = tuple
    heads: int | None = None


@part("weight", "one")
@dataclasses.dataclass(frozen=True)
class One(Options):
    """All alike: plain imitation."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Weights of 1."""
        del spec, axis_name
        return RowWeights(lambda judgement, weights, numbers, like: jnp.ones_like(like)[None])


@part("weight", "exp")
@dataclasses.dataclass(frozen=True)
class Exp(Options):
    """`min(exp(A / beta), cap)` of the advantage `A = w_r A_r - w_c . A_c`, weights from the constraint rule.

    Source: Wang et al. 2020 (arXiv 2006.15134).
    """

    beta: float = traced(1.0, above=0)
    """Temperature, in the unit of the reward: much larger than the advantages, and all weights are 1."""
    cap: float | None = number(20.0, above=0)
    """Largest weight; None: no bound (OmniSafe's CRR)."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Exponential weights."""
        del spec, axis_name

        def apply(judgement, weights, numbers, like):
            return exp_weights(weighed(judgement.advantage, weights), numbers.beta, self.cap)[None]

        return RowWeights(apply, ("advantage",), lambda: traced_values(self))


@part("weight", "binary")
@dataclasses.dataclass(frozen=True)
class Binary(Options):
    """`1[A > 0]` of the advantage `A = w_r A_r - w_c . A_c`.

    Source: Wang et al. 2020 (arXiv 2006.15134).
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Weights of 0 and 1."""
        del spec, axis_name
        return RowWeights(
            lambda judgement, weights, numbers, like: binary_weights(weighed(judgement.advantage, weights))[None],
            ("advantage",),
        )


@part("weight", "ratio")
@dataclasses.dataclass(frozen=True)
class Ratio(Options):
    """The ratio of the best policy's occupancy to the data's, as a valuation knows it."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Ratios."""
        del spec, axis_name
        return RowWeights(
            lambda judgement, weights, numbers, like: jax.lax.stop_gradient(judgement.ratio)[None], ("ratio",)
        )


@part("weight", "heads")
@dataclasses.dataclass(frozen=True)
class PerHead(Options):
    """One for each head of the policy, from the greediest to the safest.

    `w_0 = min(exp(beta A_r), cap)`, `w_{H-1} = min(exp(-beta sum_m A_m), cap)` (`A_m` of the costs), and between them
    `w_h = w_0 + 2 h / (H - 1) w_{H-1}`.

    Source: CAPS (AAAI 2025), the authors' code.
    """

    heads: int = number(2, low=2, high=64)
    """H; as many as the policy has."""
    beta: float = traced(3.0, above=0)
    """Inverse temperature."""
    cap: float = number(100.0, above=0)
    """Largest weight."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Weights `[H, R]`."""
        del spec, axis_name

        def apply(judgement, weights, numbers, like):
            gain, price = judgement.advantage
            greedy, safe = (exp_weights(x, 1.0 / numbers.beta, self.cap) for x in (gain, -price.sum(axis=-1)))
            between = [greedy + 2.0 * h / (self.heads - 1) * safe for h in range(1, self.heads - 1)]
            return jnp.stack([greedy, *between, safe])

        return RowWeights(apply, ("advantage",), lambda: traced_values(self), self.heads)


@part("weight", "feasible")
@dataclasses.dataclass(frozen=True)
class Feasible(Options):
    """Where a violation cannot be avoided, the actions that come closest to avoiding it; elsewhere the best safe ones.

        V_h > 0:               min(exp(reach_beta (V_h - Q_h)), reach_cap)
        V_h <= 0, Q_h <= 0:    min(exp(beta A_r), cap)
        V_h <= 0, Q_h > 0:     0

    Source: Zheng et al. 2024 (FISOR, arXiv 2401.10700), and the authors' code.
    """

    beta: float = traced(3.0, above=0)
    """Inverse temperature of rewards."""
    cap: float = number(100.0, above=0)
    """Largest weight of a safe action."""
    reach_beta: float = traced(5.0, above=0)
    """Inverse temperature of violations."""
    reach_cap: float = number(150.0, above=0)
    """Largest weight where a violation cannot be avoided."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RowWeights:
        """Feasibility weights."""
        del spec, axis_name

        def apply(judgement, weights, numbers, like):
            v, q = judgement.reach
            escape = exp_weights(v - q, 1.0 / numbers.reach_beta, self.reach_cap)
            safe = exp_weights(judgement.advantage.reward, 1.0 / numbers.beta, self.cap)
            return jnp.where(v > 0, escape, jnp.where(q <= 0, safe, 0.0))[None]

        return RowWeights(apply, ("advantage", "reach"), lambda: traced_values(self))
