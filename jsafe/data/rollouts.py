"""Fresh on-policy steps: the collector for `Rollouts`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, cast

import jax
import numpy as np

from jsafe import spaces
from jsafe.data import coroutine as acting
from jsafe.data.api import feeds_with
from jsafe.data.stepping import SteppingCollector, episode_stats
from jsafe.feeds import Rollouts
from jsafe.types import Batch, CostStats, Key, Learner, Measured, Steps


@feeds_with(Rollouts)
class RolloutCollector(SteppingCollector):
    """Collects fresh steps, time-major: for `Rollouts`.

    Environments keep running from one batch to the next, unless `reset_each_epoch`: then all start anew with each
    batch, and the last row of every environment that did not end there is marked as truncated (its episode is cut, and
    is left out of the statistics, as in OmniSafe).

    With `feed.transform` the policy and the batch see the transformed problem; costs and the statistics of episodes
    stay those of the environment. An episode that the transform terminates on its own is ended by
    `env.reset(mask=...)`.

    A step that gave bad values (with `on_bad="end"`) keeps its row: no reward and no cost, truncated, and followed by
    the observation that was acted on, from which it bootstraps.

    Args:
      env: Batched environment with `learner.feed.num_envs` environments.
      learner: Its `act`, `memory`, `spec` and `feed` are used.
      seed: Seed of the reset; see `make_collector`.
      **options: `on_bad` and `largest`; see `Door`.

    Raises:
      ValueError: If the environment does not fit the learner.
    """

    def __init__(self, env: Any, learner: Learner, seed: int | None = None, **options: Any):
        feed = cast(Rollouts, learner.feed)
        if feed.length < 1:
            raise ValueError(f"length must be at least 1, got {feed.length}")
        flat = isinstance(learner.spec.obs, spaces.Box) and learner.spec.obs.flat
        if feed.transform is not None and not flat:
            raise ValueError(f"a transform needs flat observations, got {learner.spec.obs}")
        super().__init__(env, learner, seed, **options)
        self._feed = feed
        self._transform = feed.transform or acting.IDENTITY
        self._z: Any = None  # the transform's state; made at a reset, when its parameters are known
        self._loaded_z: list[np.ndarray] | None = None
        self._reset = jax.jit(learner.memory.reset)

    def collecting(self, params: Any, key: Key) -> Generator[Any, Any, Batch]:
        """Steps all environments `length` times; see `collect`.

        Returns:
          A batch of fresh, read-only numpy arrays.
        """
        del key
        env, feed, transform = self._env, self._feed, self._transform
        yield from self._begin(params)
        memory = self._memory_now()
        shape, num_costs = (feed.length, env.num_envs), env.spec.num_costs
        obs, next_obs = self._slabs(shape), self._slabs(shape)
        structure = jax.tree.structure(self._obs)
        actions = np.empty((*shape, *self._actions.shape), self._actions.dtype)
        log_probs, rewards = np.empty(shape, np.float32), np.empty(shape, np.float32)
        costs = np.empty((*shape, num_costs), np.float32)
        terminated, truncated = np.empty(shape, bool), np.empty(shape, bool)
        totals = np.zeros(3 + num_costs)  # return, length, count, costs of the finished episodes
        rows = feed.length * env.num_envs
        for t in range(feed.length):
            seen_obs = _put(obs, t, transform.augment(self._obs, self._z), structure)
            actions[t], log_probs[t], self.memory = yield acting.Act(seen_obs, self.memory, self._started, t)
            step = yield self._advance(actions[t])
            bad = self._door.look(step, self._tracker.lengths)
            if bad is not None:
                step = yield from self._mended(step, bad)
                rows -= int(bad.steps.sum())
            seen = transform.step(params, self._z, step.reward, step.cost, step.terminated, step.truncated)
            _put(next_obs, t, transform.augment(step.final_obs, seen.z_final), structure)
            rewards[t], costs[t], terminated[t] = seen.reward, step.cost, seen.terminated
            truncated[t] = step.truncated & ~terminated[t]
            ended = terminated[t] | step.terminated | step.truncated
            early = terminated[t] & ~step.terminated & ~step.truncated
            self._z = seen.z
            self._obs = step.obs
            if early.any():
                self._obs = yield acting.Restart(early)
                self._door.look_at_first(self._obs, early)
            self._obs, self._started = acting.received(self._obs), ended
            self._track(step, ended, bad, totals)
        self.env_steps += feed.length * env.num_envs * self._repeat
        if feed.reset_each_epoch:
            truncated[-1] |= ~terminated[-1]
        steps = Steps(
            obs=jax.tree.unflatten(structure, obs),
            action=actions,
            reward=rewards,
            cost=costs,
            terminated=terminated,
            truncated=truncated,
            next_obs=jax.tree.unflatten(structure, next_obs),
            weight=None,
            extras={"log_prob": log_probs},
        )
        for array in jax.tree.leaves(steps):
            array.flags.writeable = False
        fresh = CostStats(costs.sum((0, 1), dtype=np.float64).astype(np.float32), np.float32(rows))
        return Batch(steps, Measured(fresh, episode_stats(totals)), np.True_, memory)

    def journal(self) -> None:
        """None: nothing is kept between batches."""

    def journal_keep(self) -> int:
        """Zero; see `journal`."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on."""
        leaves = self._loaded_z if self._z is None else jax.tree.leaves(self._z)
        return {**super().state_dict(), "z": None if leaves is None else [np.array(leaf) for leaf in leaves]}

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit."""
        super().load_state_dict(state, journal)
        self._z = None
        self._loaded_z = None if state["z"] is None else [np.array(leaf) for leaf in state["z"]]

    def _begin(self, params: Any) -> Generator[Any, Any, None]:
        """Resets what has to be reset before a batch."""
        fresh = self._transform.init(params, self._env.num_envs)
        if self._loaded_z is not None:
            self._z = jax.tree.unflatten(jax.tree.structure(fresh), self._loaded_z)
            self._loaded_z = None
        if self._z is not None and self._feed.reset_each_epoch:
            self._begin_all((yield acting.Restart()))
            self._tracker.drop_running()
            self._z = None
        if self._z is None:
            self._z = fresh

    def _memory_now(self) -> Any:
        """The policy's memory at the first row, as the batch carries it; resets what has to be reset there."""
        if not self._has_memory:
            return ()
        self.memory = self._reset(self.memory, self._started)
        self._started = np.zeros_like(self._started)
        return jax.tree.map(np.array, self.memory)

    def _slabs(self, shape: tuple[int, int]) -> list[np.ndarray]:
        """Room for the observations of a batch, one array for each leaf."""
        spec, extra = self._learner.spec, self._transform.extra_obs
        if extra:
            return [np.empty((*shape, spec.obs_dim + extra), np.float32)]
        made = spaces.tree_map(lambda leaf: np.empty((*shape, *leaf.shape), acting.received_dtype(leaf)), spec.obs)
        return jax.tree.leaves(made)


def _put(slabs: list[np.ndarray], t: int, obs: Any, structure: Any) -> Any:
    """Writes observations into row t; returns them as they are there."""
    if len(slabs) == 1:
        slabs[0][t] = obs if isinstance(obs, np.ndarray) else jax.tree.leaves(obs)[0]
        return slabs[0][t] if isinstance(obs, np.ndarray) else jax.tree.unflatten(structure, [slabs[0][t]])
    for slab, leaf in zip(slabs, jax.tree.leaves(obs), strict=True):
        slab[t] = leaf
    return jax.tree.unflatten(structure, [slab[t] for slab in slabs])
