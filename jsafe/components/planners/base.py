"""The seam of planners: from candidate sequences of actions to one action, and the plan that the next step starts from.

Everything here is of one environment; learners map it over several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jsafe.components.compat import Released
from jsafe.components.scores.base import Judged
from jsafe.options import number
from jsafe.types import Array, Key

Sampling = Literal["truncated", "clipped"]
Evaluate = Callable[[Array, Key], Judged]


class Planned(NamedTuple):
    """What a planner has found: `action [A]`, the `mean [H, A]` to start from next, and scalars to look at."""

    action: Array
    mean: Array
    info: dict[str, Array]


class PlanFn(Protocol):
    """`(mean [H, A], evaluate, proposals [H, n, A] | None, key, explore) -> Planned`."""

    def __call__(
        self, mean: Array, evaluate: Evaluate, proposals: Array | None, key: Key, explore: bool, /
    ) -> Planned: ...


class Planner(NamedTuple):
    """How candidates are made and weighed.

    Attributes:
      horizon: Steps H of a plan.
      proposals: Number of candidates that an actor is asked for; 0: none.
      plan: `(mean, evaluate, proposals, key, explore) -> Planned`; `evaluate` judges `actions [H, S, A]`. `mean` is
        that of the last step.
      enough: Feasible candidates from which returns count.
      keeps: Whether a plan is kept beyond the end of an episode.
    """

    horizon: int
    proposals: int
    plan: PlanFn
    enough: int = 1
    keeps: bool = False


@dataclasses.dataclass(frozen=True)
class Sampled(Released):
    """Options of planners that refine a Gaussian over sequences of actions."""

    horizon: int = number(7, low=1)
    """Steps H of a plan."""
    iterations: int = number(5, low=1, high=1000)
    """Refinements per step."""
    samples: int = number(512, low=2)
    """Candidates S per refinement."""
    smoothing: float = number(0.1, low=0, below=1)
    """Share of the old variance (of CEM: and mean) that a refinement keeps."""
    init_var: float = number(0.25, above=0)
    """Variance of every component at the start of each step; actions lie in [-1, 1]."""
    last: Literal["repeat", "zero"] = "repeat"
    """What the plan of the last step is continued with when it is shifted."""
    sampling: Sampling = "truncated"
    """`truncated`: normals cut at two standard deviations, which are kept within half the way to the bounds (the
    authors of PETS, LOOP and CAP); `clipped`: normals clipped to the bounds (OmniSafe)."""
    epsilon: float = number(1e-3, low=0)
    """Largest variance at which a plan counts as found: it is not refined further."""

    def __post_init__(self):
        super().__post_init__()
        if self.init_var <= self.epsilon:
            raise ValueError(f"init_var must be above epsilon ({self.epsilon!r}), got {self.init_var!r}")

    def shifted(self, mean: Array) -> Array:
        """The plan of the last step, from the present one on."""
        last = mean[-1:] if self.last == "repeat" else jnp.zeros_like(mean[-1:])
        return jnp.concatenate([mean[1:], last])

    def candidates(self, mean: Array, var: Array, key: Key) -> Array:
        """`[H, S, A]` in [-1, 1]."""
        shape = (mean.shape[0], self.samples, mean.shape[1])
        mean = mean[:, None]
        if self.sampling == "clipped":
            return jnp.clip(mean + jnp.sqrt(var)[:, None] * jax.random.normal(key, shape), -1.0, 1.0)
        room = jnp.minimum(jnp.square((mean + 1) / 2), jnp.square((1 - mean) / 2))
        std = jnp.sqrt(jnp.minimum(var[:, None], room))
        return jnp.clip(mean + std * jax.random.truncated_normal(key, -2.0, 2.0, shape), -1.0, 1.0)

    def refined(
        self,
        mean: Array,
        key: Key,
        evaluate: Evaluate,
        proposals: Array | None,
        refit: Callable[[Array, Judged, Array, Array], tuple[Array, Array, Any]],
    ) -> tuple[Array, Judged, Any]:
        """All refinements.

        Args:
          mean: `[H, A]`, where to start.
          key: Of candidates and particles.
          evaluate: See `Planner`.
          proposals: `[H, n, A]`, which are candidates in every refinement.
          refit: `(actions [H, S', A], judged, mean, var) -> (mean, var, what else is wanted)`.

        Returns:
          The mean, and of the last refinement that counted how the candidates were judged, and what else `refit` gave.
        """

        def once(mean: Array, var: Array, key: Key) -> tuple[Array, Array, Any]:
            sample_key, evaluate_key = jax.random.split(key)
            actions = self.candidates(mean, var, sample_key)
            if proposals is not None:
                actions = jnp.concatenate([actions, proposals], axis=1)
            judged = evaluate(actions, evaluate_key)
            mean, var, more = refit(actions, judged, mean, var)
            return mean, var, (judged, more)

        def refine(carry: Any, key: Key) -> tuple[Any, None]:
            found = carry[1].max() <= self.epsilon
            fresh = once(carry[0], carry[1], key)
            return jax.tree.map(lambda old, new: jnp.where(found, old, new), carry, fresh), None

        var = jnp.full_like(mean, self.init_var)
        told = jax.eval_shape(once, mean, var, key)[2]
        carry = (mean, var, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), told))
        (mean, _, (judged, more)), _ = jax.lax.scan(refine, carry, jax.random.split(key, self.iterations))
        return mean, judged, more


def told(judged: Judged, weights: Array) -> dict[str, Array]:
    """Scalars about a plan: mean return and costs of the candidates that made it, and the share of feasible ones.

    Args:
      judged: All candidates.
      weights: `[S]`, which add up to 1.
    """

    def average(x):
        return weights @ jnp.nan_to_num(jnp.where(weights > 0, x, 0.0))

    costs = {f"cost/{m}": average(judged.cost[:, m]) for m in range(judged.cost.shape[1])}
    return {"return": average(judged.returns), "feasible": judged.feasible.mean(), **costs}
