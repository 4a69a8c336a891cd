"""The losses of DDPG, TD3 and the textbook SAC under a multiplier a second time, in plain numpy: values by hand-written
forward passes in float64, gradients by finite differences. Only the random draws are taken from the library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import assert_close, average, first_gradients, forward, group_values, lambda_targets, numeric_gradient

import jsafe
from jsafe.spaces import Discrete
from jsafe.testing import random_batch

SPEC = jsafe.EnvSpec(3, 2, num_costs=2, horizon=20)
SIZES = {
    "hidden": (5, 4),
    "activation": "tanh",
    "sequences": 8,
    "num_envs": 4,
    "updates": 1,
    "rule.init": 0.5,
    "rule_warmup": 0,
    "max_grad_norm": None,
    "critic_learning_rate": 0.01,
    "actor_learning_rate": 0.003,
}
GAMMA = 0.99
WEIGHTS = np.array([1.0, -0.5, -0.5]) / 2  # multipliers of 0.5, normalised by 1 + their sum


def start(learner):
    """Random parameters away from zero, and targets of their own."""
    state, rng = jax.jit(learner.init)(jax.random.key(0)), np.random.default_rng(1)
    params, target, target_actor = jax.tree.map(
        lambda x: np.float32(x + 0.4 * rng.standard_normal(x.shape)), (state.params, state.target, state.target_actor)
    )
    params["log_alpha"] = jax.tree.map(lambda x: x - np.float32(1), params["log_alpha"])
    return state._replace(params=params, target=target, target_actor=target_actor)


def pessimistic(critic, obs, action, cost_action=None):
    """`[R, 1 + M]`: the smaller reward, the largest costs."""
    reward = group_values(critic, obs, action)["reward"].min(0)
    cost = group_values(critic, obs, action if cost_action is None else cost_action)["cost"].max(0)
    return np.concatenate([reward, cost], -1)


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
    "ddpg, as released": ("ddpg_lag", {"compat": "omnisafe", "actor.slow": False}),
    "td3, three rows, normalised, two critics per cost": (
        "td3_lag",
        {"sequence_length": 3, "td_lambda": 0.5, "normalizer": "moving", "critics.cost_replicas": 2},
    ),
    "td3, as released": ("td3_lag", {"compat": "omnisafe"}),
    "sac": ("sac_lag", {"critics.cost_replicas": 3}),
    "sac, as released": ("sac_lag", {"preset": "omnisafe", "normalizer": "none", "policy_delay": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    name, options = CASES[case]
    learner = jsafe.make(name, SPEC, **{**SIZES, "policy_delay": 1, **options})
    before = start(learner)
    batch = random_batch(learner, jax.random.key(2))
    steps = batch.steps
    costly = np.random.default_rng(0).random(steps.cost.shape) < 0.4
    steps = steps._replace(cost=costly * steps.weight[..., None].astype(np.float32))
    batch, key = batch._replace(steps=steps), jax.random.key(3)
    after, metrics = jax.jit(learner.update)(before, batch, key)
    grads = first_gradients(after)
    params, target, slow = jax.tree.map(
        lambda x: np.asarray(x, np.float64), (before.params, before.target, before.target_actor)
    )
    released = learner.config.compat == "omnisafe"
    length, width = steps.weight.shape
    keep = steps.weight[:-1] > 0
    raw = np.concatenate([steps.reward[..., None], steps.cost], -1)[:-1].astype(np.float64)
    flat = raw.reshape(-1, 3)
    normal = learner.config.normalizer.kind == "moving"
    signals = np.clip((raw - flat.mean(0)) / flat.std(0), -10, 10) if normal else raw
    obs, replayed = (np.asarray(x, np.float64) for x in (steps.obs, steps.action))
    here, there = obs[:-1].reshape(-1, 3), obs[1:].reshape(-1, 3)
    actor_key, next_key = jax.random.split(key)

    def noise(k, count=(length - 1) * width):
        return np.asarray(jax.random.normal(k, (count, 2)), np.float64)

    entropy = np.zeros(keep.shape)
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

    following = pessimistic(target, there, action, best if released else action).reshape(signals.shape)
    signals[..., 0] += GAMMA * ~steps.terminated[:-1] * entropy
    goal = lambda_targets(signals, steps.terminated[:-1], following, steps.weight[1:], GAMMA, learner.config.td_lambda)

    def critic_loss(critic):
        values = group_values(critic, here, replayed[:-1].reshape(-1, 2))
        goals = {"reward": goal[..., :1], "cost": goal[..., 1:]}
        errors = [((goals[n] - values[n].reshape(-1, *goals[n].shape)) ** 2).sum((0, -1)) for n in goals]
        return average(sum(errors), keep)

    def actor_loss(net):
        action, log_prob = policy(net, here)
        values = pessimistic(params["critic"], here, action)
        if name == "td3_lag":  # the first critic of the reward, the largest of each cost
            values[:, :1] = group_values(params["critic"], here, action)["reward"][0]
        return average(alpha * log_prob - values @ WEIGHTS, keep)

    assert_close(grads["critic"], numeric_gradient(critic_loss, params["critic"]))
    assert_close(grads["actor"], numeric_gradient(actor_loss, params["actor"]))
    if name == "sac_lag":
        rows = -policy(params["actor"], here)[1] - 2 * -1.0
        learned = learner.config.temperature.kind == "learned"
        np.testing.assert_allclose(grads["log_alpha"]["actor"], average(rows, keep) if learned else 0, rtol=1e-3)
    for i in range(2):
        np.testing.assert_allclose(metrics[f"cost/{i}/multiplier"], 0.5, rtol=1e-6)

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
    options = {**SIZES, "actor.smoothing_noise": 0.0, "tau": 0.5}
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
    assert int(first.opt_state["actor"].count) == 0

    second, metrics = update(first, batch, key)
    direct, wanted = jax.jit(prompt.update)(first, batch, key)
    assert_near(second.params, direct.params)
    assert_near((second.target, second.target_actor), (direct.target, direct.target_actor))
    assert float(metrics["loss/actor"]) == pytest.approx(float(wanted["loss/actor"]), rel=1e-5)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_near(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


@pytest.mark.parametrize("cost_replicas", [1, 2])
def test_the_norms_of_actor_and_of_each_kind_of_critics_are_clipped_apart(cost_replicas):
    """One batch of networks with as many critics of the costs as of the reward, two with more of them."""
    options = {**SIZES, "critics.cost_replicas": cost_replicas}
    free, bound = (jsafe.make("ddpg_lag", SPEC, **{**options, "max_grad_norm": norm}) for norm in (None, 0.05))
    state = start(free)
    batch = random_batch(free, jax.random.key(2))
    grads = [first_gradients(jax.jit(each.update)(state, batch, jax.random.key(3))[0]) for each in (free, bound)]
    joined = "reward" not in grads[0]["critic"]
    reward, cost = (
        (lambda g, cut=cut: jax.tree.map(lambda x: x[cut], g["critic"])) if joined else (lambda g, n=n: g["critic"][n])
        for n, cut in (("reward", np.s_[:, :1]), ("cost", np.s_[:, 1:]))
    )
    for part in (reward, cost, lambda g: g["actor"]):
        norms = [np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(part(each)))) for each in grads]
        assert norms[0] > 0.05
        assert norms[1] == pytest.approx(0.05, rel=1e-4)
        assert_close(
            jax.tree.map(lambda g, n=norms[1]: g / n, part(grads[1])),
            jax.tree.map(lambda g, n=norms[0]: g / n, part(grads[0])),
        )


def test_observations_are_normalised_by_what_was_replayed():
    learner = jsafe.make("sac_lag", SPEC, **SIZES, normalize_obs=True)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(2))
    moved = np.float32(batch.steps.obs * np.float32([1, 10, 0.2]) + np.float32([3, -5, 0]))
    shifted = batch._replace(steps=batch.steps._replace(obs=moved))
    update = jax.jit(learner.update)
    after, _ = update(state, shifted, jax.random.key(3))
    rows = moved.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(after.obs_stats.mean, rows.mean(0), rtol=1e-4)
    scaled = np.clip((rows - rows.mean(0)) / rows.std(0, ddof=1), -5, 5).reshape(moved.shape)
    plain = jsafe.make("sac_lag", SPEC, **SIZES)
    direct, _ = jax.jit(plain.update)(
        state._replace(obs_stats=()),
        batch._replace(steps=batch.steps._replace(obs=np.float32(scaled))),
        jax.random.key(3),
    )
    assert_near(after.params, direct.params)
    acted = learner.act(learner.policy(after), (), moved[0], jax.random.key(4), True).action
    wanted = plain.act(plain.policy(direct), (), jnp.float32(scaled[0]), jax.random.key(4), True).action
    np.testing.assert_allclose(acted, wanted, atol=1e-5)
    waiting, _ = update(state, shifted._replace(ready=np.bool_(False)), jax.random.key(3))
    assert float(waiting.obs_stats.count) == 0


def test_expectations_over_choices():
    """Soft actor-critic over three choices: targets, losses and temperature as sums over the choices."""
    spec = jsafe.EnvSpec(3, Discrete(3), num_costs=2, horizon=20)
    learner = jsafe.make("sac_discrete_lag", spec, **SIZES, **{"temperature.target": 0.5})
    before = start(learner)
    batch = random_batch(learner, jax.random.key(2))
    after, _ = jax.jit(learner.update)(before, batch, jax.random.key(3))
    grads, steps = first_gradients(after), batch.steps
    params, target = jax.tree.map(lambda x: np.asarray(x, np.float64), (before.params, before.target))
    here, there = (np.asarray(x, np.float64) for x in steps.obs)
    keep, alpha, every = steps.weight[:-1] > 0, np.exp(params["log_alpha"]["actor"]), np.eye(3)

    def policy(net, obs):
        logits = forward(net, obs)
        pi = np.exp(logits - logits.max(-1, keepdims=True))
        pi = pi / pi.sum(-1, keepdims=True)
        return pi, np.log(pi)

    def values(critic, obs):
        """`[R, 3, 1 + M]` of all choices."""
        return np.stack([pessimistic(critic, obs, np.tile(choice, (len(obs), 1))) for choice in every], axis=1)

    pi, log_pi = policy(params["actor"], there)
    following = (pi[..., None] * values(target, there)).sum(1)
    following[:, 0] -= alpha * (pi * log_pi).sum(-1)
    signals = np.concatenate([steps.reward[0][:, None], steps.cost[0]], -1).astype(np.float64)
    goal = signals + GAMMA * ~steps.terminated[0][:, None] * following
    taken = every[steps.action[0]]

    def critic_loss(critic):
        seen = group_values(critic, here, taken)
        errors = (goal[:, :1] - seen["reward"]) ** 2, (goal[:, 1:] - seen["cost"]) ** 2
        return average(sum(e.sum((0, -1)) for e in errors), keep)

    def actor_loss(net):
        pi, log_pi = policy(net, here)
        return average((pi * (alpha * log_pi - values(params["critic"], here) @ WEIGHTS)).sum(-1), keep)

    assert_close(grads["critic"], numeric_gradient(critic_loss, params["critic"]))
    assert_close(grads["actor"], numeric_gradient(actor_loss, params["actor"]))
    pi, log_pi = policy(params["actor"], here)
    wanted = average(-(pi * log_pi).sum(-1) - 0.5 * np.log(3), keep)
    np.testing.assert_allclose(grads["log_alpha"]["actor"], wanted, rtol=1e-3)
