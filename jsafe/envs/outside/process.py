"""Outside environments in worker processes, with the interface of `jsafe.envs.VectorEnv`."""

from __future__ import annotations

import collections
import logging
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jsafe import spaces
from jsafe.envs import checks
from jsafe.envs.api import Obs, Spec, Step
from jsafe.envs.lifecycle import Usable
from jsafe.envs.outside import worker
from jsafe.envs.outside.values import like_costs
from jsafe.envs.outside.workers import Shared, Worker, WorkerError, summary
from jsafe.spaces import Box, Discrete

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
"""How often a worker, or an environment's values, may fail in a row."""
_KEPT = 100
"""Failures that are remembered in words."""
OPTIONS = ("horizon", "python", "step_timeout", "bad_values", "cost_key", "flatten")
"""Options that are ours and not the environment's."""
_ONCE = {
    "negative": "Limits bound costs from above; negative ones make up for others",
    "missing": "A step without costs counts as free",
}
"""What is said once of odd costs."""


class ProcessEnv(Usable):
    """N outside environments, stepped by worker processes over shared memory, with the same-step autoreset.

    Environment i of seed s is first reset with s + i, later without a seed. A step may return five things (cost in
    `info["cost"]`) or six (observation, reward, cost, terminated, truncated, info); the cost may be a number, a vector
    or a dictionary of named ones. Before the first episode the first environment of each process makes one step, which
    tells the form of the cost; an environment that gives none where something else looks like a cost is refused, one
    that gives none at all is warned of.

    Spaces pass through: boxes of one axis as vectors, others with their shape and type, Discrete, MultiDiscrete and
    MultiBinary as `Discrete`, Dict and Tuple as `Tree`. Actions of an integer box are rounded.

    A reward, cost or observation that is not finite, is absurdly large (above 1e15) or has another shape than the space
    says never gets out: that episode ends as truncated at the last observation, without reward, with
    `info["crashed"]`. Where an environment raises, or its process dies or does nothing for `step_timeout` seconds, the
    process is started again with fresh seeds, and its episodes end likewise. All this is logged, kept in `failures`
    and counted. What fails more than three times in a row is raised.

    What an outside environment is inside cannot be saved: after `load_state_dict` the first step cuts every episode
    (truncated, no reward) and new ones begin.

    Args:
      kind: `gymnasium`, `safety_gymnasium`, `python` (name: `MODULE:FUNCTION`) or `factory`.
      name: What to make.
      kwargs: For its constructor.
      factory: The function, if `kind` is `factory`.
      num_envs, seed, num_threads, costs: As for `jsafe.envs.make`; `num_threads` is the number of processes.
      horizon: Steps after which an episode is truncated; None: what the environment says.
      python: Interpreter of the processes; None: this one.
      step_timeout: Seconds that a reset or step of one environment may take (ten times as many for making it); None:
        no limit. It uses SIGALRM in the worker process.
      bad_values: `end` the episode, or `stop`: raise at once.
      cost_key: Key of the cost in `info`; None: `cost`. A key that is given may be missing.
      flatten: Flatten observations into one vector, choices one-hot.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      failures: The last 100 failures, `(rows, what)`; the first line says it in short.
      failed: Number of all failures.
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
        step_timeout: float | None = 60.0,
        bad_values: str = "end",
        cost_key: str | None = None,
        flatten: bool = False,
    ):
        self.num_envs = n = checks.integer("num_envs", num_envs)
        count = min(n, checks.integer("num_threads", num_threads) if num_threads is not None else os.cpu_count() or 1)
        self._seeds = checks.seeds(checks.integer("seed", seed, 0, 2**32 - n), n)
        if horizon is not None:
            checks.integer("horizon", horizon)
        checks.costs(costs)
        if step_timeout is not None and checks.number("step_timeout", step_timeout) <= 0:
            raise ValueError(f"step_timeout must be positive, or None for no limit, got {step_timeout!r}")
        if bad_values not in ("end", "stop"):
            raise ValueError(f"bad_values must be 'end' or 'stop', got {bad_values!r}")
        if not isinstance(flatten, bool):
            raise ValueError(f"flatten must be True or False, got {flatten!r}")
        if python is not None and not isinstance(python, (str, os.PathLike)):
            raise ValueError(f"python must be the path of an interpreter, got {python!r}")
        if cost_key is not None and not (isinstance(cost_key, str) and cost_key):
            raise ValueError(f"cost_key must be a key of info, got {cost_key!r}")
        if kind == "python" and not all(name.partition(":")[::2]):
            raise ValueError(f"id must be 'python:MODULE:FUNCTION', got {'python:' + name!r}")
        id = _importable(factory) or name if factory is not None else f"{kind}:{name}"
        self._setup = {"kind": kind, "id": name, "kwargs": dict(kwargs), "horizon": horizon, "flatten": flatten,
                       "path": [*sys.path, os.getcwd()], "factory": _pickled(factory) if factory else None,
                       "step_timeout": step_timeout, "cost_key": cost_key or "cost", "cost_form": None}  # fmt: skip
        self._python, self._stops, self._separate = python or sys.executable, bad_values == "stop", costs == "separate"
        self.failures: collections.deque[tuple[list[int], str]] = collections.deque(maxlen=_KEPT)
        self.failed, self._restarts = 0, 0
        self._streak: collections.Counter[str] = collections.Counter()
        self._told: set[str] = set()
        splits = [[int(i) for i in rows] for rows in np.array_split(np.arange(n), count)]
        self._workers: list[Worker] = []
        try:
            for rows in splits:
                self._workers.append(Worker(self._python, self._setup | {"rows": rows}))
            answers = [w.started() for w in self._workers]
            for _, error in answers:
                if error is not None:
                    first = summary(error)  # of an unknown name there is no more to tell
                    rest = "" if first.startswith("gymnasium.error.") else f"\n{error}"
                    raise ValueError(f"{id!r} cannot be made: {first}{rest}")
            self._facts = answers[0][0]
            self._check_costs(id, explicit=cost_key is not None)
            self.spec = self._spec(id)
            self._share()
        except BaseException:
            self.close()
            raise

    def _spec(self, id: str) -> Spec:
        facts = self._facts
        if facts["horizon"] is None or facts["horizon"] < 1:
            said = "does not say" if facts["horizon"] is None else f"says {facts['horizon']} where asked"
            raise ValueError(f"{id!r} {said} after how many steps an episode ends: pass horizon=...")
        obs, form = spaces.from_json(facts["obs"]), facts["costs"]
        columns = form["names"] or [f"cost{k}" for k in range(form["count"])]
        return Spec(
            id=id,
            obs=obs,
            action=spaces.from_json(facts["action"]),
            num_costs=form["count"] if self._separate else 1,
            horizon=int(facts["horizon"]),
            cost_names=tuple(columns) if self._separate else ("sum",),
            obs_slices={"obs": (0, obs.width)} if isinstance(obs, Box) and obs.flat else {},
            dt=facts["dt"],
        )

    def _check_costs(self, id: str, explicit: bool) -> None:
        form, key = self._facts["costs"], self._setup["cost_key"]
        if form["found"] or explicit:
            return
        near = like_costs(form["keys"])
        if near:
            raise ValueError(
                f"{id!r} gives no info['cost'], but {', '.join(map(repr, near))}: pass cost_key={near[0]!r} for that, "
                "or cost_key='cost' if these are no costs"
            )
        _LOG.warning("%s gives no cost: every cost counts as 0. Its info holds no %r but %s", id, key, form["keys"])

    def _share(self) -> None:
        facts = self._facts
        self._shared = Shared(worker.layout(self.num_envs, facts["obs"], facts["action"], facts["costs"]["count"]))
        self._arrays = self._shared.arrays
        self._last_obs = self._obs("obs")
        self._cut: set[int] = set()
        self._sizes = self.spec.action.n if isinstance(self.spec.action, Discrete) else None
        if self._sizes is None:
            self._low, self._high = np.array(self.spec.action_low), np.array(self.spec.action_high)
        for w in self._workers:
            w.share(self._shared.handle, self._shared.layout)
            _, error = w.answer()
            if error is not None:
                raise WorkerError(f"{summary(error)}\n{error}")

    # ---- the interface -------------------------------------------------------------------------------------------

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> Obs:
        """Starts a new episode in every environment, or in those of `mask`: see `jsafe.envs.VectorEnv.reset`."""
        self._usable(started=mask is not None)
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed).tolist()
        else:
            if seed is not None:
                self._seeds = checks.seeds(seed, self.num_envs)
            rows = list(range(self.num_envs))
        fresh = seed is not None or not self._started
        self._begin({i: self._seeds[i] if fresh else None for i in rows})
        self._started = True
        self._cut -= set(rows)
        _assign(self._last_obs, self._obs("obs"), rows)
        return _copy(self._last_obs)

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]` in the action box of `spec`, clipped to it; or choices `[N]`, `[N, K]`.
          mask: `[N]` booleans, which environments to step; the others stand still, without reward and cost. None: all.

        Returns:
          A `Step`; `info` has `success`, `diverged` (always false), `crashed`, `cost_sum`, `cost_NAME` of named ones.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
          WorkerError: If something failed more than three times in a row, or gave a bad value where that stops.
        """
        self._usable()
        if self._sizes is None:
            array = checks.actions(actions, self.num_envs, len(self._low))
            np.clip(array, self._low, self._high, out=self._arrays["actions"])
        else:
            self._arrays["actions"][:] = checks.choices(actions, self.num_envs, self._sizes)
        still = set() if mask is None else {*range(self.num_envs)} - {*checks.mask(mask, self.num_envs).tolist()}
        cut = sorted(self._cut - still)
        for w in self._workers:
            w.ask(("step", [i for i in cut if i in w.rows], still.intersection(w.rows)))
        self._cut.intersection_update(still)
        died, refused = np.zeros(self.num_envs, bool), []
        for k, w in enumerate(self._workers):
            said, error = w.answer()
            if error is not None:
                died[w.rows] = True
                self._replace(k, error)
            else:
                self._streak.pop(f"worker {k}", None)
                refused += self._listen(said)
        out = self._read(cut, died)
        self._count_refused(refused)
        return out

    def _read(self, cut: list[int], died: np.ndarray) -> Step:
        names = ("reward", "cost", "terminated", "truncated", "success", "refused")
        reward, cost, terminated, truncated, success, refused = (self._arrays[name].copy() for name in names)
        obs, final = self._obs("obs"), self._obs("final_obs")
        lost = np.flatnonzero(died).tolist()
        _assign(final, self._last_obs, [*cut, *lost])
        for array, value in ((reward, 0), (cost, 0), (terminated, 0), (truncated, 1), (success, 0)):
            array[lost] = value
        total, named = cost.sum(axis=1), self._facts["costs"]["names"]
        info = {"success": success, "diverged": np.zeros(self.num_envs, bool), "crashed": refused | died,
                "cost_sum": total}  # fmt: skip
        info |= {f"cost_{name}": cost[:, k].copy() for k, name in enumerate(named or ())}
        self._last_obs = _copy(obs)
        columns = cost if self._separate else total[:, None].copy()
        return Step(obs, reward, columns, terminated, truncated, final, info)

    def observe(self) -> Obs:
        """The current observations `[N, ...]`."""
        self._usable()
        return _copy(self._last_obs)

    def render(self, i: int = 0, **_) -> np.ndarray:
        """What the environment's own `render` returns (make it with `render_mode="rgb_array"`)."""
        self._usable()
        i = checks.index(i, self.num_envs)
        k = next(k for k, w in enumerate(self._workers) if i in w.rows)
        self._workers[k].ask(("render", i))
        picture, error = self._workers[k].answer()
        if error is not None:
            raise WorkerError(f"environment {i} cannot be drawn: {summary(error)}\n{error}")
        if picture is None:
            raise ValueError(f"{self.spec.id!r} draws nothing: make it with render_mode='rgb_array'")
        return np.asarray(picture)

    def state_dict(self) -> dict:
        """What can be known of outside environments: their seeds and last observations."""
        self._usable()
        return {"id": self.spec.id, "num_envs": self.num_envs, "seed": np.array(self._seeds),
                "restarts": self._restarts, "last_obs": _copy(self._last_obs)}  # fmt: skip

    def load_state_dict(self, saved: dict) -> None:
        """Goes on after what `state_dict` saved with new episodes (see the class); ValueError if it does not fit."""
        self._usable(started=False)
        checks.header(saved, id=self.spec.id, num_envs=self.num_envs)
        seeds = checks.seeds(saved.get("seed"), self.num_envs)
        restarts = checks.integer("restarts of the saved state", saved.get("restarts"), 0)
        shapes = {"last_obs": checks.shapes(self._last_obs)}
        checks.fits("state", saved, shapes)
        self._seeds, self._restarts = seeds, restarts + 1
        _LOG.warning("%s cannot be saved in the middle of an episode: all episodes begin anew", self.spec.id)
        self._begin({i: self._fresh(i) for i in range(self.num_envs)})
        self._last_obs = _map(lambda old, new: np.asarray(new, old.dtype), self._last_obs, saved["last_obs"])
        self._cut = set(range(self.num_envs))
        self._started = True

    def close(self) -> None:
        """Ends the processes; the environments cannot be used any more."""
        self._closed = True
        for w in self._workers:
            w.ask(("close",))
        for w in self._workers:
            w.close()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _obs(self, name: str) -> Obs:
        """A copy of the shared observations, in the tree of the space."""

        def build(space: spaces.Space, path: str) -> Obs:
            if isinstance(space, spaces.Tree):
                return {part: build(inner, f"{path}/{part}") for part, inner in space.items}
            return self._arrays[path].copy()

        return build(self.spec.obs, name)

    def _fresh(self, i: int) -> int:
        """A seed that was not used before."""
        return (self._seeds[i] + self.num_envs * self._restarts) % 2**32

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

    def _listen(self, said: list[tuple[str, int, str]]) -> list[tuple[int, str]]:
        """Tells what is told once; returns what was refused, by environment."""
        for what, i, words in said:
            if what in _ONCE and what not in self._told:
                self._told.add(what)
                _LOG.warning("%s: %s in environment %d. %s (said once)", self.spec.id, words, i, _ONCE[what])
        return [(i, words) for what, i, words in said if what == "refused"]

    def _count_refused(self, refused: list[tuple[int, str]]) -> None:
        bad = dict(refused)
        for name in [name for name in self._streak if name.startswith("row ") and int(name[4:]) not in bad]:
            del self._streak[name]
        for i, words in refused:
            self._remember([i], words)
            self._streak[f"row {i}"] += 1
            message = f"environment {i} of {self.spec.id!r}: {words}"
            if self._stops:
                raise WorkerError(message)
            if self._streak[f"row {i}"] > _ATTEMPTS:
                raise WorkerError(f"{message}; {_ATTEMPTS + 1} times in a row")
            _LOG.warning("%s; its episode ends there (failure %d)", message, self.failed)

    def _remember(self, rows: list[int], error: str) -> None:
        self.failed += 1
        self.failures.append((list(rows), error))

    def _replace(self, k: int, error: str | None) -> None:
        """Starts worker k again, with new episodes in all its rows."""
        rows = self._workers[k].rows
        while error is not None:
            busy = int(self._arrays["busy"][rows[0]])
            self._remember(rows, f"{summary(error)}, in environment {busy}\n{error}")
            self._streak[f"worker {k}"] += 1
            if self._streak[f"worker {k}"] > _ATTEMPTS:
                raise WorkerError(
                    f"environments {rows} of {self.spec.id!r} fail again and again: {summary(error)}, in environment "
                    f"{busy}\n{error}"
                )
            _LOG.error("%s: %s, in environment %d; the worker of environments %s starts again (failure %d)\n%s",
                       self.spec.id, summary(error), busy, rows, self.failed, error)  # fmt: skip
            self._workers[k].close()
            self._restarts += 1
            error = self._restart(k, rows)

    def _restart(self, k: int, rows: list[int]) -> str | None:
        """Starts worker k, with new episodes in its rows; what went wrong, or None."""
        known = {"rows": rows, "cost_form": self._facts["costs"]}
        self._workers[k] = w = Worker(self._python, self._setup | known)
        facts, error = w.started()
        if error is not None:
            return error
        if repr(facts) != repr(self._facts):
            raise WorkerError(f"{self.spec.id!r} was made again with other spaces: {facts} after {self._facts}")
        w.share(self._shared.handle, self._shared.layout)
        _, error = w.answer()
        if error is not None:
            return error
        w.ask(("reset", {i: self._fresh(i) for i in rows}))
        return w.answer()[1]


# ---- trees of observations -------------------------------------------------------------------------------------------


def _map(function: Callable[[Any, Any], Any], one: Obs, other: Obs) -> Obs:
    """A function of the arrays of two observations of one structure."""
    if isinstance(one, dict):
        return {name: _map(function, inner, other[name]) for name, inner in one.items()}
    return function(one, other)


def _copy(obs: Obs) -> Obs:
    return _map(lambda array, _: array.copy(), obs, obs)


def _assign(target: Obs, source: Obs, rows: list[int]) -> None:
    def write(to: np.ndarray, array: np.ndarray) -> None:
        to[rows] = array[rows]

    _map(write, target, source)


def _importable(factory: Callable) -> str | None:
    """The id by which another process finds a function; None for lambdas, local functions and those of scripts."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "<")
    return None if module in (None, "__main__") or "<" in name else f"python:{module}:{name}"


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
