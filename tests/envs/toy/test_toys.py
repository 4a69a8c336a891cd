"""The toy tasks by id: their optimum against brute force, streams, saved states, malformed input."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

import jsafe.envs
from jsafe import spaces
from jsafe.envs.toy import TOYS, ToyGrid, ToyImage, ToyRecall


def best_mixture(points, limit):
    """The largest reward of a mixture of policies, given as rows (reward, cost), whose cost keeps the limit."""
    points = np.array(points)
    return -linprog(-points[:, 0], points[None, :, 1], [limit], np.ones((1, len(points))), [1.0]).fun


@pytest.mark.parametrize("options", [{}, {"width": 7, "detour": 1}, {"width": 3, "detour": 4}])
def test_the_grids_optimum_is_that_of_a_linear_program(options):
    """Occupancy measures of the walk: `sum_a x(s, a) - sum_{s', a} P(s | s', a) x(s', a) = start(s)`, x >= 0."""
    cells = int(np.prod(ToyGrid(**options)._shape))
    env = ToyGrid(4 * cells, horizon=1000, **options)
    start = np.argmax(env.reset()[0])
    place = np.repeat(np.arange(cells), 4)  # one environment for each cell and move; the task itself says what follows
    env._state["cell"] = np.stack(np.divmod(place, env._shape[1]), axis=1)
    moves = np.tile(np.arange(4), cells)
    out = env.step(moves)
    inside = ~out.terminated & ~env._wall.ravel()[place]
    flow = np.zeros((cells, 4 * cells))
    flow[place, np.arange(4 * cells)] += 1
    flow[np.argmax(out.final_obs, axis=1)[inside], np.flatnonzero(inside)] -= 1
    goal = np.ravel_multi_index(env._goal, env._shape)
    allowed = [(0, 0 if env._wall.ravel()[s] or s == goal else None) for s in place]
    for limit in (0.1, 0.6, 3.0):
        found = linprog(-out.reward, out.cost.T, [limit], flow, np.eye(cells)[start], allowed)
        best = env.optimum(limit)
        np.testing.assert_allclose(-found.fun, best.reward, atol=1e-8)
        np.testing.assert_allclose(-found.ineqlin.marginals, best.multiplier, atol=1e-8)
        np.testing.assert_allclose(out.cost.T @ found.x, best.cost, atol=1e-8)


def test_recall_is_solved_with_a_memory_only():
    """All deterministic policies, with and without the cue, played by the task."""
    points = {}
    for choice in itertools.product(range(3), repeat=2):  # what to open after either cue
        env = ToyRecall(40, 3, delay=2)
        obs = env.reset()
        second = obs[:, 0] == 1
        assert sorted(np.unique(obs[:, 0])) == [-1, 1]
        for t in range(3):
            assert (obs[:, 0] == 0).all() == (t > 0)
            assert (obs[:, 1] == (t == 2)).all()
            out = env.step(np.where(second, *choice[::-1]))
            assert out.terminated.all() == (t == 2)
            assert t == 2 or not (out.reward.any() or out.cost.any())
            obs = out.final_obs
        ends = np.stack([out.reward, out.cost[:, 0]], axis=1)
        points[choice] = 0.5 * (ends[second].mean(axis=0) + ends[~second].mean(axis=0))  # both are equally likely
    blind = [points[c, c] for c in range(3)]
    for limit in (0.1, 0.5, 0.8, 2.0):
        assert best_mixture(list(points.values()), limit) == pytest.approx(env.optimum(limit).reward)
        assert best_mixture(blind, limit) == pytest.approx(env.memoryless(limit).reward)
    cues = ToyRecall(1000).reset()[:, 0]
    assert abs(cues.mean()) < 0.1


def test_the_picture_tells_the_direction():
    env = ToyImage(64, 5)
    obs = env.reset()
    for limit in (0.25, 0.49):
        bright = obs[..., 0] > 100
        assert (bright.sum(axis=(1, 2)) == 36).all()
        down, right = (np.nonzero(bright)[k].reshape(64, 36).mean(axis=1) > 11.5 for k in (1, 2))
        direction = np.where(np.stack([right, down], axis=1), 1.0, -1.0)
        assert len(np.unique(direction, axis=0)) == 4
        best = env.optimum(limit)
        out = env.step(1 + 2 * direction * best.speed)  # the box is [-1, 3]
        np.testing.assert_allclose(out.reward, best.reward)
        np.testing.assert_allclose(out.cost[:, 0], limit)
        obs = out.obs
    assert best.reward == pytest.approx(0.7)


@pytest.mark.parametrize("id", sorted(TOYS))
def test_streams_states_and_masks(id):
    rng = np.random.default_rng(0)
    env, two, other = (jsafe.envs.make(id, n, seed) for n, seed in ((5, 10), (2, 12), (5, 0)))
    assert isinstance(env, jsafe.envs.VectorEnv)
    np.testing.assert_array_equal(env.reset()[2:4], two.reset())
    space = spaces.tree_map(lambda leaf: leaf, env.spec.action)
    batches = [spaces.sample(space, rng, (5,)) for _ in range(60)]
    ends = 0
    for actions in batches[:30]:
        a, b = env.step(actions), two.step(actions[2:4])
        for x, y in zip(a[:6], b[:6]):
            np.testing.assert_array_equal(x[2:4], y)
        ends += (a.terminated | a.truncated).sum()
    other.load_state_dict(env.state_dict())
    mask = np.array([True, False, True, False, False])
    for e in (env, other):
        before = e.observe()
        e.reset(mask=mask)
        np.testing.assert_array_equal(e.observe()[~mask], before[~mask])
    for actions in batches[30:]:
        a, b = env.step(actions), other.step(actions)
        for x, y in zip(a[:6], b[:6]):
            np.testing.assert_array_equal(x, y)
        ends += (a.terminated | a.truncated).sum()
    assert ends >= 3
    before = env.observe()
    out = env.step(batches[0], mask=mask)
    np.testing.assert_array_equal(out.obs[~mask], before[~mask])
    assert (out.reward[~mask] == 0).all()
    np.testing.assert_array_equal(env.reset(seed=[3, 1, 4, 1, 5])[2], env.reset(seed=4)[0])


@pytest.mark.parametrize("id", sorted(TOYS))
def test_malformed_input_changes_nothing(id):
    env = jsafe.envs.make(id, 2)
    env.reset()
    state = env.state_dict()
    good = spaces.zeros(env.spec.action, (2,))
    for bad in (good[:1], good.astype(bool), good + np.nan, good + 99 if good.ndim == 1 else good[:, :0], None, ["a"]):
        with pytest.raises(ValueError, match="actions must be"):
            env.step(bad)
    for bad in ({}, state | {"streams": np.zeros(3)}, jsafe.envs.make(id, 3).state_dict()):
        with pytest.raises(ValueError, match="environments|must be|lacks"):  # noqa: RUF043
            env.load_state_dict(bad)
    for options, words in (
        ({"num_envs": 0}, "num_envs must"),
        ({"costs": "separate"}, "costs must"),
        ({"sped": 1}, "sped"),
    ):
        with pytest.raises(ValueError, match=words):
            jsafe.envs.make(id, **options)
    with pytest.raises(ValueError, match="limit must be positive"):
        env.optimum(0.0)
    after = env.state_dict()
    assert all(np.array_equal(after[name], value) for name, value in state.items())
