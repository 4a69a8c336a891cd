"""Stacked frames of any space, as a memory and as the space that a policy then sees."""

import numpy as np
import pytest

from jsafe import spaces
from jsafe.components import memories
from jsafe.spaces import Box, Discrete, Tree

SPACE = Tree(
    {"picture": Box((2, 2, 1), 0, 255, "uint8"), "speed": Box(2, (0.0, -1.0), (1.0, 3.0)), "gear": Discrete((4,))}
)


def test_the_first_observation_fills_all_frames_and_later_ones_push():
    memory = memories.frames(SPACE, 3)
    state = memory.init(2)
    a, b = (spaces.sample(SPACE, np.random.default_rng(i), (2,)) for i in range(2))
    state, seen = memories.push(state, a)
    np.testing.assert_array_equal(seen["picture"], np.concatenate([a["picture"]] * 3, axis=-1))
    state, seen = memories.push(memory.reset(state, np.array([False, True])), b)
    for name in ("picture", "speed", "gear"):
        went_on = np.concatenate([a[name][0], a[name][0], b[name][0]], axis=-1)
        np.testing.assert_array_equal(seen[name][0], went_on)
        np.testing.assert_array_equal(seen[name][1], np.concatenate([b[name][1]] * 3, axis=-1))
        assert seen[name].dtype == a[name].dtype
        assert seen[name].shape[1:] == spaces.stacked(SPACE, 3)[name].shape


def test_a_stacked_space_keeps_bounds_and_choices_in_order():
    stacked = spaces.stacked(SPACE, 2)
    assert stacked["speed"] == Box(4, (0.0, -1.0, 0.0, -1.0), (1.0, 3.0, 1.0, 3.0))
    assert stacked["gear"] == Discrete((4, 4))
    assert spaces.stacked(Box((1, 2), (0.0, 1.0), 9.0), 2) == Box((1, 4), (0.0, 1.0, 0.0, 1.0), 9.0)
    with pytest.raises(ValueError, match="have no axis"):
        spaces.stacked(Discrete(4), 2)


def test_a_window_holds_the_newest_rows_of_the_episode():
    memory = memories.window({"obs": (2,), "step": ()}, 3)
    state = memory.init(2)
    for t in range(4):
        if t == 2:
            state = memory.reset(state, np.array([False, True]))
        row = {"obs": np.full((2, 2), t, np.float32), "step": np.full(2, t, np.float32)}
        state, real = memories.append(state, row)
    np.testing.assert_array_equal(state.rows["step"], [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(real, [[True, True, True], [False, True, True]])
    assert state.rows["obs"].shape == (2, 3, 2)
