"""Device environments for host code: batches with the interface of `jsafe.envs.VectorEnv`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Step
from jsafe.envs.device.api import DeviceEnv
from jsafe.envs.device.batch import autoreset, select, stream_keys
from jsafe.envs.lifecycle import Usable


class _Programs(NamedTuple):
    """What a `HostedEnv` calls; the stream of each environment is a seed and a count, `[N]`."""

    begin: Callable
    restart: Callable
    step: Callable
    paint: Callable | None


@functools.lru_cache(maxsize=8)
def _programs(reset: Callable, step: Callable, paint: Callable | None) -> _Programs:
    """Compiled once for all batches of an environment."""
    batched_reset, batched_step = jax.vmap(reset), autoreset(reset, step)

    def begin(seeds, counts):
        return batched_reset(stream_keys(seeds, counts))

    def restart(current, mask, seeds, counts):
        return select(mask, begin(seeds, counts), current)

    def advance(state, actions, seeds, counts):
        return batched_step(state, actions, stream_keys(seeds, counts))

    draw = None if paint is None else jax.jit(paint, static_argnums=(1, 2))
    return _Programs(jax.jit(begin), jax.jit(restart), jax.jit(advance), draw)


class HostedEnv(Usable):
    """N environments that step in one compiled program and speak numpy; see `hosted`.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      env: One episode.
    """

    _seeds: np.ndarray
    _counts: np.ndarray

    def __init__(self, env: DeviceEnv, num_envs: int = 1, seed: int = 0):
        self.num_envs = checks.integer("num_envs", num_envs)
        self.env, self.spec = env, env.spec
        self._programs = _programs(env.reset, env.step, env.paint)
        self._current: Any = None  # state and observation, once there are some
        self._seed(seed)

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> Any:
        """Starts new episodes and returns the observations, every leaf with a leading axis N.

        Args:
          seed: Stream of environment 0; environment i has that of `seed + i`, or of the i-th of N seeds. Without one
            the streams continue.
          mask: `[N]` booleans: which environments start anew; the others stay as they are. All by default.

        Raises:
          ValueError: If the mask has another shape or type, or comes with a seed.
          RuntimeError: For a mask before the first reset, or after `close`.
        """
        self._usable(started=mask is not None)
        if mask is not None:
            rows = np.zeros(self.num_envs, bool)
            rows[checks.mask(mask, self.num_envs, seed)] = True
            self._current = self._programs.restart(self._current, rows, self._seeds, self._counts)
            self._counts = self._counts + rows.astype(np.uint32)
        else:
            if seed is not None:
                self._seed(seed)
            self._current = self._programs.begin(self._seeds, self._counts)
            self._counts = self._counts + np.uint32(1)
        self._started = True
        return _numpy(self._current[1])

    def step(self, actions: np.ndarray) -> Step:
        """Steps all environments; those that end start anew in the same call.

        Args:
          actions: `[N, A]` in the units of the spec's box.

        Returns:
          A `Step` of numpy arrays that belong to the caller; `obs` and `final_obs` are trees if observations are.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
          RuntimeError: Before the first reset, or after `close`.
        """
        self._usable()
        actions = checks.actions(actions, self.num_envs, self.spec.act_dim).astype(np.float32)
        state, result = self._programs.step(self._current[0], actions, self._seeds, self._counts)
        self._counts = self._counts + np.uint32(1)
        self._current = state, result.obs
        return _numpy(result)

    def render(self, i: int = 0, width: int = 600, height: int = 400) -> np.ndarray:
        """A picture of environment i, uint8 `[height, width, 3]`; ValueError if it draws none."""
        self._usable()
        i = checks.index(i, self.num_envs)
        width, height = checks.integer("width", width), checks.integer("height", height)
        if self._programs.paint is None:
            raise ValueError(f"{self.spec.id!r} draws nothing")
        return np.array(self._programs.paint(jax.tree.map(lambda leaf: leaf[i], self._current[0]), height, width))

    def state_dict(self) -> dict:
        """Everything that later steps depend on, as numpy arrays."""
        self._usable()
        leaves = [np.array(leaf) for leaf in jax.tree.leaves(self._current)]
        return {"seeds": self._seeds.copy(), "counts": self._counts.copy(), "leaves": leaves}

    def load_state_dict(self, saved: dict) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        self._usable(started=False)
        like = jax.eval_shape(self._programs.begin, self._seeds, self._counts)
        wanted, structure = jax.tree.flatten(like)
        try:
            seeds, counts = (np.array(saved[name]) for name in ("seeds", "counts"))
            leaves = [np.array(leaf) for leaf in saved["leaves"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"the saved state is not one of {self.spec.id!r}: {error!r}") from None
        found = [(leaf.shape, leaf.dtype) for leaf in (seeds, counts, *leaves)]
        expected = [((self.num_envs,), np.uint32)] * 2 + [(leaf.shape, leaf.dtype) for leaf in wanted]
        if found != expected:
            raise ValueError(f"the saved state is not one of {self.num_envs} environments of {self.spec.id!r}")
        self._seeds, self._counts = seeds, counts
        self._current = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
        self._started = True

    def close(self) -> None:
        """Lets go of the state; the environments cannot be used any more."""
        self._current, self._closed = None, True

    def _seed(self, seed: int | Sequence[int]) -> None:
        self._seeds = np.array(checks.seeds(seed, self.num_envs), np.uint32)
        self._counts = np.zeros(self.num_envs, np.uint32)


def hosted(env: DeviceEnv, num_envs: int = 1, seed: int = 0) -> HostedEnv:
    """A device environment as a batch for host collectors: every step is one call of a compiled program.

    Environment i of seed s has the random stream of environment 0 of seed s + i: results do not depend on N.

    Args:
      env: One episode; its states hold no keys.
      num_envs: N.
      seed: Stream of environment 0, in 0 ... 2**32 - N.
    """
    return HostedEnv(env, num_envs, seed)


def _numpy(tree: Any) -> Any:
    """Arrays that the caller may write into."""
    return jax.tree.map(np.array, tree)
