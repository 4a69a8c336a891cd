"""Encoders: what goes in, what comes out, whose module it is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import spaces
from jsafe.nets import encoders, recurrent
from jsafe.spaces import Box, Discrete, Tree
from jsafe.types import EnvSpec

TREE = Tree({"picture": Box((24, 24, 1), 0, 255, "uint8"), "speed": Box(3), "gear": Discrete((4, 2))})


def test_flat_vectors_pass_as_they_are():
    made = encoders.Auto().build(EnvSpec(5, 2))
    obs = jnp.arange(10.0).reshape(2, 5)
    assert made.init(jax.random.key(0)) == ()
    assert made.width == 5
    assert made.apply((), obs) is obs


def test_a_tree_is_encoded_leaf_by_leaf_with_any_leading_axes():
    spec = EnvSpec(TREE, 2)
    made = encoders.Auto().build(spec)
    params = made.init(jax.random.key(0))
    obs = spaces.sample(TREE, np.random.default_rng(0), (3, 4))
    out = made.apply(params, obs)
    assert out.shape == (3, 4, made.width) == (3, 4, 6 + 50 + 3)
    np.testing.assert_array_equal(out[..., -3:], obs["speed"])  # gear, picture, speed
    np.testing.assert_array_equal(out[1, 2, :4], np.eye(4)[obs["gear"][1, 2, 0]])
    alone = made.apply(params, jax.tree.map(lambda x: x[1, 2], obs))
    np.testing.assert_allclose(alone, out[1, 2], atol=1e-5)


def test_bytes_are_scaled_by_their_bounds():
    space = Box((1, 1, 2), 0, 255, "uint8")
    out = encoders.Flat(space).apply({}, np.array([[[[0, 255]]], [[[51, 204]]]], np.uint8))
    np.testing.assert_allclose(out, [[-1, 1], [-0.6, 0.6]], atol=1e-6)


def test_a_flax_module_of_ones_own_is_an_encoder():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, obs):
            return nn.Dense(7)(obs["picture"].astype(jnp.float32).mean(axis=(1, 2)))

    made = encoders.as_encoder(Mean(), EnvSpec(TREE, 2))
    params = made.init(jax.random.key(0))
    obs = spaces.sample(TREE, np.random.default_rng(0), (5,))
    assert made.width == 7
    assert made.apply(params, obs).shape == (5, 7)
    assert params["Dense_0"]["kernel"].shape == (1, 7)


class Scalar(nn.Module):
    def __call__(self, obs):
        return obs.sum()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Scalar(), r"must give \[B, H\]"),
        (3, "must be a flax module or a part"),
        ("atuo", "did you mean 'auto'"),
    ],
)
def test_what_is_no_encoder_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        encoders.as_encoder(given, EnvSpec(Box((2, 2)), 2))


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"pictures of \(24, 24, 1\) are too small for kernels \(8, 4, 3\)"):
        encoders.Auto(*encoders.DQN).build(EnvSpec(TREE, 2))


def test_a_masked_scan_equals_separate_sequences():
    cell = recurrent.gru(3, 4)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (5, 1, 3))
    started = jnp.array([[False], [False], [True], [False], [False]])
    hidden = jnp.full((1, 4), 0.3)
    states, last = recurrent.scan(cell, params, hidden, xs, started)
    for start, stop, h in ((0, 2, hidden), (2, 5, jnp.zeros((1, 4)))):
        for t in range(start, stop):
            h = cell.step(params, h, xs[t])
            np.testing.assert_allclose(states[t], h, atol=1e-6)
    np.testing.assert_array_equal(last, states[-1])


def test_the_gradient_stops_at_the_start_of_an_episode():
    cell = recurrent.gru(3, 4)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (4, 1, 3))
    started = jnp.array([[False], [False], [True], [False]])

    def last(xs):
        return recurrent.scan(cell, params, jnp.zeros((1, 4)), xs, started)[1].sum()

    grads = np.abs(jax.grad(last)(xs)).sum(axis=(1, 2))
    assert (grads[:2] == 0).all()
    assert (grads[2:] > 0).all()
