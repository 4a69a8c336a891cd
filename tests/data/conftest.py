from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.envs.toy import ToyEnv
from jsafe.types import NO_MEMORY, ActOutput, Learner, Memory, PolicyState, env_spec


class Frames(NamedTuple):
    """The newest frames of a policy, oldest first."""

    frames: jax.Array
    fresh: jax.Array


def frames(width, stack):
    """The memory of a policy that sees stacked frames; an episode starts with copies of its first one."""

    def reset(memory, started):
        return memory._replace(fresh=memory.fresh | started)

    return Memory(lambda n: Frames(jnp.zeros((n, stack, width)), jnp.ones(n, bool)), reset)


def push(memory, obs):
    pushed = jnp.concatenate([memory.frames[:, 1:], obs[:, None]], axis=1)
    return Frames(jnp.where(memory.fresh[:, None, None], obs[:, None], pushed), jnp.zeros_like(memory.fresh))


@pytest.fixture
def make_learner():
    """A linear policy, deterministic (`noise=0`) or Gaussian around it; its update does nothing."""

    def make(env, feed, noise=0.0):
        transform, stack = getattr(feed, "transform", None), getattr(feed, "frame_stack", 1)
        width = env.spec.obs_dim * stack + (transform.extra_obs if transform else 0)

        def init(key):
            return {"w": jax.random.normal(key, (width, env.spec.act_dim)) / np.sqrt(width)}

        def act(policy_state, memory, obs, key, deterministic):
            if stack > 1:
                memory = push(memory, obs)
                obs = memory.frames.reshape(len(obs), -1)
            mean = jnp.tanh(obs @ policy_state.params)
            eps = jnp.zeros_like(mean) if deterministic else jax.random.normal(key, mean.shape)
            return ActOutput(mean + noise * eps, -0.5 * (eps**2).sum(-1), {"mean": mean}, memory)

        def update(state, batch, key):
            return state, {"loss/none": jnp.zeros(())}

        memory = NO_MEMORY if stack == 1 else frames(env.spec.obs_dim, stack)
        return Learner(init, update, lambda state: PolicyState(state["w"]), act, memory, feed, None, env_spec(env))

    return make


@pytest.fixture
def make_env():
    def make(num_envs=3, seed=0, **options):
        options = {"horizon": 7, "terminate_probability": 0.1, "act_dim": 2, "num_costs": 2, **options}
        return ToyEnv(num_envs, seed, **options)

    return make


def _assert_equal(a, b):
    leaves_a, leaves_b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(leaves_a, leaves_b):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


@pytest.fixture
def assert_equal():
    """Bit-for-bit equality of trees, dtypes included."""
    return _assert_equal
