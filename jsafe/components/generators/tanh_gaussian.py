"""Soft actor-critic's policy, alone and beside a model of the recorded actions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.generators.base import BEHAVIOUR, Generator, Support, inside, normal_noise
from jsafe.components.generators.cvae import CVAE, kl_from_prior
from jsafe.distributions import squashed_gaussian
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import part
from jsafe.types import EnvSpec


@part("generator", "tanh_gaussian")
@dataclasses.dataclass(frozen=True)
class TanhGaussian(Layers):
    """`tanh(N(m(s), sigma(s)^2))`, fitted by `-log pi(a | s)` of recorded actions clipped into the open box.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), appendix C.
    """

    slow: bool = True
    """Targets use a slow copy of it; False: the current one."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the group `actor`."""
        del axis_name
        net = mlp(spec.obs_dim, 2 * spec.act_dim, self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def dist(params, obs):
            return squashed_gaussian.head(net.apply(params["actor"], obs))

        def draw(params, obs, noise):
            policy = dist(params, obs)
            return jnp.tanh(policy.mean + jnp.exp(policy.log_std) * noise)

        def loss(params, obs, action, key):
            return -squashed_gaussian.log_prob(dist(params, obs), jnp.arctanh(inside(action)))[None]

        return Generator(
            init=lambda key: {"actor": net.init(key)},
            noise=normal_noise(spec.act_dim),
            draw=draw,
            mode=lambda params, obs: jnp.tanh(dist(params, obs).mean),
            loss=loss,
            slow=("actor",) if self.slow else (),
        )


@part("generator", "supported")
@dataclasses.dataclass(frozen=True)
class Supported(TanhGaussian):
    """A tanh-Gaussian policy that learns from critics, and a CVAE beside it that learns from recorded actions.

    The CVAE says how far an action is from recorded ones, `mean_L KL(encoder(s, a) || N(0, 1))`, and gives actions like
    the recorded ones to compare samples with. Its `phi` has no effect.

    Source: Xu, Zhan & Zhu 2022 (CPQ, arXiv 2107.09003); Kumar et al. 2019 (BEAR, arXiv 1906.00949).
    """

    behaviour: CVAE = CVAE(hidden=(400, 400))  # noqa: RUF009
    """The model of recorded actions."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the groups `actor` and `cvae`, whose loss is the CVAE's."""
        policy, codec, latents = super().build(spec, axis_name), self.behaviour.codec(spec), self.behaviour.noise(spec)

        def init(key):
            return policy.init(key) | {BEHAVIOUR: codec.init(jax.random.fold_in(key, 1))}

        def loss(params, obs, action, key):
            return self.behaviour.row_loss(codec, params[BEHAVIOUR], obs, action, key)[None]

        def divergence(params, obs, action):
            return kl_from_prior(*codec.encode(params[BEHAVIOUR], obs, action))

        def raw(params, obs, key, count):
            return jax.lax.stop_gradient(codec.raw(params[BEHAVIOUR], obs, latents(key, count, obs.shape[0])))

        def policy_raw(params, obs, key, count):
            return jnp.arctanh(inside(policy.draw(params, obs, policy.noise(key, count, obs.shape[0]))))

        return policy._replace(init=init, loss=loss, support=Support(divergence, raw, policy_raw))
