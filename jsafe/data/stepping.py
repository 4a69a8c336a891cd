"""What collectors that step environments share: observations, the policy's memory, statistics and counters."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data import coroutine as acting
from jsafe.data.door import LARGEST, Bad, Door
from jsafe.data.episodes import EpisodeTracker, Finished
from jsafe.types import Batch, EpisodeStats, Key, Learner, Obs, PolicyState


class SteppingCollector:
    """The environments of a learner with their current observations.

    Subclasses write `collecting`, a generator that asks for actions and steps (`jsafe.data.coroutine`), so that several
    of them can share one policy call and one engine.

    Where the environment repeats actions, `env_steps` are steps of the simulation: k for every action, also where the
    goal or the episode's end cut it short, so that all processes and runs count alike (`info["raw_steps"]` is exact).

    Args:
      env: Batched environment with `learner.feed.num_envs` environments.
      learner: Its `act`, `memory`, `spec` and `feed` are used.
      seed: Seed of the reset; without one the environment's own random streams continue.
      on_bad, largest: What to do with bad values; see `Door`.
      half: See `Door`.

    Raises:
      ValueError: If the environment does not fit the learner.
      BadValueError: If the first observations cannot be used.
    """

    def __init__(
        self,
        env: Any,
        learner: Learner,
        seed: int | None,
        *,
        on_bad: str = "stop",
        largest: float = LARGEST,
        half: bool = False,
    ):
        acting.check_spec(env, learner.spec, learner.feed.num_envs)
        self.env_steps = 0
        self.memory: Any = learner.memory.init(env.num_envs)
        """The policy's memory before the next step, on the device."""
        self._env, self._learner = env, learner
        self._repeat = getattr(env.spec, "action_repeat", 1)
        self._actions = acting.Actions(env)
        self._tracker = EpisodeTracker(env.num_envs, env.spec.num_costs)
        self._door = Door(env.spec, env.num_envs, on_bad, largest, half)
        self._has_memory = acting.has_memory(learner)
        self._begin_all(env.reset() if seed is None else env.reset(seed=seed))

    @property
    def progress(self) -> int:
        """Environment steps."""
        return self.env_steps

    def episodes(self) -> dict[str, float]:
        """Statistics of finished episodes, see `EpisodeTracker.pop`; and of plans, `plan/*`, where the policy has one:
        means over the environments of what its last step looked for."""
        info = getattr(self.memory, "info", None) or {}
        return self._tracker.pop() | {f"plan/{name}": float(np.mean(value)) for name, value in info.items()}

    @property
    def tracker(self) -> EpisodeTracker:
        """The statistics themselves."""
        return self._tracker

    def close(self) -> None:
        """Nothing: the environments belong to the caller."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""
        return {
            "env": self._env.state_dict(),
            "obs": jax.tree.map(np.copy, self._obs),
            "started": self._started.copy(),
            "memory": [np.array(leaf) for leaf in jax.tree.leaves(self.memory)],
            "tracker": self._tracker.state_dict(),
            "env_steps": self.env_steps,
        }

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit.

        Args:
          state: What `state_dict` returned.
          journal: The chunks that are still needed (`journal_keep`), oldest first.

        Raises:
          ValueError: If the memory is that of another policy.
        """
        del journal
        fresh = self._learner.memory.init(self._env.num_envs)
        have = [(np.shape(leaf), jnp.asarray(leaf).dtype) for leaf in jax.tree.leaves(fresh)]
        if have != [(leaf.shape, leaf.dtype) for leaf in state["memory"]]:
            raise ValueError("the policy's memory has other shapes than the one that was saved")
        self._env.load_state_dict(state["env"])
        self._obs = jax.tree.map(np.copy, state["obs"])
        self._started = np.array(state["started"], bool)
        # Copies: a device array may share the memory of a numpy array.
        self.memory = jax.tree.unflatten(
            jax.tree.structure(fresh), [jnp.array(leaf, copy=True) for leaf in state["memory"]]
        )
        self._tracker.load_state_dict(state["tracker"])
        self.env_steps = int(state["env_steps"])

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """Collects one batch.

        Args:
          policy_state: What `learner.policy` returned; actions are sampled from it.
          key: Key of this iteration, the only source of randomness besides the environments.

        Returns:
          What `collecting` returns: the same as a generator that leaves acting and stepping to its caller.

        Raises:
          BadValueError: For a value that no learner can use, unless `on_bad` is `"end"`.
        """
        function, reset = self._learner.act, self._learner.memory.reset

        def act(request):  # the device may still be computing when this returns
            return acting.act(
                function,
                reset,
                policy_state,
                request.memory,
                request.started,
                request.obs,
                key,
                np.int32(request.step),
                False,
            )

        return acting.serve(self.collecting(acting.transform_params(policy_state), key), self._env, act)

    def collecting(self, params: Any, key: Key) -> Generator[Any, Any, Batch]:
        """Collects one batch; `params` are those of the transform."""
        raise NotImplementedError

    def _advance(self, action: np.ndarray) -> acting.Advance:
        """A step with a policy's actions.

        Raises:
          BadValueError: If they are not finite, whatever `on_bad` is: it is the policy that is spoilt.
        """
        acting.check_actions(action, self._tracker.lengths)
        return acting.Advance(self._actions.to_env(action))

    def _begin_all(self, obs: Obs) -> None:
        """All environments have been reset."""
        self._door.look_at_first(obs)
        self._obs = acting.received(obs)
        """What is acted on next; arrays that are never written to, since a device may be reading them."""
        self._started = np.ones(self._env.num_envs, bool)

    def _track(self, step: Any, ended: np.ndarray, bad: Bad | None, totals: np.ndarray) -> Finished | None:
        """Counts one step; adds the episodes that it has finished to `totals`, and returns them.

        An episode that ended because of a bad value, or because its environment crashed, is no whole one: it counts as
        bad, and its sums are forgotten.
        """
        lost = np.zeros_like(ended) if bad is None else bad.steps
        lost = lost | step.info.get("crashed", False)
        counted = ended & ~lost
        finished = self._tracker.step(step.reward, step.cost, step.info.get("success"), counted)
        if finished is not None:
            # Columns: return, length, count, costs.
            totals[:3] += finished.total_return.sum(), finished.length.sum(), len(finished.env)
            totals[3:] += finished.cost.sum(0)
        if bad is not None:
            lost |= bad.starts
        if lost.any():
            self._tracker.discard(lost)
        return finished

    def _mended(self, step: Any, bad: Bad) -> Generator[Any, Any, Any]:
        """The step with the episodes that were spoilt ended: cut before the action, which gave nothing."""
        spoilt, restart = bad.steps, bad.steps | bad.starts
        fresh = yield acting.Restart(restart)
        self._door.look_at_first(fresh, restart)
        info = dict(step.info)
        if "success" in info:
            info["success"] = info["success"] & ~spoilt
        return step._replace(
            obs=fresh,
            reward=np.where(spoilt, 0, step.reward),
            cost=np.where(spoilt[:, None], 0, step.cost),
            terminated=step.terminated & ~spoilt,
            truncated=step.truncated | spoilt,
            final_obs=_where(spoilt, self._obs, step.final_obs),
            info=info,
        )


def _where(mask: np.ndarray, a: Obs, b: Obs) -> Obs:
    def leaf(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(mask.reshape((-1,) + (1,) * (y.ndim - 1)), x, y)

    return jax.tree.map(leaf, a, b)


def episode_stats(totals: np.ndarray) -> EpisodeStats:
    """The sums `[return, length, count, costs]` as a batch carries them."""
    total_return, length, count, *cost = totals.astype(np.float32)
    return EpisodeStats(total_return, np.array(cost, np.float32), length, count)
