"""One action for each observation."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.generators.base import Generator, squared_error
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import part
from jsafe.types import EnvSpec


@part("generator", "deterministic")
@dataclasses.dataclass(frozen=True)
class Deterministic(Layers):
    """`pi(s) = tanh(f(s))`, fitted by `|pi(s) - a|^2`.

    It has no randomness: its samples are its best guess.
    """

    slow: bool = True
    """Targets use a slow copy of it."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the group `actor`."""
        del axis_name
        net = mlp(spec.obs_dim, spec.act_dim, self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def mode(params, obs):
            return jnp.tanh(net.apply(params["actor"], obs))

        def draw(params, obs, noise):
            action = mode(params, obs)
            return jnp.broadcast_to(action, (noise.shape[0], *action.shape))

        return Generator(
            init=lambda key: {"actor": net.init(key)},
            noise=lambda key, count, rows: jnp.zeros((count, rows, 0)),
            draw=draw,
            mode=mode,
            loss=lambda params, obs, action, key: squared_error(mode(params, obs), action)[None],
            slow=("actor",) if self.slow else (),
        )
