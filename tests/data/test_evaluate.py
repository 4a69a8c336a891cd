"""Evaluation: how many episodes of which environment, and what they are worth."""

import jax
import numpy as np
import pytest

from jsafe.data import evaluate
from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Replay, Rollouts
from jsafe.types import CMDPTransform, TransformStep

DATA = Replay(frame_stack=2)


def plain_episodes(seed, w, frames, number):
    """The first episodes of one environment, in plain Python."""
    env = ToyEnv(1, seed, horizon=7, terminate_probability=0.3, act_dim=2, num_costs=2)
    obs = env.reset()[0]
    out = []
    for _ in range(number):
        stack, total, length, ended = [obs] * frames, np.zeros(3), 0, False
        while not ended:
            step = env.step(-1.0 + 2 * (np.tanh(np.concatenate(stack) @ w)[None] + 1))
            total += [step.reward[0], *step.cost[0]]
            length += 1
            ended = step.terminated[0] or step.truncated[0]
            obs = step.obs[0]
            stack = [*stack[1:], obs]
        out.append((*total, length, bool(step.truncated[0])))
    return out


@pytest.mark.parametrize("episodes", [1, 4, 11])
def test_each_environment_runs_its_quota(make_env, make_learner, episodes):
    env = make_env(4, terminate_probability=0.3)
    learner = make_learner(env, DATA)
    state = learner.policy(learner.init(jax.random.key(0)))
    result = evaluate(env, learner, state, episodes, jax.random.key(1), seed=20)
    expected = []
    for i in range(4):
        number = episodes // 4 + (i < episodes % 4)
        expected += plain_episodes(20 + i, np.asarray(state.params, np.float64), 2, number)
    expected = np.array(expected)
    assert list(result) == ["return", "cost", "length", "success"]
    np.testing.assert_allclose(result["return"], expected[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result["cost"], expected[:, 1:3], rtol=1e-4)
    np.testing.assert_array_equal(result["length"], expected[:, 3])
    np.testing.assert_array_equal(result["success"], expected[:, 4])
    assert result["length"].dtype.kind == "i"
    assert result["success"].dtype == bool


def test_short_episodes_are_not_favoured(make_env, make_learner):
    """The mean length is that of the task; the first episodes to finish would be shorter."""
    env = make_env(50, horizon=40, terminate_probability=0.05)
    learner = make_learner(env, Rollouts())
    result = evaluate(env, learner, learner.policy(learner.init(jax.random.key(0))), 100, jax.random.key(1))
    expected = sum(0.95**t for t in range(40))  # 17.4, standard deviation of a length about 13
    assert abs(result["length"].mean() - expected) < 3 * 13.5 / np.sqrt(100)


def test_key_matters_only_when_sampling(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, Rollouts(), noise=0.5)
    state = learner.policy(learner.init(jax.random.key(0)))

    def returns(key, deterministic):
        return evaluate(env, learner, state, 5, jax.random.key(key), deterministic, seed=1)["return"]

    np.testing.assert_array_equal(returns(0, True), returns(1, True))
    np.testing.assert_array_equal(returns(0, False), returns(0, False))
    assert (returns(0, False) != returns(1, False)).all()


def test_transform_shows_its_state_to_the_policy(make_env, make_learner):
    """With the elapsed steps appended, the policy sees the same clock as the environment's own one."""
    counter = CMDPTransform(
        extra_obs=1,
        init=lambda params, n: np.zeros(n),
        augment=lambda obs, z: np.concatenate([obs, z[:, None] / 7], -1),
        step=lambda params, z, reward, cost, terminated, truncated: TransformStep(
            np.where(terminated | truncated, 0, z + 1), z + 1, reward, terminated
        ),
    )
    env = make_env()
    learner = make_learner(env, Rollouts(transform=counter))
    state = learner.policy(learner.init(jax.random.key(0)))
    seen = []

    def act(policy_state, memory, obs, key, deterministic):
        jax.debug.callback(lambda x: seen.append(np.array(x)), obs, ordered=True)
        return learner.act(policy_state, memory, obs, key, deterministic)

    evaluate(env, learner._replace(act=act), state, 6, jax.random.key(0))
    jax.effects_barrier()
    assert len(seen) > 7
    for obs in seen:
        np.testing.assert_allclose(obs[:, -1], obs[:, 4], atol=1e-6)


def test_errors(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, Rollouts())
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluate(env, learner, learner.policy(learner.init(jax.random.key(0))), 0, jax.random.key(0))
