"""Where the runs of a sweep work: processes here, tasks of a Ray cluster, jobs of Slurm.

A pool starts a run somewhere and tells how that ended. Scheduling, queues, nodes and containers are the engines'; what
they cannot know is that a run continues from its newest checkpoint, wherever it is started again. The folder of the
sweep has to be the same on all nodes (a common file system).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from jsafe.sweeps import worker


class Ended(NamedTuple):
    """How a worker ended.

    Attributes:
      code: Exit status of `jsafe.sweeps.worker`, negative for a signal; None if it was lost.
      how: For people, where it was lost or has failed.
    """

    code: int | None
    how: str = ""


class Job(Protocol):
    """One run at work, or several in one program."""

    def poll(self) -> Ended | None:
        """How it ended; None while it works or waits for its turn."""

    def stop(self) -> None:
        """Asks it to save and end."""


class Pool(Protocol):
    """Starts runs."""

    workers: int
    """Runs at a time, as far as this side bounds them."""
    again: bool
    """Whether a run whose worker was lost is started again."""
    told: str
    """For people: what follows the number of runs."""

    def start(self, paths: Sequence[Path], num_threads: int | None) -> Job:
        """Starts the run of a folder, or those of several in one program.

        Raises:
          OSError: If it cannot be started.
        """

    def close(self) -> None:
        """Lets go of what the pool has made."""


# ---- this machine --------------------------------------------------------------------------------------------------


class Local:
    """Processes of this machine, which share its cores and its GPUs.

    Args:
      workers: Processes at a time.
      lock: A descriptor that the processes hold, too: the lock of the sweep is free when all have ended.
    """

    again = False

    def __init__(self, workers: int, lock: int):
        self.workers, self._lock = workers, lock
        self.told = f"{workers} at a time"
        self._free = list(range(workers))
        self._environments = [worker_environment(slot, workers) for slot in self._free]

    def start(self, paths: Sequence[Path], num_threads: int | None) -> Job:
        slot = self._free.pop(0)
        environment = self._environments[slot]
        words = [sys.executable, "-m", "jsafe.sweeps.worker", str(num_threads or environment["PJRT_NPROC"])]
        try:
            with open(paths[0] / worker.LOG, "ab") as log:
                process = subprocess.Popen(
                    [*words, *map(str, paths)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(self._lock,) if os.name == "posix" else (),
                    start_new_session=True,  # Ctrl-C is for this process, which then asks them all to end
                )
        except OSError:
            self._free.append(slot)
            raise
        return _Process(process, slot, self._free)

    def close(self) -> None:
        """Nothing: the processes end when their input is closed."""


class _Process:
    def __init__(self, process: subprocess.Popen, slot: int, free: list[int]):
        self._process, self._slot, self._free = process, slot, free

    def poll(self) -> Ended | None:
        code = self._process.poll()
        if code is None:
            return None
        self._free.append(self._slot)
        self.stop()
        return Ended(code, f"signal {-code}" if code < 0 else f"exit status {code}")

    def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


def worker_environment(slot: int, workers: int) -> dict[str, str]:
    """Environment variables of a worker: its share of the cores, its GPU, its share of that one's memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    made = {"PJRT_NPROC": str(max(1, cores // workers)), **os.environ}  # how many threads XLA starts
    gpus = [number for number in made.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
    if len(gpus) > 1:
        made["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    sharing = -(-workers // max(1, len(gpus)))
    if sharing > 1:
        made.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / sharing:.3f}")
    return made


# ---- clusters ------------------------------------------------------------------------------------------------------


class _Cluster:
    """What the pools of clusters share: a file that asks all workers to save and end."""

    again = True

    def __init__(self, folder: Path, workers: int | None):
        self.workers = workers or 10**6  # the engine has a queue
        self._stop = (folder / ".stop").absolute()
        self._stop.unlink(missing_ok=True)

    def task(self, paths: Sequence[Path], num_threads: int) -> worker.Task:
        """What is sent to a worker."""
        return worker.Task(tuple(str(path.absolute()) for path in paths), num_threads, os.getcwd(), str(self._stop))

    def stop(self) -> None:
        """Asks all to end."""
        with contextlib.suppress(OSError):
            self._stop.touch()

    def close(self) -> None:
        """Nothing."""


class RayCluster(_Cluster):
    """Tasks of a Ray cluster: that of `RAY_ADDRESS`, else the one that was started on this machine, else a new one.

    Args:
      folder: Of the sweep.
      workers: Runs at a time; as many as the cluster has room for by default.
      cpus, gpus: Of each run.
      options: More of what `ray.remote(...).options` takes (`memory`, `resources`, `scheduling_strategy` ...).

    Raises:
      ValueError: If Ray is not installed, or refuses an option.
    """

    def __init__(self, folder: Path, workers: int | None = None, cpus: float = 1, gpus: float = 0, **options: Any):
        try:
            import ray
        except ImportError:
            raise ValueError("ray is not installed: pip install 'jsafe[cluster]'") from None
        super().__init__(folder, workers)
        self._ray, self._cpus = ray, cpus
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="warning")
        # A process for each run: a free GPU, threads of its own. Retries are ours: nobody would hear of Ray's.
        try:
            task = ray.remote(max_calls=1, max_retries=0)(worker.train_task)
            self._remote = task.options(num_cpus=cpus, num_gpus=gpus, **options)
        except ValueError as error:
            raise ValueError(f"Ray refuses an option of [cluster]: {error}") from None
        nodes = sum(node["Alive"] for node in ray.nodes())
        self.told = f"on a Ray cluster of {nodes} node{'s' if nodes > 1 else ''}"

    def start(self, paths: Sequence[Path], num_threads: int | None) -> Job:
        reference = self._remote.remote(self.task(paths, num_threads or max(1, int(self._cpus))))
        return _RayJob(self._ray, reference, self)


class _RayJob:
    def __init__(self, ray: Any, reference: Any, pool: RayCluster):
        self._ray, self._reference, self.stop = ray, reference, pool.stop

    def poll(self) -> Ended | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return Ended(self._ray.get(self._reference))
        except self._ray.exceptions.RayTaskError as error:
            return Ended(1, _last_line(error))
        except self._ray.exceptions.RayError as error:  # of the worker, its node or its memory
            return Ended(None, _first_line(error))


class SlurmCluster(_Cluster):
    """Jobs of Slurm, handed in by submitit.

    Args:
      folder: Of the sweep; what submitit writes is in its `jobs`.
      workers: Jobs in Slurm's queue at a time; all by default.
      cpus, gpus: Of each run.
      minutes: Longest time of a job. One that reaches it saves, and is handed in again.
      local: Hand the jobs to submitit's stand-in on this machine.
      options: More of what `submitit.AutoExecutor.update_parameters` takes (`slurm_partition`, `mem_gb` ...).

    Raises:
      ValueError: If submitit or Slurm is not there, or refuses an option.
    """

    def __init__(
        self,
        folder: Path,
        workers: int | None = None,
        cpus: int = 1,
        gpus: int = 0,
        minutes: float = 24 * 60,
        *,
        local: bool = False,
        **options: Any,
    ):
        try:
            import submitit
        except ImportError:
            raise ValueError("submitit is not installed: pip install 'jsafe[cluster]'") from None
        if not local and shutil.which("sbatch") is None:
            raise ValueError("Slurm is not here: there is no command sbatch (--on slurm-local tries the same without)")
        super().__init__(folder, workers)
        self._cpus, self._local = cpus, local
        try:
            self._executor = submitit.AutoExecutor(folder / "jobs", cluster="local" if local else "slurm")
            self._executor.update_parameters(
                name="jsafe", timeout_min=minutes, cpus_per_task=cpus, gpus_per_node=gpus, **options
            )
        except (NameError, TypeError, ValueError) as error:
            raise ValueError(f"submitit refuses an option of [cluster]: {_first_line(error)}") from None
        self.told = "as local jobs of submitit" if local else "as jobs of Slurm"

    def start(self, paths: Sequence[Path], num_threads: int | None) -> Job:
        import submitit

        task = self.task(paths, num_threads or self._cpus)
        try:
            with _without_interrupts() if self._local else contextlib.nullcontext():
                job = self._executor.submit(worker.train_task, task)
            return _SlurmJob(job, self)
        except submitit.core.utils.FailedSubmissionError as error:
            raise OSError(f"the job was refused: {_last_line(error)}") from None


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile do not hear Ctrl-C, which is for this one: it then asks them all to end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SlurmJob:
    def __init__(self, job: Any, pool: SlurmCluster):
        self._job, self.stop = job, pool.stop

    def poll(self) -> Ended | None:
        import submitit

        if not self._job.done():
            return None
        try:
            return Ended(self._job.result())
        except submitit.core.utils.UncompletedJobError as error:  # nothing came back
            return Ended(None, f"job {self._job.job_id}, {self._job.state.lower()}: {_first_line(error)}")
        except submitit.core.utils.FailedJobError as error:
            return Ended(1, _last_line(error))


def _first_line(error: BaseException) -> str:
    """Its first sentence: engines go on with advice."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line.partition(". ")[0].rstrip(".")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


Engine = Literal["ray", "slurm", "slurm-local"]
"""Clusters by name."""


def cluster(engine: Engine, folder: Path, workers: int | None, options: Mapping[str, Any]) -> Pool:
    """The pool of a cluster.

    Args:
      engine: Its name.
      folder: Of the sweep.
      workers: Runs at a time; None: the engine's business.
      options: The table `cluster` of the sweep's file.

    Raises:
      ValueError: If the engine is not there, or refuses an option.
    """
    kinds = {"ray": (RayCluster, {}), "slurm": (SlurmCluster, {}), "slurm-local": (SlurmCluster, {"local": True})}
    make, more = kinds[engine]
    for name, low in {"cpus": 1, "gpus": 0, "minutes": 1}.items():
        value = options.get(name, low)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
            raise ValueError(f"cluster.{name} must be a number of at least {low}, got {value!r}")
    if engine == "ray" and "minutes" in options:
        raise ValueError("cluster.minutes is for Slurm: a task of Ray has no time limit")
    return make(folder, workers, **options, **more)
