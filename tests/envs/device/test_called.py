"""The host's environments in a jitted program: the same steps, in the same order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jsafe import envs
from jsafe.scale.devices import make_mesh

N, STEPS = 3, 30


@pytest.mark.parametrize("id", ["Toy-SpeedLimit-v0", "Toy-Grid-v0", "SafetyPointGoal1-v0"])
def test_steps_are_the_engines(id):
    options = {"horizon": 9} if id == "Toy-SpeedLimit-v0" else {}
    one, other = (envs.make(id, N, 4, 1, **options) for _ in range(2))
    env, rng = envs.as_jax(one), np.random.default_rng(0)
    if id == "Toy-Grid-v0":
        actions = rng.integers(0, 4, (STEPS, N)).astype(np.int32)
    else:
        actions = rng.uniform(-1, 1, (STEPS, N, one.spec.act_dim)).astype(np.float32)
    state, first = jax.jit(env.reset)()
    state, steps = jax.jit(lambda state: jax.lax.scan(env.step, state, actions))(state)
    theirs = [other.reset(), [other.step(action) for action in actions]]
    same = lambda x, y: np.testing.assert_array_equal(x, np.asarray(y).astype(np.asarray(x).dtype))  # noqa: E731
    jax.tree.map(same, first, theirs[0])
    for t, step in enumerate(theirs[1]):
        for name in ("obs", "reward", "cost", "terminated", "truncated", "final_obs"):
            jax.tree.map(same, jax.tree.map(lambda x, t=t: x[t], getattr(steps, name)), getattr(step, name))
        same(steps.info["success"][t], step.info["success"])
    rows = np.array([True, False, True])
    state, obs = jax.jit(env.restart)(state, rows)
    jax.tree.map(same, obs, other.reset(mask=rows))
    assert int(state) == STEPS + 2


def test_what_it_cannot_do():
    env = envs.as_jax(envs.make("Toy-SpeedLimit-v0", N))
    state, _ = env.reset()
    actions = jnp.zeros((N, 1))
    with pytest.raises(NotImplementedError, match="cannot be vmapped or spread over devices"):
        jax.vmap(env.step)(jnp.zeros(2, jnp.int32), jnp.zeros((2, N, 1)))
    spread = jax.shard_map(
        lambda state, actions: env.step(state, actions)[1].reward,
        mesh=make_mesh(),
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    with pytest.raises(NotImplementedError, match="cannot be vmapped or spread over devices"):
        jax.jit(spread)(state, actions)
    with pytest.raises(ValueError, match=r"actions must be \[3, ...\], got \(2, 1\)"):
        env.step(state, jnp.zeros((2, 1)))
