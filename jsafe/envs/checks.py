"""Checks of arguments that every batched environment makes in the same words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

import numpy as np


def integer(name: str, value, low: int = 1, high: int | None = None) -> int:
    """Value as an int in low ... high; ValueError otherwise."""
    wrong = isinstance(value, bool) or not isinstance(value, (int, np.integer))
    if wrong or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"in {low} ... {high}"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")
    return int(value)


def index(i, count: int) -> int:
    """An environment's index as an int; ValueError if there is no such environment."""
    return integer("environment index", i, 0, count - 1)


def actions(value, num_envs: int, act_dim: int) -> np.ndarray:
    """Actions as an array of finite real numbers `[N, A]`; ValueError otherwise."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"actions must have shape {(num_envs, act_dim)}, got rows of different lengths") from None
    if array.shape != (num_envs, act_dim):
        raise ValueError(f"actions must have shape {(num_envs, act_dim)}, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"actions must be real numbers, got dtype {array.dtype}")
    if not math.isfinite(array.sum()) and not np.isfinite(array).all():
        i = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"actions must be finite, got {array[i].tolist()} for environment {i}")
    return array


def mask(value, num_envs: int, seed: int | None) -> np.ndarray:
    """Rows that a mask `[N]` of booleans selects; ValueError if it is none, or comes with a seed."""
    array = np.asarray(value)
    if seed is not None or array.dtype != bool or array.shape != (num_envs,):
        raise ValueError(f"mask must be {num_envs} booleans, without a seed, got {value!r} and {seed=}")
    return np.flatnonzero(array)


def one_of(what: str, name, known: Iterable[str]) -> None:
    """ValueError with the closest match unless the name is known."""
    known = [str(k) for k in known]
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown {what} {name!r}{hint}")
