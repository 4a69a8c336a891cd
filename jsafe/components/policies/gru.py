"""A policy with a gated recurrent unit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.policies.base import Perceptron, PolicyNetwork, fitting_head, with_encoder
from jsafe.nets import recurrent
from jsafe.nets.encoders import as_encoder
from jsafe.nets.heads import Actor
from jsafe.options import number, part
from jsafe.types import EnvSpec, Memory


@part("policy", "gru")
@dataclasses.dataclass(frozen=True)
class GRUPolicy(Perceptron):
    """`h_t = GRU(h_{t-1}, encoder(s_t))`; a perceptron of both, `[encoder(s_t), h_t]`, gives the distribution.

    It learns by truncated back-propagation: the rollouts are cut into segments, minibatches are made of whole segments,
    gradients flow within one. A segment starts from the state that the policy had there while it acted; within an
    iteration that start stays, while the parameters move on (Kapturowski et al. 2019, "R2D2", the stored state).
    """

    units: int = number(64, low=1)
    """Width of the state."""
    segment: int = number(20, low=1)
    """Steps that gradients flow back. It divides the length of the rollouts, `steps_per_epoch / num_envs`; a minibatch
    holds as many whole segments as fit into it."""
    init_log_std: float = number(0.0)
    """Initial log standard deviation of each component of a continuous action, which counts within [-1, 1]."""

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """See `fitting_head`."""
        return fitting_head(self.kind, spec, width, self)

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> PolicyNetwork:
        """The network and its memory `[N, units]`, zeros where an episode starts."""
        del axis_name
        coder = as_encoder(self.encoder, spec)
        cell, head = recurrent.gru(coder.width, self.units), self.head(spec, coder.width + self.units)

        def init(key):
            cell_key, head_key = jax.random.split(key)
            return {"cell": cell.init(cell_key), "head": head.init(head_key)}

        def encode(params, obs):
            return coder.apply(params["encoder"] if coder.learns else (), obs)

        def apply(params, memory, obs):
            x = encode(params, obs)
            memory = cell.step(params["cell"], memory, x)
            return head.apply(params["head"], jnp.concatenate([x, memory], axis=-1)), memory

        def unroll(params, memory, obs, started):
            x = encode(params, obs)
            states, _ = recurrent.scan(cell, params["cell"], memory, x.swapaxes(0, 1), started.swapaxes(0, 1))
            x, states = (rows.reshape(-1, rows.shape[-1]) for rows in (x, states.swapaxes(0, 1)))
            return head.apply(params["head"], jnp.concatenate([x, states], axis=-1)), states

        memory = Memory(
            init=lambda num_envs: jnp.zeros((num_envs, self.units), jnp.float32),
            reset=lambda memory, started: jnp.where(started[:, None], 0.0, memory),
        )
        return PolicyNetwork(with_encoder(coder, init), apply, memory, unroll, self.segment)
