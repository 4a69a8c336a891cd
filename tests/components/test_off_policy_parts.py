import jax
import jax.numpy as jnp
import numpy as np

from jsafe.components.critics import polyak, q_critics
from jsafe.components.reward_normalizer import ema_reward_normalizer
from jsafe.components.temperature import default_target_entropy, temperature_loss
from jsafe.nets.perceptron import mlp


def test_normalizer_rates_and_clip():
    """First rate 1, second 8/9; update before use; zero mean, unit variance, clip at 10."""
    norm = ema_reward_normalizer(1)
    first, second = jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [10.0]])
    state = norm.update(norm.init(), first)
    np.testing.assert_allclose([state.mean[0], state.second[0]], [2.0, 5.0])
    np.testing.assert_allclose(norm.apply(state, first).ravel(), [-1.0, 1.0], rtol=1e-5)
    state = norm.update(state, second)
    mean, square = 2 + 8 / 9 * (5 - 2), 5 + 8 / 9 * (50 - 5)
    np.testing.assert_allclose([state.mean[0], state.second[0]], [mean, square], rtol=1e-6)
    np.testing.assert_allclose(norm.apply(state, jnp.array([1e6])), [10.0])


def test_rare_violations_are_clipped_as_the_paper_says():
    norm = ema_reward_normalizer(1)
    rewards = jnp.zeros((20_000, 1)).at[:10].set(-1.0)  # p = 5e-4
    state = norm.update(norm.init(), rewards)
    np.testing.assert_allclose(norm.apply(state, jnp.array([-1.0, 0.0])[:, None]).ravel(), [-10, 0.0224], rtol=1e-2)


def test_target_entropy_and_temperature_gradient():
    np.testing.assert_allclose(default_target_entropy(2), -3.2189, atol=1e-4)
    # H - H_target = 1 - (-3) = 4, whatever log_alpha is.
    np.testing.assert_allclose(jax.grad(temperature_loss)(0.7, jnp.float32(-1.0), -3.0), 4.0)
    assert jax.grad(temperature_loss, argnums=1)(0.7, jnp.float32(-1.0), -3.0) == 0.0


def test_critics_are_separate_networks_with_the_papers_initialisation():
    critics = q_critics(50, 2, 2, replicas=2, hidden=(64, 64))
    params = critics.init(jax.random.key(0))
    kernel = params["kernel_0"]
    assert kernel.shape == (2, 2, 52, 64)
    assert len(np.unique(np.asarray(kernel[..., 0, 0]))) == 4
    limit = 1 / np.sqrt(52)
    assert 0.98 * limit < jnp.abs(kernel).max() <= limit
    assert 0.0028 < jnp.abs(params["dense_2"]["kernel"]).max() <= 0.003
    assert all(not x.any() for x in (params["bias_0"], params["dense_1"]["bias"], params["dense_2"]["bias"]))

    obs, action = jax.random.normal(jax.random.key(1), (5, 50)), jax.random.uniform(jax.random.key(2), (5, 2))
    h = critics.embed(params, obs)
    values = critics.values(params, h, action)
    assert values.shape == (2, 5, 2)
    only = critics.values(critics.subset(params, [1]), critics.subset(h, [1]), action)
    np.testing.assert_array_equal(only[..., 0], values[..., 1])


def test_split_first_layer_equals_concatenation():
    net = mlp(4, 3, (8,), late_dim=2)
    params = net.init(jax.random.key(0))
    x, late = jax.random.normal(jax.random.key(1), (6, 4)), jax.random.normal(jax.random.key(2), (6, 2))
    hidden = jnp.tanh(jnp.concatenate([x, late], -1) @ params["kernel_0"] + params["bias_0"])
    wanted = hidden @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    np.testing.assert_allclose(net.apply(params, x, late), wanted, atol=1e-6)
    np.testing.assert_allclose(net.tail(params, net.embed(params, x), late), wanted, atol=1e-6)


def test_polyak():
    np.testing.assert_allclose(polyak({"w": jnp.array(1.0)}, {"w": jnp.array(3.0)}, 0.25)["w"], 1.5)
