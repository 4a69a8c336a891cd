import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.envs.toy import ToyEnv
from jsafe.types import ActOutput, Learner, env_spec


@pytest.fixture
def make_learner():
    """A linear policy, deterministic (`noise=0`) or Gaussian around it; its update does nothing."""

    def make(env, data, noise=0.0):
        transform = getattr(data, "transform", None)
        width = env.spec.obs_dim * getattr(data, "frame_stack", 1) + (transform.extra_obs if transform else 0)

        def init(key):
            return {"w": jax.random.normal(key, (width, env.spec.act_dim)) / np.sqrt(width)}

        def act(policy_state, obs, key, deterministic):
            mean = jnp.tanh(obs @ (policy_state["w"] if isinstance(policy_state, dict) else policy_state.w))
            eps = jnp.zeros_like(mean) if deterministic else jax.random.normal(key, mean.shape)
            return ActOutput(mean + noise * eps, -0.5 * (eps**2).sum(-1), {"mean": mean})

        def update(state, batch, key):
            return state, {"loss/none": jnp.zeros(())}

        return Learner(init, update, act, lambda state: state, None, data, env_spec(env))

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
