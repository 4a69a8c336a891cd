"""The on-policy networks: layout, initialisation, independence of the stacked value functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.nets.heads import gaussian_actor, value_functions


def test_actor():
    actor = gaussian_actor(4, 2, hidden=(8, 6), log_std=-0.5)
    params = actor.init(jax.random.key(0))
    obs = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    dist = actor.apply(params, obs)
    h = obs
    for i, layer in enumerate(params["layers"]):
        h = h @ np.asarray(layer["w"]) + np.asarray(layer["b"])
        h = np.tanh(h) if i < 2 else h
    np.testing.assert_allclose(dist.mean, h, atol=1e-5)
    assert dist.log_std.tolist() == [-0.5, -0.5]


def test_initialisation_is_torchs_default():
    params = gaussian_actor(100, 2, hidden=(64,)).init(jax.random.key(1))
    first = params["layers"][0]
    assert np.abs(first["w"]).max() <= 0.1
    assert np.std(first["w"]) == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert np.abs(first["b"]).max() <= 0.1
    assert np.abs(first["b"]).max() > 0.05


def test_value_functions_are_separate_networks():
    critics = value_functions(4, 3, hidden=(8,), act="relu")
    params = critics.init(jax.random.key(2))
    obs = jax.random.normal(jax.random.key(3), (7, 4))
    values = critics.apply(params, obs)
    assert values.shape == (7, 3)
    for k in range(3):
        first, last = jax.tree.map(lambda x, k=k: x[k], params)
        alone = jax.nn.relu(obs @ first["w"] + first["b"]) @ last["w"] + last["b"]
        np.testing.assert_allclose(values[:, k], alone[:, 0], atol=1e-5)
    assert len(set(values[0].tolist())) == 3
    grads = jax.grad(lambda p: critics.apply(p, obs)[:, 1].sum())(params)
    assert jnp.abs(grads[0]["w"][0]).max() == 0 < jnp.abs(grads[0]["w"][1]).max()


def test_unknown_activation():
    with pytest.raises(ValueError, match="tanh"):
        gaussian_actor(4, 2, act="tan")
