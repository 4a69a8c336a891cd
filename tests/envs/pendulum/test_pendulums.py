"""The pendulums against MuJoCo stepped by itself, a closed form and a known controller; saved states; pictures."""

import mujoco
import numpy as np
import pytest

import jsafe.envs
from jsafe.envs.pendulum import PENDULUMS
from jsafe.envs.pendulum.cart import XML
from jsafe.types import env_spec

GAINS = np.array([-0.72, -6.83, -0.92, -1.08])
"""A linear controller of the cart that balances the pole."""
CARTS = [id for id, facts in PENDULUMS.items() if facts["body"] == "cart"]


def test_masses_and_what_a_learner_is_told():
    model = mujoco.MjModel.from_xml_string(XML)
    np.testing.assert_allclose(model.body_mass[1:], [10.47, 5.02], atol=5e-3)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    for id, angle in dict(zip(CARTS, (0.2, 1.5, 0.2))).items():
        env = jsafe.envs.make(id, num_envs=2)
        spec = env_spec(env)
        assert (spec.start, spec.safe) == ((0.0,) * 4, ((0, -0.9, 0.9), (1, -angle, angle)))
        assert (spec.horizon, env.spec.dt, env.spec.action_high) == (1000, 0.04, (3.0,))
        assert [name for name, _, _ in spec.layout] == ["x", "theta", "x_velocity", "theta_velocity"]
    for id in PENDULUMS.keys() - set(CARTS):
        env = jsafe.envs.make(id)
        assert (env.spec.start, env.spec.safe, env.spec.horizon) == ((0.3, -0.9), ((0, -1.5, 1.5),), 200)
        np.testing.assert_allclose(env.reset(), [[0.3, -0.9]], rtol=1e-15)


def test_the_cart_is_mujocos():
    """Three environments against three simulations that are stepped by themselves, through ends and saved states."""
    env = jsafe.envs.make("SafeInvertedPendulumSwing-v2", num_envs=3)
    model = mujoco.MjModel.from_xml_string(XML)
    data = [mujoco.MjData(model) for _ in range(3)]
    np.testing.assert_array_equal(env.reset(), np.zeros((3, 4)))
    rng, ended = np.random.default_rng(0), 0
    for t in range(150):
        a = rng.uniform(-3, 3, (3, 1))
        if t == 70:
            saved = env.state_dict()
            env = jsafe.envs.make("SafeInvertedPendulumSwing-v2", num_envs=3)
            env.load_state_dict(saved)
        out = env.step(a)
        for i, one in enumerate(data):
            one.ctrl[0] = min(max(a[i, 0], -1.0), 1.0)
            mujoco.mj_step(model, one, 2)
            now = np.concatenate([one.qpos, one.qvel])
            np.testing.assert_allclose(out.final_obs[i], now, atol=1e-12)
            unsafe = abs(now[0]) > 0.9 or abs(now[1]) > 1.5
            assert (out.terminated[i], out.cost[i, 0]) == (unsafe, unsafe)
            np.testing.assert_allclose(out.reward[i], now[1] ** 2 - 10 * unsafe, atol=1e-12)
            if unsafe:
                ended += 1
                mujoco.mj_resetData(model, one)
                np.testing.assert_array_equal(out.obs[i], np.zeros(4))
    assert ended > 3


def test_a_known_controller_balances_and_the_control_saturates():
    env = jsafe.envs.make("SafeInvertedPendulum-v2", num_envs=2, seed=0)
    obs, rng = env.reset(), np.random.default_rng(1)
    largest = np.zeros(2)
    for _ in range(999):
        control = -obs @ GAINS + 0.1 * rng.standard_normal(2)
        out = env.step(control[:, None])
        obs = out.obs
        assert not np.any([out.terminated, out.truncated, out.cost[:, 0]])
        largest = np.maximum(largest, np.abs(obs[:, :2]).max(axis=0))
    assert (largest < [0.3, 0.12]).all()
    assert env.step(np.zeros((2, 1))).truncated.all()
    env.reset()
    out = env.step(np.array([[1.0], [2.5]]))
    np.testing.assert_array_equal(out.obs[0], out.obs[1])


def test_it_falls_without_control():
    env = jsafe.envs.make("SafeInvertedPendulumSwing-v2")
    env.reset()
    steps, out = 1, env.step(np.zeros((1, 1)))
    while not out.terminated[0] and steps < 60:
        steps, out = steps + 1, env.step(np.zeros((1, 1)))
    assert steps == 42
    assert abs(out.final_obs[0, 1]) > 1.5
    assert abs(out.final_obs[0, 0]) < 0.9


@pytest.mark.parametrize(("id", "goal"), [("MyPendulumUpright-v0", 0.0), ("MyPendulumTilt-v0", -0.41151684)])
def test_the_torque_pendulum_is_its_formula(id, goal):
    env = jsafe.envs.make(id, num_envs=4)
    theta, w = np.full(4, 0.3), np.full(4, -0.9)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(100):
        u = rng.uniform(-2, 2, 4)
        out = env.step(u[:, None])
        np.testing.assert_allclose(out.reward, -((theta - goal) ** 2), rtol=1e-12)
        w = w + (15 * np.sin(theta) + 3 * u) * 0.05
        theta = theta + w * 0.05
        w = np.clip(w, -8, 8)
        np.testing.assert_allclose(out.final_obs, np.stack([theta, w], 1), rtol=1e-12)
        ends = np.abs(theta) > 1.5
        np.testing.assert_array_equal(out.terminated, ends)
        theta, w = np.where(ends, 0.3, theta), np.where(ends, -0.9, w)
    assert np.abs(np.sin(goal) * 5) < 2 + 1e-6  # what the motor can hold


def test_flags_alone_and_malformed_input():
    env = jsafe.envs.make("MyPendulumUpright-v0", terminates=False, horizon=30)
    env.reset()
    out = [env.step(np.array([[2.0]])) for _ in range(30)]
    assert not any(step.terminated[0] for step in out)
    assert sum(step.cost[0, 0] for step in out) > 5
    assert max(abs(step.final_obs[0, 0]) for step in out) <= np.pi
    assert out[-1].truncated[0]
    with pytest.raises(ValueError, match=r"unknown option of .* Allowed: horizon"):
        jsafe.envs.make("MyPendulumUpright-v0", hight=3)
    with pytest.raises(ValueError, match="penalty must be at least 0"):
        jsafe.envs.make("SafeInvertedPendulum-v2", penalty=-1.0)
    with pytest.raises(ValueError, match="costs must be 'sum'"):
        jsafe.envs.make("SafeInvertedPendulum-v2", costs="separate")
    with pytest.raises(ValueError, match="actions must be of shape"):
        env.step(np.zeros((2, 1)))


@pytest.mark.parametrize("id", ["SafeInvertedPendulum-v2", "MyPendulumTilt-v0"])
def test_pictures(id):
    env = jsafe.envs.make(id)
    env.reset()
    first = env.render(0, width=64, height=48)
    assert first.shape == (48, 64, 3)
    for _ in range(8):
        env.step(np.array([[2.0]]))
    assert (first != env.render(0, width=64, height=48)).any()
    env.close()


def test_every_id_says_what_it_is():
    for id in PENDULUMS:
        assert jsafe.envs.summary(id).endswith(".")
    assert jsafe.envs.summary("SafetyPointGoal0-v0-modelbased").endswith("every action five times.")
