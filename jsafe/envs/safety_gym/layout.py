"""Where the objects of an episode stand: rejection sampling with keepout circles."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsafe.envs.safety_gym.rng import RandomStream

_SINGLY = 16  # candidates tested one by one, where they have a good chance, before numpy takes over
_CROWDED = 2.0  # covered area, overlaps counted, over free area, from which on numpy starts at once
_BLOCK = 128  # candidates that numpy tests together


class LayoutError(RuntimeError):
    """No layout without overlapping keepouts was found."""


class Placement(NamedTuple):
    """Rectangle and clearance of one object.

    Attributes:
        name: object name.
        keepout: radius (m) that no other object's keepout circle may enter; it also shrinks the rectangle.
        extents: (xmin, ymin, xmax, ymax), m.
    """

    name: str
    keepout: float
    extents: tuple[float, float, float, float]

    def intervals(self) -> tuple[float, float, float, float]:
        """(xlo, xwidth, ylo, ywidth) of the shrunk rectangle.

        Raises:
            ValueError: the keepout leaves nothing of the rectangle.
        """
        xmin, ymin, xmax, ymax = self.extents
        xlo, xhi = xmin + self.keepout, xmax - self.keepout
        ylo, yhi = ymin + self.keepout, ymax - self.keepout
        if xlo > xhi or ylo > yhi:
            raise ValueError(f"keepout of {self.name!r} must fit into its extents {self.extents}, got {self.keepout}")
        return xlo, xhi - xlo, ylo, yhi - ylo


class _Draws:
    """Doubles of a stream, fetched in growing blocks, for code that decides draw by draw how many it takes."""

    def __init__(self, stream: RandomStream):
        self.stream, self.ahead = stream, 64
        self.values: list[float] = []
        self.array, self.used = np.empty(0), 0

    def need(self, count: int):
        if self.used + count > len(self.values):
            self.stream.skip(self.used)
            self.ahead = min(4 * self.ahead, 2048)
            self.array, self.used = self.stream.peek_random(max(count, self.ahead)), 0
            self.values = self.array.tolist()


def _squared(distance: float) -> float:
    """The number t such that s < t exactly where sqrt(s) < distance."""
    t = distance * distance
    while t > 0 and math.sqrt(t) >= distance:
        t = math.nextafter(t, 0.0)
    while math.sqrt(t) < distance:
        t = math.nextafter(t, math.inf)
    return t


def _place(draws: _Draws, intervals, others: list, tries: int, singly: int):
    """First of `tries` candidates outside the circles others = [(x, y, radius squared)], or None.

    The first `singly` candidates are tested in Python, which is faster where most of them are good.
    """
    xlo, xwidth, ylo, ywidth = intervals
    if singly:
        draws.need(2 * singly)
        values, used = draws.values, draws.used
        for at in range(used, used + 2 * singly, 2):
            x, y = xlo + xwidth * values[at], ylo + ywidth * values[at + 1]
            for other_x, other_y, squared in others:
                dx = x - other_x
                dy = y - other_y
                if dx * dx + dy * dy < squared:
                    break
            else:
                draws.used = at + 2
                return x, y
        draws.used = used + 2 * singly
    circles = np.array(others).reshape(-1, 3).T[:, :, None]
    left = tries - singly
    while left > 0:
        count = min(left, _BLOCK)
        draws.need(2 * count)
        block = draws.array[draws.used : draws.used + 2 * count]
        x, y = xlo + xwidth * block[0::2], ylo + ywidth * block[1::2]
        dx = x - circles[0]
        dy = y - circles[1]
        dx *= dx
        dy *= dy
        dx += dy
        free = (dx >= circles[2]).all(axis=0)
        first = int(free.argmax())
        if free[first]:
            draws.used += 2 * (first + 1)
            return float(x[first]), float(y[first])
        draws.used += 2 * count
        left -= count
    return None


@functools.lru_cache(maxsize=64)
def _plan(placements: tuple[Placement, ...], margin: float, tries: int) -> list[tuple]:
    """Per object: intervals, squared distances to the objects before it, candidates to test in Python."""
    plan = []
    for i, placement in enumerate(placements):
        intervals = placement.intervals()
        squared = [_squared(other.keepout + margin + placement.keepout) for other in placements[:i]]
        crowded = math.pi * sum(squared) > _CROWDED * intervals[1] * intervals[3]
        plan.append((intervals, squared, 0 if crowded else min(_SINGLY, tries)))
    return plan


def sample_layout(
    stream: RandomStream,
    placements: Sequence[Placement],
    margin: float = 0.0,
    tries: int = 100,
    layouts: int = 10_000,
) -> np.ndarray:
    """Draws positions for all placements such that no two keepout circles come closer than the margin.

    Objects are placed in the order given. A candidate is x, then y, uniform in the object's rectangle shrunk by its
    keepout; it is rejected if its distance to an object already placed is strictly less than the sum of both keepouts
    and the margin. After `tries` rejections the whole layout starts again.

    Args:
        stream: random stream; advances by exactly two doubles per candidate.
        placements: n placements.
        margin: clearance between keepout circles, m.
        tries: candidates per object.
        layouts: attempts for the whole layout.

    Returns:
        Positions, float64 [n, 2], m.

    Raises:
        LayoutError: all layouts failed.

    Source:
        safety-gymnasium 1.0.0 (margin 0, 100 tries); the authors of SEditor use margin 0.3 and 200 tries.
    """
    plan = _plan(tuple(placements), margin, tries)
    draws = _Draws(stream)
    for _ in range(layouts):
        layout: list[tuple[float, float]] = []
        for intervals, squared, singly in plan:
            others = [(x, y, radius) for (x, y), radius in zip(layout, squared)]
            xy = _place(draws, intervals, others, tries, singly)
            if xy is None:
                break
            layout.append(xy)
        else:
            stream.skip(draws.used)
            return np.array(layout).reshape(-1, 2)
    stream.skip(draws.used)
    raise LayoutError(f"no layout of {len(placements)} objects found in {layouts} attempts")


def resample(
    stream: RandomStream,
    placement: Placement,
    others_xy: np.ndarray,
    others_keepout: np.ndarray,
    margin: float = 0.0,
    tries: int = 10_000,
) -> np.ndarray | None:
    """Draws a new position for one object among others that stay where they are.

    Args:
        stream: random stream; advances by exactly two doubles per candidate.
        placement: the object to move.
        others_xy: positions of all other objects, [n, 2], m.
        others_keepout: their keepouts, [n], m.
        margin: clearance between keepout circles, m.
        tries: number of candidates.

    Returns:
        Position, float64 [2], or None if every candidate was rejected.
    """
    radii = [_squared(float(keepout) + margin + placement.keepout) for keepout in others_keepout]
    others = [(float(x), float(y), squared) for (x, y), squared in zip(others_xy, radii, strict=True)]
    draws = _Draws(stream)
    xy = _place(draws, placement.intervals(), others, tries, min(_SINGLY, tries))
    stream.skip(draws.used)
    return None if xy is None else np.array(xy)
