"""Overlaps collection with learning: the next batch is made while the device computes."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data.api import Collector
from jsafe.types import Batch, CostStats, EpisodeStats, Key, Measured, PolicyState, Steps


class _Result(NamedTuple):
    batch: Any
    env_steps: int
    progress: int
    episodes: dict[str, float]


class PrefetchCollector:
    """A collector that is one iteration ahead: its data is one update old.

    Call i hands over the batch that a thread collected during update i - 1, and starts the next one with the policy
    that it is given. So the batch of update i was collected with the policy before update i - 1 (call 0 collects at
    once, with the current policy, as call 1's data is). On-policy learners see the right `log_prob` of that policy.

    It pays where the learner computes on another device than the environments; on a machine whose few cores do both
    it does not.

    Resume is exact: `state_dict` waits for the batch under way and stores it.

    Args:
      collector: The collector that does the work; do not call it directly meanwhile. One whose batches carry a
        policy's memory has it as its attribute `memory`.
      depth: Batches in advance: 1, or 0 to pass every call through.

    Raises:
      ValueError: For another depth.
    """

    def __init__(self, collector: Collector, depth: int = 1):
        if depth not in (0, 1):
            raise ValueError(f"depth must be 0 or 1, got {depth}")
        self._collector = collector
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collect") if depth else None
        self._next: Future[_Result] | None = None
        episodes = collector.episodes()
        self._delivered = _Result(None, collector.env_steps, collector.progress, episodes)
        self._finished = episodes["episode/count"]  # episodes delivered since the last `episodes` call

    @property
    def env_steps(self) -> int:
        """Environment steps in the batches handed over so far."""
        return self._delivered.env_steps if self._thread else self._collector.env_steps

    @property
    def progress(self) -> int:
        """As `env_steps`, in the inner collector's unit."""
        return self._delivered.progress if self._thread else self._collector.progress

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """Hands over the batch under way and starts the next with `policy_state`, of which it keeps a copy.

        Args:
          policy_state: What `learner.policy` returned.
          key: Key of this iteration.

        Raises:
          Whatever the collection in the thread raised.
        """
        if self._thread is None:
            return self._collector.collect(policy_state, key)
        if self._next is None:
            result = self._run(policy_state, key)
        else:
            result = self._next.result()
        # The caller may donate its state to the update while the thread still acts.
        policy_state = jax.tree.map(jnp.copy, policy_state)
        self._next = self._thread.submit(self._run, policy_state, jax.random.fold_in(key, 1))
        self._delivered = result
        self._finished += result.episodes["episode/count"]
        return result.batch

    def episodes(self) -> dict[str, float]:
        """Statistics up to the last batch handed over; see `EpisodeTracker.pop`."""
        if self._thread is None:
            return self._collector.episodes()
        count, self._finished = self._finished, 0.0
        return {**self._delivered.episodes, "episode/count": count}

    def journal(self) -> dict[str, np.ndarray] | None:
        """As the inner collector's, the rows of the batch under way included."""
        self._wait()
        return self._collector.journal()

    def journal_keep(self) -> int:
        """As the inner collector's."""
        self._wait()
        return self._collector.journal_keep()

    def state_dict(self) -> dict[str, Any]:
        """The inner state after the batch under way, and that batch."""
        under_way = self._wait()
        state = {
            "collector": self._collector.state_dict(),
            "env_steps": self.env_steps,
            "progress": self.progress,
            "episodes": self._delivered.episodes,
            "finished": self._finished,
            "next": {},
        }
        if under_way is not None:
            counters = {name: getattr(under_way, name) for name in ("env_steps", "progress", "episodes")}
            state["next"] = {**counters, "batch": _plain(under_way.batch)}
        return state

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit."""
        self._wait()
        self._collector.load_state_dict(state["collector"], journal)
        episodes = {name: float(value) for name, value in state["episodes"].items()}
        self._delivered = _Result(None, int(state["env_steps"]), int(state["progress"]), episodes)
        self._finished = float(state["finished"])
        self._next = None
        under_way = state["next"]
        if under_way and self._thread is not None:
            batch = _batch(under_way["batch"], getattr(self._collector, "memory", ()))
            episodes = {name: float(value) for name, value in under_way["episodes"].items()}
            self._next = Future()
            self._next.set_result(_Result(batch, int(under_way["env_steps"]), int(under_way["progress"]), episodes))

    def close(self) -> None:
        """Waits for the batch under way, ends the thread and closes the inner collector."""
        if self._thread is not None:
            self._thread.shutdown()
        self._collector.close()

    def _run(self, policy_state: PolicyState, key: Key) -> _Result:
        batch = self._collector.collect(policy_state, key)
        inner = self._collector
        return _Result(batch, inner.env_steps, inner.progress, inner.episodes())

    def _wait(self) -> _Result | None:
        return None if self._next is None else self._next.result()


def _plain(batch: Batch) -> dict[str, Any]:
    """A batch as nested dicts of numpy arrays, and its memory as a list."""
    steps = {name: jax.tree.map(np.array, value) for name, value in batch.steps._asdict().items()}
    measured = [np.array(leaf) for leaf in jax.tree.leaves(batch.measured)]
    memory = [np.array(leaf) for leaf in jax.tree.leaves(batch.memory)]
    return {"steps": steps, "measured": measured, "ready": np.array(batch.ready), "memory": memory}


def _batch(plain: dict[str, Any], memory: Any) -> Batch:
    """The inverse of `_plain`; `memory` is one of the same structure."""
    empty = Measured(CostStats(0, 0), EpisodeStats(0, 0, 0, 0))
    carried = jax.tree.unflatten(jax.tree.structure(memory), plain["memory"]) if plain["memory"] else ()
    measured = jax.tree.unflatten(jax.tree.structure(empty), plain["measured"])
    return Batch(Steps(**plain["steps"]), measured, plain["ready"], carried)
