"""The losses of DDPG, TD3 and the textbook SAC under a multiplier a second time, in plain numpy: values by hand-written
forward passes in float64, gradients by finite differences. Only the random draws are taken from the library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import assert_close, average, critic_values, first_gradients, forward, lambda_targets, numeric_gradient

import jsafe
from jsafe.testing import random_batch

SPEC = jsafe.EnvSpec(3, 2, num_costs=2, horizon=20)
SIZES = {
    "hidden": (5, 4),
    "activation": "tanh",
    "sequences": 8,
    "num_envs": 4,
    "updates": 1,
    "initial_multiplier": 0.5,
    "rule_warmup_steps": 0,
    "max_grad_norm": None,
    "learning_rate": 0.01,
    "actor_learning_rate": 0.003,
}
GAMMA = 0.99
WEIGHTS = np.array([1.0, 0.5, 0.5]) / 2  # multipliers of 0.5, normalised by 1 + their sum


@pytest.fixture(autouse=True)
def quick_compiles():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def start(learner):
    """Random parameters away from zero, and targets of their own."""
    state, rng = jax.jit(learner.init)(jax.random.key(0)), np.random.default_rng(1)
    params, target, target_actor = jax.tree.map(
        lambda x: np.float32(x + 0.4 * rng.standard_normal(x.shape)), (state.params, state.target, state.target_actor)
    )
    params["log_alpha"] = jax.tree.map(lambda x: x - np.float32(1), params["log_alpha"])
    return state._replace(params=params, target=target, target_actor=target_actor)


def q_values(critic, obs, action):
    """`[replicas, R, K]` with NaN where one of them has fewer critics than another."""
    if "reward" not in critic:
        return critic_values(critic, obs, action)
    parts = [critic_values(critic[name], obs, action) for name in ("reward", "cost")]
    most = max(map(len, parts))
    return np.concatenate([np.pad(x, ((0, most - len(x)), (0, 0), (0, 0)), constant_values=np.nan) for x in parts], -1)


class Gaussian:
    """A tanh-Gaussian policy with given noise."""

    def __init__(self, noise):
        self.noise = noise

    def __call__(self, net, obs):
        mean, log_std = np.split(forward(net, obs), 2, -1)
        log_std = np.clip(log_std, -20, 2)
        raw = mean + np.exp(log_std) * self.noise
        density = -0.5 * self.noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        return np.tanh(raw), (density - np.log(1 - np.tanh(raw) ** 2)).sum(-1)


CASES = {
    "ddpg": ("ddpg_lag", {}),
    "ddpg, as released": ("ddpg_lag", {"compat": "omnisafe"}),
    "td3, three rows, normalised": (
        "td3_lag",
        {"sequence_length": 3, "td_lambda": 0.5, "normalize_cost": True, "normalize_reward": True},
    ),
    "td3, as released": ("td3_lag", {"compat": "omnisafe"}),
    "sac": ("sac_lag", {"preset": "textbook", "cost_replicas": 3}),
    "sac, as released": ("sac_lag", {"preset": "omnisafe", "normalize_cost": False, "policy_delay": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    name, options = CASES[case]
    learner = jsafe.make(name, SPEC, **{**SIZES, "policy_delay": 1, **options})
    before = start(learner)
    batch = random_batch(learner, jax.random.key(2))
    key = jax.random.key(3)
    after, metrics = jax.jit(learner.update)(before, batch, key)
    grads = first_gradients(after)
    params, target, slow = jax.tree.map(
        lambda x: np.asarray(x, np.float64), (before.params, before.target, before.target_actor)
    )
    released = learner.config.compat == "omnisafe"
    length, width = batch.last.shape
    keep = ~batch.last[:-1]
    raw = np.concatenate([batch.reward[..., None], -batch.cost], -1).astype(np.float64)
    flat = raw.reshape(-1, 3)
    reward = np.clip((raw - flat.mean(0)) / flat.std(0), -10, 10) if learner.config.normalize_reward else raw
    obs, replayed = (np.asarray(x, np.float64) for x in (batch.obs, batch.action))
    here, there = obs[:-1].reshape(-1, 3), obs[1:].reshape(-1, 3)
    actor_key, next_key = jax.random.split(key)

    def noise(k, count=(length - 1) * width):
        return np.asarray(jax.random.normal(k, (count, 2)), np.float64)

    entropy = 0.0
    if name == "sac_lag":
        policy = Gaussian(noise(actor_key))
        action, log_prob = Gaussian(noise(next_key))(params["actor"], there)
        best = np.tanh(np.split(forward(params["actor"], there), 2, -1)[0])
        alpha = np.exp(params["log_alpha"]["actor"])
        entropy = -alpha * log_prob.reshape(length - 1, width)
        alpha = alpha * (WEIGHTS[0] if released else 1)
    else:
        alpha, slow = 0.0, params["actor"] if released and name == "ddpg_lag" else slow

        def policy(net, obs):
            return np.tanh(forward(net, obs)), 0.0

        action = np.tanh(forward(slow, there))
        if name == "td3_lag":
            action = np.clip(action + np.clip(0.2 * noise(next_key), -0.5, 0.5), -1, 1)
        best = np.tanh(forward(params["actor"], there))

    value = np.nanmin(q_values(target, there, action), 0)
    if released:
        value[:, 1:] = np.nanmin(q_values(target, there, best), 0)[:, 1:]
    value = value.reshape(length - 1, width, 3)
    reward = reward.copy()
    reward[1:, :, 0] += GAMMA * batch.discount[1:] * entropy
    first = np.zeros_like(value[:1])  # cancels
    goal = lambda_targets(
        reward, batch.discount, np.concatenate([first, value]), batch.last, GAMMA, learner.config.td_lambda
    )

    def critic_loss(critic):
        values = q_values(critic, here, replayed[:-1].reshape(-1, 2)).reshape(-1, length - 1, width, 3)
        return average(np.nansum((goal - values) ** 2, 0).mean(-1), keep)

    def actor_loss(net):
        action, log_prob = policy(net, here)
        values = q_values(params["critic"], here, action)
        climbed = values[0] if name == "td3_lag" else np.nanmin(values, 0)
        return average(alpha * log_prob - climbed @ WEIGHTS, keep)

    assert_close(grads["critic"], numeric_gradient(critic_loss, params["critic"]))
    assert_close(grads["actor"], numeric_gradient(actor_loss, params["actor"]))
    if name == "sac_lag":
        rows = -policy(params["actor"], here)[1] - 2 * -1.0
        learned = learner.config.temperature == "learned"
        np.testing.assert_allclose(grads["log_alpha"]["actor"], average(rows, keep) if learned else 0, rtol=1e-3)
    np.testing.assert_allclose(metrics["rule/multiplier"], 1.0, rtol=1e-6)

    # Separate rates, and targets that follow by tau.
    for part, rate in (("critic", 0.01), ("actor", 0.003)):
        for old, new in zip(jax.tree.leaves(params[part]), jax.tree.leaves(after.params[part])):
            assert np.abs(new - old).max() == pytest.approx(rate, rel=1e-3)
    tau = learner.config.tau
    pairs = [(target, after.params["critic"], after.target)]
    if before.target_actor != ():
        pairs.append((jax.tree.map(np.asarray, before.target_actor), after.params["actor"], after.target_actor))
    for old, online, new in (leaves for pair in pairs for leaves in zip(*map(jax.tree.leaves, pair))):
        np.testing.assert_allclose(new, (1 - tau) * old + tau * online, atol=1e-6)


def test_the_delay_holds_actor_temperature_and_targets_back():
    """With `policy_delay=2` the first update moves the critics alone; the second equals one without delay."""
    options = {**SIZES, "smoothing_noise": 0.0, "tau": 0.5}
    delayed, prompt = (jsafe.make("td3_lag", SPEC, **options, policy_delay=n) for n in (2, 1))
    state = start(delayed)
    batch = random_batch(delayed, jax.random.key(2))
    key = jax.random.key(3)
    update = jax.jit(delayed.update)
    first, metrics = update(state, batch, key)
    direct, _ = jax.jit(prompt.update)(state, batch, key)
    assert_equal(first.params["actor"], state.params["actor"])
    assert_equal((first.target, first.target_actor), (state.target, state.target_actor))
    assert float(metrics["loss/actor"]) == 0
    assert_near(first.params["critic"], direct.params["critic"])
    assert int(first.opt_state.policy.count) == 0

    second, metrics = update(first, batch, key)
    direct, wanted = jax.jit(prompt.update)(first, batch, key)
    assert_near(second.params, direct.params)
    assert_near((second.target, second.target_actor), (direct.target, direct.target_actor))
    assert float(metrics["loss/actor"]) == pytest.approx(float(wanted["loss/actor"]), rel=1e-5)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_near(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


def test_the_norm_of_critics_and_actor_is_clipped_apart():
    free, bound = (jsafe.make("ddpg_lag", SPEC, **{**SIZES, "max_grad_norm": norm}) for norm in (None, 0.05))
    state = start(free)
    batch = random_batch(free, jax.random.key(2))
    grads = [first_gradients(jax.jit(each.update)(state, batch, jax.random.key(3))[0]) for each in (free, bound)]
    for part in ("critic", "actor"):
        norms = [np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(each[part]))) for each in grads]
        assert norms[0] > 0.05
        assert norms[1] == pytest.approx(0.05, rel=1e-4)
        assert_close(
            jax.tree.map(lambda g, n=norms[1]: g / n, grads[1][part]),
            jax.tree.map(lambda g, n=norms[0]: g / n, grads[0][part]),
        )


def test_observations_are_normalised_by_what_was_replayed():
    learner = jsafe.make("sac_lag", SPEC, preset="textbook", **SIZES, normalize_obs=True)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(2))
    shifted = batch._replace(obs=batch.obs * np.float32([1, 10, 0.2]) + np.float32([3, -5, 0]))
    update = jax.jit(learner.update)
    after, _ = update(state, shifted, jax.random.key(3))
    rows = shifted.obs.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(after.obs_stats.mean, rows.mean(0), rtol=1e-4)
    scaled = np.clip((rows - rows.mean(0)) / rows.std(0, ddof=1), -5, 5).reshape(shifted.obs.shape)
    plain = jsafe.make("sac_lag", SPEC, preset="textbook", **SIZES)
    direct, _ = jax.jit(plain.update)(
        state._replace(obs_stats=()), batch._replace(obs=np.float32(scaled)), jax.random.key(3)
    )
    assert_near(after.params, direct.params)
    acted = learner.act(learner.policy(after), shifted.obs[0], jax.random.key(4), True).action
    wanted = plain.act(plain.policy(direct), jnp.float32(scaled[0]), jax.random.key(4), True).action
    np.testing.assert_allclose(acted, wanted, atol=1e-5)
    waiting, _ = update(state, shifted._replace(learn=np.bool_(False)), jax.random.key(3))
    assert float(waiting.obs_stats.count) == 0
