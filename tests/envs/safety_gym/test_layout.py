"""Layout sampler against a plain sequential one on RandomState."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsafe.envs.safety_gym.layout import LayoutError, Placement, _squared, resample, sample_layout
from jsafe.envs.safety_gym.rng import RandomStream


def square(half, *kinds):
    """Placements in a square of (keepout, count) kinds."""
    return [Placement(f"k{k}_{i}", k, (-half, -half, half, half)) for k, count in kinds for i in range(count)]


STOCK = {
    "Goal1": square(1.5, (0.4, 1), (0.305, 1), (0.18, 8), (0.15, 1)),
    "Goal2": square(2.0, (0.4, 1), (0.305, 1), (0.18, 10), (0.15, 10)),
    "Push2": square(2.0, (0.4, 6), (0.3, 4), (0.2, 1)),
    "Button1": square(1.5, (0.4, 1), (0.2, 4), (0.4, 1), (0.18, 4), (0.4, 4)),
}
FORK = {
    "Goal2": square(2.0, (0.3, 1), (0.18, 8), (0.15, 1), (0.1, 8)),
    "Button1": square(1.5, (0.4, 1), (0.3, 3), (0.18, 4), (0.15, 1), (0.1, 4)),
}


def draw(random, placement):
    xmin, ymin, xmax, ymax = placement.extents
    k = placement.keepout
    return random.uniform(xmin + k, xmax - k), random.uniform(ymin + k, ymax - k)


def far(xy, k, others, keepouts, margin):
    """Whether a candidate keeps its distance to all others."""
    return all(np.hypot(xy[0] - x, xy[1] - y) >= other + margin + k for (x, y), other in zip(others, keepouts))


def sequential(random, placements, margin, tries, layouts):
    for _ in range(layouts):
        layout = []
        for placement in placements:
            keepouts = [p.keepout for p in placements[: len(layout)]]
            for _ in range(tries):
                xy = draw(random, placement)
                if far(xy, placement.keepout, layout, keepouts, margin):
                    layout.append(xy)
                    break
            else:
                break
        else:
            return np.array(layout)
    return None


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stock_layouts_equal_the_sequential_sampler(name, seed):
    stream, reference = RandomStream(seed), np.random.RandomState(seed)
    for _ in range(2 if name == "Button1" else 5):
        xy = sample_layout(stream, STOCK[name])
        assert np.array_equal(xy, sequential(reference, STOCK[name], 0.0, 100, 10_000))
    assert stream.random() == reference.random_sample()


@pytest.mark.parametrize("name", FORK)
def test_layouts_with_margin(name):
    stream, reference = RandomStream(11), np.random.RandomState(11)
    for _ in range(4):
        xy = sample_layout(stream, FORK[name], margin=0.3, tries=200, layouts=100_000)
        assert np.array_equal(xy, sequential(reference, FORK[name], 0.3, 200, 100_000))
    assert stream.random() == reference.random_sample()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kinds=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.4]), st.integers(1, 4)), min_size=1, max_size=4),
    margin=st.sampled_from([0.0, 0.2]),
    tries=st.integers(1, 40),
)
def test_any_layout_equals_the_sequential_sampler(seed, kinds, margin, tries):
    placements = square(1.0, *kinds)
    stream, reference = RandomStream(seed), np.random.RandomState(seed)
    expected = sequential(reference, placements, margin, tries, 20)
    if expected is None:
        with pytest.raises(LayoutError, match="no layout"):
            sample_layout(stream, placements, margin, tries, 20)
    else:
        xy = sample_layout(stream, placements, margin, tries, 20)
        assert np.array_equal(xy, expected)
    assert stream.random() == reference.random_sample()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 12), tries=st.integers(1, 300))
def test_resample_equals_the_sequential_loop(seed, count, tries):
    others = np.random.default_rng(seed).uniform(-1.2, 1.2, (count, 2))
    keepouts = np.random.default_rng(seed + 1).uniform(0.1, 0.5, count)
    goal = Placement("goal", 0.305, (-1.5, -1.5, 1.5, 1.5))
    stream, reference = RandomStream(seed), np.random.RandomState(seed)
    xy = resample(stream, goal, others, keepouts, 0.1, tries)
    expected = None
    for _ in range(tries):
        candidate = draw(reference, goal)
        if far(candidate, goal.keepout, others, keepouts, 0.1):
            expected = candidate
            break
    assert (xy is None) == (expected is None)
    assert expected is None or np.array_equal(xy, expected)
    assert stream.random() == reference.random_sample()


def test_zero_width_rectangles_consume_their_draws():
    stream, reference = RandomStream(0), np.random.RandomState(0)
    fixed = Placement("circle", 0.5, (-0.5, 0.5, 0.5, 1.5))
    assert sample_layout(stream, [fixed]).tolist() == [[0.0, 1.0]]
    reference.random_sample(2)
    assert stream.random() == reference.random_sample()


@given(st.floats(1e-6, 10.0))
def test_squared_threshold_is_exact(distance):
    t = _squared(distance)
    assert np.sqrt(t) >= distance
    assert np.sqrt(np.nextafter(t, 0.0)) < distance


def test_impossible_placement():
    with pytest.raises(ValueError, match="keepout of 'goal'"):
        sample_layout(RandomStream(0), [Placement("goal", 2.0, (-1, -1, 1, 1))])


def official(task, level, car):
    """Keepouts after the agent's, in placement order: (name, keepout, count); and the half width of the square."""
    box = ("push_box", 0.125 if car else 0.2, 1)
    if task == "Goal":
        kinds = [("goal", 0.305, 1), ("hazard", 0.18, (0, 8, 10)[level]), ("vase", 0.15, (0, 1, 10)[level])]
        return kinds, (1.0, 1.5, 2.0)[level]
    if task == "Push":
        kinds = [("goal", 0.4, 1), ("hazard", 0.4, (0, 2, 4)[level]), ("pillar", 0.3, (0, 1, 4)[level]), box]
        return kinds, (1.0, 1.5, 2.0)[level]
    kinds = [("button", 0.2, 4), ("goal", 0.4, 1)]
    kinds += [("hazard", 0.18, (0, 4, 8)[level]), ("gremlin", 0.4, (0, 4, 6)[level])]
    return kinds, (1.0, 1.5, 1.8)[level]


GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_layouts.json").read_text())


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("seed", ["0", "1"])
def test_layouts_of_the_official_package(name, seed):
    task, level, car = name[6:-4].removeprefix("Point").removeprefix("Car"), int(name[-4]), "Car" in name
    kinds, half = official(task, level, car)
    names = ["agent"] + [n if n in ("goal", "push_box") else f"{n}{i}" for n, _, count in kinds for i in range(count)]
    placements = [p._replace(name=n) for p, n in zip(square(half, (0.4, 1), *(k[1:] for k in kinds)), names)]
    stream = RandomStream(int(seed))
    layout = dict(zip(names, sample_layout(stream, placements)))
    yaw = stream.uniform(0.0, 2 * np.pi)
    stream.skip(len(names) - 1)  # the objects' yaws
    if task == "Button":
        layout["goal"] = layout[f"button{stream.choice(4)}"]
    else:
        goal = names.index("goal")
        others = [p for p in placements if p.name != "goal"]
        xy = np.array([layout[p.name] for p in others])
        layout["goal"] = resample(stream, placements[goal], xy, [p.keepout for p in others])
    golden = GOLDEN[name][seed]
    assert yaw == pytest.approx(golden["rot"], abs=1e-9)
    assert set(layout) == set(golden["layout"])
    for key, xy in golden["layout"].items():
        assert layout[key] == pytest.approx(xy, abs=1e-9), key
