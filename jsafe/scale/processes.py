"""Runs of many processes: who does what, and what they tell each other.

Each process steps its own environments and feeds its own devices; parameters, statistics, multipliers and curves are
global. Process 0 alone writes. Its checkpoints are those of a run of one process (`jsafe.data.partition`), so that
any number of processes can continue them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsafe.data import partition
from jsafe.data.api import Collector
from jsafe.data.episodes import EpisodeTracker, statistics
from jsafe.scale import devices as parallel
from jsafe.types import Batch, Key, Learner, PolicyState

HEARTBEAT_SECONDS = 20
"""A process that has not been heard of for so long ends the job."""
JOIN_SECONDS = 300
"""How long a process waits for the others at the beginning."""
_BLOCK = 1 << 26


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """Whether, and as which process, this one belongs to a job of many.

    Raises:
      ValueError: If the numbers contradict each other.
    """

    distributed: bool = False
    """Train on all devices of all processes. Start the same command once for each process."""
    coordinator: str | None = None
    """HOST:PORT of process 0 (default: JAX_COORDINATOR_ADDRESS, Slurm, Open MPI, Kubernetes)."""
    num_processes: int | None = None
    """Number of processes (default: JAX_NUM_PROCESSES, or from the cluster). 1: all devices of this process."""
    process_id: int | None = None
    """Number of this process, from 0 (default: JAX_PROCESS_ID, or from the cluster)."""

    def __post_init__(self):
        given = [name for name in ("coordinator", "num_processes", "process_id") if getattr(self, name) is not None]
        if given and not self.distributed:
            raise ValueError(f"{given[0]} has a meaning with --distributed only")
        if self.num_processes is not None and self.num_processes < 1:
            raise ValueError(f"num_processes must be at least 1, got {self.num_processes}")
        if self.process_id is not None and not 0 <= self.process_id < (self.num_processes or 1 << 31):
            raise ValueError(f"process_id must be in 0 ... num_processes - 1, got {self.process_id}")
        if self.coordinator is not None and not self.coordinator.rpartition(":")[2].isdigit():
            raise ValueError(f"coordinator must be HOST:PORT, got {self.coordinator!r}")


def connect(job: JobConfig) -> Team:
    """Joins the job; a team of one where `job` is not distributed. To be called before JAX is used.

    If the processes do not find each other within `JOIN_SECONDS`, JAX aborts them; a message is printed then.

    Raises:
      ValueError: If the address, the number of processes or the number of this one is not known.
    """
    if not job.distributed:
        return Team.alone()

    def number(given, name):
        if given is not None or name not in os.environ:
            return given
        if not os.environ[name].isdigit():
            raise ValueError(f"{name} must be a whole number, got {os.environ[name]!r}")
        return int(os.environ[name])

    count = number(job.num_processes, "JAX_NUM_PROCESSES")
    if count != 1:
        message = (
            f"error: this process ended before all processes of the job were there (they have {JOIN_SECONDS} s). Start "
            "each with the same --coordinator (the address of process 0) and --num-processes, and its own --process-id"
        )
        try:
            with _last_words(message):
                jax.distributed.initialize(
                    job.coordinator,
                    count,
                    number(job.process_id, "JAX_PROCESS_ID"),
                    initialization_timeout=JOIN_SECONDS,
                    heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                    shutdown_timeout_seconds=10,
                )
        except ValueError as error:
            raise ValueError(
                f"--distributed needs --coordinator HOST:PORT, --num-processes and --process-id where no cluster "
                f"tells them ({error})"
            ) from error
    return Team()


class LostProcessError(RuntimeError):
    """Another process of the job has ended or cannot be reached: this one cannot go on alone."""


@contextlib.contextmanager
def lost_process(team: Team, folder: Path, checkpoints: Callable[[], list[int]]) -> Iterator[None]:
    """Says how to continue when another process of the job dies.

    What JAX raises when a collective fails becomes a `LostProcessError`. Sometimes JAX's own watch is faster, and
    aborts this process without a chance for Python: then a small process beside it prints the message.

    Args:
      team: The processes of the run.
      folder: The run folder, for the message.
      checkpoints: Lists the iterations that were saved.
    """
    if team.count == 1:
        yield
        return
    here = f"process {team.index} of {team.count}"
    again = f"continue with: jsafe train --resume {folder} --distributed"
    message = f"error: {here} was killed, or aborted because another one died (see what the others printed); {again}"
    with _last_words(message):
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            saved = checkpoints()
            kept = f"the last checkpoint is of iteration {saved[-1]}" if saved else "there is no checkpoint yet"
            reason = str(error).splitlines()[0]
            raise LostProcessError(f"{here} lost contact with another one ({reason}); {kept}; {again}") from error


@contextlib.contextmanager
def _last_words(message: str) -> Iterator[None]:
    """Has a small process beside this one print a message if this one is gone before the end of the block."""
    watch = [sys.executable, "-S", "-c", _WATCH, message]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as watcher:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if watcher.stdin is not None:
                    watcher.stdin.write(b".")
                    watcher.stdin.flush()


_WATCH = "import sys; sys.stdin.buffer.read() or sys.stderr.write(sys.argv[1] + chr(10))"
"""Speaks up when its input ends without a word."""


class Team:
    """The processes of a run. Every method but `share` has to be called by all of them, in the same order.

    `Team.alone()` is one process that belongs to no job: its methods say what they would of a team, without waiting
    for anybody, and it computes on JAX's default device.

    Attributes:
      index: Number of this process; 0 writes files.
      count: Number of processes.
      mesh: All devices, those of process 0 first; None for a process alone.
      axis_name: The axis that learners reduce over; None for a process alone.
      flags: What `jsafe train --resume RUN` needs besides, to continue with such a team.
    """

    flags = " --distributed"

    def __init__(self):
        self.index, self.count = jax.process_index(), jax.process_count()
        self.mesh: Mesh | None = parallel.make_mesh()
        self.axis_name: str | None = self.mesh.axis_names[0]
        self._own_devices = self.mesh.local_mesh.size
        self._wishes: jax.Array | np.ndarray | None = None
        self._sharding = NamedSharding(self.mesh, PartitionSpec(self.axis_name))
        total = jax.shard_map(
            lambda x: jax.lax.psum(x[0], self.axis_name),
            mesh=self.mesh,
            in_specs=PartitionSpec(self.axis_name),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        self._total = jax.jit(total)

    @staticmethod
    def alone() -> Team:
        """The team of a process that belongs to no job."""
        return _Alone()

    def update(self, learner: Learner) -> parallel.DeviceUpdate | None:
        """How a learner is updated on the team's devices; None for `jax.jit` on the default one."""
        return parallel.shard_map_update(learner, self.mesh)

    def collector(self, collector: Collector) -> TeamCollector:
        """The collector of this process as a part of the team's."""
        return TeamCollector(collector, self)

    def agreed(self, *wishes: bool) -> tuple[bool, ...]:
        """Which of some wishes any process had at the last call, or none before the second.

        So all do the same without waiting for each other. `forget` starts anew.
        """
        before, self._wishes = self._wishes, self.votes(wishes)
        return (False,) * len(wishes) if before is None else tuple(bool(x) for x in np.asarray(before))

    def forget(self) -> None:
        """Forgets the wishes of the last call of `agreed`, which have been fulfilled."""
        self._wishes = None

    def votes(self, values: Iterable[int]) -> jax.Array | np.ndarray:
        """The sums of some numbers over all processes, not waited for: reading them waits."""
        row = np.array(list(values), np.int32)
        rows = np.zeros((self._own_devices, len(row)), np.int32)
        rows[0] = row
        return parallel.local(self._total(jax.make_array_from_process_local_data(self._sharding, rows)))

    def gather(self, value: Any) -> list[Any]:
        """Small values of all processes (anything that pickles), to all of them."""
        data = pickle.dumps(value)
        size = self._largest(len(data))
        blocks = self._exchange(data, size)
        return [pickle.loads(block.tobytes()) for block in blocks]  # a pickle knows its own end

    def collect(self, value: Any) -> list[Any] | None:
        """Values of all processes, of any size, to process 0; None to the others."""
        data = pickle.dumps(value, protocol=5)
        size = self._largest(len(data))
        step = min(size, _BLOCK)
        parts: list[list[np.ndarray]] = [[] for _ in range(self.count)]
        for start in range(0, size, step):
            for part, block in zip(parts, self._exchange(data[start : start + step], step)):
                if self.index == 0:
                    part.append(block)
        return [pickle.loads(np.concatenate(part).tobytes()) for part in parts] if self.index == 0 else None

    def check_equal(self, tree: Any) -> None:
        """Compares a tree of arrays between the processes, bit for bit.

        Raises:
          RuntimeError: Naming the leaves that differ.
        """
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
        sums = self.gather([zlib.crc32(np.asarray(leaf).tobytes()) for _, leaf in leaves])
        bad = [jax.tree_util.keystr(path) for (path, _), *each in zip(leaves, *sums) if len(set(each)) > 1]
        if bad:
            raise RuntimeError(f"the processes hold different values of {', '.join(bad)}")

    def share(self, name: str, total: int, of: int | None = None) -> int:
        """This process's share of a number that the processes (or `of`) divide equally.

        Raises:
          ValueError: If they cannot.
        """
        of = of or self.count
        if total % of:
            what = "processes" if of == self.count else "devices"
            raise ValueError(f"{name} must be a multiple of the number of {what}, {of}, got {total}")
        return total // self.count

    def _largest(self, size: int) -> int:
        """The largest size, rounded up so that few programs are compiled."""
        words = multihost_utils.process_allgather(np.array([size >> 20, size & 0xFFFFF], np.int32))
        largest = max((int(high) << 20) + int(low) for high, low in words.reshape(-1, 2))
        return max(256, 1 << (largest - 1).bit_length())

    def _exchange(self, data: bytes, size: int) -> np.ndarray:
        row = np.zeros(size, np.uint8)
        row[: len(data)] = np.frombuffer(data, np.uint8)
        return multihost_utils.process_allgather(row).reshape(self.count, size)


class _Alone(Team):
    """One process that belongs to no job."""

    flags = ""

    def __init__(self):
        self.index, self.count, self.mesh, self.axis_name = 0, 1, None, None

    def update(self, learner: Learner) -> None:
        return None

    def collector(self, collector: Collector) -> TeamCollector:
        return _AloneCollector(collector, self)

    def agreed(self, *wishes: bool) -> tuple[bool, ...]:
        return tuple(map(bool, wishes))

    def forget(self) -> None:
        pass

    def votes(self, values: Iterable[int]) -> np.ndarray:
        return np.array(list(values), np.int32)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def collect(self, value: Any) -> list[Any]:
        return [value]

    def check_equal(self, tree: Any) -> None:
        pass


def local_learner(learner: Learner, team: Team) -> Learner:
    """The learner with what the collector of one process has to produce as its `feed`.

    Raises:
      ValueError: If processes or devices cannot share environments or sequences equally.
    """
    feed = learner.feed
    team.share(feed.batch_option, feed.shape[-1], team.count if team.mesh is None else team.mesh.size)
    return learner._replace(feed=feed.divided(team.count))


class _Tracked(Protocol):
    """A collector that steps environments."""

    @property
    def tracker(self) -> EpisodeTracker: ...


class TeamCollector:
    """The collector of this process, with the counters and the state of the whole job; made by `Team.collector`.

    Args:
      collector: Steps this process's environments, and has their statistics as `tracker` (`EpisodeTracker`).
      team: The processes.
    """

    def __init__(self, collector: Collector, team: Team):
        self._collector, self._team = collector, team

    @property
    def env_steps(self) -> int:
        """Environment steps so far, over all processes."""
        return self._collector.env_steps * self._team.count

    @property
    def progress(self) -> int:
        """As `env_steps`, in the collector's unit."""
        return self._collector.progress * self._team.count

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """This process's part of the batch, from its own stream of random numbers."""
        return self._collector.collect(policy_state, jax.random.fold_in(key, self._team.index))

    def episodes(self) -> dict[str, float]:
        """Statistics of this process alone; see `pooled`."""
        return self._collector.episodes()

    def pooled(self, finished: float) -> dict[str, float]:
        """The statistics `episode/*` over the last episodes (100 of each process) of all processes.

        All processes have to call it. `finished` is the number of new episodes of this one. A process alone has said
        everything in `episodes`.
        """
        tracker = cast(_Tracked, self._collector).tracker
        envs = tracker.finished
        sums = self._team.gather((*tracker.sums(), finished, int(envs.sum()), len(envs), tracker.bad))
        return statistics(*(sum(each) for each in zip(*sums)))

    def journal(self) -> dict[str, np.ndarray] | None:
        """The new rows of this process; see `snapshot`."""
        return self._collector.journal()

    def journal_keep(self) -> int:
        """As the collector's."""
        return self._collector.journal_keep()

    def close(self) -> None:
        """Closes the collector."""
        self._collector.close()

    def snapshot(self) -> Snapshot | Collector | None:
        """What a checkpoint needs of all processes, to process 0. All have to call it."""
        chunk = self._collector.journal()
        state = (chunk, self._collector.journal_keep(), self._collector.state_dict())
        parts = self._team.collect(state)
        if parts is None:
            return None
        chunks, keeps, states = zip(*parts)
        return Snapshot(partition.merge_chunks(chunks), max(keeps), partition.merge(states))

    def state_dict(self) -> dict[str, Any]:
        """This process's state."""
        return self._collector.state_dict()

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Takes this process's part of the state of all environments."""
        index, count = self._team.index, self._team.count
        part = partition.split(state, index, count)
        self._collector.load_state_dict(part, [partition.split_chunk(chunk, index, count) for chunk in journal])


class _AloneCollector(TeamCollector):
    """The collector of a process alone: as it is."""

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        return self._collector.collect(policy_state, key)

    def pooled(self, finished: float) -> dict[str, float]:
        return {}

    def snapshot(self) -> Collector:
        return self._collector

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        self._collector.load_state_dict(state, journal)


class Snapshot:
    """The merged state of all collectors, as a checkpoint asks for it."""

    def __init__(self, chunk: dict[str, np.ndarray] | None, keep: int, state: dict[str, Any]):
        self._chunk, self._keep, self._state = chunk, keep, state

    def journal(self) -> dict[str, np.ndarray] | None:
        """The new rows of the replay; once."""
        chunk, self._chunk = self._chunk, None
        return chunk

    def journal_keep(self) -> int:
        """As a collector's."""
        return self._keep

    def state_dict(self) -> dict[str, Any]:
        """As a collector's."""
        return self._state
