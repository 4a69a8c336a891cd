"""Statistics of few runs against numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jsafe.report import statistics


def test_interquartile_mean_is_the_middle_half():
    assert statistics.interquartile_mean([1, 2, 3, 100]) == 2.5
    assert statistics.interquartile_mean([7]) == 7
    # quantiles from 1/4 to 3/4 of three runs: a quarter of [0, 1/3], all of [1/3, 2/3], a quarter of [2/3, 1]
    assert statistics.interquartile_mean([9, 0, 3]) == pytest.approx((0.25 * 0 + 3 + 0.25 * 9) / 1.5)
    both = statistics.interquartile_mean(np.array([[1, 2, 3, 100], [0, 0, 4, 4]]))
    np.testing.assert_allclose(both, [2.5, 2])


def test_probability_of_improvement_counts_pairs():
    assert statistics.probability_of_improvement([3, 1], [2, 1]) == (1 + 1 + 0 + 0.5) / 4
    assert statistics.probability_of_improvement([5], [1, 2]) == 1


def test_bootstrap_draws_each_sample_by_itself():
    def gap(x, y):
        return x.mean(-1) - y.mean(-1)

    # two runs each: the mean of a sample is its low, its middle or its high run, 1/4, 1/2, 1/4 of the time
    found = statistics.bootstrap(gap, [0, 2], [10, 10], level=0.6)
    assert found == (-9, -10, -8)
    assert statistics.bootstrap(gap, [0, 2], [10, 10], level=0.4) == (-9, -9, -9)
    alone = statistics.bootstrap(gap, [1], [2, 3])
    assert alone.value == -1.5
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    assert -1.5 not in alone


def test_bootstrap_covers_what_it_should():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = statistics.bootstrap(lambda x: x.mean(-1), rng.normal(size=20), resamples=400)
        hits += 0.0 in found
    assert 175 <= hits <= 199  # 95 % in the limit; a percentile interval of 20 runs is a little narrow


def test_permutation_test_deals_all_ways():
    assert statistics.permutation_test([10, 11, 12], [1, 2, 3]) == pytest.approx(2 / 20)
    assert statistics.permutation_test([1], [1]) == 1
    # means of the 6 pairs of (0, 1, 2, 5) less the other pair's: -3, -2, 1, -1, 2, 3
    assert statistics.permutation_test([1, 5], [0, 2]) == pytest.approx(4 / 6)
    many = statistics.permutation_test(np.arange(20) + 100, np.arange(20))
    assert many == pytest.approx(1 / 20_000)


@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e9])
def test_permutation_test_counts_ties_whatever_the_unit(scale):
    ours, theirs = scale * (np.array([0.1, 0.2, 0.3, 0.4]) + 7), scale * (np.array([0.2, 0.3, 0.3, 0.5]) + 7)
    exact = [
        (sum(x), sum((1, 2, 3, 4, 2, 3, 3, 5)) - sum(x)) for x in itertools.combinations((1, 2, 3, 4, 2, 3, 3, 5), 4)
    ]
    far = sum(abs(one - other) >= 3 for one, other in exact)  # of whole numbers: 10 and 13 were seen
    assert statistics.permutation_test(ours, theirs) == pytest.approx(far / 70)


def test_a_chance_and_an_interval_are_those_of_scipy():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 5, 9), rng.integers(0, 5, 7)
    chance = stats.mannwhitneyu(ours, theirs).statistic / 63
    assert statistics.probability_of_improvement(ours, theirs) == pytest.approx(chance)
    welch = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.9)
    found = statistics.against_summary(ours, theirs.mean(), theirs.std(ddof=1), 7, level=0.9)
    assert found[1:] == pytest.approx(welch)


def test_a_published_mean_is_met_or_not():
    # Welch by hand: variances 1/3 and 4/10, freedom (.7333)^2 / ((1/3)^2/2 + .16/9) = 7.333, t = 2.3431
    found = statistics.against_summary([9, 10, 11], 12, 2, 10)
    freedom = (1 / 3 + 0.4) ** 2 / ((1 / 3) ** 2 / 2 + 0.4**2 / 9)
    assert freedom == pytest.approx(7.3333, abs=1e-4)
    assert found.value == -2
    assert found.high - found.low == pytest.approx(2 * 2.3432 * math.sqrt(1 / 3 + 0.4), rel=2e-4)
    alone = statistics.against_summary([10], 12, 2, 10)  # t of 9 degrees: 2.2622
    assert alone.high + 2 == pytest.approx(2.2622 * math.sqrt(4 + 0.4), rel=1e-4)
    assert statistics.against_summary([25, 25], 25, 0, 3) == (0, 0, 0)


def test_the_front_is_what_nobody_beats():
    returns, costs = [5, 4, 9, 9, 1], [10, 5, 30, 20, 5]
    assert statistics.pareto_front(returns, costs) == [1, 0, 3]
    assert statistics.pareto_front([], []) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.interquartile_mean([]), "at least one run"),
        (lambda: statistics.bootstrap(np.mean, []), "at least one run"),
        (lambda: statistics.bootstrap(np.mean, [1, 2], level=95), r"level must be in \(0, 1\), got 95"),
        (lambda: statistics.bootstrap(np.mean, [1, 2], resamples=0), "resamples must be at least 1, got 0"),
        (lambda: statistics.against_summary([1], 1, 1, 1), "at least 2 runs"),
        (lambda: statistics.against_summary([1], math.nan, 1, 9), "at least 2 runs .* got nan, 9, 1"),
        (lambda: statistics.against_summary([1], 1, 1, 9, level=95), r"level must be in \(0, 1\), got 95"),
        (lambda: statistics.permutation_test([math.nan, 1], [2]), "finite number, got nan"),
        (lambda: statistics.probability_of_improvement([1], [math.inf]), "finite number, got inf"),
        (lambda: statistics.pareto_front([1, math.nan], [1, 2]), "finite number, got nan"),
        (lambda: statistics.pareto_front([1, 2], [1]), "a return and a cost, got 2 and 1"),
        (lambda: statistics.against_summary([1], 1, -1, 9), "deviation of at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
