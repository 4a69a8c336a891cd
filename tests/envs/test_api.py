"""What all environments share: the protocol, spaces, seeds, standing still; and what importing them needs."""

import os
import subprocess
import sys

import numpy as np
import pytest

import jsafe.envs
from jsafe.envs.api import Spec
from jsafe.spaces import Box, Discrete

IDS = ["SafetyPointGoal2-v0", "SafetyPointButton1-v0", "SafetyAntVelocity-v1"]


def test_flat_boxes_and_choices():
    spec = Spec("x", Box((3,)), Box((2,), -1.0, (1.0, 2.0)), 1, 10, ("sum",), {}, 0.1)
    assert (spec.obs_dim, spec.act_dim, spec.action_low, spec.action_high) == (3, 2, (-1.0, -1.0), (1.0, 2.0))
    spec = Spec("x", Box((4, 4, 1), 0, 255, "uint8"), Discrete(3), 1, 10, ("sum",), {}, 0.1)
    for name, words in (
        ("obs_dim", "not a flat vector"),
        ("act_dim", "not continuous"),
        ("action_low", "are Discrete"),
    ):
        with pytest.raises(ValueError, match=words):
            getattr(spec, name)


@pytest.mark.parametrize("id", IDS)
def test_protocol_seeds_and_standing_still(id):
    """An environment that stands still for some steps goes on as if they had not been."""
    env, twin = jsafe.envs.make(id, 3, seed=4, num_threads=2), jsafe.envs.make(id, 3, seed=0, num_threads=1)
    assert isinstance(env, jsafe.envs.VectorEnv)
    np.testing.assert_array_equal(env.reset(), twin.reset(seed=[4, 5, 6]))
    np.testing.assert_array_equal(env.reset(seed=[9, 5, 9])[1], twin.reset(seed=4)[1])
    for bad in ([1, 2], [1, 2, -3], [1, 2, "3"]):
        with pytest.raises(ValueError, match="seed"):
            env.reset(seed=bad)
    twin.reset(seed=[9, 5, 9])
    rng, mask = np.random.default_rng(0), np.array([True, False, True])
    for _ in range(12):
        actions = rng.uniform(-1, 1, (3, env.spec.act_dim))
        before = env.state_dict()
        out = env.step(actions, mask=mask)
        other = twin.step(actions)
        for x, y in zip(out[:6], other[:6]):
            np.testing.assert_array_equal(x[mask], y[mask])
        np.testing.assert_array_equal(out.obs[1], before["last_obs"][1])
        assert (out.reward[1], out.cost[1, 0], out.terminated[1], out.truncated[1]) == (0, 0, False, False)
    twin.reset(seed=[9, 5, 9])
    more = np.random.default_rng(1).uniform(-1, 1, (8, 3, env.spec.act_dim))
    for actions in more:  # row 1 starts now, the others differ
        np.testing.assert_array_equal(env.step(actions).obs[1], twin.step(actions).obs[1])
    np.testing.assert_array_equal(env.reset()[1], twin.reset()[1])  # the random streams agree, too
    with pytest.raises(ValueError, match="mask must be 3 booleans"):
        env.step(more[0], mask=[1, 0, 1])


def test_no_jax_no_posix_no_gl():
    """In a process that has neither: JAX is not asked for, Windows has no fcntl and the like, Linux no CGL."""
    code = """
import os, select, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for module, names in ((os, ("sched_getaffinity", "memfd_create", "pread")), (select, ("poll",)),
                      (signal, ("SIGALRM", "setitimer", "ITIMER_REAL"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
import jsafe.envs
assert "mujoco" not in sys.modules
env = jsafe.envs.make("SafetyPointGoal1-v0", 2)
env.reset()
env.step([[0.0, 0.0], [0.0, 0.0]])
import jsafe.envs.outside.worker
print([name for name in ("jax", "flax", "optax", "tyro", "gymnasium") if name in sys.modules], os.environ["MUJOCO_GL"])
for call in (env.render, lambda: jsafe.envs.make("gymnasium:Pendulum-v1")):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
    os.name = "nt"
"""
    foreign = "cgl" if sys.platform == "linux" else "egl"
    here = os.environ | {"MUJOCO_GL": foreign, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=here)
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert lines[0] == f"[] {foreign}"
    assert lines[1].startswith(f"RenderError MUJOCO_GL={foreign} is not for {sys.platform}: here it may be ")
    assert lines[2].startswith("RuntimeError outside environments run in POSIX processes, not on Windows")
