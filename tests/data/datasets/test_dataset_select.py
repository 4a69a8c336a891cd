"""Filters and the grid on hand-made costs and returns; scores by hand."""

import dataclasses

import numpy as np
import pytest
from recorded import small

from jsafe.data.datasets import DatasetError, choose, from_rows, frontier, grid, score
from jsafe.data.datasets.select import between


def of(costs, returns):
    """Episodes of one step with these costs and returns."""
    n = len(costs)
    costs = np.reshape(costs, (n, -1))
    zeros, ones = np.zeros((n, 2)), np.ones(n, bool)
    return from_rows(zeros, zeros, np.asarray(returns, float), costs.astype(float), ~ones, ones, zeros)


def test_the_names_of_filters_by_hand():
    episodes = of([0, 5, 5.1, 10, 15, 15.1, 20], range(7))
    assert choose(episodes, "all", None).tolist() == [*range(7)]
    assert choose(episodes, "safe", 10).tolist() == [0, 1, 2, 3]
    assert choose(episodes, "risky", 10).tolist() == [6]
    assert choose(episodes, "boundary", 10).tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="did you mean 'risky'"):
        choose(episodes, "risk", 10)


def test_with_several_costs_every_limit_has_to_be_kept():
    episodes = of([[0, 0], [0, 9], [9, 0], [9, 9]], range(4))
    assert choose(episodes, "safe", [1, 10]).tolist() == [0, 1]
    assert choose(episodes, "risky", [4, 10]).tolist() == [2, 3]
    with pytest.raises(ValueError, match="for a single cost"):
        frontier(episodes)


def test_the_frontier_is_a_curve_through_the_best():
    """Returns 2 C on the frontier, and others far below; a constant explains none of it, a line all."""
    cost = np.arange(11.0)
    episodes = of(np.concatenate([cost, cost]), np.concatenate([2 * cost, 2 * cost - 7]))
    assert frontier(episodes).tolist() == [*range(11)]
    # Range of returns: 27; a fifth of it is 5.4, less than the 7 by which the others are off.
    flat = of([0, 1, 2, 3], [5, 5, 5, 0])
    assert frontier(flat).tolist() == [0, 1, 2]


def test_the_grid_keeps_what_is_rare():
    rng = np.random.default_rng(0)
    episodes = of(np.concatenate([np.full(100, 1.0), [50, 99]]), np.concatenate([np.full(100, 1.0), [5, 9]]))
    kept = grid(episodes, (10, 10), rng, per_cell=3)
    assert len(kept) == 5
    assert {100, 101} <= set(kept)
    assert grid(episodes, (10, 10), rng, at_least=2).tolist() == [*range(100)]
    kept = grid(episodes, (10, 10), rng, target=10)
    assert len(kept) == 10
    assert {100, 101} <= set(kept)
    with pytest.raises(DatasetError, match="no cell of the grid has 1000 episodes"):
        grid(episodes, (10, 10), rng, at_least=1000)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        grid(episodes, (0, 10), rng)


def test_parts_of_a_data_set_keep_their_rows():
    episodes = dataclasses.replace(small(), behaviour=np.arange(3, dtype=np.int16), states={"x": np.arange(3.0)})
    with pytest.raises(DatasetError, match="behaviour must be below 1, got 2"):
        episodes.check()
    about = dataclasses.replace(episodes.about, behaviours=({"run": "a"}, {"run": "b"}, {"run": "c"}))
    part = dataclasses.replace(episodes, about=about).take([2, 0])
    np.testing.assert_array_equal(part.returns, [63, 6])
    np.testing.assert_array_equal(part.lengths, [3, 4])
    np.testing.assert_array_equal(part.behaviour, [2, 0])
    np.testing.assert_array_equal(part.states["x"], [2, 0])
    np.testing.assert_array_equal(part.check().flat()["initial_obs"][:, 1], 0)
    np.testing.assert_array_equal(between(episodes.costs[:, 0], 1, 2), [False, True, False])
    with pytest.raises(DatasetError, match="no episode is left"):
        episodes.take(np.zeros(3, bool))


def test_scores_by_hand():
    found = score("SafetyPointGoal1-v0", 20.0, 30.0, 20.0)
    assert abs(found.total_return - 0.66496) < 1e-5
    assert found.cost == 1.5
    assert score("SafetyHalfCheetahVelocity-v1", 0.0, 2.0, 0.0).cost == 3.0
    with pytest.raises(ValueError, match="there are no scores for 'Toy-v0'"):
        score("Toy-v0", 1.0, 1.0, 1.0)
