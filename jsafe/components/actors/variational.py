"""A Gaussian policy that follows the solution of a constrained problem on its own samples: CVPO's."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Actor, ActorLoss, Draw
from jsafe.distributions import gaussian
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.ops.stats import psum
from jsafe.ops.variational import e_step_weights, solve_e_step
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec

LEAST_STD = 1e-3


class VariationalState(NamedTuple):
    """`dual [1 + M]`: temperature and multipliers of the E-step; `trust [2]`: those of the M-step's two divergences."""

    dual: Array
    trust: Array


@part("actor", "variational")
@dataclasses.dataclass(frozen=True)
class Variational(Layers):
    """E-step: weights of N actions of the slow policy that maximise the reward's value under the limits.

    M-step: `L = -mean_n w_n (log N(a_n; mu, sigma') + log N(a_n; mu', sigma)) + beta_mu KL_mu + beta_sigma KL_sigma`,
    `mu'`, `sigma'` those of the slow policy, `KL_mu = KL(N(mu', sigma') || N(mu, sigma'))`,
    `KL_sigma = KL(N(mu', sigma') || N(mu', sigma))`; `beta <- clip(beta + rate (KL - radius), 0, most)`.

    Limits hold for the mean over replayed states of the slow critics' costs, as discounted sums. Actions leave
    `[-1, 1]` where the normal does; they are clipped to it.

    Source: Liu et al. 2022 (arXiv 2201.11927), section 4, and the authors' code, which has a full covariance, several
      M-steps per E-step, and a solver of its own for the dual. As there, the likelihood is averaged over the actions,
      where the paper sums.
    """

    samples: int = number(32, low=2)
    """Actions per state, N."""
    radius: float = number(0.1, above=0)
    """Divergence that the E-step allows."""
    mean_radius: float = number(0.001, above=0)
    """Divergence by the mean that the M-step allows."""
    std_radius: float = number(0.001, above=0)
    """Divergence by the standard deviation that the M-step allows."""
    mean_rate: float = number(1.0, low=0)
    """Rate of the multiplier of the former."""
    std_rate: float = number(100.0, low=0)
    """Rate of the multiplier of the latter."""
    mean_most: float = number(0.1, above=0)
    """Largest multiplier of the former."""
    std_most: float = number(10.0, above=0)
    """Largest multiplier of the latter."""

    constrains: ClassVar[bool] = True
    """The limit acts in the actor, without a rule."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with a `VariationalState`."""
        net = mlp(spec.obs_dim, 2 * spec.act_dim, self.hidden, act=self.activation, kernel_init=fan_in_uniform())
        radius = jnp.array([self.mean_radius, self.std_radius])
        rate, most = jnp.array([self.mean_rate, self.std_rate]), jnp.array([self.mean_most, self.std_most])

        def policy(params, obs):
            mean, raw = jnp.split(net.apply(params, obs), 2, axis=-1)
            return gaussian.Gaussian(jnp.tanh(mean), jnp.log(jax.nn.softplus(raw) + LEAST_STD))

        def draw(params, obs, key, deterministic=False):
            dist = policy(params, obs)
            action = dist.mean if deterministic else gaussian.sample(dist, key)
            return Draw(jnp.clip(action, -1.0, 1.0), {"actor": gaussian.log_prob(dist, action)})

        def loss(params, key, inputs):
            new, old = policy(params, inputs.obs), policy(inputs.slow, inputs.obs)
            noise = jax.random.normal(key, (self.samples, *old.mean.shape))
            actions = old.mean + jnp.exp(old.log_std) * noise
            values = inputs.slow_q.values(jnp.clip(actions, -1.0, 1.0))
            dual = solve_e_step(
                inputs.state.dual, values.reward, values.cost, inputs.limit, self.radius, axis_name=axis_name
            )
            weights = jax.lax.stop_gradient(e_step_weights(dual, values.reward, values.cost))
            halves = gaussian.Gaussian(new.mean, old.log_std), gaussian.Gaussian(old.mean, new.log_std)
            likelihood = sum(gaussian.log_prob(half, actions) for half in halves)
            kl = jnp.stack([gaussian.kl(old, half) for half in halves], axis=-1)
            total, count = psum(((inputs.weight[:, None] * kl).sum(axis=0), inputs.weight.sum()), axis_name)
            excess = jax.lax.stop_gradient(total) / jnp.maximum(count, 1.0) - radius
            trust = jnp.clip(inputs.state.trust + rate * excess, 0.0, most)
            rows = -(weights * likelihood).mean(axis=0) + kl @ trust
            metrics = {
                "loss/actor": rows.mean(),
                "policy/kl": kl.sum(axis=-1).mean(),
                "policy/std": jnp.exp(new.log_std).mean(),
                "dual/temperature": dual[0],
                **{f"cost/{i}/multiplier": dual[1 + i] for i in range(spec.num_costs)},
            }
            return ActorLoss(rows, Draw(new.mean, {}), metrics, VariationalState(dual, trust))

        def start():
            return VariationalState(jnp.full(1 + spec.num_costs, 0.1), jnp.zeros(2))

        return Actor(net.init, draw, loss, (), lambda params, slow, obs, key: draw(params, obs, key), True, start)
