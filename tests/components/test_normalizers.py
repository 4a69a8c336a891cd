"""Observation scaling and the window of finished episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.components import normalizers as normalize
from jsafe.ops.stats import running_init, running_update
from jsafe.types import CostStats, EpisodeStats, Measured


def test_observations_are_scaled_and_clipped_but_budgets_pass():
    stats = running_update(running_init(2), jnp.array([[0.0, 10.0], [2.0, 10.0]]))
    out = normalize.normalize_obs(stats, jnp.array([[1.0, 10.1, 7.0], [50.0, 9.0, -7.0]]))
    np.testing.assert_allclose(out, [[0, 5, 7], [5, -5, -7]], atol=1e-4)
    assert normalize.normalize_obs(stats, jnp.array([[2.0, 10.02]]))[0] == pytest.approx([2**-0.5, 2.0], rel=1e-3)
    nothing = running_init(0)
    assert normalize.normalize_obs(nothing, jnp.array([[9.0, -9.0]])).tolist() == [[9, -9]]


def test_signals():
    stats = running_update(running_init(1), jnp.array([[1.0], [3.0]]))
    x = jnp.array([[4.0], [100.0]])
    std = 2**0.5
    assert normalize.normalize_signal(stats, x, subtract_mean=False)[:, 0] == pytest.approx([4 / std, 5], rel=1e-5)
    assert normalize.normalize_signal(stats, x, subtract_mean=True)[:, 0] == pytest.approx([2 / std, 5], rel=1e-5)


def push(window, cost, length, count):
    return normalize.window_push(
        window, EpisodeStats(np.float32(0), np.array([cost], np.float32), np.float32(length), np.float32(count))
    )


def test_window_of_episodes():
    window = normalize.window_init(3, 1)
    means = normalize.window_means

    def read(episodes):
        cost, length = means(window, episodes, jnp.array([0.5]), 1000)
        return float(cost[0]), float(length)

    assert read(1) == (500.0, 1000.0)  # nothing finished yet: the batch's rate over a whole episode
    window = push(window, 60.0, 300.0, 2)
    assert read(1) == read(100) == (30.0, 150.0)
    window = push(window, 100.0, 100.0, 4)
    assert read(1) == read(4) == (25.0, 25.0)
    assert read(5) == (pytest.approx(160 / 6), pytest.approx(400 / 6))
    window = push(window, 0.0, 0.0, 0)  # a batch without an end of an episode: the one before it counts
    assert read(1) == (25.0, 25.0)
    window = push(push(push(window, 0, 0, 0), 0, 0, 0), 8.0, 9.0, 1)
    assert read(100) == (8.0, 9.0)  # older batches have left the window


def test_measured_costs():
    """Sums over devices, then ratios; the fresh rows give the cost per step, finished episodes that of an episode."""
    rows = CostStats(np.float32([[3.0], [5.0]]), np.float32([10, 30]))
    episodes = EpisodeStats(np.float32([0, 0]), np.float32([[20.0], [0.0]]), np.float32([30, 10]), np.float32([1, 1]))

    def measure(measured):
        return normalize.measure(normalize.window_init(2, 1), measured, 1, 100, "d")[1]

    costs = jax.vmap(measure, axis_name="d")(Measured(rows, episodes))
    for i in range(2):
        assert (costs.per_step[i, 0], costs.J_episodic[i, 0], costs.length[i]) == (pytest.approx(0.2), 10.0, 20.0)


def test_signals_are_scaled_one_by_one():
    stats = running_update(running_init(2), jnp.array([[1.0, 10.0], [3.0, 30.0]]))
    x = jnp.array([[4.0, 40.0]])
    for reward, cost in ((False, False), (True, False), (False, True), (True, True)):
        out = normalize.normalize_signals(stats, x, reward=reward, cost=cost, subtract_mean=False)[0]
        expected = [4 / 2**0.5 if reward else 4, 40 / 200**0.5 if cost else 40]
        assert out == pytest.approx(expected, rel=1e-5)
