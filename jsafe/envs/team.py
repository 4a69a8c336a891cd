"""One batch of ours in several processes: what a step takes beside the physics runs in all of them at once."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.envs import checks, threads
from jsafe.envs.api import Step
from jsafe.envs.lifecycle import Usable
from jsafe.envs.outside.workers import Shared, Worker, WorkerError, frame, summary

ARRAYS = ("obs", "final_obs", "reward", "cost", "terminated", "truncated")
"""Of a step, beside its info."""
_STEP = frame(("step", None))
_SCRIPT = str(Path(__file__).with_name("serving.py"))


class Team(Usable):
    """N environments of one task in P processes over shared memory, with the interface of one engine.

    Environment i is what it would be in one process, bit for bit: its stream, its steps, its saved state, which either
    can load. One interpreter holds its lock for some microseconds of every environment's step, which bounds how many
    threads it can feed; P interpreters hold P locks. Each process has `num_threads / P` threads.

    Args:
      id: Of one of our navigation or velocity tasks.
      probe: One environment of it, which tells what steps look like, and is closed.
      task: Pickled registration of an id that is not ours; None for those that are.
      num_envs, seed, num_threads: As for `jsafe.envs.make`.
      num_processes: P, at most N.
      options: What else `jsafe.envs.registry.plain` takes.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.

    Raises:
      ValueError: If a number is not allowed.
      WorkerError: If a process fails.
    """

    def __init__(
        self,
        id: str,
        probe: Any,
        task: bytes | None,
        num_envs: int,
        seed: int,
        num_threads: int | None,
        num_processes: int,
        options: dict[str, Any],
    ):
        self.num_envs = n = checks.integer("num_envs", num_envs)
        count = min(checks.integer("num_processes", num_processes), n)
        checks.integer("seed", seed, 0, 2**32 - n)
        total = threads.processors() if num_threads is None else checks.integer("num_threads", num_threads)
        setup = {"id": id, "task": task, "seed": seed, "num_threads": max(1, total // count), "options": options,
                 "path": sys.path, "step_timeout": None}  # fmt: skip
        self._workers: list[Worker] = []
        try:
            for rows in np.array_split(np.arange(n), count):
                self._workers.append(Worker(sys.executable, setup | {"rows": rows.tolist()}, _SCRIPT))
            self.spec = probe.spec
            probe.reset()
            info = probe.step(np.zeros((1, probe.spec.act_dim))).info
            probe.close()
            for w in self._workers:
                self._answer(w)
            self._share({name: str(value.dtype) for name, value in info.items()})
        except BaseException:
            self.close()
            raise

    def _share(self, kinds: dict[str, str]) -> None:
        n, spec = self.num_envs, self.spec
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {"actions": ("float64", (n, spec.act_dim))}
        shapes |= dict.fromkeys(("obs", "final_obs"), ("float64", (n, spec.obs_dim)))
        shapes |= {"reward": ("float64", (n,)), "cost": ("float64", (n, spec.num_costs))}
        shapes |= dict.fromkeys(("terminated", "truncated"), ("bool", (n,)))
        shapes |= {f"info/{name}": (kind, (n,)) for name, kind in kinds.items()}
        self._shared = Shared(shapes)
        self._arrays, self._names = self._shared.arrays, list(kinds)
        for w in self._workers:
            w.share(self._shared.handle, self._shared.layout)
        for w in self._workers:
            self._answer(w)

    # ---- the interface -------------------------------------------------------------------------------------------

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts new episodes in all environments, or in some: see `jsafe.envs.VectorEnv.reset`."""
        self._usable(started=mask is not None)
        if mask is not None:
            rows = np.zeros(self.num_envs, bool)
            rows[checks.mask(mask, self.num_envs, seed)] = True
            return np.concatenate(self._all("reset", [{"mask": rows[w.rows]} for w in self._workers]))
        seeds = None if seed is None else checks.seeds(seed, self.num_envs)
        each = [{"seed": None if seeds is None else [seeds[i] for i in w.rows]} for w in self._workers]
        obs = np.concatenate(self._all("reset", each))
        self._started = True
        return obs

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by one step: see the engine's `step`."""
        self._usable()
        self._arrays["actions"][:] = checks.actions(actions, self.num_envs, self.spec.act_dim)
        rows = None
        if mask is not None:
            rows = np.zeros(self.num_envs, bool)
            rows[checks.mask(mask, self.num_envs)] = True
        for w in self._workers:
            w.prompt(_STEP if rows is None else frame(("step", rows[w.rows])))
        for w in self._workers:
            self._check(w, w.done())
        arrays = self._shared.copy()
        info = {name: arrays[f"info/{name}"] for name in self._names}
        return Step(**{name: arrays[name] for name in ARRAYS}, info=info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]`."""
        self._usable()
        return np.concatenate(self._all("observe"))

    def get_state(self, i: int) -> dict:
        """State of environment i by names, as the engine's."""
        self._usable()
        return self._one(i, "get_state")

    def set_state(self, i: int, state: dict) -> None:
        """Puts environment i into a state by names, as the engine's."""
        self._usable()
        self._one(i, "set_state", state)

    def render(self, i: int = 0, **options: Any) -> np.ndarray:
        """A picture of environment i, as the engine's."""
        self._usable()
        return self._one(i, "render", **options)

    def state_dict(self) -> dict[str, Any]:
        """That of one engine with N environments."""
        self._usable()
        return _joined(self._all("state_dict"), self.num_envs)

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        self._usable(started=False)
        checks.header(saved, id=self.spec.id, num_envs=self.num_envs)
        before = self._all("state_dict") if self._started else None
        parts = [_cut(saved, w.rows[0], w.rows[-1] + 1, self.num_envs) for w in self._workers]
        try:
            self._all("load_state_dict", args=[(part,) for part in parts])
        except ValueError:
            if before is not None:
                self._all("load_state_dict", args=[(part,) for part in before])
            raise
        self._started = True

    def close(self) -> None:
        """Ends the processes; the environments cannot be used any more."""
        self._closed = True
        for w in self._workers:
            w.ask(("close",))
        for w in self._workers:
            w.close()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _all(self, name: str, kwargs: list[dict] | None = None, args: list[tuple] | None = None) -> list[Any]:
        """A method of each process's engine; what one of them raises is raised when all have answered."""
        for k, w in enumerate(self._workers):
            w.ask(("call", name, args[k] if args else (), kwargs[k] if kwargs else {}))
        answers = [self._answer(w) for w in self._workers]
        for _, error in answers:
            if error is not None:
                raise error
        return [value for value, _ in answers]

    def _one(self, i: int, name: str, *args: Any, **kwargs: Any) -> Any:
        i = checks.index(i, self.num_envs)
        w = next(w for w in self._workers if w.rows[0] <= i <= w.rows[-1])
        w.ask(("call", name, (i - w.rows[0], *args), kwargs))
        value, error = self._answer(w)
        if error is not None:
            raise error
        return value

    def _answer(self, w: Worker) -> Any:
        value, error = w.answer()
        self._check(w, error)
        return value

    @staticmethod
    def _check(w: Worker, error: str | None) -> None:
        if error is not None:
            raise WorkerError(f"{summary(error)}, in the process of environments {w.rows[0]} to {w.rows[-1]}\n{error}")


def pickled(registration: Any) -> bytes:
    """A task of one's own for another process.

    Raises:
      ValueError: If it cannot be pickled.
    """
    try:
        import cloudpickle

        return cloudpickle.dumps(registration)
    except ImportError:
        pass  # plain pickle does for what modules define
    try:
        return pickle.dumps(registration)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"num_processes needs a task that can be pickled (or cloudpickle): {error}") from None


def _joined(parts: list[Any], num_envs: int) -> Any:
    """The states of slices as that of all."""
    first = parts[0]
    if isinstance(first, dict):
        out = {name: _joined([part[name] for part in parts], num_envs) for name in first}
        return out | ({"num_envs": num_envs} if "num_envs" in first else {})
    return np.concatenate(parts) if isinstance(first, np.ndarray) else first


def _cut(saved: Any, start: int, stop: int, num_envs: int) -> Any:
    """A slice's part of the state of all; what does not fit stays as it is, for the engine to refuse."""
    if isinstance(saved, dict):
        out = {name: _cut(value, start, stop, num_envs) for name, value in saved.items()}
        return out | ({"num_envs": stop - start} if "num_envs" in saved else {})
    whole = isinstance(saved, np.ndarray) and saved.ndim > 0 and len(saved) == num_envs
    return saved[start:stop] if whole else saved
