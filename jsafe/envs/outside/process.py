"""Outside environments in worker processes, with the interface of `jsafe.envs.VectorEnv`."""

from __future__ import annotations

import contextlib
import logging
import mmap
import multiprocessing as mp
import multiprocessing.connection
import multiprocessing.reduction
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec, Step
from jsafe.envs.outside import worker

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
"""How often a worker may fail in a row."""


class WorkerError(RuntimeError):
    """An outside environment failed again and again; the message ends with its traceback."""


class _Worker:
    """One process and the rows that it steps."""

    def __init__(self, python: str, setup: dict):
        self.rows: list[int] = setup["rows"]
        self.conn, theirs = mp.Pipe()
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        script = str(pathlib.Path(worker.__file__).resolve())
        self.process = subprocess.Popen(
            [python, script, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stderr=self.errors,
        )  # fmt: skip
        theirs.close()
        self._stop = weakref.finalize(self, _end, self.process, self.conn, self.errors)
        self.ask(setup)

    def ask(self, message) -> None:
        """Sends a message; that the process is gone shows in the answer."""
        try:
            self.conn.send(message)
        except OSError:
            _LOG.debug("worker %d is gone", self.process.pid)

    def answer(self):
        """(value, None), or (None, what went wrong)."""
        try:
            state, value = self.conn.recv()
        except (EOFError, OSError):
            return None, self._last_words()
        return (value, None) if state == "ok" else (None, value)

    def share(self, handle: int, arrays: dict) -> None:
        """Gives the process the shared memory."""
        self.ask(("memory", arrays))
        try:
            mp.reduction.send_handle(self.conn, handle, self.process.pid)
        except OSError:
            _LOG.debug("worker %d is gone", self.process.pid)

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return f"the process ended ({how})\n{words[-4000:]}"

    def close(self) -> None:
        """Ends the process."""
        self._stop()


def _end(process: subprocess.Popen, conn, errors) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        conn.send(("close",))
    conn.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


class ProcessEnv:
    """N outside environments, stepped by worker processes over shared memory, with the same-step autoreset.

    Environment i of seed s is first reset with s + i, later without a seed. A step may return five things (cost in
    `info["cost"]`, or none) or six (observation, reward, cost, terminated, truncated, info); the cost may be a vector.
    Observations are flattened to float64; actions must be a bounded Box.

    Where an environment raises or its process dies, the traceback is logged and kept in `failures`, the process is
    started again with fresh seeds, and its episodes end as truncated at the last observation, with `info["crashed"]`.
    The other processes go on. When a process fails more than three times in a row, the error is raised.

    What an outside environment is inside cannot be saved: after `load_state_dict` the first step cuts every episode
    (truncated, no reward) and new ones begin.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      failures: `[(rows, traceback)]` of the workers that died.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        kwargs: Mapping[str, object],
        *,
        factory: Callable | None = None,
        num_envs: int = 1,
        seed: int = 0,
        num_threads: int | None = None,
        costs: str = "sum",
        horizon: int | None = None,
        python: str | None = None,
    ):
        self.num_envs = n = checks.integer("num_envs", num_envs)
        count = min(n, checks.integer("num_threads", num_threads) if num_threads is not None else os.cpu_count() or 1)
        self._seed = checks.integer("seed", seed, 0, 2**32 - n)
        if horizon is not None:
            checks.integer("horizon", horizon)
        if costs not in ("sum", "separate"):
            raise ValueError(f"costs must be 'sum' or 'separate', got {costs!r}")
        id = name if kind == "factory" else f"{kind}:{name}"
        self._setup = {"kind": kind, "id": name, "kwargs": dict(kwargs), "horizon": horizon, "path": list(sys.path),
                       "separate": costs == "separate", "factory": _pickled(factory) if factory else None}  # fmt: skip
        self._python = python or sys.executable
        self.failures: list[tuple[list[int], str]] = []
        self._restarts, self._started, self._closed = 0, False, False
        self._streak: dict[int, int] = {}
        splits = [[int(i) for i in rows] for rows in np.array_split(np.arange(n), count)]
        self._workers = []
        try:
            self._workers = [_Worker(self._python, self._setup | {"rows": rows}) for rows in splits]
            answers = [w.answer() for w in self._workers]
            for _, error in answers:
                if error is not None:
                    raise ValueError(f"{id!r} cannot be made:\n{error}")
        except BaseException:
            self.close()
            raise
        facts = answers[0][0]
        self._facts = facts
        if facts["horizon"] is None:
            self.close()
            raise ValueError(f"{id!r} does not say after how many steps an episode ends: pass horizon=...")
        names = ("sum",) if costs == "sum" else tuple(f"cost{k}" for k in range(facts["num_costs"]))
        self.spec = Spec(
            id=id,
            obs_dim=facts["obs_dim"],
            act_dim=facts["act_dim"],
            num_costs=facts["num_costs"],
            horizon=facts["horizon"],
            action_low=tuple(facts["low"]),
            action_high=tuple(facts["high"]),
            cost_names=names,
            obs_slices={"obs": (0, facts["obs_dim"])},
            dt=facts["dt"],
        )
        self._low, self._high = np.array(facts["low"]), np.array(facts["high"])
        self._layout = worker.layout(n, facts["obs_dim"], facts["act_dim"], facts["num_costs"])
        self._memory = _memory(worker.size(self._layout))
        weakref.finalize(self, os.close, self._memory)
        self._arrays = worker.views(mmap.mmap(self._memory, worker.size(self._layout)), self._layout)
        self._last_obs = np.zeros((n, facts["obs_dim"]))
        self._cut: set[int] = set()
        for w in self._workers:
            w.share(self._memory, self._layout)
            _, error = w.answer()
            if error is not None:
                raise WorkerError(error)

    def reset(self, seed: int | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts a new episode in every environment, or in those of `mask`: see `VectorEnv.reset`."""
        self._usable(started=mask is not None)
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed).tolist()
        else:
            if seed is not None:
                self._seed = checks.integer("seed", seed, 0, 2**32 - self.num_envs)
            rows = list(range(self.num_envs))
        fresh = seed is not None or not self._started
        self._begin({i: self._seed + i if fresh else None for i in rows})
        self._started = True
        self._cut -= set(rows)
        self._last_obs[rows] = self._arrays["obs"][rows]
        return self._last_obs.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]` in the action box of `spec`; numbers outside are clipped to it.

        Returns:
          A `Step`; `info` has `success`, `diverged` (always false), `crashed` and `cost_sum`.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
          WorkerError: If a process failed more than three times in a row.
        """
        self._usable()
        array = checks.actions(actions, self.num_envs, self.spec.act_dim)
        np.clip(array, self._low, self._high, out=self._arrays["actions"])
        cut = sorted(self._cut)
        for w in self._workers:
            w.ask(("step", self._cut.intersection(w.rows)))
        self._cut.clear()
        crashed = np.zeros(self.num_envs, bool)
        for k, w in enumerate(self._workers):
            _, error = w.answer()
            if error is not None:
                crashed[w.rows] = True
                self._replace(k, error)
            else:
                self._streak.pop(k, None)
        a = {name: array.copy() for name, array in self._arrays.items() if name != "actions"}
        a["final_obs"][cut] = self._last_obs[cut]
        if crashed.any():
            a["final_obs"][crashed] = self._last_obs[crashed]
            for name, value in (("reward", 0), ("cost", 0), ("terminated", 0), ("truncated", 1), ("success", 0)):
                a[name][crashed] = value
        self._last_obs = a["obs"].copy()
        info = {"success": a["success"], "diverged": np.zeros(self.num_envs, bool), "crashed": crashed,
                "cost_sum": a["cost"].sum(axis=1)}  # fmt: skip
        return Step(a["obs"], a["reward"], a["cost"], a["terminated"], a["truncated"], a["final_obs"], info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]`."""
        self._usable()
        return self._last_obs.copy()

    def render(self, i: int = 0, **_) -> np.ndarray:
        """What the environment's own `render` returns (make it with `render_mode="rgb_array"`)."""
        self._usable()
        i = checks.index(i, self.num_envs)
        k = next(k for k, w in enumerate(self._workers) if i in w.rows)
        self._workers[k].ask(("render", i))
        picture, error = self._workers[k].answer()
        if error is not None:
            raise WorkerError(f"environment {i} cannot be drawn:\n{error}")
        if picture is None:
            raise ValueError(f"{self.spec.id!r} draws nothing: make it with render_mode='rgb_array'")
        return np.asarray(picture)

    def state_dict(self) -> dict:
        """What can be known of outside environments: their seeds and last observations."""
        self._usable()
        return {"id": self.spec.id, "num_envs": self.num_envs, "seed": self._seed, "restarts": self._restarts,
                "last_obs": self._last_obs.copy()}  # fmt: skip

    def load_state_dict(self, saved: dict) -> None:
        """Goes on after what `state_dict` saved with new episodes (see the class); ValueError if it does not fit."""
        self._usable(started=False)
        if not isinstance(saved, dict):
            raise ValueError(f"the state must be a dictionary, got {type(saved).__name__}")
        for name, value in (("id", self.spec.id), ("num_envs", self.num_envs)):
            if isinstance(saved.get(name), np.ndarray) or saved.get(name) != value:
                raise ValueError(f"{name} of the saved state must be {value!r}, got {saved.get(name)!r}")
        seed = checks.integer("seed of the saved state", saved.get("seed"), 0, 2**32 - self.num_envs)
        restarts = checks.integer("restarts of the saved state", saved.get("restarts"), 0)
        obs = np.asarray(saved.get("last_obs"))
        if obs.shape != self._last_obs.shape or obs.dtype.kind not in "fiu":
            raise ValueError(f"last_obs of the saved state must be numbers of shape {self._last_obs.shape}")
        self._seed, self._restarts = seed, restarts + 1
        self._begin({i: self._fresh(i) for i in range(self.num_envs)})
        self._last_obs[:] = obs
        self._cut = set(range(self.num_envs))
        self._started = True

    def close(self) -> None:
        """Ends the processes; the environments cannot be used any more."""
        self._closed = True
        for w in self._workers:
            w.close()

    def _fresh(self, i: int) -> int:
        """A seed that was not used before."""
        return (self._seed + i + self.num_envs * self._restarts) % 2**32

    def _begin(self, seeds: dict[int, int | None]) -> None:
        """Resets some rows; workers that fail are replaced."""
        asked = [(k, {i: s for i, s in seeds.items() if i in w.rows}) for k, w in enumerate(self._workers)]
        for k, own in asked:
            if own:
                self._workers[k].ask(("reset", own))
        for k, own in asked:
            if own:
                _, error = self._workers[k].answer()
                if error is not None:
                    self._replace(k, error)

    def _replace(self, k: int, error: str) -> None:
        """Starts worker k again, with new episodes in all its rows."""
        rows = self._workers[k].rows
        while error is not None:
            self.failures.append((list(rows), error))
            self._streak[k] = self._streak.get(k, 0) + 1
            if self._streak[k] > _ATTEMPTS:
                raise WorkerError(f"environments {rows} of {self.spec.id!r} fail again and again:\n{error}")
            _LOG.error("%s: the worker of environments %s died and starts again:\n%s", self.spec.id, rows, error)
            self._workers[k].close()
            self._restarts += 1
            error = self._restart(k, rows)

    def _restart(self, k: int, rows: list[int]) -> str | None:
        """Starts worker k, with new episodes in its rows; what went wrong, or None."""
        self._workers[k] = w = _Worker(self._python, self._setup | {"rows": rows})
        facts, error = w.answer()
        if error is not None:
            return error
        if repr(facts) != repr(self._facts):
            raise WorkerError(f"{self.spec.id!r} was made again with other spaces: {facts} after {self._facts}")
        w.share(self._memory, self._layout)
        _, error = w.answer()
        if error is not None:
            return error
        w.ask(("reset", {i: self._fresh(i) for i in rows}))
        return w.answer()[1]

    def _usable(self, started: bool = True) -> None:
        if self._closed:
            raise RuntimeError("the environment is closed")
        if started and not self._started:
            raise RuntimeError("call reset() first")


def _memory(length: int) -> int:
    """Descriptor of anonymous memory."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("jsafe")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, max(length, 1))
    return handle


def _pickled(factory: Callable) -> bytes:
    try:
        import cloudpickle

        return cloudpickle.dumps(factory)
    except ImportError:
        pass  # plain pickle does for functions of modules
    if getattr(factory, "__module__", None) == "__main__":
        raise ValueError("a factory of the main script needs cloudpickle: install it, or put the factory in a module")
    try:
        return pickle.dumps(factory)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"the factory must be picklable (lambdas need cloudpickle): {error}") from None
