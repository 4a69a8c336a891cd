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


def test_the_average_of_picture_and_vector_is_the_papers_by_hand():
    """DQN's layers without padding on a picture from 0 to 1, a linear layer of 256 for each part, tanh of the mean."""
    tree = Tree({"picture": Box((36, 40, 1), 0, 255, "uint8"), "car": Box(11)})
    made = encoders.as_encoder("average", EnvSpec(tree, 3))
    params = made.init(jax.random.key(0))
    obs = spaces.sample(tree, np.random.default_rng(0), (2,))
    assert {name: sorted(inner) for name, inner in params.items()} == {
        "car": ["Dense_0"],
        "picture": ["Conv_0", "Conv_1", "Conv_2", "Dense_0"],
    }
    h = obs["picture"].astype(np.float64) / 255
    for i, stride in enumerate((4, 2, 1)):
        layer = {name: np.asarray(x, np.float64) for name, x in params["picture"][f"Conv_{i}"].items()}
        size = layer["kernel"].shape[0]
        windows = np.lib.stride_tricks.sliding_window_view(h, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        h = np.maximum(np.einsum("bijcuv,uvcd->bijd", windows, layer["kernel"]) + layer["bias"], 0)
    assert h.shape == (2, 1, 1, 64)
    parts = [(h.reshape(2, -1), params["picture"]["Dense_0"]), (obs["car"], params["car"]["Dense_0"])]
    want = np.tanh(sum(x @ np.asarray(layer["kernel"]) + layer["bias"] for x, layer in parts) / 2)
    assert made.width == 256
    np.testing.assert_allclose(made.apply(params, obs), want, atol=1e-5)
    kernel = np.asarray(params["picture"]["Conv_1"]["kernel"]) * np.sqrt(4 * 4 * 32 / 2)
    assert kernel.std() == pytest.approx(1, abs=0.02)  # scaled for relu
    assert abs(kernel).max() < 2.3  # and cut
    assert (params["picture"]["Conv_1"]["bias"] == 0).all()
