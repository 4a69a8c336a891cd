"""A learner's policy as one pure function from named arrays to named arrays, in the environment's units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.data.coroutine import received_dtype, transform_params
from jsafe.types import Learner, PolicyState


class Leaf(NamedTuple):
    """One array of a batch: its name, the shape of a row, its type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Program(NamedTuple):
    """What a policy computes.

    Attributes:
      function: `(inputs, key) -> outputs`, arrays by name with a leading axis N. Inputs are the leaves of the
        observation (`obs`, or `obs/NAME`), with a memory also `started [N]` (where an episode starts: what the memory
        holds there is of no account) and `memory/0` ..., with a safety budget `cost [N, M]` of the step before. Outputs
        are `action`, in the units and within the bounds of the environment, and `next/0` ... of the memory.
      inputs: In the order above.
      outputs: Names.
    """

    function: Callable[[dict[str, Any], Any], dict[str, Any]]
    inputs: tuple[Leaf, ...]
    outputs: tuple[str, ...]


def program(learner: Learner, policy_state: PolicyState, deterministic: bool = True) -> Program:
    """The policy of a learner, with its memory and its budget.

    Args:
      learner: Its `act`, `memory`, `spec` and the transform of its `feed` are used.
      policy_state: What `learner.policy` returned; it becomes part of the function.
      deterministic: Take the most likely action rather than a sample.
    """
    spec = learner.spec
    transform = getattr(learner.feed, "transform", None)
    if transform is not None and not transform.extra_obs:
        transform = None  # it changes episodes, not what the policy sees
    params = transform_params(policy_state)
    start: Any = {"policy": jax.eval_shape(lambda: learner.memory.init(1))}
    full = None
    if transform is not None:
        full = np.asarray(transform.init(params, 1))
        start["budget"] = full
    leaves, structure = jax.tree.leaves(start), jax.tree.structure(start)

    def function(inputs, key):
        obs = _tree("obs", spec.obs, inputs)
        memory = jax.tree.unflatten(structure, [inputs[f"memory/{i}"] for i in range(len(leaves))])
        if leaves:
            started = inputs["started"]
            memory["policy"] = learner.memory.reset(memory["policy"], started)
        if transform is not None:
            no = jnp.zeros_like(started)
            spent = transform.step(params, memory["budget"], no.astype(jnp.float32), inputs["cost"], no, no).z
            memory["budget"] = jnp.where(started[:, None], jnp.asarray(full), jnp.asarray(spent))
            obs = transform.augment(obs, memory["budget"])
        out = learner.act(policy_state, memory["policy"], obs, key, deterministic)
        memory["policy"] = out.memory
        after = {f"next/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(memory))}
        return {"action": in_environment(out.action, spec.action), **after}

    given = [*_leaves("obs", spec.obs)]
    if transform is not None:
        given.append(Leaf("cost", (spec.num_costs,), "float32"))
    if leaves:
        given.append(Leaf("started", (), "bool"))
    given += [Leaf(f"memory/{i}", leaf.shape[1:], str(leaf.dtype)) for i, leaf in enumerate(leaves)]
    return Program(function, tuple(given), ("action", *(f"next/{i}" for i in range(len(leaves)))))


def in_environment(action: Any, space: spaces.Space) -> Any:
    """A policy's actions `[N, A]`, clipped to `[-1, 1]` and mapped to a box; choices as they are."""
    if not isinstance(space, spaces.Box):
        return action
    low, high = spaces.bounds(space)
    action = jnp.clip(action, -1.0, 1.0)
    if np.isfinite(low).all() and np.isfinite(high).all():
        middle, half = ((high + sign * low) / 2 for sign in (1, -1))
        scaled = jnp.asarray(middle, jnp.float32) + jnp.asarray(half, jnp.float32) * action
        action = jnp.clip(scaled, jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32))
    return action if len(space.shape) == 1 else action.reshape(-1, *space.shape)


def _leaves(name: str, space: spaces.Space) -> list[Leaf]:
    if isinstance(space, spaces.Tree):
        return [leaf for key, inner in space.items for leaf in _leaves(f"{name}/{key}", inner)]
    return [Leaf(name, tuple(space.shape), str(received_dtype(space)))]


def _tree(name: str, space: spaces.Space, arrays: dict[str, Any]) -> Any:
    if isinstance(space, spaces.Tree):
        return {key: _tree(f"{name}/{key}", inner, arrays) for key, inner in space.items}
    return arrays[name]
