"""Action repeat: sums, early ends, frozen rows, saved states."""

import fake_learner
import jax
import numpy as np
import pytest

import jsafe.envs
from jsafe.data import make_collector
from jsafe.types import env_spec


def actions(env, steps, seed=0):
    shape = (steps, env.num_envs, env.spec.act_dim)
    return np.random.default_rng(seed).uniform(env.spec.action_low, env.spec.action_high, shape)


def test_once_is_the_environment_itself():
    assert type(jsafe.envs.make("SafetyPointGoal1-v0", action_repeat=1)).__name__ == "SafetyGymEnv"
    with pytest.raises(ValueError, match="action_repeat must be an integer of at least 1, got 0"):
        jsafe.envs.make("SafetyPointGoal1-v0", action_repeat=0)


@pytest.mark.parametrize("name", ["SafetyPointGoal1-v0", "SafetyHopperVelocity-v1", "Toy-SpeedLimit-v0"])
def test_decisions_are_sums_of_steps_and_rows_that_ended_stand_still(name):
    """Against single environments that are stepped one by one until they have to stop."""
    repeat, n = 4, 3
    options = {"horizon": 30} if name.startswith("Toy") else {}
    env = jsafe.envs.make(name, num_envs=n, seed=3, action_repeat=repeat, **options)
    singles = [jsafe.envs.make(name, num_envs=1, seed=3 + i, **options) for i in range(n)]
    obs = env.reset()
    np.testing.assert_array_equal(obs, np.concatenate([each.reset() for each in singles]))
    short = ended = 0
    for a in actions(env, 25):
        if name.startswith("SafetyPoint"):
            a[:] = [1.0, 0.0]
            place_goals_ahead(env, singles)
        out = env.step(a)
        for i, single in enumerate(singles):
            reward, cost, success, steps = 0.0, 0.0, False, 0
            for _ in range(repeat):
                one = single.step(a[i : i + 1])
                reward, cost, steps = reward + one.reward[0], cost + one.cost[0], steps + 1
                success |= bool(one.info["success"][0])
                if one.terminated[0] or one.truncated[0] or one.info["success"][0]:
                    break
            np.testing.assert_allclose(out.reward[i], reward, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(out.cost[i], cost)
            np.testing.assert_array_equal(out.obs[i], one.obs[0])
            np.testing.assert_array_equal(out.final_obs[i], one.final_obs[0])
            assert (out.terminated[i], out.truncated[i]) == (one.terminated[0], one.truncated[0])
            assert (out.info["success"][i], out.info["raw_steps"][i]) == (success, steps)
        short += int((out.info["raw_steps"] < repeat).sum())
        ended += int((out.terminated | out.truncated).sum())
    assert short > 0
    assert ended > 0 or name.startswith("SafetyPoint")


def place_goals_ahead(env, singles):
    """Every goal 0.34 m ahead of its robot, in both, so that it is met within a few steps."""
    for i, single in enumerate(singles):
        state = single.get_state(0)
        x, y, _ = single.simulation.scene.agent_pos[0]
        ahead = single.simulation.scene.agent_rot[0][:2, 0]
        pose = (np.array([x + 0.34 * ahead[0], y + 0.34 * ahead[1], 0.16]), np.array([1.0, 0, 0, 0]))
        state["bodies"]["goal"] = pose
        state["task"]["last_dist_goal"] = 0.34
        single.set_state(0, state)
        env.set_state(i, state)


def test_spec_state_and_mask():
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=3, seed=1, action_repeat=7)
    assert (env.spec.horizon, env.spec.action_repeat, env.spec.dt) == (143, 7, pytest.approx(0.14))
    env.reset()
    env.step(actions(env, 1)[0])
    saved, a = env.state_dict(), actions(env, 2, 1)
    out = env.step(a[0], mask=np.array([True, False, True]))
    assert out.info["raw_steps"].tolist() == [7, 0, 7]
    assert out.reward[1] == 0
    assert [env.get_state(i)["step"] for i in range(3)] == [14, 7, 14]
    env.load_state_dict(saved)
    again = env.step(a[0], mask=np.array([True, False, True]))
    np.testing.assert_array_equal(out.obs, again.obs)


def test_collectors_count_steps_of_the_simulation():
    env = jsafe.envs.make("Toy-SpeedLimit-v0", num_envs=4, horizon=30, action_repeat=5)
    learner = fake_learner.build(fake_learner.FakeConfig(num_envs=4, unroll=12), env_spec(env))
    assert (learner.spec.horizon, learner.spec.action_repeat) == (6, 5)
    collector = make_collector(env, learner, seed=0)
    state = learner.init(jax.random.key(0))
    collector.collect(learner.policy(state), jax.random.key(1))
    assert collector.env_steps == 4 * 12 * 5
    assert collector.episodes()["episode/length"] == 6
