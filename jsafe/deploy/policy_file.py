"""A trained policy from an `.npz` file of `jsafe export`, with numpy alone: copy this file to where it is used.

    policy = load("policy.npz")
    action = policy(obs)   # in the environment's units, within its bounds; one observation, or a batch `[N, ...]`
    policy.reset()         # before the next episode; `policy.reset(rows)` in some rows of a batch

The file holds the parameters, and a list of operations on arrays: `[operation, inputs, options, output]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

_AS_IN_NUMPY = """absolute add all any argmax argmin bitwise_and bitwise_or bitwise_xor ceil cos cumsum divide equal exp
expm1 flip floor fmod greater greater_equal invert isfinite less less_equal log log1p matmul max maximum min minimum
multiply negative not_equal pad power prod sign sin sqrt square subtract sum tanh transpose where"""
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in _AS_IN_NUMPY.split()},
    "broadcast": lambda x, shape: np.broadcast_to(x, shape),
    "cast": lambda x, dtype: np.asarray(x).astype(dtype),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
    "einsum": lambda *xs, axes: np.einsum(axes, *xs, optimize=True),
    "reshape": lambda x, shape: np.reshape(x, shape),
    "slice": lambda x, at: x[tuple(slice(*each) for each in at)],
    "windows": lambda x, size, axis: np.lib.stride_tricks.sliding_window_view(x, size, axis),
}


def run(program: list, arrays: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    """All arrays by name after the operations of a program; `"n"` in a shape is the number of rows."""
    values = dict(arrays)
    with np.errstate(all="ignore"):
        for operation, inputs, options, output in program:
            for key in (key for key, value in options.items() if isinstance(value, list)):
                options = options | {key: tuple(batch if x == "n" else x for x in options[key])}
            values[output] = OPERATIONS[operation](*(values[name] for name in inputs), **options)
    return values


def load(path: Any) -> Policy:
    """The policy in an `.npz` file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays.pop("about")))
    arrays |= {name: np.asarray(value, dtype) for name, (value, dtype) in about["numbers"].items()}
    return Policy(about, lambda given: run(about["program"], arrays | given, len(next(iter(given.values())))))


class Policy:
    """A policy that acts: `policy(obs)`. Stacked frames, a recurrent state or a budget are kept inside.

    `about["inputs"]` are `[name, shape of one row, dtype]`, observations first; `run` makes `action` and `next/0` ...
    (the next `memory/0` ...) of them.
    """

    def __init__(self, about: dict[str, Any], run: Callable[[dict[str, np.ndarray]], Any]):
        self.about, self._run, self._memory = about, run, {}  # type: ignore[var-annotated]
        self._started: np.ndarray | None = None

    def reset(self, rows: Any = None) -> None:
        """Starts new episodes: everywhere (and with any number of rows), or where `rows [N]` is true."""
        if rows is None:
            self._memory, self._started = {}, None
        elif self._started is not None:
            self._started = self._started | np.asarray(rows, bool)

    def __call__(self, obs: Any, cost: Any = None) -> np.ndarray:
        """The action for an observation, or `[N, ...]` for N of them, in the environment's units and bounds.

        `obs` is an array, or a dict of arrays, as the environment gives it. Only a policy with a safety budget needs
        `cost`, `[M]` or `[N, M]`: that of the step that led here.
        """
        given = dict(_leaves("obs", obs)) | ({} if cost is None else {"cost": cost})
        name, shape, _ = self.about["inputs"][0]
        single = name not in given or np.ndim(given[name]) == len(shape)
        batch = 1 if single else len(given[name])
        begins = np.ones(batch, bool) if self._started is None else self._started
        if len(begins) != batch:
            raise ValueError(f"{batch} observations after {len(begins)}: call reset() first")
        arrays = {}
        for name, shape, dtype in self.about["inputs"]:
            fresh = np.zeros((batch, *shape)) if begins.all() and name[:3] != "obs" else None  # nothing to remember yet
            value = {"started": begins, **self._memory, **given}.get(name, fresh)
            if value is None or np.size(value) != batch * np.prod(shape) or not np.isfinite(value).all():
                got = "none" if value is None else f"{np.shape(value)}, finite: {np.isfinite(value).all()}"
                raise ValueError(f"{name} must be finite and of shape {(batch, *shape)}, got {got}")
            arrays[name] = np.asarray(value, dtype).reshape(batch, *shape)
        results = self._run(arrays)
        self._started = np.zeros(batch, bool)
        self._memory = {name: results["next" + name[6:]] for name in arrays if name.startswith("memory")}
        return np.array(results["action"][0] if single else results["action"])


def _leaves(name: str, obs: Any) -> list[tuple[str, Any]]:
    inner = [_leaves(f"{name}/{key}", each) for key, each in obs.items()] if isinstance(obs, dict) else []
    return [leaf for leaves in inner for leaf in leaves] if isinstance(obs, dict) else [(name, obs)]
