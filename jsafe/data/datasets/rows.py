"""From rows of (s, a, r, c, s') to episodes: what the layouts of others have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.spaces import Box, bounds

TOLERANCE = 1e-6
"""How far `next_obs` may be from the observation of the next row, absolutely and relatively."""
LOOSE = 0.1
"""With a larger share of rows that the next one does not continue, rows stand by themselves."""


def from_rows(
    obs: Any,
    action: Any,
    reward: Any,
    cost: Any,
    terminated: Any,
    truncated: Any,
    next_obs: Any = None,
    *,
    about: About | None = None,
    where: str = "the rows",
    unfinished: str = "keep",
    clip: bool = False,
) -> Episodes:
    """Makes episodes of rows in their order.

    An episode ends where a row is terminated or truncated. With `next_obs` it also ends where the next row does not
    continue it (the recording of an agent stopped in the middle); observations are then stored once. Where more than a
    tenth of the rows are not continued, rows stand by themselves and `next_obs` is kept as a column. Without `next_obs`
    the observation of the next row is taken; the last row of a truncated episode, whose final observation nobody
    knows, becomes that final observation.

    Args:
      obs: `[N, ...]`.
      action: `[N, A]`, or whole numbers `[N]`.
      reward: `[N]` or `[N, 1]`.
      cost: `[N]` or `[N, M]`.
      terminated, truncated: `[N]` or `[N, 1]`, booleans or 0 and 1.
      next_obs: `[N, ...]`, the final observation where an episode ended.
      about: What is known of the task; by default made up from the shapes.
      where: Name of the file, for messages.
      unfinished: `keep` or `drop` what follows the last end.
      clip: Clip continuous actions to `[-1, 1]`.

    Raises:
      DatasetError: Naming the field, its shape or the row.

    Example:
      `episodes = jsafe.data.datasets.from_rows(obs, action, reward, cost, terminated, truncated, next_obs)`, then
      `collector = jsafe.data.make_collector(None, learner, data=episodes)`.
    """
    obs, action = _numbers(obs, "obs", where), _numbers(action, "action", where)
    count = len(obs)
    if not count:
        raise DatasetError(f"{where}: it is empty: obs has shape {obs.shape}")
    reward, terminated, truncated = (
        _column(_numbers(value, name, where), name, where)
        for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated))
    )
    cost = _numbers(cost, "cost", where)
    cost = cost[:, None] if cost.ndim == 1 else cost
    following = None if next_obs is None else _numbers(next_obs, "next_obs", where)
    given = {"action": action, "reward": reward, "cost": cost, "terminated": terminated, "truncated": truncated}
    for name, value in (given | ({} if following is None else {"next_obs": following})).items():
        if len(value) != count:
            raise DatasetError(f"{where}: {name} has {len(value)} rows, obs has {count}")
    if following is not None and following.shape != obs.shape:
        raise DatasetError(f"{where}: next_obs has shape {following.shape}, obs has {obs.shape}")
    terminated, truncated = _flags(terminated, "terminated", where), _flags(truncated, "truncated", where)
    if action.dtype.kind == "f" and clip:
        action = action.clip(-1, 1)
    steps = {"action": action, "reward": reward, "cost": cost, "terminated": terminated, "truncated": truncated}
    ends, column = terminated | truncated, None
    if unfinished == "drop":
        keep = slice(0, int(np.flatnonzero(ends)[-1]) + 1 if ends.any() else 0)
        obs, ends, following = obs[keep], ends[keep], None if following is None else following[keep]
        steps = {name: value[keep] for name, value in steps.items()}
        if not len(ends):
            raise DatasetError(f"{where}: no episode is finished: no row is terminated or truncated")
    if following is None:
        obs, following, steps, ends = _shifted(obs, steps, ends, where)
    else:
        gaps = np.zeros(len(obs), bool)
        gaps[:-1] = ~ends[:-1] & ~_equal(following[:-1], obs[1:])
        if gaps.sum() <= LOOSE * max((~ends).sum(), 1):
            ends = ends | gaps
        else:
            column = following
    ends = ends.copy()
    ends[-1] = True
    return _assembled(obs, following, column, steps, ends, about or _guess(obs, action, cost, ends), where)


def _assembled(
    obs: np.ndarray,
    following: np.ndarray,
    column: np.ndarray | None,
    steps: dict[str, np.ndarray],
    ends: np.ndarray,
    about: About,
    where: str,
) -> Episodes:
    """Puts a row behind each episode: its final observation, and zeros."""
    before = np.cumsum(ends) - ends  # episodes that ended before each row
    place = np.arange(len(obs)) + before
    total = len(obs) + int(ends.sum())
    final = place[ends] + 1

    def spread(values: np.ndarray, dtype: Any) -> np.ndarray:
        out = np.zeros((total, *values.shape[1:]), dtype)
        out[place] = values
        return out

    kind = obs.dtype if obs.dtype.kind in "ui" or obs.dtype == np.float16 else np.float32
    seen = spread(obs, kind)
    seen[final] = following[ends]
    nexts = None
    if column is not None:
        nexts = spread(column, kind)
        nexts[final] = column[ends]
    floats = steps["action"].dtype.kind == "f"
    return Episodes(
        obs=seen,
        action=spread(steps["action"], np.float32 if floats else np.int32),
        reward=spread(steps["reward"], np.float32),
        cost=spread(steps["cost"], np.float32),
        terminated=spread(steps["terminated"], bool),
        truncated=spread(steps["truncated"], bool),
        start=np.concatenate([[0], final + 1]).astype(np.int64),
        about=about,
        next_obs=nexts,
    ).check(where)


def _shifted(obs: np.ndarray, steps: dict[str, np.ndarray], ends: np.ndarray, where: str) -> Any:
    """Without final observations: the last row of a cut episode gives its observation to the row before."""
    cut = ends & ~steps["terminated"]
    cut[-1] |= not ends[-1]
    following = np.concatenate([obs[1:], obs[-1:]])
    following[steps["terminated"]] = obs[steps["terminated"]]  # never bootstrapped from
    before = np.flatnonzero(cut) - 1
    before = before[(before >= 0) & ~ends[before] & ~cut[before]]  # an episode of one row leaves nothing
    steps = {name: value.copy() for name, value in steps.items()}
    steps["truncated"][before] = steps["truncated"][before + 1]
    ends = ends | cut
    ends[before] = True
    keep = ~cut
    if not keep.any():
        raise DatasetError(f"{where}: it has no next_obs, and no row is followed by another one of its episode")
    return obs[keep], following[keep], {name: value[keep] for name, value in steps.items()}, ends[keep]


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which rows agree, `[n]`."""
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    with np.errstate(invalid="ignore"):
        return (np.abs(one - other) <= TOLERANCE + TOLERANCE * np.abs(other)).all(axis=1)


def _numbers(value: Any, name: str, where: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fuib":
        raise DatasetError(f"{where}: {name} must hold numbers, got {array.dtype}")
    if not array.ndim:
        raise DatasetError(f"{where}: {name} must have a row for each step, got a single number")
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _column(value: np.ndarray, name: str, where: str) -> np.ndarray:
    if value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != 1:
        raise DatasetError(f"{where}: {name} must have shape [N] or [N, 1], got {value.shape}")
    return value


def _flags(value: np.ndarray, name: str, where: str) -> np.ndarray:
    bad = (value != 0) & (value != 1)
    if bad.any():
        raise DatasetError(f"{where}: {name} must be 0 or 1, got {value[bad][0]} in row {int(bad.argmax())}")
    return value.astype(bool)


def _guess(obs: np.ndarray, action: np.ndarray, cost: np.ndarray, ends: np.ndarray) -> About:
    """What the shapes say."""
    from jsafe.spaces import Discrete

    kind = "uint8" if obs.dtype == np.uint8 else "int32" if obs.dtype.kind in "ui" else "float32"
    space = Box(obs.shape[1:], dtype=kind)
    if action.dtype.kind == "f":
        acts: Any = Box(action.shape[1:], -1, 1)
    else:
        largest = np.asarray(action.reshape(len(action), -1).max(axis=0) + 1)
        acts = Discrete(int(largest[0]) if action.ndim == 1 else tuple(int(n) for n in largest))
    lengths = np.diff(np.concatenate([[-1], np.flatnonzero(ends)]))
    names = ("cost",) if cost.shape[1] == 1 else tuple(f"cost_{m}" for m in range(cost.shape[1]))
    return About(space, acts, int(lengths.max()), cost_names=names)


def from_units(action: np.ndarray, space: Any) -> np.ndarray:
    """Actions in the units of their box as a policy gives them, in `[-1, 1]`; choices as they are."""
    if not isinstance(space, Box):
        return action
    middle, half = _scale(space)
    return (action - middle) / half


def to_units(action: np.ndarray, space: Any) -> np.ndarray:
    """The inverse of `from_units`, float32."""
    if not isinstance(space, Box):
        return action
    middle, half = _scale(space)
    return (middle + half * action).astype(np.float32)


def _scale(box: Box) -> tuple[np.ndarray, np.ndarray]:
    low, high = bounds(box)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DatasetError(f"actions must have bounds, got {low.tolist()} and {high.tolist()}")
    return (low + high) / 2, (high - low) / 2
