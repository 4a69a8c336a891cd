"""Gaussian policies with one deviation for all observations."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.generators.base import Generator, normal_noise
from jsafe.distributions import gaussian
from jsafe.distributions.gaussian import Gaussian as Normal
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec


@part("generator", "gaussian")
@dataclasses.dataclass(frozen=True)
class Gaussian(Layers):
    """`N(tanh(f(s)), sigma^2)` with one learned `log sigma` per component, fitted by `-log pi(a | s)`.

    Samples are clipped to `[-1, 1]` before they meet a critic. With several `heads` they share all layers but the last,
    each with a mean and a deviation of its own; actions are then the heads' means.

    Source: Kostrikov, Nair & Levine 2022 (arXiv 2110.06169); the heads: CAPS (AAAI 2025), the authors' code.
    """

    heads: int = number(1, low=1, high=64)
    """Policies on one trunk."""
    log_std: float = number(0.0)
    """Start of `log sigma`."""
    log_std_low: float = number(-5.0)
    """Smallest `log sigma`."""
    log_std_high: float = number(2.0)
    """Largest `log sigma`."""
    squash: bool = True
    """The mean passes through tanh; False: it has no bounds (OmniSafe)."""
    slow: bool = True
    """Targets use a slow copy of it; False: the current one (OmniSafe)."""

    def __post_init__(self):
        super().__post_init__()
        if self.log_std_low > self.log_std_high:
            raise ValueError(
                f"log_std_low must be at most log_std_high ({self.log_std_high!r}), got {self.log_std_low!r}"
            )

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the group `actor`."""
        del axis_name
        heads, width = self.heads, spec.act_dim
        net = mlp(spec.obs_dim, heads * width, self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def init(key):
            return {"actor": {"net": net.init(key), "log_std": jnp.full((heads, width), self.log_std, jnp.float32)}}

        def dist(params, obs) -> Normal:
            """Means `[H, R, A]` and log deviations `[H, 1, A]`."""
            mean = net.apply(params["actor"]["net"], obs)
            mean = jnp.moveaxis(mean.reshape(*mean.shape[:-1], heads, width), -2, 0)
            log_std = jnp.clip(params["actor"]["log_std"], self.log_std_low, self.log_std_high)
            return Normal(jnp.tanh(mean) if self.squash else mean, log_std[:, None])

        def draw(params, obs, noise) -> Array:
            policy = dist(params, obs)
            spread = noise * jnp.exp(policy.log_std) if heads == 1 else jnp.zeros(())
            return jnp.clip(policy.mean + spread, -1.0, 1.0)

        return Generator(
            init=init,
            noise=normal_noise(width),
            draw=draw,
            mode=lambda params, obs: dist(params, obs).mean[0],
            loss=lambda params, obs, action, key: -gaussian.log_prob(dist(params, obs), action),
            slow=("actor",) if self.slow else (),
            losses=heads,
            heads=heads,
        )
