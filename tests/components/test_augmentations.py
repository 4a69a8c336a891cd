"""Pictures that are moved before an update."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import spaces
from jsafe.components.augmentations import Shift, shifted
from jsafe.spaces import Box, Tree
from jsafe.testing import random_batch
from jsafe.types import EnvSpec

KEY = jax.random.key(3)
TREE = Tree({"picture": Box((7, 9, 2), 0, 255, "uint8"), "speed": Box(3)})


def places(picture, pad):
    """Every picture that padding with the edge and cropping can make, by numpy."""
    height, width, _ = picture.shape
    wide = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    corners = [(i, j) for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    return {corner: wide[corner[0] : corner[0] + height, corner[1] : corner[1] + width] for corner in corners}


def test_pictures_are_padded_with_their_edge_and_cropped():
    """Bytes stay bytes, all channels (frames of a stack) move together, every row by its own draw, all places occur."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, 20, 7, 9, 2), np.uint8)
    moved = np.asarray(shifted(KEY, pictures, 2))
    assert moved.dtype == np.uint8
    found = []
    for before, after in zip(pictures.reshape(-1, 7, 9, 2), moved.reshape(-1, 7, 9, 2)):
        (corner,) = [at for at, want in places(before, 2).items() if (want == after).all()]
        found.append(corner)
    counts = np.array([found.count(corner) for corner in places(pictures[0, 0], 2)])
    assert counts.min() > 0
    assert ((counts - 24) ** 2 / 24).sum() < 51.2  # chi-squared with 24 degrees of freedom, one in a thousand
    rolled = np.roll(pictures[0, 0], 1, axis=1)  # the negative control: what comes in is the edge, not the other side
    assert not any((want == rolled).all() for want in places(pictures[0, 0], 2).values())


def test_only_the_pictures_of_a_tree_move():
    obs = spaces.sample(TREE, np.random.default_rng(0), (3, 4))
    moved = Shift(pad=3).build(EnvSpec(TREE, 2)).apply(KEY, obs)
    assert (moved["speed"] == obs["speed"]).all()
    assert moved["picture"].dtype == jnp.uint8
    assert (moved["picture"] != obs["picture"]).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda: Shift(pad=7).build(EnvSpec(TREE, 2)),
            "augmentation.pad must be below the side of a picture, 7, got 7",
        ),
        (lambda: Shift(pad=0), "pad must be at least 1, got 0"),
        (lambda: jsafe.make("sac_lag", EnvSpec(5, 2), augmentation="shift"), "there is none in Box"),
        (lambda: jsafe.make("sac_lag", EnvSpec(TREE, 2), augmentation="shfit"), "did you mean 'shift'"),
    ],
)
def test_what_cannot_be_moved_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        given()


def test_an_update_sees_moved_rows():
    """The gradient of the encoder is that of a batch moved by hand; without the option it is another one."""
    options = {"hidden": (2,), "sequences": 4, "num_envs": 4, "updates": 1, "frame_stack": 2, "rule": "none"}
    options |= {"encoder.channels": (1,), "encoder.kernels": (3,), "encoder.strides": (2,), "encoder.width": 2}
    spec = EnvSpec(TREE, 2, horizon=16)
    plain = jsafe.make("td3_lag", spec, **options, cost_replicas=0)
    moving = jsafe.make("td3_lag", spec, **options, cost_replicas=0, augmentation="shift", pad=2)
    state, batch, key = plain.init(KEY), random_batch(plain, KEY), jax.random.key(1)
    picture = shifted(jax.random.fold_in(jax.random.fold_in(key, 3), 0), batch.steps.obs["picture"], 2)
    by_hand = batch._replace(steps=batch.steps._replace(obs=batch.steps.obs | {"picture": picture}))
    update, moving_update = jax.jit(plain.update), jax.jit(moving.update)
    states = moving_update(state, batch, key)[0], update(state, by_hand, key)[0], update(state, batch, key)[0]
    one, two, unmoved = (jax.flatten_util.ravel_pytree(each.opt_state["encoder"].mu)[0] for each in states)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-8)
    assert jnp.abs(one - unmoved).max() > 1e-6
