"""A conditional variational auto-encoder of recorded actions, with BCQ's bounded perturbation."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.generators.base import BEHAVIOUR, Generator, squared_error
from jsafe.nets.perceptron import FeedForward, Layers, fan_in_uniform, mlp
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec, Params


class Codec(NamedTuple):
    """Encoder and decoder; parameters are `{"encoder", "decoder"}`.

    `encode(params, obs, action) -> (mean, log_std)`, `[..., L]` each; `raw(params, obs, z [..., R, L]) -> [..., R, A]`
    is the decoder before it is squashed, `decode` after.
    """

    init: Any
    encode: Any
    raw: Any
    decode: Any


def kl_from_prior(mean: Array, log_std: Array) -> Array:
    """`KL(N(m, sigma^2) || N(0, 1))` of each component, as a mean over them: `[..., L] -> [...]`."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2.0 * log_std) - 1.0 - 2.0 * log_std).mean(axis=-1)


@part("generator", "cvae")
@dataclasses.dataclass(frozen=True)
class CVAE(Layers):
    """Encoder `(s, a) -> m, log sigma`, decoder `D(s, z) = tanh(g(s, z))`, latents `z` of `latent` components.

        L(s, a) = mean_A (D(s, m + sigma xi) - a)^2 + b mean_L KL(N(m, sigma^2) || N(0, 1))

    Sampling: `z = clip(N(0, I), -z_max, z_max)`. With `phi` above 0 actions are moved by a network of their own,
    `clip(D(s, z) + phi tanh(f(s, D(s, z))), -1, 1)`, that learns from critics alone. No gradient of a sampled action
    reaches the decoder.

    With this loss the latent is used only where an action component's variance given `s` exceeds `b / 4`
    (probabilistic PCA: the decoded variance is `v - b / 4`): a standard deviation of 0.35 at `b = 0.5`. Below, all
    samples are the mean action, and nothing is left to choose from.

    Source: Fujimoto, Meger & Precup 2019 (arXiv 1812.02900) and the authors' code. OmniSafe: `b = 1`, a
      linear decoder, `log sigma` in [-20, 2], latents without bounds, random ones where the action is to be certain.
    """

    hidden: tuple[int, ...] = number((750, 750), low=1)
    """Hidden widths of encoder and decoder."""
    latent: int | None = number(None, low=1)
    """Components of the latent; None: two per action component."""
    kl_weight: float = number(0.5, low=0)
    """`b`."""
    z_max: float | None = number(0.5, above=0)
    """Largest latent when sampling; None: no bound."""
    log_std_low: float = number(-4.0)
    """Smallest `log sigma` of the encoder."""
    log_std_high: float = number(15.0)
    """Largest `log sigma` of the encoder."""
    squash: bool = True
    """The decoder ends in tanh; False: it is linear (OmniSafe)."""
    certain: Literal["zero", "random"] = "zero"
    """The latent of its best guess: 0, or one that was drawn once (OmniSafe draws anew)."""
    phi: float = number(0.0, low=0, high=2)
    """Largest perturbation of an action component; 0: none."""
    phi_hidden: tuple[int, ...] = number((400, 300), low=1)
    """Hidden widths of the perturbation."""
    clip: bool = True
    """Perturbed actions are clipped to `[-1, 1]`; False: they may leave it (OmniSafe)."""
    slow: bool = True
    """Targets use a slow copy of the perturbation; False: the current one (OmniSafe)."""

    def codec(self, spec: EnvSpec) -> Codec:
        """Encoder and decoder for an environment."""
        latent = self.latent or 2 * spec.act_dim
        layers: dict[str, Any] = {"hidden": self.hidden, "act": self.activation, "kernel_init": fan_in_uniform()}
        encoder = mlp(spec.obs_dim, 2 * latent, late_dim=spec.act_dim, **layers)
        decoder = mlp(spec.obs_dim, spec.act_dim, late_dim=latent, **layers)

        def init(key):
            keys = jax.random.split(key)
            return {"encoder": encoder.init(keys[0]), "decoder": decoder.init(keys[1])}

        def encode(params, obs, action):
            mean, log_std = jnp.split(_two_inputs(encoder, params["encoder"], obs, action), 2, axis=-1)
            return mean, jnp.clip(log_std, self.log_std_low, self.log_std_high)

        def raw(params, obs, z):
            return _two_inputs(decoder, params["decoder"], obs, z)

        def decode(params, obs, z):
            return jnp.tanh(raw(params, obs, z)) if self.squash else raw(params, obs, z)

        return Codec(init, encode, raw, decode)

    def noise(self, spec: EnvSpec):
        """Latents of samples, `(key, count, rows) -> [n, rows, L]`."""
        latent = self.latent or 2 * spec.act_dim

        def latents(key, count, rows):
            z = jax.random.normal(key, (count, rows, latent))
            return z if self.z_max is None else jnp.clip(z, -self.z_max, self.z_max)

        return latents

    def row_loss(self, codec: Codec, params: Params, obs: Array, action: Array, key: Any) -> Array:
        """`L(s, a)` of each row, `[R]`."""
        mean, log_std = codec.encode(params, obs, action)
        z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)
        error = squared_error(codec.decode(params, obs, z), action) / action.shape[-1]
        return error + self.kl_weight * kl_from_prior(mean, log_std)

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the groups `cvae` and, with `phi`, `perturbation`."""
        del axis_name
        codec, noise = self.codec(spec), self.noise(spec)
        inits: dict[str, Any] = {"act": self.activation, "kernel_init": fan_in_uniform()}
        mover = mlp(spec.obs_dim, spec.act_dim, self.phi_hidden, late_dim=spec.act_dim, **inits)

        def init(key):
            params = {BEHAVIOUR: codec.init(key)}
            if self.phi:
                params["perturbation"] = mover.init(jax.random.fold_in(key, 1))
            return params

        def draw(params, obs, z):
            z = jnp.broadcast_to(z, (z.shape[0], obs.shape[0], z.shape[-1]))
            action = jax.lax.stop_gradient(codec.decode(params[BEHAVIOUR], obs, z))
            if not self.phi:
                return action
            moved = action + self.phi * jnp.tanh(_two_inputs(mover, params["perturbation"], obs, action))
            return jnp.clip(moved, -1.0, 1.0) if self.clip else moved

        def mode(params, obs):
            z = noise(jax.random.key(0), 1, 1)
            return draw(params, obs, z if self.certain == "random" else jnp.zeros_like(z))[0]

        def loss(params, obs, action, key):
            return self.row_loss(codec, params[BEHAVIOUR], obs, action, key)[None]

        slow = ("perturbation",) if self.phi and self.slow else ()
        return Generator(init, noise, draw, mode, loss, slow)


def _two_inputs(net: FeedForward, params: Params, obs: Array, late: Array) -> Array:
    """`net` of observations `[R, O]` and any number of late inputs `[..., R, L]` of each."""
    return net.tail(params, net.embed(params, obs), late)
