"""Roads, made on the host: the random course of gym's CarRacing, many at a time."""

from __future__ import annotations

import numpy as np

HALF_WIDTH = 40 / 6
"""Half the road's width, metres."""
MAX_POINTS = 383
"""Longer roads (one of ten thousand) are drawn again; the median is 292."""

_CHECKPOINTS = 12
_RADIUS = 150.0
_STEP = 3.5
_TURN = 0.31
_START_LINE = -np.pi / _CHECKPOINTS
_TRIES_POINTS, _LAPS = 2500, 4


def checkpoints(rng: np.random.Generator) -> np.ndarray:
    """Polar angle and radius `[12, 2]` of one road's checkpoints, in the order of their angles."""
    draws = np.array([
        (rng.uniform(0, 2 * np.pi / _CHECKPOINTS), rng.uniform(_RADIUS / 3, _RADIUS)) for _ in range(_CHECKPOINTS)
    ])  # fmt: skip
    draws[:, 0] += 2 * np.pi * np.arange(_CHECKPOINTS) / _CHECKPOINTS
    draws[0] = 0, 1.5 * _RADIUS
    draws[-1] = 2 * np.pi * (_CHECKPOINTS - 1) / _CHECKPOINTS, 1.5 * _RADIUS
    return draws


def courses(checkpoints: np.ndarray) -> list[np.ndarray | None]:
    """Drives through the checkpoints and cuts out one closed lap.

    A point that moves 3.5 m a step turns towards the next checkpoint in angular order, by at most 0.31 rad a step, for
    up to five laps; the road is what lies between its last two crossings of the start line.

    Args:
      checkpoints: `[B, 12, 2]`, see `checkpoints`.

    Returns:
      For each course the points `[N, 4]` (polar angle, heading, x, y), or None where the lap does not close.

    Source: gym's `CarRacing._create_track`.
    """
    count = len(checkpoints)
    angles, radii = checkpoints[..., 0], checkpoints[..., 1]
    goal_x, goal_y = radii * np.cos(angles), radii * np.sin(angles)
    rows = np.arange(count)
    x, y, beta = np.full(count, 1.5 * _RADIUS), np.zeros(count), np.zeros(count)
    goal, laps, below = np.zeros(count, int), np.zeros(count, int), np.zeros(count, bool)
    points = np.empty((_TRIES_POINTS, count, 4))
    length = np.full(count, _TRIES_POINTS)
    for k in range(_TRIES_POINTS):
        alpha = np.arctan2(y, x)
        crossed = below & (alpha > 0)
        laps += crossed
        below = (below & ~crossed) | (alpha < 0)
        alpha = np.where(alpha < 0, alpha + 2 * np.pi, alpha)
        goal = np.maximum(goal, (angles < alpha[:, None]).sum(1))
        past = goal == _CHECKPOINTS
        goal[past] = 0
        alpha -= 2 * np.pi * past
        c, s = np.cos(beta), np.sin(beta)
        aside = 6 * (c * (goal_x[rows, goal] - x) + s * (goal_y[rows, goal] - y))
        # The heading stays within 1.5 pi of the polar angle.
        beta = np.where(beta - alpha > 1.5 * np.pi, beta - 2 * np.pi, beta)
        beta = np.where(beta - alpha < -1.5 * np.pi, beta + 2 * np.pi, beta)
        turn = np.where(np.abs(aside) > 0.3, np.sign(aside) * np.minimum(_TURN, np.abs(0.001 * aside)), 0.0)
        x, y = x - s * _STEP, y + c * _STEP
        points[k] = np.stack([alpha, beta - turn / 2, x, y], axis=1)
        beta = beta - turn
        length = np.where((laps > _LAPS) & (length == _TRIES_POINTS), k + 1, length)
        if (laps > _LAPS).all():
            break
    return [_lap(points[: length[i], i]) for i in range(count)]


def _lap(points: np.ndarray) -> np.ndarray | None:
    """The points between the last two crossings of the start line; None if they do not join."""
    angle = points[:, 0]
    crossings = 1 + np.flatnonzero((angle[1:] > _START_LINE) & (angle[:-1] <= _START_LINE))
    if len(crossings) < 2:
        return None
    lap = points[crossings[-2] : crossings[-1] - 1]
    if len(lap) > MAX_POINTS or len(lap) < 2:
        return None
    heading, gap = lap[0, 1], lap[0, 2:] - lap[-1, 2:]
    return lap if np.hypot(np.cos(heading) * gap[0], np.sin(heading) * gap[1]) <= _STEP else None
