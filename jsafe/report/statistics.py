"""Small statistics of a few runs: what they scored, how sure that is, and whether two sets of runs differ.

A number here is what one run (one seed) scored. Intervals and tests treat runs as the independent thing: a thousand
evaluation episodes of one policy say nothing about the next seed.

Source: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice (arXiv 2108.13264),
section 4: interquartile mean, probability of improvement, percentile bootstrap over runs within each task. Their code
drops `floor(n / 4)` runs at either end, none of three; here a quarter of the weight goes, as the name says.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

_EXACT = 20_000


class Interval(NamedTuple):
    """An estimate and its confidence interval; `low` and `high` are NaN where one run says nothing about the next."""

    value: float
    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and bool(self.low <= value <= self.high)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of the last axis `[..., n]`: `2 * integral of the quantiles from 1/4 to 3/4`.

    Run k of the sorted ones stands for the quantiles from `k/n` to `(k+1)/n`; it counts with the part of that which
    lies in the middle half, so that of three runs the outer two count a quarter each.

    Raises:
      ValueError: If there are no scores, or one is not finite (as for all that follows).
    """
    scores = np.sort(_filled(scores), axis=-1)
    n = scores.shape[-1]
    edges = np.clip(np.arange(n + 1) / n, 0.25, 0.75)
    return (scores * (2 * np.diff(edges))).sum(axis=-1)


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Chance that a run of ours `[..., n]` scores more than one of theirs `[..., m]`; a tie counts one half.

    The Mann-Whitney statistic over `n m`.
    """
    ours, theirs = _filled(ours)[..., :, None], _filled(theirs)[..., None, :]
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(-2, -1))


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *samples: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A statistic of independent samples with its percentile bootstrap interval.

    Args:
      statistic: Of arrays `[..., n]`, one for each sample, along their last axis.
      *samples: Scores `[n]`; each sample is drawn from anew by itself.
      level: Of confidence.
      resamples: How often.
      seed: Of the draws: the same runs give the same interval.

    Returns:
      The interval; without bounds if a sample has fewer than two runs.

    Raises:
      ValueError: If a sample is empty, or `level` or `resamples` makes no sense.
    """
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples!r}")
    arrays = [_filled(sample) for sample in samples]
    value = float(statistic(*arrays))
    if any(len(array) < 2 for array in arrays):
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = [array[rng.integers(len(array), size=(resamples, len(array)))] for array in arrays]
    low, high = np.quantile(statistic(*drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def permutation_test(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of a difference of means under "all runs are alike".

    The share of the ways to deal all runs out to two groups of these sizes whose means are at least as far apart. All
    ways where there are at most 20 000 of them, else that many random ones with the one that was seen. Of three runs
    against three, 0.1 is the least it can be.

    Raises:
      ValueError: If a group is empty.
    """
    one, other = _filled(ours), _filled(theirs)
    pooled, n = np.concatenate([one, other]), len(one)
    seen = abs(one.mean() - other.mean())
    if math.comb(len(pooled), n) <= _EXACT:
        chosen = np.array(list(itertools.combinations(range(len(pooled)), n)))
        sums = pooled[chosen].sum(axis=1)
    else:
        rng = np.random.default_rng(seed)
        sums = rng.permuted(np.tile(pooled, (_EXACT - 1, 1)), axis=1)[:, :n].sum(axis=1)
        sums = np.append(sums, one.sum())
    apart = np.abs(sums / n - (pooled.sum() - sums) / (len(pooled) - n))
    return float((apart >= seen - 1e-12 * np.abs(pooled).max()).mean())  # sums of the same runs differ in rounding


def against_summary(scores: Sequence[float], mean: float, std: float, runs: int, level: float = 0.95) -> Interval:
    """Our mean less a published one, of which only mean and standard deviation over `runs` runs are known.

    Welch's t interval. With one run of ours its spread is unknown, and theirs stands for it.

    Raises:
      ValueError: If there are no scores, fewer than two published runs, a negative deviation, or a mean or `level` that
        makes no sense.
    """
    _check_level(level)
    array, n = _filled(scores), len(scores)
    if runs < 2 or not (0 <= std < math.inf and math.isfinite(mean)):
        raise ValueError(
            f"a published mean needs at least 2 runs and a deviation of at least 0, got {mean!r}, {runs}, {std!r}"
        )
    alone = n == 1
    ours = (std**2 if alone else float(array.var(ddof=1))) / n
    theirs, gap = std**2 / runs, float(array.mean() - mean)
    if ours + theirs == 0:
        return Interval(gap, gap, gap)
    if alone:
        freedom = runs - 1.0
    else:
        freedom = (ours + theirs) ** 2 / (ours**2 / (n - 1) + theirs**2 / (runs - 1))
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * math.sqrt(ours + theirs)
    return Interval(gap, gap - half, gap + half)


def pareto_front(returns: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Indices of the points that no other one beats in return and cost at once, by rising cost; of points that are
    alike, the first.

    Raises:
      ValueError: If there are more returns than costs or the other way round, or a number is not finite.
    """
    if len(returns) != len(costs):
        raise ValueError(f"each point has a return and a cost, got {len(returns)} and {len(costs)}")
    _check_finite([*returns, *costs])
    order = sorted(range(len(returns)), key=lambda i: (costs[i], -returns[i]))
    front: list[int] = []
    for i in order:
        if not front or returns[i] > returns[front[-1]]:
            front.append(i)
    return front


def _filled(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(scores, float)
    if array.ndim < 1 or array.shape[-1] == 0:
        raise ValueError("a statistic needs the score of at least one run")
    _check_finite(array)
    return array


def _check_finite(scores: Sequence[float] | np.ndarray) -> None:
    array = np.asarray(scores, float)
    if not np.isfinite(array).all():  # a comparison with NaN is false, and would count as a run that lost
        raise ValueError(f"a score must be a finite number, got {array[~np.isfinite(array)][0]}")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level!r}")
