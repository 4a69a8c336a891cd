"""The cross-entropy method."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.planners.base import Planned, Planner, Sampled, told
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("planner", "cem")
@dataclasses.dataclass(frozen=True)
class CEM(Sampled):
    """A Gaussian over sequences of actions, fitted again and again to its best samples; its mean is acted on.

        mu <- a mu + (1 - a) mean(elites),   v <- a v + (1 - a) var(elites)

    Source: Chua et al. 2018 (arXiv 1805.12114), section 5.1, and the authors' code. OmniSafe (`compat="omnisafe"`):
    the unbiased variance of the elites, and a plan that is not forgotten when an episode ends.
    """

    elites: int = number(64, low=1)
    """Samples that the Gaussian is fitted to."""

    def __post_init__(self):
        super().__post_init__()
        if self.elites > self.samples:
            raise ValueError(f"elites must be at most samples ({self.samples}), got {self.elites}")

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Planner:
        """A `Planner`."""
        del spec, axis_name
        released = compat == "omnisafe"
        ddof = int(released and self.elites > 1)
        a = self.smoothing

        def refit(actions, judged, mean, var):
            _, best = jax.lax.top_k(judged.score, self.elites)
            chosen = actions[:, best]
            mean = a * mean + (1 - a) * chosen.mean(axis=1)
            return mean, a * var + (1 - a) * chosen.var(axis=1, ddof=ddof), best

        def plan(mean, evaluate, proposals, key, explore):
            del proposals, explore
            mean, judged, best = self.refined(self.shifted(mean), key, evaluate, None, refit)
            weights = jnp.zeros_like(judged.score).at[best].add(1 / self.elites)
            return Planned(mean[0], mean, told(judged, weights))

        return Planner(self.horizon, 0, plan, self.elites, released)
