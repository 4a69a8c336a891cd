"""Collectors of several runs in lock-step: one policy call and one step of one engine for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data import coroutine as acting
from jsafe.data import partition
from jsafe.data.api import BadValueError, make_collector
from jsafe.data.stepping import SteppingCollector
from jsafe.types import ActFn, Batch, Key, Learner, Memory


class ManyCollector:
    """R runs of N environments each, side by side in one batched environment of R N.

    Every run has a collector of its own (`collectors`), with its own replay, counters and statistics, which sees only
    its environments; their random streams are those of a run by itself, and so is all that the collector draws. A run
    that is spoilt (`BadValueError`) is `lost`, and does not disturb the others: it gets copies of their batches.

    Args:
      make_env: `number of environments -> batched environment`; called with N and with R N. The engine's state has to
        be restorable (`state_dict`), one entry per environment.
      learners: One for each run, with equal `feed`, `act` and `memory`.
      seeds: Seed of the environments of each run.
      **options: Of each run's collector; see `make_collector`.

    Raises:
      ValueError: If the numbers differ, or the environment does not fit.
    """

    def __init__(
        self, make_env: Callable[[int], Any], learners: Sequence[Learner], seeds: Sequence[int], **options: Any
    ):
        if len(learners) != len(seeds) or not seeds:
            raise ValueError(
                f"there must be one seed for each run, got {len(learners)} learners and {len(seeds)} seeds"
            )
        self._act, self._memory, n = learners[0].act, learners[0].memory, learners[0].feed.num_envs
        one = make_env(n)
        self._env = make_env(n * len(seeds))
        self._slices = [slice(r * n, (r + 1) * n) for r in range(len(seeds))]
        views = [_View(one, self._env, rows) for rows in self._slices]
        self.collectors = [make_collector(*each, **options) for each in zip(views, learners, seeds)]
        started = [view.started for view in views]
        one.close()
        self.lost: dict[int, BadValueError] = {}
        """What has ended runs, by their numbers."""
        self._env.load_state_dict(partition.merge_envs(started, n))
        if any(not _equal(state, view.state_dict()) for state, view in zip(started, views)):
            raise ValueError(
                f"{self._env.spec.id} cannot be put into the state of another engine, as runs in one program need it: "
                "train them one by one, or in a sweep"
            )

    @property
    def env_steps(self) -> int:
        """Environment steps so far, of each run."""
        return max(collector.env_steps for collector in self.collectors)  # one that is lost has stopped counting

    @property
    def progress(self) -> int:
        """Environment steps so far, of each run."""
        return self.env_steps

    def collect(self, policy_states: Any, keys: Sequence[Key]) -> Batch:
        """One batch for each run, stacked: every leaf has a leading axis R.

        Args:
          policy_states: What `learner.policy` returned, stacked likewise.
          keys: Typed keys `[R]`.

        Raises:
          BadValueError: When all runs are lost.
        """
        transforms = acting.transform_params(policy_states)
        runs = {
            r: cast(SteppingCollector, collector).collecting(jax.tree.map(lambda x, r=r: x[r], transforms), keys[r])
            for r, collector in enumerate(self.collectors)
            if r not in self.lost
        }
        answers: list[Any] = [None] * len(self.collectors)
        requests: dict[int, Any] = dict.fromkeys(runs)
        batches: dict[int, Batch] = {}
        while requests:
            for r in list(requests):
                if requests[r] is not None and answers[r] is None:
                    continue
                try:
                    requests[r] = runs[r].send(answers[r])
                except StopIteration as done:
                    batches[r] = done.value
                    del requests[r]
                except BadValueError as error:
                    self.lost[r] = error
                    del requests[r]
            if requests:
                answers = self._answer(self._asked(requests), policy_states, keys)
        if not batches:
            raise list(self.lost.values())[-1]
        spare = next(iter(batches.values()))
        return _stacked([batches.get(r, spare) for r in range(len(self.collectors))])

    def _asked(self, requests: dict[int, Any]) -> list[Any]:
        """The request of every run: None of those that are done, and in the place of lost ones that of another."""
        spare = next(iter(requests.values()))
        return [requests.get(r, spare if r in self.lost else None) for r in range(len(self.collectors))]

    def episodes(self) -> list[dict[str, float]]:
        """The statistics of each run; see `EpisodeTracker.pop`."""
        return [collector.episodes() for collector in self.collectors]

    def load(self, states: Sequence[dict[str, Any]], journals: Sequence[Iterable[dict[str, np.ndarray]]]) -> None:
        """Restores all runs from the states and journals of their collectors."""
        for collector, state, journal in zip(self.collectors, states, journals, strict=True):
            collector.load_state_dict(state, journal)
        n = self._slices[0].stop
        self._env.load_state_dict(partition.merge_envs([state["env"] for state in states], n))

    def close(self) -> None:
        """Closes the environments."""
        self._env.close()

    def _answer(self, requests: list[Any], policy_states: Any, keys: Any) -> list[Any]:
        """What the runs asked for; None for those that have to wait, because others want a reset first, or are done.

        Without resets all runs ask for the same, since they make the same number of steps.
        """
        if any(isinstance(request, acting.Restart) for request in requests):
            asking = [request if isinstance(request, acting.Restart) else None for request in requests]
            mask = np.zeros(self._env.num_envs, bool)
            for rows, request in zip(self._slices, asking):
                if request is not None:
                    mask[rows] = True if request.mask is None else request.mask
            obs = self._env.reset() if mask.all() else self._env.reset(mask=mask)
            return [None if request is None else _rows(obs, rows) for rows, request in zip(self._slices, asking)]
        if isinstance(requests[0], acting.Act):
            obs, started = (_stacked([getattr(each, name) for each in requests]) for name in ("obs", "started"))
            memories, step = [request.memory for request in requests], np.int32(requests[0].step)
            *out, memories = _act(self._act, self._memory, policy_states, memories, started, obs, keys, step)
            return list(zip(*map(np.asarray, out), memories))
        step = self._env.step(np.concatenate([request.actions for request in requests]))
        return [_rows(step, rows) for rows in self._slices]


class _View:
    """What one run sees of the environments: those of its own."""

    def __init__(self, one: Any, env: Any, rows: slice):
        self.num_envs, self.spec = one.num_envs, one.spec
        self.started: dict[str, Any] = {}
        self._one, self._env, self._rows = one, env, rows

    def reset(self, seed: int) -> np.ndarray:
        """The first observations of a run by itself, and the state it starts from."""
        obs = self._one.reset(seed=seed)
        self.started = self._one.state_dict()
        return obs

    def state_dict(self) -> dict[str, Any]:
        """The state of an engine with these environments alone."""
        return partition.cut_env(self._env.state_dict(), self._rows, self._env.num_envs)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: `ManyCollector.load` restores all environments at once."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def _act(
    function: ActFn,
    memory: Memory,
    policy_states: Any,
    memories: list[Any],
    started: np.ndarray,
    obs: Any,
    keys: Any,
    step: int,
) -> tuple[jax.Array, jax.Array, list[Any]]:
    """`coroutine.act` for R runs: everything is `[R, ...]`, but for the memories, which stay the runs' own."""

    def act(policy_state, carried, started, obs, key):
        out = function(policy_state, memory.reset(carried, started), obs, jax.random.fold_in(key, step), False)
        return out.action, out.log_prob, out.memory

    carried = jax.tree.map(lambda *leaves: jnp.stack(leaves), *memories)
    action, log_prob, carried = jax.vmap(act)(policy_states, carried, started, obs, keys)
    carried = acting.after(action, carried)
    return action, log_prob, [jax.tree.map(lambda x, r=r: x[r], carried) for r in range(len(memories))]


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _rows(tree: Any, rows: slice) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)


def _equal(a: Any, b: Any) -> bool:
    leaves, structure = jax.tree.flatten(a)
    others, other = jax.tree.flatten(b)
    return structure == other and all(  # type: ignore[operator]
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(leaves, others)
    )
