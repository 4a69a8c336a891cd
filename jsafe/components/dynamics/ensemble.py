"""An ensemble of Gaussian networks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe.components.compat import Compat
from jsafe.components.dynamics.base import Dynamics, DynamicsPart, Heads, Model, Prediction
from jsafe.components.optim import descend
from jsafe.nets.perceptron import Activation, mlp
from jsafe.ops.stats import RunningStats, psum, running_init, running_update
from jsafe.options import number, part, traced, traced_values
from jsafe.types import Array, EnvSpec

CONSTANT = 1e-3
"""Standard deviation below which an input counts as constant."""
STILL = 1e-6
"""Standard deviation below which a change of the observation is not scaled."""
DECAY = (0.25, 0.5, 0.75)
"""Shares of the weight decay of the first layers; the others have the last of them, the output layer has 1."""


class EnsembleState(NamedTuple):
    """Everything that an update changes: `params` (`nets`, `high`, `low`), Adam's state, moments of the inputs
    and, where they are scaled, of changes."""

    params: Any
    opt_state: Any
    stats: RunningStats
    numbers: Any


def bounded(raw: Array, low: Array, high: Array) -> Array:
    """A raw log variance softly kept within bounds: `lv = high - softplus(high - raw)`, then likewise from below.

    Source: Chua et al. 2018 (arXiv 1805.12114), appendix A.1.
    """
    below = high - jax.nn.softplus(high - raw)
    return low + jax.nn.softplus(below - low)


def narrow_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """A normal cut at two of its standard deviations `1 / (2 sqrt(fan_in))`."""
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) / (2.0 * math.sqrt(shape[0]))


@part("dynamics", "ensemble")
@dataclasses.dataclass(frozen=True)
class Ensemble(DynamicsPart):
    """E networks of Gaussians, each trained on its own rows.

        x = ((obs, action) - mu) / sigma
        L = sum_e mean_{b,d} [(m - y)^2 exp(-lv) + lv] + 0.01 (sum hi - sum lo) + 1/2 sum_l c_l ||W_l||^2

    with `y = [reward, costs, next obs - obs]`, log variances `lv` within trained bounds (`bounded`), and decays
    `c = (1/4, 1/2, 3/4, ..., 1) decay`. An input that hardly varies (a standard deviation below 1e-3) is not scaled:
    the prediction of a constant has some spread, which divided by 1e-12 would drown everything else.

    Source: Chua et al. 2018 (arXiv 1805.12114) and the authors' code, which scales down to 1e-12. OmniSafe, with
    `compat="omnisafe"`: fixed bounds, and divides by `max(sigma, 1e-12)`, so that where an input is constant (the
    Point's magnetometer) nearly all predicted states sit at the clamp until the decay has silenced it.
    """

    size: int = number(5, low=1)
    """Number of nets E."""
    hidden: tuple[int, ...] = number((200, 200, 200, 200), low=1)
    """Hidden widths."""
    activation: Activation = "silu"
    learning_rate: float = traced(1e-3, above=0)
    """Adam's."""
    decay: float = number(1e-4, low=0)
    """Of the weights of the output layer; lower layers have shares of it."""
    cost_head: Literal["gaussian", "bernoulli"] = "gaussian"
    """How learnt costs are predicted: as Gaussians; or, costs of 0 and 1, as probabilities (logits, cross entropy),
    CAP's binary mode."""
    scaled: bool = False
    """Predict the change of an observation in units of its standard deviation. Unscaled, variances begin at and tend
    to `e^-10`: a component that changes by less than the root of that, 0.007, a step is hardly learned."""

    def build(
        self,
        spec: EnvSpec,
        axis_name: str | None = None,
        compat: Compat = "paper",
        heads: Heads | None = None,
    ) -> Dynamics:
        """`Dynamics` with an `EnsembleState`.

        Collectives: `psum` of gradients, of the numbers of rows that count, and of the moments of the inputs.
        """
        heads = Heads(True, spec.num_costs) if heads is None else heads
        motion = heads.motion
        seen, changes = motion.widths(spec.obs_dim)
        inputs, outputs = seen + spec.act_dim, heads.width + changes
        costs = slice(int(heads.reward), heads.width if self.cost_head == "bernoulli" else int(heads.reward))
        released = compat == "omnisafe"
        net = mlp(inputs, 2 * outputs, self.hidden, act=self.activation, kernel_init=narrow_normal)
        decays = [DECAY[min(i, len(DECAY) - 1)] for i in range(len(self.hidden))] + [1.0]
        adam = optax.scale_by_adam()
        measured = inputs + (changes if self.scaled else 0)

        def init(key):
            params = {
                "nets": jax.vmap(net.init)(jax.random.split(key, self.size)),
                "high": jnp.full((outputs,), 0.5, jnp.float32),
                "low": jnp.full((outputs,), -10.0, jnp.float32),
            }
            return EnsembleState(params, adam.init(params), running_init(measured), traced_values(self))

        def observe(state, rows):
            known = (motion.seen(rows.obs), rows.action, rows.target[..., heads.width :])
            x = jnp.concatenate(known if self.scaled else known[:2], axis=-1)
            return state._replace(stats=running_update(state.stats, x, axis_name, rows.weight))

        def model(state):
            deviation = jnp.sqrt(state.stats.m2 / jnp.maximum(state.stats.count - 1.0, 1.0))
            least = 1e-12 if released else jnp.where(jnp.arange(measured) < inputs, CONSTANT, STILL)
            scale = jnp.maximum(deviation, least) if released else jnp.where(deviation < least, 1.0, deviation)
            scale = jnp.where(state.stats.count > 1, scale, 1.0)
            return Model(state.params, state.stats.mean, scale)

        def unit(known):
            """What the outputs are in units of: 1, or `[D]`."""
            return jnp.ones(outputs).at[heads.width :].set(known.scale[inputs:]) if self.scaled else 1.0

        def outcome(params, known, obs, action):
            """Mean and log variance of all outputs in their units, bounded."""
            x = jnp.concatenate([motion.seen(obs), action], axis=-1)
            x = (x - known.centre[:inputs]) / known.scale[:inputs]
            mean, raw = jnp.split(jax.vmap(net.apply)(params["nets"], x), 2, axis=-1)
            return mean, bounded(raw, params["low"], params["high"])

        def loss(params, known, rows, count, share):
            if released:
                params = params | jax.lax.stop_gradient({name: params[name] for name in ("high", "low")})
            mean, log_var = outcome(params, known, rows.obs, rows.action)
            square = jnp.square(mean - rows.target / unit(known))
            nll = square * jnp.exp(-log_var) + log_var
            if costs.stop > costs.start:
                happened = (rows.target[..., costs] > 0).astype(jnp.float32)
                nll = nll.at[..., costs].set(optax.sigmoid_binary_cross_entropy(mean[..., costs], happened))
                square = square.at[..., costs].set(jnp.square(jax.nn.sigmoid(mean[..., costs]) - happened))
            share_of_rows = rows.weight / jnp.maximum(count, 1.0)[:, None]
            fit = (share_of_rows * nll.mean(axis=-1)).sum()
            kernels = [params["nets"]["kernel_0"]]
            kernels += [params["nets"][f"dense_{i + 1}"]["kernel"] for i in range(len(self.hidden))]
            decay = sum(c * jnp.vdot(w, w) for c, w in zip(decays, kernels))
            bounds = 0.0 if released else 0.01 * (params["high"] - params["low"]).sum()
            error = (share_of_rows * (square * jnp.square(unit(known))).mean(axis=-1)).sum()
            metrics = {"model/nll": fit / self.size, "model/squared_error": error / self.size}
            return fit + share * (bounds + 0.5 * self.decay * decay), metrics

        def update(state, rows):
            count = psum(rows.weight.sum(axis=-1), axis_name)
            share = 1.0 if axis_name is None else 1.0 / jax.lax.axis_size(axis_name)
            grads, metrics = jax.grad(loss, has_aux=True)(state.params, model(state), rows, count, share)
            grads, metrics = psum((grads, metrics), axis_name)
            direction, opt_state = adam.update(grads, state.opt_state, state.params)
            params = descend(state.params, direction, state.numbers.learning_rate)
            return state._replace(params=params, opt_state=opt_state), metrics

        def predict(known, obs, action):
            mean, log_var = outcome(known.params, known, obs, action)
            mean, std = mean * unit(known), jnp.exp(0.5 * log_var) * unit(known)
            if costs.stop > costs.start:
                mean = mean.at[..., costs].set(jax.nn.sigmoid(mean[..., costs]))
                std = std.at[..., costs].set(0.0)
            return Prediction(mean, std)

        return Dynamics(self.size, heads, init, observe, loss, update, model, predict)
