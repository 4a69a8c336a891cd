"""Where the objects of an episode stand: rejection sampling with keepout circles."""

import math
from typing import NamedTuple, Sequence

import numpy as np

from jsafe.envs.rng import RandomStream

_SINGLY = 12  # candidates tested one by one before numpy takes over; most objects need fewer
_AHEAD = 256  # doubles looked at in one go


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
    """Buffered doubles of a stream as a list, for code that decides draw by draw."""

    def __init__(self, stream: RandomStream):
        self.stream, self.values, self.used = stream, [], 0

    def need(self, count: int):
        if self.used + count > len(self.values):
            self.stream.skip(self.used)
            self.values, self.used = self.stream.peek_random(max(count, _AHEAD)).tolist(), 0


def _place(draws: _Draws, intervals, others: list, tries: int):
    """First of `tries` candidates that keeps the squared distances in others [(x, y, distance)], or None."""
    xlo, xwidth, ylo, ywidth = intervals
    singly = min(_SINGLY, tries)
    draws.need(2 * singly)
    values, used = draws.values, draws.used
    for _ in range(singly):
        x, y = xlo + xwidth * values[used], ylo + ywidth * values[used + 1]
        used += 2
        for other_x, other_y, distance in others:
            dx, dy = x - other_x, y - other_y
            if math.sqrt(dx * dx + dy * dy) < distance:
                break
        else:
            draws.used = used
            return x, y
    draws.used = used
    placed = np.array(others).reshape(-1, 3)
    left = tries - singly
    while left > 0:
        count = min(left, 128)
        draws.need(2 * count)
        block = np.array(draws.values[draws.used : draws.used + 2 * count])
        x, y = xlo + xwidth * block[0::2], ylo + ywidth * block[1::2]
        dx, dy = x[:, None] - placed[:, 0], y[:, None] - placed[:, 1]
        free = ~(np.sqrt(dx * dx + dy * dy) < placed[:, 2]).any(axis=1)
        first = int(free.argmax())
        if free[first]:
            draws.used += 2 * (first + 1)
            return float(x[first]), float(y[first])
        draws.used += 2 * count
        left -= count
    return None


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
    intervals = [placement.intervals() for placement in placements]
    keepouts = [placement.keepout for placement in placements]
    draws = _Draws(stream)
    for _ in range(layouts):
        layout = []
        for interval, keepout in zip(intervals, keepouts, strict=True):
            others = [(x, y, other + margin + keepout) for (x, y), other in zip(layout, keepouts, strict=False)]
            xy = _place(draws, interval, others, tries)
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
    distances = np.asarray(others_keepout, np.float64) + margin + placement.keepout
    others = list(zip(*np.asarray(others_xy, np.float64).reshape(-1, 2).T.tolist(), distances.tolist(), strict=True))
    draws = _Draws(stream)
    xy = _place(draws, placement.intervals(), others, tries)
    stream.skip(draws.used)
    return None if xy is None else np.array(xy)
