"""RandomStream against numpy's own RandomState."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsafe.envs.safety_gym.rng import RandomStream

OPERATIONS = st.one_of(
    st.tuples(st.just("random"), st.just(0)),
    st.tuples(st.just("uniform"), st.integers(0, 5)),
    st.tuples(st.just("choice"), st.integers(1, 40)),
    st.tuples(st.just("skip"), st.integers(0, 3000)),
    st.tuples(st.just("peek"), st.integers(0, 1500)),
    st.tuples(st.just("state"), st.just(0)),
)


def same_state(stream, reference):
    _, key, pos, *_ = reference.get_state()
    state = stream.state()
    assert np.array_equal(state["key"], key)
    assert state["pos"] == pos


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), operations=st.lists(OPERATIONS, max_size=60))
def test_equals_random_state_draw_for_draw(seed, operations):
    stream, reference = RandomStream(seed), np.random.RandomState(seed)
    for operation, n in operations:
        if operation == "random":
            assert stream.random() == reference.random_sample()
        elif operation == "uniform":
            assert stream.uniform(-0.5 * n, n) == reference.uniform(-0.5 * n, n)
        elif operation == "choice":
            assert stream.choice(n) == reference.choice(n)
        elif operation == "skip":
            stream.skip(n)
            reference.random_sample(n)
        elif operation == "peek":
            ahead = np.random.RandomState()
            ahead.set_state(reference.get_state())
            assert np.array_equal(stream.peek_random(n), ahead.random_sample(n))
        else:
            same_state(stream, reference)
            other = RandomStream(0)
            other.set_state(stream.state())
            stream = other
    same_state(stream, reference)
    assert stream.random() == reference.random_sample()


def test_frame_skip_draw_is_one_double():
    stream, reference = RandomStream(7), np.random.RandomState(7)
    for _ in range(100):
        assert reference.binomial(10, 1.0) == 10
        stream.skip()
    assert stream.random() == reference.random_sample()


def test_state_after_a_long_run_at_odd_parity():
    stream, reference = RandomStream(3), np.random.RandomState(3)
    assert stream.choice(4) == reference.choice(4)
    for _ in range(300):
        stream.peek_random(1001)
        stream.skip(999)
        reference.random_sample(999)
    same_state(stream, reference)
    assert stream.random() == reference.random_sample()


def test_state_is_a_copy():
    stream = RandomStream(5)
    state = stream.state()
    first = [stream.random() for _ in range(10)]
    state_again = {"key": state["key"].copy(), "pos": state["pos"]}
    stream.set_state(state)
    assert [stream.random() for _ in range(10)] == first
    assert np.array_equal(state["key"], state_again["key"])


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None, True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="seed"):
        RandomStream(seed)


def test_bad_state_and_choice():
    stream = RandomStream(0)
    with pytest.raises(ValueError, match="key"):
        stream.set_state({"key": np.zeros(3, np.uint32), "pos": 0})
    with pytest.raises(ValueError, match="pos"):
        stream.set_state({"key": np.zeros(624, np.uint32), "pos": 625})
    with pytest.raises(ValueError, match="n must"):
        stream.choice(0)
