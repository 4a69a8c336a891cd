"""Batches of the host inside a jitted program, by a callback: exact, one process, no faster than the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jsafe import spaces
from jsafe.envs.api import Spec, Step, VectorEnv

_WHY = (
    "an environment of as_jax is one batch on the host: it cannot be vmapped or spread over devices. "
    "Make it with more environments, or use backend='device'"
)


class CalledEnv(NamedTuple):
    """N environments on the host as functions of a program; the state is a number that keeps their order.

    The functions have the signature of `jsafe.envs.device.vectorise`. Keys are not used: the environments have streams
    of their own.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      reset: `(keys) -> (state, obs)`: all environments anew.
      step: `(state, actions [N, A], keys) -> (state, Step)`, with the same-step autoreset.
      restart: `(state, rows [N]) -> (state, obs)`: new episodes in some.
    """

    spec: Spec
    num_envs: int
    reset: Callable[..., tuple[Any, Any]]
    step: Callable[..., tuple[Any, Step]]
    restart: Callable[..., tuple[Any, Any]]


def as_jax(env: VectorEnv) -> CalledEnv:
    """A batch of the host for `jit`, `scan` and whatever is compiled around it.

    Every step is an ordered callback, so that the program and the environments take the same steps in the same order;
    floating-point numbers arrive in JAX's default type. Steps are those of `env` itself, which must not be used by
    anybody else meanwhile.

    Args:
      env: What `jsafe.envs.make` returns, or anything else with that interface.

    Returns:
      A `CalledEnv`. A state can be stepped once: the environments have gone on, and an older state is an error.

    Raises:
      NotImplementedError: Later, where it is vmapped or mapped over devices.

    Example:
      >>> env = jsafe.envs.as_jax(jsafe.envs.make("Toy-SpeedLimit-v0", num_envs=4))
      >>> state, obs = jax.jit(env.reset)()
      >>> state, step = jax.jit(env.step)(state, jnp.ones((4, 1)))
      >>> step.reward.shape
      (4,)
    """
    n, spec = env.num_envs, env.spec
    floating = np.dtype(jnp.zeros(()).dtype)
    taken = [0]  # calls so far: what a state has to say

    def shape(leaf):
        kind = floating if leaf.dtype.startswith("float") else np.dtype(leaf.dtype)
        return jax.ShapeDtypeStruct((n, *leaf.shape), kind)

    def real(*tail):
        return jax.ShapeDtypeStruct((n, *tail), floating)

    seen, flag = spaces.tree_map(shape, spec.obs), jax.ShapeDtypeStruct((n,), np.bool_)
    m, flat = spec.num_costs, isinstance(spec.obs, spaces.Box) and spec.obs.flat and spec.obs.dtype.startswith("float")
    # One array where that can be: each costs as much as hundreds of numbers.
    told: Any = (real(2 * spec.obs_dim + m + 4),) if flat else (seen, real(), real(m), flag, flag, seen, flag)

    def cast(value, like):
        return jax.tree.map(lambda x, y: np.asarray(x, y.dtype), value, like)

    def turn(count):
        if count != taken[0]:
            raise RuntimeError(
                f"this state is of call {count} of an environment that has had {taken[0]}: a state of as_jax can be "
                "stepped once, and the environments cannot go back"
            )
        taken[0] += 1

    def begin():
        taken[0] += 1
        return np.int32(taken[0]), cast(env.reset(), seen)

    def advance(count, actions):
        turn(int(count))
        out = env.step(np.asarray(actions, np.float64) if spec_is_box else np.asarray(actions))
        success = out.info.get("success", np.zeros(n, bool))
        values = (out.obs, out.reward, out.cost, out.terminated, out.truncated, out.final_obs, success)
        if not flat:
            return np.int32(taken[0]), cast(values, told)
        columns = [out.obs, out.final_obs, out.cost, *(x[:, None] for x in (out.reward, *values[3:5], success))]
        return np.int32(taken[0]), (np.concatenate(columns, axis=1, dtype=floating, casting="unsafe"),)

    def renew(count, rows):
        turn(int(count))
        return np.int32(taken[0]), cast(env.reset(mask=np.asarray(rows)), seen)

    spec_is_box = isinstance(spec.action, spaces.Box)
    number = jax.ShapeDtypeStruct((), np.int32)

    def call(function, result, *args):
        @jax.custom_batching.custom_vmap
        def ordered(*args):
            return io_callback(function, (number, result), *args, ordered=True)

        @ordered.def_vmap
        def refuse(size, batched, *args):
            raise NotImplementedError(_WHY)

        if math.prod(jax.sharding.get_abstract_mesh().shape.values()) > 1:
            raise NotImplementedError(_WHY)
        return ordered(*args)

    def reset(keys=None):
        del keys
        # The dummy argument lets vmap see the call.
        return call(lambda _: begin(), seen, jnp.int32(0))

    def step(state, actions, keys=None):
        del keys
        if jnp.ndim(actions) == 0 or jnp.shape(actions)[0] != n:
            raise ValueError(f"actions must be [{n}, ...], got {jnp.shape(actions)}")
        state, values = call(advance, told, state, actions)
        if flat:
            obs, final_obs, cost, rest = jnp.split(values[0], np.cumsum([spec.obs_dim, spec.obs_dim, m]), axis=1)
            reward, (terminated, truncated, success) = rest[:, 0], rest[:, 1:].T > 0
        else:
            obs, reward, cost, terminated, truncated, final_obs, success = values
        info = {"success": success}
        return state, Step(obs, reward, cost, terminated, truncated, final_obs, info)

    def restart(state, rows):
        return call(renew, seen, state, rows)

    return CalledEnv(spec, n, reset, step, restart)
