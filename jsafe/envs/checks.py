"""Checks of arguments that every batched environment makes in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jsafe.errors import closest


def integer(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Value as an int in low ... high; ValueError otherwise."""
    wrong = isinstance(value, bool) or not isinstance(value, (int, np.integer))
    if wrong or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"in {low} ... {high}"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")
    return int(value)


def index(i: Any, count: int) -> int:
    """An environment's index as an int; ValueError if there is no such environment."""
    return integer("environment index", i, 0, count - 1)


def costs(value: Any) -> None:
    """ValueError unless it is one of the two ways to give costs."""
    if value not in ("sum", "separate"):
        raise ValueError(f"costs must be 'sum' or 'separate', got {value!r}")


def seeds(value: Any, num_envs: int) -> list[int]:
    """One seed for each environment, from a number (the first one's) or N of them; ValueError otherwise."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != num_envs:
            raise ValueError(f"seed must be an integer or {num_envs} of them, got {len(value)}")
        return [integer(f"seed[{i}]", one, 0, 2**32 - 1) for i, one in enumerate(value)]
    first = integer("seed", value, 0, 2**32 - num_envs)
    return list(range(first, first + num_envs))


def actions(value: Any, num_envs: int, act_dim: int) -> np.ndarray:
    """Actions as an array of finite real numbers `[N, A]`; ValueError otherwise."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"actions must be of shape {(num_envs, act_dim)}, got rows of different lengths") from None
    if array.shape != (num_envs, act_dim):
        raise ValueError(f"actions must be of shape {(num_envs, act_dim)}, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"actions must be real numbers, got dtype {array.dtype}")
    if not math.isfinite(array.sum()) and not np.isfinite(array).all():
        i = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"actions must be finite, got {array[i].tolist()} for environment {i}")
    return array


def choices(value: Any, num_envs: int, sizes: int | tuple[int, ...]) -> np.ndarray:
    """Actions as integers `[N]`, or `[N, K]` for K sizes, each in 0 ... size - 1; ValueError otherwise."""
    shape = (num_envs,) if isinstance(sizes, int) else (num_envs, len(sizes))
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"actions must be of shape {shape}, got rows of different lengths") from None
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ValueError(f"actions must be integers of shape {shape}, got {array.dtype} of shape {array.shape}")
    wrong = (array < 0) | (array >= np.asarray(sizes))
    if wrong.any():
        i = int(np.flatnonzero(wrong.reshape(num_envs, -1).any(axis=1))[0])
        raise ValueError(f"actions must be choices below {sizes}, got {array[i].tolist()} for environment {i}")
    return array.astype(np.int64)


def mask(value: Any, num_envs: int, seed: Any = None) -> np.ndarray:
    """Rows that a mask `[N]` of booleans selects; ValueError if it is none, or comes with a seed."""
    array = np.asarray(value)
    if seed is not None or array.dtype != bool or array.shape != (num_envs,):
        raise ValueError(f"mask must be {num_envs} booleans, without a seed, got {value!r} and {seed=}")
    return np.flatnonzero(array)


def one_of(what: str, name: Any, known: Iterable[Any]) -> None:
    """ValueError with the closest match unless the name is known."""
    known = [str(k) for k in known]
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}{closest(name, known)} (known: {', '.join(sorted(known))})")


# ---- saved states ----------------------------------------------------------------------------------------------------


def names_of(what: str, given: Any, known: Iterable[Any]) -> None:
    """ValueError unless it is a dictionary with known names only."""
    if not isinstance(given, dict):
        raise ValueError(f"the {what} must be a dictionary, got {type(given).__name__}")
    for name in given:
        one_of(what, name, known)


def mapping(name: str, state: Mapping[str, Any]) -> dict:
    """The dictionary of that name in a state, empty where it is missing; ValueError if it is something else."""
    value = state.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dictionary, got {type(value).__name__}")
    return value


def number(what: str, value: Any) -> float:
    """A finite number as a float; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def vector(what: str, value: Any, size: int) -> np.ndarray:
    """A new array of so many finite numbers; ValueError otherwise."""
    try:
        array = np.array(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be {size} numbers, got {value!r}") from None
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ValueError(f"{what} must be {size} finite numbers, got {value!r}")
    return array


def joints(given: Mapping[str, Any], known: dict) -> dict:
    """Joint states with some of them replaced by given ones; ValueError if a name or a size does not fit."""
    names_of("joint", given, known)
    out = dict(known)
    for name, values in given.items():
        sizes = [len(value) for value in known[name]]
        if not isinstance(values, (tuple, list)) or len(values) != 3:
            raise ValueError(f"joint {name!r} must be (qpos, qvel, qacc_warmstart), got {values!r}")
        parts = zip(("qpos", "qvel", "qacc_warmstart"), values, sizes)
        out[name] = tuple(vector(f"{part} of joint {name!r}", value, size) for part, value, size in parts)
    return out


def header(saved: Any, **wanted: Any) -> None:
    """ValueError unless a saved state is a dictionary with these values (version, id, number of environments)."""
    if not isinstance(saved, dict):
        raise ValueError(f"the state must be a dictionary, got {type(saved).__name__}")
    for name, value in wanted.items():
        if isinstance(saved.get(name), np.ndarray) or saved.get(name) != value:
            raise ValueError(f"{name} of the saved state must be {value!r}, got {saved.get(name)!r}")


def fits(path: str, value: Any, shape: Any) -> None:
    """ValueError unless nested dictionaries hold finite numbers of the shapes in `shape`, a tuple or dictionaries."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be a dictionary, got {type(value).__name__}")
        for name, inner in shape.items():
            if name not in value:
                raise ValueError(f"{path} lacks {name!r}")
            fits(f"{path}.{name}", value[name], inner)
        return
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{path} must be numbers of shape {shape}, got rows of different lengths") from None
    if array.shape != shape or array.dtype.kind not in "fiub":
        raise ValueError(f"{path} must be numbers of shape {shape}, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{path} must be finite")


def shapes(value: Any) -> Any:
    """The shapes that `fits` compares with, of nested dictionaries of arrays."""
    return {k: shapes(v) for k, v in value.items()} if isinstance(value, dict) else np.shape(value)
