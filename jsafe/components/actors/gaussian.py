"""A tanh-Gaussian policy."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax

from jsafe.components.actors.base import Actor, ActorLoss, Draw, mixture
from jsafe.distributions import squashed_gaussian
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import part
from jsafe.types import EnvSpec


@part("actor", "gaussian")
@dataclasses.dataclass(frozen=True)
class Gaussian(Layers):
    """Soft actor-critic's actor.

    `L = -(w_r Q_r(s, a) - sum_m w_m Q_m(s, a)) + alpha log pi(a | s)`, `a = tanh(mean + std xi)`.

    Targets bootstrap from a fresh draw of the current policy.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), equation 7, with the weighted critics in the place of one.
    """

    loss_at: Literal["sample", "mean"] = "sample"
    """Where the loss is taken: at a sample; or at `tanh(mean)`, as in OmniSafe's LOOP."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with the policy `actor`."""
        del axis_name
        net = mlp(spec.obs_dim, 2 * spec.act_dim, self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def draw(params, obs, key, deterministic=False):
            dist = squashed_gaussian.head(net.apply(params, obs))
            action, log_prob = squashed_gaussian.median(dist) if deterministic else squashed_gaussian.sample(dist, key)
            return Draw(action, {"actor": log_prob})

        def loss(params, key, inputs):
            fresh = draw(params, inputs.obs, key, self.loss_at == "mean")
            rows = inputs.alpha["actor"] * fresh.log_probs["actor"]
            rows = rows - mixture(inputs.q.values(fresh.action), inputs.weights)
            return ActorLoss(rows, jax.lax.stop_gradient(fresh), {"loss/actor": rows.mean()}, inputs.state)

        return Actor(net.init, draw, loss, ("actor",), lambda params, slow, obs, key: draw(params, obs, key))
