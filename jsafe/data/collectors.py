"""Steps environments with a learner's policy and makes the batches that its update wants."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import jax
import numpy as np

from jsafe.data import coroutine as acting
from jsafe.data.episodes import EpisodeTracker, Finished
from jsafe.data.replay.sequences import FIRST, LAST, MID, SequenceReplay
from jsafe.types import CostStats, EpisodeStats, Key, Learner, ReplayData, RolloutBatch, RolloutData, SequenceBatch


def make_collector(env: Any, learner: Learner, seed: int | None = None) -> SequenceCollector | RolloutCollector:
    """The collector for `learner.data`.

    Args:
      env: Batched environment (`jsafe.envs.make`, or anything with its interface); the collector resets it.
      learner: Its `act`, `spec` and `data` are used.
      seed: Seed of the reset; without one the environment's own random streams continue.

    Raises:
      ValueError: If the environment does not fit the learner, or `learner.data` contradicts itself.
    """
    kinds = {ReplayData: SequenceCollector, RolloutData: RolloutCollector}
    for data, collector in kinds.items():
        if isinstance(learner.data, data):
            return collector(env, learner, seed)
    raise ValueError(f"learner.data must be a ReplayData or a RolloutData, got {type(learner.data).__name__}")


class _Collector:
    """What both collectors share: the environments, their current observations, statistics and counters."""

    def __init__(self, env: Any, learner: Learner, seed: int | None, frame_stack: int):
        acting.check_spec(env, learner.spec, learner.data.num_envs)
        self.env_steps = 0
        """Environment steps so far, over all environments."""
        self._env = env
        self._policy = learner.act
        self._box = acting.ActionBox(env.spec)
        self._tracker = EpisodeTracker(env.num_envs, env.spec.num_costs)
        self._frames = acting.FrameStack(env.reset() if seed is None else env.reset(seed=seed), frame_stack)

    def episodes(self) -> dict[str, float]:
        """Statistics of finished episodes; see `EpisodeTracker.pop`."""
        return self._tracker.pop()

    def finished_episodes(self) -> np.ndarray:
        """The last 100 finished episodes, oldest first: `[n, 3 + M]`, return, length, success and costs."""
        return self._tracker.state_dict()["window"]

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""
        return {
            "env": self._env.state_dict(),
            "frames": self._frames.frames.copy(),
            "tracker": self._tracker.state_dict(),
            "env_steps": self.env_steps,
        }

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit.

        Args:
          state: What `state_dict` returned.
          journal: The chunks that are still needed (`journal_keep`), oldest first.
        """
        self._env.load_state_dict(state["env"])
        self._frames = acting.FrameStack.restore(state["frames"])
        self._tracker.load_state_dict(state["tracker"])
        self.env_steps = int(state["env_steps"])

    def collect(self, policy_state: Any, key: Key) -> Any:
        """Collects one batch.

        Args:
          policy_state: What `learner.policy` returned; actions are sampled from it. Parameters of a transform are its
            attribute `transform`.
          key: Key of this iteration, the only source of randomness besides the environments.

        Returns:
          What `collecting` returns: the same as a generator that leaves acting and stepping to its caller.
        """

        def act(request):  # the device may still be computing when this returns
            return acting.act(self._policy, policy_state, request.obs, key, np.int32(request.step), False)

        return acting.serve(self.collecting(acting.transform_params(policy_state), key), self._env, act)


class SequenceCollector(_Collector):
    """Fills a replay and samples from it: for `ReplayData` learners.

    Rows follow the convention of `SequenceBatch`. A row is written when its action is known, so the newest observation
    of each environment is not in the replay yet. The LAST row of an episode holds the final observation and a zero
    action, with discount 0 after a termination and 1 after a truncation.

    Args:
      env: Batched environment with `learner.data.num_envs` environments.
      learner: Its `act`, `spec` and `data` are used.
      seed: Seed of the reset; see `make_collector`.

    Raises:
      ValueError: If the environment does not fit the learner, or `learner.data` contradicts itself.
    """

    def __init__(self, env: Any, learner: Learner, seed: int | None = None):
        data, spec = learner.data, learner.spec
        _check_replay_data(data)
        super().__init__(env, learner, seed, data.frame_stack)
        self._data = data
        n, m = env.num_envs, spec.num_costs
        self.replay = SequenceReplay(
            n,
            data.replay_rows,
            spec.obs_dim,
            spec.act_dim,
            m,
            frame_stack=data.frame_stack,
            dtype=data.dtype,
            on_device=data.replay_on_device,
        )
        # How the current observation was arrived at: [reward, discount, kind, costs], float64 [N, 3 + M].
        self._arrival = np.zeros((n, 3 + m))
        self._arrival[:, 1:3] = 1, FIRST
        self._fresh = np.zeros(1 + m)  # rows of this iteration, and their costs
        self._ended = np.zeros(3 + m)  # return, length, count and costs of the episodes that ended in it
        self._empty: SequenceBatch | None = None

    def collecting(self, params: Any, key: Key) -> Generator[Any, Any, SequenceBatch]:
        """Steps all environments `unroll` times, appends the rows and samples a batch; see `collect`.

        Returns:
          A batch of numpy arrays, fresh unless `learn` is False: then its rows are zeros.
        """
        rng = acting.numpy_rng(key)
        self._fresh[:] = 0
        self._ended[:] = 0
        done = None
        for step in range(self._data.unroll):
            at_random = self.env_steps < self._data.random_steps
            if not at_random:
                action, _ = yield acting.Act(self._frames.stacked, step)
            if done is not None:
                self._record(*done)  # while the device computes the action
            if at_random:
                action = rng.uniform(-1, 1, (self._env.num_envs, self._env.spec.act_dim))
            action = np.asarray(action).clip(-1, 1)
            result = yield acting.Advance(self._box(action))
            ended = result.terminated | result.truncated
            done = (self._frames.newest, action, result, ended)
            self._frames.push(result.obs, ended)
            self.env_steps += len(ended)
        self._record(*done)
        count, *cost = self._fresh.astype(np.float32)
        fresh, episodes = CostStats(np.array(cost, np.float32), count), _episode_stats(self._ended)
        data = self._data
        if self.replay.rows < data.initial_rows or not self.replay.can_sample(data.sequence_length):
            return self._zeros()._replace(fresh=fresh, episodes=episodes)
        minibatches = data.updates if data.updates > 1 else None
        rows = self.replay.sample(rng, data.sequences, data.sequence_length, minibatches)
        return SequenceBatch(*rows, fresh=fresh, episodes=episodes, learn=np.True_)

    def journal(self) -> dict[str, np.ndarray] | None:
        """The replay's rows since the last call; see `SequenceReplay.journal`."""
        return self.replay.journal()

    def journal_keep(self) -> int:
        """How many of the newest chunks `load_state_dict` needs."""
        return self.replay.journal_keep()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""
        return {**super().state_dict(), "arrival": self._arrival.copy(), "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit; see `SequenceReplay.load_state_dict`."""
        self.replay.load_state_dict(state["replay"], journal)
        super().load_state_dict(state)
        self._arrival = np.array(state["arrival"], np.float64)

    def _record(self, obs: np.ndarray, action: np.ndarray, result: Any, ended: np.ndarray) -> None:
        """Appends the rows of one step: the one acted on, and the last one where the episode ended."""
        self._append(obs, action, self._arrival)
        arrival = np.column_stack([result.reward, ~result.terminated, np.full(len(ended), MID), result.cost])
        finished = self._tracker.step(result.reward, result.cost, result.info.get("success"), ended)
        if finished is not None:
            _add_episodes(self._ended, finished)
            envs = finished.env
            arrival[envs, 2] = LAST
            self._append(result.final_obs[envs], np.zeros_like(action[envs]), arrival[envs], envs)
            arrival[envs] = 0
            arrival[envs, 1:3] = 1, FIRST
        self._arrival = arrival

    def _append(self, obs: np.ndarray, action: np.ndarray, arrival: np.ndarray, envs: np.ndarray | None = None) -> None:
        reward, discount, kind, cost = arrival[:, 0], arrival[:, 1], arrival[:, 2], arrival[:, 3:]
        self.replay.append(obs, action, reward, cost, discount, kind, envs)
        self._fresh[0] += len(arrival)
        self._fresh[1:] += cost.sum(0)

    def _zeros(self) -> SequenceBatch:
        """A batch of zeros with `learn` False, made once and read-only."""
        if self._empty is None:
            data, spec = self._data, self._env.spec
            shape = (*((data.updates,) if data.updates > 1 else ()), data.sequence_length, data.sequences)
            widths = {"obs": spec.obs_dim * data.frame_stack, "action": spec.act_dim, "cost": spec.num_costs}
            fields: dict[str, Any] = {k: np.zeros((*shape, width), np.float32) for k, width in widths.items()}
            fields |= {k: np.zeros(shape, np.float32) for k in ("reward", "discount")}
            fields |= {k: np.zeros(shape, bool) for k in ("first", "last")}
            for array in fields.values():
                array.flags.writeable = False
            none = EpisodeStats(0, 0, 0, 0)
            self._empty = SequenceBatch(**fields, fresh=CostStats(0, 0), episodes=none, learn=np.False_)
        return self._empty


def _add_episodes(totals: np.ndarray, finished: Finished) -> None:
    """Adds finished episodes to `[return, length, count, costs]`."""
    totals[:3] += finished.total_return.sum(), finished.length.sum(), len(finished.env)
    totals[3:] += finished.cost.sum(0)


def _episode_stats(totals: np.ndarray) -> EpisodeStats:
    total_return, length, count, *cost = totals.astype(np.float32)
    return EpisodeStats(total_return, np.array(cost, np.float32), length, count)


def _check_replay_data(data: ReplayData) -> None:
    for name in ("num_envs", "unroll", "sequences", "sequence_length", "frame_stack", "replay_rows", "updates"):
        if getattr(data, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(data, name)}")
    need = data.sequence_length + data.frame_stack - 1
    if data.replay_rows < need:
        raise ValueError(f"replay_rows must be at least sequence_length + frame_stack - 1 = {need}: {data.replay_rows}")
    if data.initial_rows > data.replay_rows * data.num_envs:
        capacity = data.replay_rows * data.num_envs
        raise ValueError(f"initial_rows is {data.initial_rows}, but the replay only holds {capacity} rows")


class RolloutCollector(_Collector):
    """Collects fresh steps, time-major: for `RolloutData` learners.

    Environments keep running from one batch to the next, unless `reset_each_epoch`: then all start anew with each
    batch, and the last row of every environment that did not end there is marked as truncated (its episode is cut, and
    is left out of the statistics, as in OmniSafe).

    With `learner.data.transform` the policy and the batch see the transformed problem; costs and the statistics of
    episodes stay those of the environment. An episode that the transform terminates on its own is ended by
    `env.reset(mask=...)`.

    Args:
      env: Batched environment with `learner.data.num_envs` environments.
      learner: Its `act`, `spec` and `data` are used.
      seed: Seed of the reset; see `make_collector`.

    Raises:
      ValueError: If the environment does not fit the learner.
    """

    def __init__(self, env: Any, learner: Learner, seed: int | None = None):
        if learner.data.length < 1:
            raise ValueError(f"length must be at least 1, got {learner.data.length}")
        super().__init__(env, learner, seed, 1)
        self._data = learner.data
        self._transform = learner.data.transform or acting.IDENTITY
        self._z: Any = None  # the transform's state; made at a reset, when its parameters are known
        self._loaded_z: list[np.ndarray] | None = None

    def collecting(self, params: Any, key: Key) -> Generator[Any, Any, RolloutBatch]:
        """Steps all environments `length` times; see `collect`.

        Returns:
          A batch of fresh, read-only numpy arrays.
        """
        env, data, transform = self._env, self._data, self._transform
        yield from self._begin(params)
        shape, spec = (data.length, env.num_envs), env.spec
        obs = np.empty((*shape, spec.obs_dim + transform.extra_obs), np.float32)
        next_obs = np.empty_like(obs)
        actions = np.empty((*shape, spec.act_dim), np.float32)
        log_probs, rewards = np.empty(shape, np.float32), np.empty(shape, np.float32)
        costs = np.empty((*shape, spec.num_costs), np.float32)
        terminated, truncated = np.empty(shape, bool), np.empty(shape, bool)
        totals = np.zeros(3 + spec.num_costs)  # return, length, count, costs of the finished episodes
        for t in range(data.length):
            obs[t] = transform.augment(self._frames.newest, self._z)
            actions[t], log_probs[t] = map(np.asarray, (yield acting.Act(obs[t], t)))
            step = yield acting.Advance(self._box(actions[t]))
            seen = transform.step(params, self._z, step.reward, step.cost, step.terminated, step.truncated)
            next_obs[t] = transform.augment(step.final_obs, seen.z_final)
            rewards[t], costs[t], terminated[t] = seen.reward, step.cost, seen.terminated
            truncated[t] = step.truncated & ~terminated[t]
            ended = terminated[t] | step.terminated | step.truncated
            early = terminated[t] & ~step.terminated & ~step.truncated
            self._z = seen.z
            self._frames.push((yield acting.Restart(early)) if early.any() else step.obs, ended)
            finished = self._tracker.step(step.reward, step.cost, step.info.get("success"), ended)
            if finished is not None:
                _add_episodes(totals, finished)
        self.env_steps += data.length * env.num_envs
        if data.reset_each_epoch:
            truncated[-1] |= ~terminated[-1]
        batch = RolloutBatch(
            obs, actions, log_probs, rewards, costs, terminated, truncated, next_obs, _episode_stats(totals)
        )
        for array in batch[:-1]:
            array.flags.writeable = False
        return batch

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
        super().load_state_dict(state)
        self._z = None
        self._loaded_z = None if state["z"] is None else [np.array(leaf) for leaf in state["z"]]

    def _begin(self, params: Any) -> Generator[Any, Any, None]:
        """Resets what has to be reset before a batch."""
        fresh = self._transform.init(params, self._env.num_envs)
        if self._loaded_z is not None:
            self._z = jax.tree.unflatten(jax.tree.structure(fresh), self._loaded_z)
            self._loaded_z = None
        if self._z is not None and self._data.reset_each_epoch:
            self._frames = acting.FrameStack((yield acting.Restart()), 1)
            self._tracker.drop_running()
            self._z = None
        if self._z is None:
            self._z = fresh
