"""Diffusion policies: actions are noise that a network takes away step by step."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.components.generators.base import Generator
from jsafe.nets.denoiser import denoiser
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec


class Schedule(NamedTuple):
    """Of the steps 1 to N, `[N]` each: `beta`, the noise that a step adds, `kept`, the product of `1 - beta` so far."""

    beta: np.ndarray
    kept: np.ndarray


def variance_preserving(steps: int, low: float = 0.1, high: float = 10.0) -> Schedule:
    """`beta_t = 1 - exp(-low / N - (high - low) (2 t - 1) / (2 N^2))`.

    Source: Song et al. 2021 (arXiv 2011.13456), discretised as in Xiao, Kreis & Vahdat 2022 (arXiv 2112.07804).
    """
    t = np.arange(1, steps + 1)
    beta = 1.0 - np.exp(-low / steps - 0.5 * (high - low) * (2 * t - 1) / steps**2)
    return Schedule(beta, np.cumprod(1.0 - beta))


@part("generator", "diffusion")
@dataclasses.dataclass(frozen=True)
class Diffusion(Options):
    """`L = |eps(s, sqrt(k_t) a + sqrt(1 - k_t) n, t) - n|^2`, t uniform, n standard normal, `k_t` the share kept.

    Sampling goes the way back from noise, clipped to `[-1, 1]` after every step:
    `a <- (a - beta_t / sqrt(1 - k_t) eps) / sqrt(1 - beta_t) + sqrt(beta_t) n`, without n in the last. The best guess
    is the sample without any noise. It acts with the slow copy of its parameters.

    Source: Ho, Jain & Abbeel 2020 (arXiv 2006.11239), algorithms 1 and 2; Zheng et al. 2024 (FISOR, arXiv 2401.10700).
    """

    steps: int = number(5, low=1, high=1000)
    """N."""
    hidden: tuple[int, ...] = number((256, 256, 256), low=2)
    """Width of the residual blocks, as often as there are blocks; all alike."""
    dropout: float = number(0.1, low=0, below=1)
    """Share of units that are dropped while learning."""

    def __post_init__(self):
        super().__post_init__()
        if not self.hidden or len(set(self.hidden)) > 1:
            raise ValueError(f"hidden must name one width for each block, all alike, got {self.hidden!r}")

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the group `actor`."""
        del axis_name
        width, blocks = self.hidden[0], len(self.hidden)
        net = denoiser(spec.obs_dim, spec.act_dim, width=width, blocks=blocks, dropout=self.dropout)
        schedule, steps, act_dim = variance_preserving(self.steps), self.steps, spec.act_dim
        beta, kept = (jnp.asarray(x, jnp.float32) for x in schedule)

        def draw(params, obs, noise) -> Array:
            noise = jnp.broadcast_to(noise, (noise.shape[0], obs.shape[0], *noise.shape[2:]))

            def back(action, t):
                guess = net.apply(params["actor"], obs, action, t + 1.0, None)
                action = (action - beta[t] / jnp.sqrt(1.0 - kept[t]) * guess) / jnp.sqrt(1.0 - beta[t])
                action += jnp.where(t > 0, jnp.sqrt(beta[t]), 0.0) * noise[:, :, t]
                return jnp.clip(action, -1.0, 1.0), None

            return jax.lax.scan(back, noise[:, :, steps], jnp.arange(steps)[::-1])[0]

        def loss(params, obs, action, key):
            time_key, noise_key, drop_key = jax.random.split(key, 3)
            t = jax.random.randint(time_key, (obs.shape[0],), 0, steps)
            noise = jax.random.normal(noise_key, action.shape, action.dtype)
            mixed = jnp.sqrt(kept[t])[:, None] * action + jnp.sqrt(1.0 - kept[t])[:, None] * noise
            guess = net.apply(params["actor"], obs, mixed, t + 1.0, drop_key)
            return jnp.square(guess - noise).sum(axis=-1)[None]

        return Generator(
            init=lambda key: {"actor": net.init(key)},
            noise=lambda key, count, rows: jax.random.normal(key, (count, rows, steps + 1, act_dim)),
            draw=draw,
            mode=lambda params, obs: draw(params, obs, jnp.zeros((1, 1, steps + 1, act_dim)))[0],
            loss=loss,
            slow=("actor",),
            acts_slow=True,
        )
