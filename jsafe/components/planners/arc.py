"""Actor-regularised control."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.planners.base import Planned, Planner, Sampled, told
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec

WORST = -1e30
"""In the place of -inf, so that weights stay numbers where nothing is feasible."""


def boltzmann(score: Array, kappa: Array) -> Array:
    """`softmax(kappa score)` `[S]`; candidates of -inf weigh nothing where any other is better."""
    return jax.nn.softmax(kappa * jnp.maximum(jnp.nan_to_num(score, nan=WORST, neginf=WORST), WORST))


@part("planner", "arc")
@dataclasses.dataclass(frozen=True)
class ARC(Sampled):
    """The mean of all candidates, weighed by their scores; an actor proposes some of them.

        w = softmax(kappa score),   mu <- b mu + (1 - b) sum w a,   v <- a v + (1 - a) sum w (a - mu)^2, within [0, 2]

    The plan that maximises `E_p[R] - KL(p || prior) / kappa` is `p ~ prior exp(kappa R)`; the prior is the last
    Gaussian mixed with the actor. Training executes a candidate drawn by w, evaluation the mean.

    Source: Sikchi et al. 2021 (arXiv 2008.10066), section 4, and the authors' code. OmniSafe (`compat="omnisafe"`)
    always executes the mean, and does not forget a plan when an episode ends.
    """

    samples: int = number(100, low=2)
    """Candidates S per refinement, besides the actor's."""
    proposals: int = number(5, low=0)
    """Candidates of the actor, where there is one."""
    kappa: float = number(10.0, low=0)
    """Weight of the predicted return of a plan; large: the best candidate, 0: the plain mean."""
    kappa_cost: float = number(100.0, low=0)
    """Weight of a violation, in the unit of the limit, where too few candidates are feasible."""
    mean_smoothing: float = number(0.0, low=0, below=1)
    """Share b of the old mean that a refinement keeps."""
    enough: int = number(20, low=1)
    """Feasible candidates from which returns count."""

    def __post_init__(self):
        super().__post_init__()
        if self.enough > self.samples:
            raise ValueError(f"enough must be at most samples ({self.samples}), got {self.enough}")

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Planner:
        """A `Planner`."""
        del spec, axis_name
        released = compat == "omnisafe"
        a, b = self.smoothing, self.mean_smoothing

        def refit(actions, judged, mean, var):
            weights = boltzmann(judged.score, jnp.where(judged.enough, self.kappa, self.kappa_cost))
            centre = jnp.einsum("s,hsa->ha", weights, actions)
            spread = jnp.einsum("s,hsa->ha", weights, jnp.square(actions - centre[:, None]))
            return b * mean + (1 - b) * centre, a * var + (1 - a) * jnp.clip(spread, 0.0, 2.0), (weights, actions[0])

        def plan(mean, evaluate, proposals, key, explore):
            plan_key, draw_key = jax.random.split(key)
            mean, judged, (weights, first) = self.refined(self.shifted(mean), plan_key, evaluate, proposals, refit)
            action = mean[0]
            if explore and not released:
                action = first[jax.random.categorical(draw_key, jnp.log(weights))]
            return Planned(action, mean, told(judged, weights))

        return Planner(self.horizon, self.proposals, plan, self.enough, released)
