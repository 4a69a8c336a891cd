"""Lidars: what the robot sees of the objects, for a batch of environments.

On numpy arrays each object meets the few bins or rays that it can reach; on arrays of other namespaces (in the
program), which cannot be written to, all of them.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


def pseudo_lidar(
    pos: np.ndarray,
    rot: np.ndarray,
    targets: np.ndarray,
    mask: np.ndarray | None = None,
    bins: int = 16,
    max_dist: float = 3.0,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Closeness of the nearest target in each direction, shared between neighbouring bins.

    A target at distance rho in the robot's frame has closeness s = max(0, D - rho) / D. Its bin gets s, the next one
    alpha s and the previous one (1 - alpha) s, where alpha is the target's position within its bin; each bin keeps
    its largest number.

    Args:
        pos: position of the robot's body, [N, 3], m.
        rot: rotation matrix of the robot's body (columns: its axes), [N, 3, 3].
        targets: positions of the objects, [N, K, 2], m. Their height counts as 0, the robot's as it is.
        mask: which targets count, bool, broadcastable to [N, K]; None: all.
        bins: number of bins, at least 3.
        max_dist: range D, m.
        groups: group of each target, ints [K] from 0 to G - 1, each with a lidar of its own; None: one for all.

    Returns:
        float64 [N, bins] in [0, 1], or [N, G, bins] if there are groups.

    Raises:
        ValueError: bins < 3 or max_dist <= 0.

    Source:
        safety-gymnasium 1.0.0. An angle that rounds to exactly 2 pi belongs to bin 0 here (an error there).
    """
    if bins < 3:
        raise ValueError(f"bins must be at least 3, got {bins}")
    if not max_dist > 0:
        raise ValueError(f"max_dist must be positive, got {max_dist}")
    lidars = 1 if groups is None else int(groups.max(initial=-1)) + 1
    num, count = targets.shape[:2]
    if not isinstance(targets, np.ndarray):
        return _dense_pseudo(pos, rot, targets, mask, bins, max_dist, groups, lidars)
    # Everything is [K, N] from here: numpy is fast along the last axis, and the robots are along it.
    dx, dy = targets[..., 0].T - pos[:, 0], targets[..., 1].T - pos[:, 1]
    ex = dx * rot[:, 0, 0] + dy * rot[:, 1, 0] - pos[:, 2] * rot[:, 2, 0]
    ey = dx * rot[:, 0, 1] + dy * rot[:, 1, 1] - pos[:, 2] * rot[:, 2, 1]
    closeness = np.maximum(0.0, max_dist - np.sqrt(ex * ex + ey * ey)) / max_dist
    if mask is not None:
        closeness = np.where(np.broadcast_to(mask, (num, count)).T, closeness, 0.0)
    width = 2 * np.pi / bins
    angle = np.arctan2(ey, ex)
    angle += (angle < 0) * (2 * np.pi)
    index = (angle / width).astype(np.int64)
    alpha = (angle - index * width) / width
    # Three entries for each target, in one row of bins for each environment and group.
    values = np.empty((3, count, num))
    values[0], values[1] = closeness, alpha * closeness
    values[2] = (1.0 - alpha) * closeness
    entries = _around(bins).take(index, axis=1)
    entries += np.arange(num) * (lidars * bins) + (0 if groups is None else groups[:, None] * bins)
    seen = np.zeros(num * lidars * bins)
    np.maximum.at(seen, entries.reshape(-1), values.reshape(-1))
    return seen.reshape((num, bins) if groups is None else (num, lidars, bins))


def _dense_pseudo(
    pos: Any, rot: Any, targets: Any, mask: Any, bins: int, max_dist: float, groups: np.ndarray | None, lidars: int
) -> Any:
    """The same of arrays that cannot be written to: every target's weight in every bin, and a maximum.

    With d the distance of the target from the start of a bin, in bins, the weight is 1 in [0, 1), d + 1 before and
    2 - d after.
    """
    xp = targets.__array_namespace__()
    dx, dy, z = targets[..., 0] - pos[:, None, 0], targets[..., 1] - pos[:, None, 1], pos[:, None, 2]
    ex = dx * rot[:, None, 0, 0] + dy * rot[:, None, 1, 0] - z * rot[:, None, 2, 0]
    ey = dx * rot[:, None, 0, 1] + dy * rot[:, None, 1, 1] - z * rot[:, None, 2, 1]
    closeness = xp.maximum(0.0, max_dist - xp.sqrt(ex * ex + ey * ey)) / max_dist
    if mask is not None:
        closeness = xp.where(mask, closeness, 0.0)
    turns = xp.arctan2(ey, ex) * (bins / (2 * np.pi))
    apart = turns[..., None] - np.arange(bins, dtype=turns.dtype)  # from -3/2 bins to bins/2
    apart = xp.where(apart < -1, apart + bins, apart)
    apart = xp.where(apart < -1, apart + bins, apart)
    seen = xp.clip(xp.minimum(apart + 1, 2 - apart), 0, 1) * closeness[..., None]
    if groups is None:
        return seen.max(axis=1)
    return xp.stack([seen[:, groups == g].max(axis=1) for g in range(lidars)], axis=1)


@functools.lru_cache(maxsize=8)
def _around(bins: int) -> np.ndarray:
    """The bin itself, the next and the one before, for each index from 0 to `bins` (which is 0 again)."""
    return (np.arange(bins + 1) + np.array([0, 1, -1])[:, None]) % bins


class Circles(NamedTuple):
    """Upright cylinders that reach above and below the rays.

    Attributes:
        centres: [N, K, 2], m.
        radius: m.
    """

    centres: np.ndarray
    radius: float


class Boxes(NamedTuple):
    """Boxes in any orientation; the K boxes of an environment have equal sizes.

    Attributes:
        centres: [N, K, 3], m.
        rotations: rotation matrices (columns: the box's axes), [N, K, 3, 3].
        half_sizes: three half sizes, m.
    """

    centres: np.ndarray
    rotations: np.ndarray
    half_sizes: tuple[float, float, float]


class _Pairs(NamedTuple):
    """The P pairs of an object and a ray that may meet."""

    item: np.ndarray  # which of the N * K objects, [P]
    ray: np.ndarray  # which ray, [P]
    cos: np.ndarray  # the ray's direction in the robot's frame, [P]
    sin: np.ndarray


def natural_lidar(
    origin: np.ndarray,
    frame: np.ndarray,
    groups: Sequence[Sequence[Circles | Boxes]],
    rays: int = 64,
    gain: float = 1.0,
    height: float = 0.3,
) -> np.ndarray:
    """Rays against the objects themselves: exp(-gain * distance) of the first hit, 0 without one.

    Ray i leaves the point (origin, height) horizontally along u_i = F (cos a_i, sin a_i), a_i = 2 pi i / rays, where F
    is the robot's rotation matrix without its last row and column. For an upright robot u_i is a unit vector; a tilted
    one shortens it, and the distance counts in units of its length. A group is hidden by its own objects only. From
    inside an object the ray meets its far side, as MuJoCo's rays do.

    Args:
        origin: [N, 2], m.
        frame: F, [N, 2, 2].
        groups: G groups of objects.
        rays: number of rays.
        gain: per metre.
        height: of the rays above the floor, m.

    Returns:
        float64 [N, G, rays] in [0, 1].

    Notes:
        Each object is tested only against the rays within its angular width, which is a few of the 64.

    Source:
        The fork of Safety Gym by the authors of SEditor (lidar type `natural`): horizontal projection of the robot's
        axes, not normalised, at z = 0.3.
    """
    if not isinstance(origin, np.ndarray):
        return _dense_natural(origin, frame, groups, rays, gain, height)
    num, count = len(origin), len(groups)
    out = np.zeros((num, count, rays))
    space = _FrameSpace(origin, frame, rays)
    circles: list = [(g, thing) for g, group in enumerate(groups) for thing in group if isinstance(thing, Circles)]
    boxes: list = [(g, thing) for g, group in enumerate(groups) for thing in group if isinstance(thing, Boxes)]
    for every, meet in ((circles, _meet_circles), (boxes, _meet_boxes)):
        things = [(g, thing) for g, thing in every if thing.centres.shape[1]]
        if not things:
            continue
        group = np.concatenate([np.full(thing.centres.shape[1], g) for g, thing in things])
        pairs, distance = meet(space, [thing for _, thing in things], height)
        value = np.exp(-gain * distance)
        row = (np.arange(num)[:, None] * count + group).ravel() * rays
        np.maximum.at(out.reshape(-1), row[pairs.item] + pairs.ray, value)
    return out


def _dense_natural(
    origin: Any, frame: Any, groups: Sequence[Sequence[Circles | Boxes]], rays: int, gain: float, height: float
) -> Any:
    """The same of arrays that cannot be written to: every object against every ray."""
    xp = origin.__array_namespace__()
    angle = np.arange(rays) * (2 * np.pi / rays)
    cos, sin = np.cos(angle).astype(frame.dtype), np.sin(angle).astype(frame.dtype)
    ux = frame[:, 0, 0, None] * cos + frame[:, 0, 1, None] * sin  # [n, rays]
    uy = frame[:, 1, 0, None] * cos + frame[:, 1, 1, None] * sin

    def circles(thing):
        dx, dy = (thing.centres[..., axis] - origin[:, None, axis] for axis in (0, 1))
        a = (ux * ux + uy * uy)[:, None]
        b = ux[:, None] * dx[..., None] + uy[:, None] * dy[..., None]
        inside = b * b - a * (dx * dx + dy * dy - thing.radius * thing.radius)[..., None]
        root = xp.sqrt(xp.maximum(inside, 0.0))
        near, far = b - root, b + root
        there = (inside > 0) & (far >= 0) & (a > 1e-12)
        return xp.where(there, xp.where(near >= 0, near, far) / xp.maximum(a, 1e-12), np.inf)

    def boxes(thing):
        dx, dy = (thing.centres[..., axis] - origin[:, None, axis] for axis in (0, 1))
        dz = thing.centres[..., 2] - height
        enter, leave = -np.inf, np.inf
        for axis in range(3):
            rx, ry, rz = (thing.rotations[..., row, axis] for row in range(3))
            inverse = 1.0 / (rx[..., None] * ux[:, None] + ry[..., None] * uy[:, None] + 1e-30)
            centre = (rx * dx + ry * dy + rz * dz)[..., None] * inverse
            half = xp.abs(thing.half_sizes[axis] * inverse)
            enter, leave = xp.maximum(enter, centre - half), xp.minimum(leave, centre + half)
        missed = (enter > leave) | (leave < 0)
        return xp.where(missed, np.inf, xp.where(enter >= 0, enter, leave))

    def first(group):
        things = [thing for thing in group if thing.centres.shape[1]]
        hits = [(circles if isinstance(thing, Circles) else boxes)(thing) for thing in things]
        nothing = xp.zeros((len(origin), rays), frame.dtype)
        return xp.exp(-gain * xp.concatenate(hits, axis=1).min(axis=1)) if hits else nothing

    return xp.stack([first(group) for group in groups], axis=1)


class _FrameSpace:
    """The robots' frames: directions as the rays are numbered."""

    def __init__(self, origin: np.ndarray, frame: np.ndarray, rays: int):
        self.origin, self.frame, self.rays = origin, frame, rays
        f00, f01, f10, f11 = frame[:, 0, 0], frame[:, 0, 1], frame[:, 1, 0], frame[:, 1, 1]
        self.f00, self.f01, self.f10, self.f11 = (f[:, None] for f in (f00, f01, f10, f11))
        determinant = f00 * f11 - f01 * f10
        upright = np.abs(determinant) > 1e-3  # else: a robot on its side, all rays are tested
        safe = np.where(upright, determinant, np.inf)
        self.inverse = [(f / safe)[:, None] for f in (f11, -f01, -f10, f00)]
        # the inverse enlarges lengths at most by largest singular value / |determinant|
        squares = f00 * f00 + f01 * f01 + f10 * f10 + f11 * f11
        largest = np.sqrt(0.5 * (squares + np.sqrt(np.maximum(squares * squares - 4 * determinant * determinant, 0))))
        self.stretch = np.where(upright, largest / np.abs(safe), np.inf)[:, None]
        angle = np.arange(rays) * (2 * np.pi / rays)
        self.cos, self.sin = np.cos(angle), np.sin(angle)
        self.squared = (
            (f00 * f00 + f10 * f10)[:, None] * self.cos**2
            + (f01 * f01 + f11 * f11)[:, None] * self.sin**2
            + (2 * (f00 * f01 + f10 * f11))[:, None] * (self.cos * self.sin)
        )  # squared length of each ray's direction, [N, rays]

    def pairs(self, dx: np.ndarray, dy: np.ndarray, radius: np.ndarray) -> _Pairs:
        """Rays that may meet a ball around each relative position (dx, dy), [N, K], of each radius, [K]."""
        i00, i01, i10, i11 = self.inverse
        x, y = i00 * dx + i01 * dy, i10 * dx + i11 * dy
        distance = np.sqrt(x * x + y * y)
        reach = radius * self.stretch
        with np.errstate(divide="ignore", invalid="ignore"):
            half = np.where(distance > reach, np.arcsin(np.minimum(reach / distance, 1.0)), np.pi)
        per = self.rays / (2 * np.pi)
        angle, half = np.arctan2(y, x) * per, half * per + 1e-6
        first = np.ceil(angle - half).ravel().astype(np.int64)
        last = np.floor(angle + half).ravel().astype(np.int64)
        many = np.minimum(last - first + 1, self.rays)
        item = np.repeat(np.arange(many.size), many)
        start = np.cumsum(many) - many - first % self.rays
        ray = np.arange(item.size) - start[item]
        ray -= self.rays * (ray >= self.rays)
        return _Pairs(item, ray, self.cos[ray], self.sin[ray])


def _meet_circles(space: _FrameSpace, things: list[Circles], height: float):
    """Pairs and distances (inf: none): a t^2 - 2 b t + c = 0 with a = |u|^2, b = u.d, c = |d|^2 - r^2."""
    centres = np.concatenate([thing.centres for thing in things], axis=1)
    radius = np.concatenate([np.full(thing.centres.shape[1], float(thing.radius)) for thing in things])
    dx, dy = centres[..., 0] - space.origin[:, None, 0], centres[..., 1] - space.origin[:, None, 1]
    pairs = space.pairs(dx, dy, radius)
    bx, by = space.f00 * dx + space.f10 * dy, space.f01 * dx + space.f11 * dy
    constant = dx * dx + dy * dy - radius * radius
    item, rays = pairs.item, space.rays
    row = np.repeat(np.arange(len(dx)) * rays, len(radius))
    a = space.squared.ravel()[row[item] + pairs.ray]
    b = bx.ravel()[item] * pairs.cos + by.ravel()[item] * pairs.sin
    inside = b * b - a * constant.ravel()[item]
    root = np.sqrt(np.maximum(inside, 0.0))
    near, far = b - root, b + root
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(near >= 0, near, far) / a
    distance[~((inside > 0) & (far >= 0) & (a > 1e-12))] = np.inf
    return pairs, distance


def _meet_boxes(space: _FrameSpace, things: list[Boxes], height: float):
    """Pairs and distances (inf: none): in the box's frame, between each pair of planes."""
    centres = np.concatenate([thing.centres for thing in things], axis=1)
    rotations = np.concatenate([thing.rotations for thing in things], axis=1)
    sizes = np.concatenate([np.tile(np.asarray(thing.half_sizes), (thing.centres.shape[1], 1)) for thing in things])
    dx, dy = centres[..., 0] - space.origin[:, None, 0], centres[..., 1] - space.origin[:, None, 1]
    dz = centres[..., 2] - height
    pairs = space.pairs(dx, dy, _horizontal_reach(rotations, sizes))
    item = pairs.item
    enter, leave = np.full(item.size, -np.inf), np.full(item.size, np.inf)
    for axis in range(3):
        rx, ry, rz = rotations[..., 0, axis], rotations[..., 1, axis], rotations[..., 2, axis]
        middle = rx * dx + ry * dy + rz * dz
        along_cos, along_sin = rx * space.f00 + ry * space.f10, rx * space.f01 + ry * space.f11
        # a ray within a pair of planes would divide by zero: 1e-30 sends its crossings far away with the right signs
        inverse = 1.0 / (along_cos.ravel()[item] * pairs.cos + along_sin.ravel()[item] * pairs.sin + 1e-30)
        centre = middle.ravel()[item] * inverse
        half = np.abs(np.broadcast_to(sizes[:, axis], dx.shape).ravel()[item] * inverse)
        np.maximum(enter, centre - half, out=enter)
        np.minimum(leave, centre + half, out=leave)
    distance = np.where(enter >= 0, enter, leave)
    distance[(enter > leave) | (leave < 0)] = np.inf
    return pairs, distance


def _horizontal_reach(rotations: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Radius of a vertical cylinder around each box's centre that holds the box, [N, K]."""
    up = np.minimum(np.abs(rotations[..., 2, 2]), 1.0)
    base = np.sqrt(sizes[:, 0] ** 2 + sizes[:, 1] ** 2)
    return np.minimum(base + sizes[:, 2] * np.sqrt(1.0 - up * up), np.sqrt((sizes * sizes).sum(axis=1)))
