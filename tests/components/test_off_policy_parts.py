import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jsafe
from jsafe.components import critics as critic_parts
from jsafe.components import memories
from jsafe.components.critics import mean_variance, polyak, quantile, upper_bound
from jsafe.components.reward_normalizer import MovingNormalizer
from jsafe.components.temperature import Learned, temperature_loss
from jsafe.nets.perceptron import mlp
from jsafe.ops.td_lambda import td_lambda
from jsafe.spaces import Box

SPEC = jsafe.EnvSpec(4, 2)


def columns(x):
    """The same numbers as reward and as cost."""
    return jnp.repeat(jnp.asarray(x, jnp.float32)[..., None], 2, axis=-1)


def test_normalizer_rates_and_clip():
    """First rate 1, second 8/9; update before use; zero mean, unit variance, clip at 10."""
    norm = MovingNormalizer().build(SPEC)
    first, second = columns([1.0, 3.0]), columns([0.0, 10.0])
    state = norm.update(norm.init(), first)
    np.testing.assert_allclose([state.mean[0], state.second[0]], [2.0, 5.0])
    np.testing.assert_allclose(norm.apply(state, first), columns([-1.0, 1.0]), rtol=1e-5)
    state = norm.update(state, second)
    mean, square = 2 + 8 / 9 * (5 - 2), 5 + 8 / 9 * (50 - 5)
    np.testing.assert_allclose([state.mean[1], state.second[1]], [mean, square], rtol=1e-6)
    np.testing.assert_allclose(norm.apply(state, columns([1e6])), columns([10.0]))
    costs_alone = MovingNormalizer(reward=False).build(SPEC)
    np.testing.assert_allclose(costs_alone.apply(state, columns([1e6])), [[1e6, 10.0]])


def test_rare_violations_are_clipped_as_the_paper_says():
    norm = MovingNormalizer().build(SPEC)
    costs = columns(jnp.zeros(20_000).at[:10].set(1.0))  # p = 5e-4
    state = norm.update(norm.init(), costs)
    np.testing.assert_allclose(norm.apply(state, columns([1.0, 0.0]))[:, 1], [10, -0.0224], rtol=1e-2)


def test_target_entropy_floor_and_temperature_gradient():
    heat = Learned(init=0.1, target=np.log(2) + np.log(0.1), floor=1e-3).build(SPEC)
    np.testing.assert_allclose(heat.loss(jnp.float32(1.0), jnp.zeros(3)), 3.2189, atol=1e-4)  # H = 0
    np.testing.assert_allclose(jnp.exp(heat.project(heat.init())), 0.1, rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(heat.project(jnp.float32(-20.0))), 1e-3, rtol=1e-6)
    # H - H_target = 1 - (-3) = 4, whatever log_alpha is.
    np.testing.assert_allclose(jax.grad(temperature_loss)(0.7, jnp.float32(-1.0), -3.0), 4.0)
    assert jax.grad(temperature_loss, argnums=1)(0.7, jnp.float32(-1.0), -3.0) == 0.0


def test_critics_are_separate_networks_with_the_papers_initialisation():
    part = critic_parts.Ensemble(hidden=(64, 64), activation="tanh", cost_replicas=3)
    critics = part.build(jsafe.EnvSpec(50, 2, num_costs=3))
    params = critics.init(jax.random.key(0))
    kernel = params["cost"]["kernel_0"]
    assert kernel.shape == (3, 3, 52, 64)
    assert params["reward"]["kernel_0"].shape == (2, 1, 52, 64)
    assert len(np.unique(np.asarray(kernel[..., 0, 0]))) == 9
    limit = 1 / np.sqrt(52)
    assert 0.98 * limit < jnp.abs(kernel).max() <= limit
    assert 0.0027 < jnp.abs(params["cost"]["dense_2"]["kernel"]).max() <= 0.003
    assert all(not params["cost"][name].any() for name in ["bias_0"])
    assert all(not params["cost"][name]["bias"].any() for name in ("dense_1", "dense_2"))


@pytest.mark.parametrize(
    "part",
    [
        critic_parts.Ensemble(),
        critic_parts.Ensemble(cost_replicas=2),
        critic_parts.UpperBound(),
        critic_parts.MeanVariance(),
        critic_parts.Quantile(),
    ],
)
def test_reductions_are_over_replicas_and_actions_may_lie_in_front_of_the_rows(part):
    spec = jsafe.EnvSpec(4, 2, num_costs=2)
    critics = part.build(spec)
    params = jax.tree.map(lambda x: x + 0.3, critics.init(jax.random.key(0)))
    obs, action = jax.random.normal(jax.random.key(1), (5, 4)), jax.random.uniform(jax.random.key(2), (7, 5, 2))
    h = critics.embed(params, obs)
    many = critics.values(params, h, action)
    assert many.reward.shape == (7, 5)
    assert many.cost.shape == (7, 5, 2)
    one = critics.values(params, h, action[3])
    np.testing.assert_allclose(many.reward[3], one.reward, rtol=2e-5)
    np.testing.assert_allclose(many.cost[3], one.cost, rtol=2e-5)
    np.testing.assert_array_equal(critics.reward(params, h, action[3]), one.reward)
    boot = critics.bootstrap(params, h, action[3], action[4])
    assert boot["reward"].shape == (5, 1, 1)
    assert boot["cost"].shape[:2] == (5, 2)
    np.testing.assert_array_equal(boot["cost"], critics.bootstrap(params, h, action[0], action[4])["cost"])


def test_the_upper_bound_is_mean_and_sample_deviation():
    q = np.random.default_rng(0).standard_normal((4, 6))
    np.testing.assert_allclose(
        upper_bound.upper_bound(jnp.array(q), 0.5), q.mean(0) + 0.5 * q.std(0, ddof=1), rtol=1e-5
    )
    np.testing.assert_allclose(upper_bound.upper_bound(jnp.array(q[:1]), 0.5), q[0], rtol=1e-6)
    slope = jax.grad(lambda q: upper_bound.upper_bound(q, 0.5).sum())(jnp.ones((3, 2)))
    assert np.isfinite(slope).all()  # critics that agree


@pytest.mark.parametrize("risk", [0.1, 0.5, 0.93, 1.0])
def test_tails_of_a_normal_and_of_quantiles(risk):
    """CVaR by integrating the quantile function over the worst share."""
    levels = 1 - risk + risk * (np.arange(200_000) + 0.5) / 200_000
    np.testing.assert_allclose(mean_variance.normal_tail(risk), stats.norm.ppf(levels).mean(), rtol=1e-3, atol=1e-4)
    weights = quantile.tail_weights(20, risk)
    steps = np.sort(np.random.default_rng(0).exponential(size=20))
    np.testing.assert_allclose(weights @ steps, steps[(levels * 20).astype(int)].mean(), rtol=1e-3)


def test_quantile_loss_finds_the_quantiles():
    """Its minimum over N numbers are the N quantiles; its value by hand: gaps of 2, Huber 1.5, levels 1/4 and 3/4."""
    value = quantile.quantile_loss(jnp.array([0.0, 4.0]), jnp.array([2.0]))
    np.testing.assert_allclose(value, 0.25 * 1.5 + 0.25 * 1.5)
    samples = jnp.array(np.random.default_rng(0).exponential(size=4000), jnp.float32)
    step = jax.jit(lambda q, r: q - r * jax.grad(quantile.quantile_loss)(q, samples, 1e-3))
    q = jnp.zeros(4)
    for rate in (1.0, 0.1, 0.01):
        for _ in range(200):
            q = step(q, rate)
    np.testing.assert_allclose(q, np.quantile(samples, [1 / 8, 3 / 8, 5 / 8, 7 / 8]), rtol=0.03)


def test_mean_and_variance_of_a_chain():
    """Cost 0 or 2 at random, gamma 0.5, one state for ever: mean 2, variance 1 / (1 - 0.25), at the loss's minimum."""
    spec, gamma = jsafe.EnvSpec(1, 1), 0.5
    critics = critic_parts.MeanVariance(hidden=(4,)).build(spec)
    params = critics.init(jax.random.key(0))
    cost = np.float32(np.random.default_rng(0).choice([0.0, 2.0], (1, 256, 1)))
    rows, none = jnp.zeros((256, 1)), jnp.zeros((1, 256), bool)

    def returns(signal, following, *, power=1, lam=None):
        return td_lambda(signal, none, following[..., 0], jnp.ones((1, 256)), gamma**power, 0.0)[..., None]

    def loss(params):
        h = critics.embed(params, rows)
        following = critics.bootstrap(params, h, rows, rows)
        following = {name: x[None] for name, x in jax.lax.stop_gradient(following).items()}
        signals = {"reward": jnp.zeros((1, 256, 1)), "cost": cost}
        return critics.loss(params, h, rows, signals, following, returns)["cost"].mean()

    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)))
    for _ in range(400):
        params = step(params)
    mean, variance = critics.bootstrap(params, critics.embed(params, rows), rows, rows)["cost"][0, 0]
    np.testing.assert_allclose(mean, cost.mean() / (1 - gamma), rtol=0.01)
    np.testing.assert_allclose(variance, cost.var() / (1 - gamma**2), rtol=0.02)


def test_stacked_frames_fill_at_the_start_of_an_episode():
    memory = memories.frames(Box(2), 3)
    state = memory.init(2)
    rows = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    state, stacked = memories.push(state, rows[0])
    np.testing.assert_array_equal(stacked[0], [0, 1, 0, 1, 0, 1])
    state, stacked = memories.push(state, rows[1])
    np.testing.assert_array_equal(stacked[1], [2, 3, 2, 3, 6, 7])
    state = memory.reset(state, np.array([True, False]))
    state, stacked = memories.push(state, rows[2])
    np.testing.assert_array_equal(stacked, [[8, 9, 8, 9, 8, 9], [2, 3, 6, 7, 10, 11]])
    state, stacked = memories.push(state, rows[3])
    np.testing.assert_array_equal(stacked[0], [8, 9, 8, 9, 12, 13])


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
