"""The door through which everything comes in: values that no learner can use are stopped here, and named."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.data.api import BadValueError

LARGEST = 1e8
"""Default bound of the magnitude of observations, rewards and costs."""


class Bad(NamedTuple):
    """What `Door.look` found, `[N]` booleans each: steps, and first observations after episodes that ended well."""

    steps: np.ndarray
    starts: np.ndarray


class Door:
    """Looks at every step of N environments before anything is made of it.

    Rewards, costs and floating-point observations have to be finite and at most `largest` in magnitude.

    Args:
      spec: The environment's `spec`.
      num_envs: Number of environments N.
      on_bad: `"stop"`: a bad value raises. `"end"`: the episode it came in is to be ended there, not stored, and
        counted (`episode/bad`).
      largest: Bound of the magnitude.
      half: Whether observations will be stored in float16, which ends at 65 504.

    Raises:
      ValueError: For another `on_bad`, or a bound that is not positive.
    """

    def __init__(self, spec: Any, num_envs: int, on_bad: str = "stop", largest: float = LARGEST, half: bool = False):
        if on_bad not in ("stop", "end"):
            raise ValueError(f"on_bad must be 'stop' or 'end', got {on_bad!r}")
        if not largest > 0:
            raise ValueError(f"largest must be positive, got {largest}")
        self._names = tuple(getattr(spec, "cost_names", ()))
        self._slices = getattr(spec, "obs_slices", None) or {}
        self._stops = on_bad == "stop"
        self._shapes = (num_envs,), (num_envs, spec.num_costs)
        self._largest = float(largest)
        self._obs_bound = min(self._largest, float(np.finfo(np.float16).max)) if half else self._largest

    def look(self, step: Any, lengths: np.ndarray) -> Bad | None:
        """What a step has spoilt.

        Args:
          step: What `env.step` returned.
          lengths: `[N]`, steps of the running episodes before this one.

        Returns:
          None if all is well: nearly always, so that this costs a few dot products.

        Raises:
          BadValueError: With `on_bad="stop"`, naming the first value.
          ValueError: If rewards or costs are missing, or of another shape.
        """
        reward, cost = step.reward, step.cost
        if getattr(reward, "shape", None) != self._shapes[0] or getattr(cost, "shape", None) != self._shapes[1]:
            self._wrong_shape(reward, cost)
        if (
            _small(reward, self._largest)
            and _small(cost, self._largest)
            and self._fine(step.final_obs)
            and self._fine(step.obs)
        ):
            return None
        costs = {self._cost_name(m): cost[:, m] for m in range(cost.shape[1])}
        given = {"reward": reward, **costs, **_named_leaves(step.final_obs)}
        found = {name: self._large(name, value) for name, value in given.items()}
        first = {name: self._large(name, value) for name, value in _named_leaves(step.obs).items()}
        bad, starts = _any(found), _any(first) & (step.terminated | step.truncated)
        starts &= ~bad
        if not (bad | starts).any():
            return None
        if self._stops:
            env = int(np.argmax(bad | starts))
            if bad[env]:
                raise self._error(found, given, env, int(lengths[env]) + 1)
            raise self._error(first, _named_leaves(step.obs), env, 0)
        return Bad(bad, starts)

    def look_at_first(self, obs: Any, of: np.ndarray | None = None) -> None:
        """Looks at observations `[N, ...]` after a reset of the environments `of [N]` (booleans; all by default).

        Raises:
          BadValueError: Whatever `on_bad` is: another reset would not help.
        """
        if self._fine(obs):
            return
        given = _named_leaves(obs)
        found = {name: self._large(name, value) for name, value in given.items()}
        bad = _any(found) if of is None else _any(found) & of
        if bad.any():
            raise self._error(found, given, int(np.argmax(bad)), 0)

    def _fine(self, obs: Any) -> bool:
        if isinstance(obs, np.ndarray):
            return _small(obs, self._obs_bound)
        return all(_small(leaf, self._obs_bound) for leaf in jax.tree.leaves(obs))

    def _large(self, name: str, value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return np.zeros(value.shape, bool)
        return ~(np.abs(value) <= (self._obs_bound if name.startswith("observation") else self._largest))

    def _cost_name(self, m: int) -> str:
        return f"cost {m} ({self._names[m]})" if m < len(self._names) else f"cost {m}"

    def _error(self, found: dict[str, np.ndarray], given: dict[str, np.ndarray], env: int, step: int) -> BadValueError:
        what = next(name for name, mask in found.items() if mask[env].any())
        at = np.argwhere(np.atleast_1d(found[what][env]))[0]
        value = float(np.atleast_1d(given[what][env])[tuple(at)])
        why = "missing or not a number" if math.isnan(value) else "infinite"
        if math.isfinite(value):
            why = f"larger than {self._largest:g} (the option `largest`)"
            if abs(value) <= self._largest:
                why = f"float16 ends at {self._obs_bound:g}: store observations with dtype='float32'"
        if what.startswith("observation"):
            part = next((name for name, (low, high) in self._slices.items() if low <= at[0] < high), None)
            what += f", number {at[0] if len(at) == 1 else at.tolist()}" + (f" ({part})" if part else "")
        return BadValueError(what, env, step, value, why)

    def _wrong_shape(self, reward: Any, cost: Any) -> None:
        for name, value, shape in (("rewards", reward, self._shapes[0]), ("costs", cost, self._shapes[1])):
            if getattr(value, "shape", None) != shape:
                got = "none" if value is None else f"shape {np.shape(value)}"
                raise ValueError(f"the {name} of a step must have shape {shape}, got {got}")


def _named_leaves(obs: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(obs)
    return {"observation" + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _small(x: np.ndarray, bound: float) -> bool:
    """Whether the sum of squares shows that all is within the bound; False says nothing but for NaN."""
    kind = x.dtype.char
    if kind == "e":
        x = x.astype(np.float32)
    elif kind not in "fd":
        return x.dtype.kind in "bui"
    return np.vdot(x, x) <= bound * bound


def _any(found: dict[str, np.ndarray]) -> np.ndarray:
    """Where anything was found, `[N]`."""
    return np.any([mask.reshape(len(mask), -1).any(axis=1) for mask in found.values()], axis=0)
