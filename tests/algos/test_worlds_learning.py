"""Choices, pictures and memory: toy tasks learnt to their known optimum, against a control that cannot."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.data import make_collector
from jsafe.envs.toy import ToyGrid, ToyImage, ToyRecall
from jsafe.nets.encoders import Auto
from jsafe.types import env_spec

EYES = Auto(channels=(8,), kernels=(6,), strides=(6,), width=16)


class Blind(nn.Module):
    """Sees nothing."""

    def __call__(self, obs):
        return jnp.zeros((obs.shape[0], 2))


def train(env, name, iterations, last, **options):
    """Reward and cost of an episode, and the multiplier, over the last iterations."""
    learner = jsafe.make(name, env_spec(env), num_envs=env.num_envs, **options)
    collector = make_collector(env, learner, seed=3)
    update = jax.jit(learner.update, donate_argnums=0)
    state, key, sums = learner.init(jax.random.key(0)), jax.random.key(1), np.zeros(4)
    for i in range(iterations):
        collect_key, update_key = jax.random.split(jax.random.fold_in(key, i))
        batch = collector.collect(learner.policy(state), collect_key)
        state, metrics = update(state, batch, update_key)
        if i >= iterations - last:
            done = batch.measured.episodes
            sums += [done.total_return, done.cost[0], float(metrics["cost/0/multiplier"]) / last, done.count]
    assert update._cache_size() == 1
    return sums[0] / sums[3], sums[1] / sums[3], sums[2]


ON_POLICY = {
    "hidden": (32,),
    "minibatch": 256,
    "passes": 8,
    "learning_rate": 1e-3,
    "critic_learning_rate": 3e-3,
    "rule.kp": 3.0,
    "rule.kd": 0.0,
}
GRID = {**ON_POLICY, "steps_per_epoch": 64 * 40, "rule.ki": 0.02, "rule.init": 0.4, "entropy_coef": 0.015}


def test_choices_under_a_limit_are_mixed_as_the_optimum_mixes_them():
    """Short way at cost 1 or long way at 0: a limit of one half is best used by taking each in half of the episodes."""
    env, limit = ToyGrid(64, horizon=20), 0.5
    best = env.optimum(limit)
    reward, cost, multiplier = train(env, "cppo_pid", 60, 20, cost_limit=limit, standardize="none", **GRID)
    assert cost == pytest.approx(limit, rel=0.15)
    assert reward == pytest.approx(env.optimum(cost).reward, abs=0.04)
    assert multiplier == pytest.approx(best.multiplier[0], rel=0.15)
    assert abs(reward - 0.6) > 0.1  # the short way alone: what is learnt without a limit
    assert abs(reward - 0.2) > 0.1  # the long way alone


RECALL = {**ON_POLICY, "steps_per_epoch": 128 * 8, "rule.ki": 0.05, "rule.init": 1.0, "entropy_coef": 0.05}
RECALL |= {"gamma": 1.0, "estimator.cost_gamma": 1.0, "standardize": "mix", "cost_limit": 0.3}


def test_a_recurrent_policy_remembers_the_cue():
    """The cue is shown three steps before it counts; a policy without a memory earns what `memoryless` says."""
    env = ToyRecall(128, delay=3)
    gru = {"policy": "gru", "policy.segment": 4, "units": 16}
    reward, cost, multiplier = train(env, "cppo_pid", 50, 20, **RECALL, **gru)
    assert cost == pytest.approx(0.3, rel=0.2)
    assert reward == pytest.approx(env.optimum(cost).reward, abs=0.03)
    assert multiplier == pytest.approx(1.0, rel=0.1)
    reward, cost, _ = train(env, "cppo_pid", 30, 10, **RECALL)
    assert reward < env.memoryless(cost).reward + 0.05
    assert reward < env.optimum(cost).reward - 0.3 or cost > 0.45


IMAGE = {**ON_POLICY, "steps_per_epoch": 32 * 20, "hidden": (16,), "minibatch": 160, "learning_rate": 2e-3}
IMAGE |= {"gamma": 0.0, "estimator.cost_gamma": 0.0, "standardize": "mix", "cost_limit": 2.5}
IMAGE |= {"rule.kp": 0.5, "rule.ki": 0.02, "rule.init": 1.0}


def test_a_picture_is_read():
    env = ToyImage(32, horizon=10)
    reward, cost, _ = train(env, "cppo_pid", 50, 15, **IMAGE, encoder=EYES)
    assert cost < 2.5 * 1.2
    assert reward > 0.8 * 10 * env.optimum(cost / 10).reward
    reward, _, _ = train(env, "cppo_pid", 10, 5, **IMAGE, encoder=Blind())
    assert abs(reward) < 0.5


OFF_POLICY = {
    "unroll": 4,
    "sequences": 64,
    "initial_rows": 500,
    "random_steps": 500,
    "replay_rows": 1000,
    "learning_rate": 2e-3,
    "rule.optimizer": "sgd",
    "rule.learning_rate": 0.003,
    "temperature.init": 0.05,
    "temperature.floor": 0.01,
}


def test_expectations_over_choices_find_the_mixture_off_policy():
    env, limit = ToyGrid(16, horizon=20), 0.5
    options = {**OFF_POLICY, "hidden": (32, 32), "updates": 8, "tau": 0.02, "gamma": 0.97, "limit.window": 20}
    options |= {"rule.init": 0.4, "rule_warmup": 2000, "temperature.target": 0.1}
    reward, cost, multiplier = train(env, "sac_discrete_lag", 360, 160, cost_limit=limit, **options)
    assert cost == pytest.approx(limit, rel=0.25)
    assert reward == pytest.approx(env.optimum(cost).reward, abs=0.04)
    assert multiplier == pytest.approx(env.optimum(limit).multiplier[0], rel=0.25)


def test_a_picture_is_read_by_critics_and_the_actor_follows():
    env = ToyImage(16, horizon=10)
    options = {**OFF_POLICY, "hidden": (32,), "updates": 4, "tau": 0.05, "gamma": 0.0, "rule_warmup": 1000}
    options |= {"rule.init": 1.0, "replay_rows": 300, "cost_limit": 2.5}
    reward, cost, _ = train(env, "sac_lag", 200, 60, encoder=EYES, **options)
    assert cost < 2.5 * 1.2
    assert reward > 0.8 * 10 * env.optimum(cost / 10).reward
