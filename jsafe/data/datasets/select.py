"""Which episodes of a data set are kept, by their return and cost: numbers of episodes, in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import DatasetError, Episodes
from jsafe.errors import unknown

FILTERS = ("all", "safe", "risky", "boundary", "frontier")
"""Names that `choose` takes."""


def choose(episodes: Episodes, name: str, limit: Any = None) -> np.ndarray:
    """Episodes by the name of a filter.

    Args:
      episodes: The data set.
      name: `all`; `safe`: every cost at most its limit; `risky`: some cost at least twice its limit; `boundary`: every
        cost at most 3/2 of its limit, and some above 1/2 of it; `frontier`: see `frontier`.
      limit: Per episode, one number or `[M]`; not needed for `all` and `frontier`.

    Raises:
      DatasetError: If no episode is left, naming the filter and the smallest cost.
      ValueError: For an unknown filter, or without the limit that it needs.

    Source: the variants of behaviour cloning in OSRL (Liu et al. 2023, arXiv 2306.09303, section 4): BC-Safe, BC-risky,
      BC-boundary, BC-frontier. With several costs ours.
    """
    if name not in FILTERS:
        raise ValueError(unknown("filter", name, FILTERS))
    if name == "all":
        return np.arange(len(episodes))
    if name == "frontier":
        return frontier(episodes)
    if limit is None:
        raise ValueError(f"the filter {name!r} needs a cost limit: give filter_limit")
    costs = episodes.costs
    bound = np.broadcast_to(np.asarray(limit, float), costs.shape[1])
    if name == "safe":
        kept = (costs <= bound).all(axis=1)
    elif name == "risky":
        kept = (costs >= 2 * bound).any(axis=1)
    else:
        kept = (costs <= 1.5 * bound).all(axis=1) & (costs > 0.5 * bound).any(axis=1)
    if not kept.any():
        raise DatasetError(
            f"the filter {name!r} at the limit {bound.tolist()} leaves none of {len(episodes)} episodes, "
            f"whose costs are {costs.min(axis=0).round(3).tolist()} to {costs.max(axis=0).round(3).tolist()}"
        )
    return np.flatnonzero(kept)


def frontier(episodes: Episodes, fit: float = 0.9, width: float = 0.2) -> np.ndarray:
    """Episodes near the best return for their cost.

    Over the episodes that no other one dominates (less cost and more return) a polynomial R(C) is fitted, of the lowest
    degree up to 2 that explains `fit` of their variance (else of degree 2); those within `width` of the range of
    returns are kept.

    Args:
      episodes: The data set, with a single cost.
      fit: Share of the variance of the frontier's returns to explain.
      width: Share of the range of returns.

    Raises:
      ValueError: With several costs.

    Source: BC-frontier of OSRL (arXiv 2306.09303, section 4 and its released code).
    """
    costs, returns = episodes.costs, episodes.returns
    if costs.shape[1] != 1:
        raise ValueError(f"the filter 'frontier' is for a single cost, got {costs.shape[1]}")
    cost = costs[:, 0]
    order = np.lexsort((-returns, cost))
    best = np.concatenate([[-np.inf], np.maximum.accumulate(returns[order])[:-1]])
    front = order[returns[order] > best]
    x, y = cost[front], returns[front]
    spread = ((y - y.mean()) ** 2).sum()
    for degree in range(min(2, len(np.unique(x)) - 1) + 1):
        coefficients = np.polyfit(x, y, degree)
        left = ((y - np.polyval(coefficients, x)) ** 2).sum()
        if left <= (1 - fit) * spread:
            break
    far = np.abs(returns - np.polyval(coefficients, cost))
    return np.flatnonzero(far <= max(width * (returns.max() - returns.min()), far.min()))


def grid(
    episodes: Episodes,
    cells: tuple[int, int],
    rng: np.random.Generator,
    *,
    per_cell: int | None = None,
    at_least: int = 1,
    target: int | None = None,
) -> np.ndarray:
    """Thins a data set over a grid of cost and return, so that common episodes do not crowd out rare ones.

    Args:
      episodes: The data set; of several costs the first one counts.
      cells: Number of cells along the cost and along the return.
      rng: Draws within a cell.
      per_cell: Episodes to keep of each cell at most.
      at_least: Cells with fewer episodes are dropped as outliers.
      target: Number of episodes in the end: one of each cell first, then of random cells until there are enough.

    Raises:
      ValueError: For numbers below one.
      DatasetError: If no episode is left.

    Source: DSRL (Liu et al. 2023, arXiv 2306.09303, section 3: density filter) and its recording.
    """
    for what, number in (("cells", min(cells)), ("per_cell", per_cell or 1), ("at_least", at_least)):
        if number < 1:
            raise ValueError(f"{what} must be at least 1, got {number}")
    place = np.zeros(len(episodes), np.int64)
    for values, count in zip((episodes.costs[:, 0], episodes.returns), cells):
        span = values.max() - values.min()
        inside = np.zeros(len(values)) if span == 0 else (values - values.min()) / span * count
        place = place * count + np.minimum(inside.astype(np.int64), count - 1)
    members = [rng.permutation(np.flatnonzero(place == cell)) for cell in np.unique(place)]
    members = [each[:per_cell] for each in members if len(each) >= at_least]
    if not members:
        raise DatasetError(f"no cell of the grid has {at_least} episodes")
    if target is None:
        return np.sort(np.concatenate(members))
    kept: list[int] = []
    for depth in range(max(map(len, members))):
        layer = [each[depth] for each in members if len(each) > depth]
        kept += list(rng.permutation(layer))
        if len(kept) >= target:
            break
    return np.sort(np.array(kept[: max(target, 1)]))


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Whether each value is within bounds, both included, `[E]`."""
    return (values >= low) & (values <= high)
