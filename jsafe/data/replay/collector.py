"""Windows of replayed rows: the collector for `Replay`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, cast

import jax
import numpy as np

from jsafe import spaces
from jsafe.data import coroutine as acting
from jsafe.data.api import feeds_with
from jsafe.data.door import Bad
from jsafe.data.replay.store import FIRST, JUMP, LAST, LAST_JUMP, MID, ReplayStore
from jsafe.data.stepping import SteppingCollector, episode_stats
from jsafe.feeds import Replay
from jsafe.types import Batch, CostStats, Key, Learner, Measured, Obs, Steps


@feeds_with(Replay)
class ReplayCollector(SteppingCollector):
    """Fills a replay and samples from it: for `Replay`.

    A row is written when its action is known, so the newest observation of each environment is not in the replay yet.
    The LAST row of an episode holds the final observation and a zero action, with discount 0 after a termination and 1
    after a truncation. An episode that is ended because of a bad value (`on_bad="end"`) ends like a truncated one with
    the observation that was acted on: the step itself leaves no trace.

    Args:
      env: Batched environment with `learner.feed.num_envs` environments.
      learner: Its `act`, `memory`, `spec` and `feed` are used.
      seed: Seed of the reset; see `make_collector`.
      **options: `on_bad` and `largest`; see `Door`.

    Raises:
      ValueError: If the environment does not fit the learner, or the feed contradicts itself.
    """

    def __init__(self, env: Any, learner: Learner, seed: int | None = None, **options: Any):
        feed, spec = cast(Replay, learner.feed), learner.spec
        acting.check_spec(env, spec, feed.num_envs)
        if feed.frame_stack > 1 and not acting.has_memory(learner):
            raise ValueError(f"frame_stack is {feed.frame_stack}, but the policy has no memory that stacks frames")
        self.replay = ReplayStore(
            env.num_envs,
            feed.replay_rows,
            spec,
            frame_stack=feed.frame_stack,
            dtype=feed.dtype,
            on_device=feed.replay_on_device,
            jumps=feed.jumps,
        )
        super().__init__(env, learner, seed, half=feed.dtype == "float16", **options)
        self._feed = feed
        n, m = env.num_envs, spec.num_costs
        # How the current observation was arrived at: [reward, discount, kind, costs], float64 [N, 3 + M].
        self._arrival = np.zeros((n, 3 + m))
        self._arrival[:, 1:3] = 1, FIRST
        self._fresh = np.zeros(1 + m)  # steps of this iteration, and their costs
        self._ended = np.zeros(3 + m)  # return, length, count and costs of the episodes that ended in it
        self._empty: Steps | None = None

    def collecting(self, params: Any, key: Key) -> Generator[Any, Any, Batch]:
        """Steps all environments `unroll` times, appends the rows and samples a batch; see `collect`.

        Returns:
          A batch of numpy arrays, fresh unless `ready` is False: then its rows are zeros.
        """
        del params
        rng = acting.numpy_rng(key)
        self._fresh[:] = 0
        self._ended[:] = 0
        done: Any = None
        for step in range(self._feed.unroll):
            at_random = self.env_steps < self._feed.random_steps
            if not at_random or (self._has_memory and self._learner.memory.sees_all):
                action, _, self.memory = yield acting.Act(self._obs, self.memory, self._started, step)
            if done is not None:
                self._record(*done)  # while the device computes the action
            if at_random:
                action = self._actions.random(rng)
            action = self._actions.clipped(action)
            result = yield self._advance(action)
            bad = self._door.look(result, self._tracker.lengths)
            if bad is not None:
                result = yield from self._mended(result, bad)
            ended = result.terminated | result.truncated
            done = (self._obs, action, result, ended, bad)
            self._obs, self._started = acting.received(result.obs), ended
            self.env_steps += len(ended) * self._repeat
        self._record(*done)
        count, *cost = self._fresh.astype(np.float32)
        measured = Measured(CostStats(np.array(cost, np.float32), count), episode_stats(self._ended))
        feed = self._feed
        if self.replay.rows < feed.initial_rows or not self.replay.can_sample(feed.sequence_length):
            return Batch(self._zeros(), measured, np.False_)
        minibatches = feed.updates if feed.updates > 1 else None
        return Batch(self.replay.sample(rng, feed.sequences, feed.sequence_length, minibatches), measured, np.True_)

    def journal(self) -> dict[str, np.ndarray] | None:
        """The replay's rows since the last call; see `ReplayStore.journal`."""
        return self.replay.journal()

    def journal_keep(self) -> int:
        """How many of the newest chunks `load_state_dict` needs."""
        return self.replay.journal_keep()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""
        return {**super().state_dict(), "arrival": self._arrival.copy(), "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit; see `ReplayStore.load_state_dict`."""
        self.replay.load_state_dict(state["replay"], journal)
        super().load_state_dict(state)
        self._arrival = np.array(state["arrival"], np.float64)

    def _record(self, obs: Obs, action: np.ndarray, step: Any, ended: np.ndarray, bad: Bad | None) -> None:
        """Appends the rows of one step: the one acted on, and the last one where the episode ended."""
        if bad is None:
            self._append(obs, action, self._arrival)
        else:
            self._append_mended(obs, action, bad.steps)
        arrival = np.column_stack([step.reward, ~step.terminated, np.full(len(ended), MID), step.cost])
        self._fresh[0] += len(ended) if bad is None else np.count_nonzero(~bad.steps)
        self._fresh[1:] += arrival[:, 3:].sum(0)
        jumped = self._jumped(step)
        arrival[jumped, 2] = JUMP
        finished = self._track(step, ended, bad, self._ended)
        if finished is not None:
            envs = finished.env
            arrival[envs, 2] = np.where(jumped[envs], LAST_JUMP, LAST)
            final_obs = jax.tree.map(lambda x: x[envs], step.final_obs)
            self._append(final_obs, np.zeros_like(action[envs]), arrival[envs], envs)
        if ended.any():
            arrival[ended] = 0
            arrival[ended, 1:3] = 1, FIRST
        self._arrival = arrival

    def _jumped(self, step: Any) -> np.ndarray:
        """Where what is seen after a step belongs to another problem, `[N]`."""
        if not (self._feed.jumps and "success" in step.info):
            return np.zeros(len(step.reward), bool)
        return step.info["success"].astype(bool) & ~step.terminated

    def _append_mended(self, obs: Obs, action: np.ndarray, spoilt: np.ndarray) -> None:
        """Appends the rows that were acted on; where that gave bad values, as the last ones of their episodes."""
        arrival = self._arrival.copy()
        arrival[spoilt, 2] = LAST
        action = np.where(spoilt.reshape((-1,) + (1,) * (action.ndim - 1)), np.zeros_like(action), action)
        # An episode of no step leaves nothing.
        envs = np.flatnonzero(~(spoilt & (self._arrival[:, 2] == FIRST)))
        self._append(jax.tree.map(lambda x: x[envs], obs), action[envs], arrival[envs], envs)

    def _append(self, obs: Obs, action: np.ndarray, arrival: np.ndarray, envs: np.ndarray | None = None) -> None:
        reward, discount, kind, cost = arrival[:, 0], arrival[:, 1], arrival[:, 2], arrival[:, 3:]
        self.replay.append(obs, action, reward, cost, discount, kind, envs)

    def _zeros(self) -> Steps:
        """Steps of zeros, made once and read-only."""
        if self._empty is None:
            feed, spec = self._feed, self._learner.spec

            def leaf(of: spaces.Box | spaces.Discrete) -> np.ndarray:
                shape = of.shape if feed.frame_stack == 1 else (*of.shape[:-1], feed.frame_stack * of.shape[-1])
                return np.zeros((*feed.shape, *shape), acting.received_dtype(of))

            self._empty = Steps(
                obs=spaces.tree_map(leaf, spec.obs),
                action=np.zeros((*feed.shape, *self._actions.shape), self._actions.dtype),
                reward=np.zeros(feed.shape, np.float32),
                cost=np.zeros((*feed.shape, spec.num_costs), np.float32),
                terminated=np.zeros(feed.shape, bool),
                truncated=np.zeros(feed.shape, bool),
                next_obs=None,
                weight=np.zeros(feed.shape, np.float32),
                extras={"jump": np.zeros(feed.shape, bool)} if feed.jumps else {},
            )
            for array in jax.tree.leaves(self._empty):
                array.flags.writeable = False
        return self._empty
