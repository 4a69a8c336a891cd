"""Spaces: sizes, values, JSON, and what does not fit."""

import numpy as np
import pytest

from jsafe import spaces
from jsafe.spaces import Box, Discrete, Tree
from jsafe.types import EnvSpec

TREE = Tree({"b": Box((2, 2, 1), 0, 255, "uint8"), "a": Discrete((3, 2)), "c": Tree({"x": Box(4, -1, (1, 2, 3, 4))})})


@pytest.mark.parametrize("space", [Box(3), Box((2, 3), -1, 1, "int32"), Discrete(4), Discrete((2, 5)), TREE])
def test_json_round_trip_and_hash(space):
    again = spaces.from_json(spaces.to_json(space))
    assert again == space
    assert hash(again) == hash(space)
    assert spaces.difference(again, space) is None


def test_samples_lie_in_their_space():
    drawn = spaces.sample(TREE, np.random.default_rng(0), (100,))
    assert drawn["b"].shape == (100, 2, 2, 1)
    assert drawn["b"].dtype == np.uint8
    assert drawn["a"].shape == (100, 2)
    assert drawn["a"].max(axis=0).tolist() == [2, 1]
    x = drawn["c"]["x"]
    assert (x >= -1).all()
    assert (x <= [1, 2, 3, 4]).all()
    assert (x.max(axis=0) > [0.9, 1.8, 2.7, 3.6]).all()
    assert spaces.nbytes(TREE) == 4 + 8 + 16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(0), "positive integers"),
        (lambda: Box(2, dtype="float31"), "one of float32"),
        (lambda: Box(2, 1, 0), "must not exceed"),
        (lambda: Box(2, float("nan")), "must not be NaN"),
        (lambda: Box(2, (0, 1, 2)), "must have 2 numbers, got 3"),
        (lambda: Discrete(0), "positive integer"),
        (lambda: Tree({}), "one or more named spaces"),
        (lambda: spaces.space(2.5), "a positive integer"),
        (lambda: spaces.from_json({"kind": "bax"}), "box, discrete or tree"),
        (lambda: spaces.from_json({"kind": "box"}), "not the description of a space"),
    ],
)
def test_bad_spaces_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("have", "want", "message"),
    [
        (Box(3), Box(4), r"its shape is \(3,\), not \(4,\)"),
        (Box(3), Discrete(3), "it is a Box, not a Discrete"),
        (Discrete(3), Discrete(4), "it has 3 choices, not 4"),
        (Box(3, 0, 1, "uint8"), Box(3), "its type is uint8, not float32"),
        (Tree({"a": Box(2)}), Tree({"a": Box(3)}), r"a: its shape is \(2,\)"),
        (Tree({"a": Box(2)}), Tree({"b": Box(2)}), r"it has \['a'\], not \['b'\]"),
    ],
)
def test_differences_are_told(have, want, message):
    import re

    assert re.match(message, spaces.difference(have, want))


def test_width_of_an_action_for_critics():
    for action, width in ((2, 2), (Box((2, 3)), 6), (Discrete(4), 4), (Discrete((3, 2)), 5)):
        assert EnvSpec(1, action).action_width == width
    with pytest.raises(ValueError, match="actions must be a Box or a Discrete, got Tree"):
        _ = EnvSpec(1, TREE).action_width
