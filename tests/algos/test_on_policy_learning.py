"""On-policy learners on the toy task, whose constrained optimum is known in closed form."""

import jax
import numpy as np
import pytest

import jsafe
from jsafe.data import make_collector
from jsafe.envs.toy import ToyEnv
from jsafe.types import env_spec

HORIZON = 10
COMMON = {
    "num_envs": 80,
    "steps_per_epoch": 800,
    "hidden": (16,),
    "minibatch": 200,
    "passes": 10,
    "gamma": 0.9,
    "cost_gamma": 0.9,
    "critic_learning_rate": 3e-3,
}
FAST = {"learning_rate": 2e-3}


def train(name, iterations, limit, num_costs=1, **options):
    """Reward per step, costs per episode and metrics, averaged over the last ten iterations."""
    env = ToyEnv(80, act_dim=num_costs, num_costs=num_costs, horizon=HORIZON)
    learner = jsafe.make(name, env_spec(env), cost_limit=limit, **COMMON, **options)
    collector = make_collector(env, learner, seed=3)
    update = jax.jit(learner.update, donate_argnums=0)
    state, key, rows = learner.init(jax.random.key(0)), jax.random.key(1), []
    for i in range(iterations):
        collect_key, update_key = jax.random.split(jax.random.fold_in(key, i))
        batch = collector.collect(learner.policy(state), collect_key)
        state, metrics = update(state, batch, update_key)
        episodes = batch.measured.episodes
        multiplier = [float(metrics[f"cost/{m}/multiplier"]) for m in range(num_costs)]
        rows.append([episodes.total_return / episodes.length, *episodes.cost / episodes.count, *multiplier])
    assert update._cache_size() == 1
    mean = np.mean(rows[-10:], axis=0)
    return mean[0], mean[1 : 1 + num_costs], mean[1 + num_costs :], env.optimum(limit, episodic=True)


def test_cpo_finds_the_optimum_under_two_constraints():
    limit = (1.0, 4.0)
    reward, cost, _, best = train("cpo", 50, limit, num_costs=2, target_kl=0.03)
    np.testing.assert_allclose(cost, limit, rtol=0.08)
    assert reward == pytest.approx(best.reward, rel=0.06)


def test_pid_finds_the_optimum_and_the_dual_variable():
    """With the mix scaled as a whole, the multiplier is dReward/dLimit: 1 for this limit."""
    options = {**FAST, "rule.init": 1.0, "kp": 0.2, "ki": 0.02, "standardize": "mix"}
    reward, cost, multiplier, best = train("cppo_pid", 60, 2.5, **options)
    np.testing.assert_allclose(cost, [2.5], rtol=0.2)
    np.testing.assert_allclose(multiplier, best.multiplier, rtol=0.2)
    assert reward > 0.85 * best.reward


def test_appo_finds_the_optimum_and_the_dual_variable():
    """Advantages in their own units: the multiplier is dReward/dLimit without scaling the mix."""
    options = {"learning_rate": 4e-3, "rule.learning_rate": 0.05, "penalty": 0.5}
    reward, cost, multiplier, best = train("appo", 60, 2.5, **options)
    np.testing.assert_allclose(cost, [2.5], rtol=0.08)
    np.testing.assert_allclose(multiplier, best.multiplier, rtol=0.15)
    assert reward > 0.93 * best.reward


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("p3o", {"learning_rate": 4e-3}),
        ("ipo", {"learning_rate": 4e-3, "kappa": 0.03}),
        ("pcpo", {"target_kl": 0.03}),
        ("ppo_saute", {**FAST, "unsafe_reward": -0.5, "transform.gamma": 1.0}),
        ("ppo_early_terminated", FAST),
    ],
)
def test_others_earn_within_the_limit(name, options):
    reward, cost, _, best = train(name, 40, 2.5, **options)
    # An unconstrained policy ends at reward 1 and cost 10, a careless start at cost 10 as well.
    assert cost < 2.5 * 1.1
    assert reward > 0.65 * best.reward
