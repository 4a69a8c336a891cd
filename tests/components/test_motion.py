"""What a model predicts of an observation with coordinates, against the engine."""

import jax.numpy as jnp
import numpy as np
import pytest

import jsafe.envs
from jsafe.components.known import Auto
from jsafe.components.motion import PLAIN
from jsafe.types import env_spec


def driven(task, steps, seed=0):
    """Observations before and after steps that met no goal, `[K, O]` each, and what the environment is like."""
    env = jsafe.envs.make(
        f"Safety{task}-v0", num_envs=8, seed=0, observation="coordinates", parts="base", action_repeat=5
    )
    rng, pairs, obs = np.random.default_rng(seed), [], env.reset()
    for _ in range(steps):
        out = env.step(rng.uniform(-1, 1, (8, env.spec.act_dim)))
        going = ~(out.info["success"] | out.terminated | out.truncated)
        pairs.append((obs[going], out.final_obs[going]))
        obs = out.obs
    return *(np.concatenate(x).astype(np.float32) for x in zip(*pairs)), env_spec(env)


@pytest.mark.parametrize(("task", "seen", "told"), [("PointGoal1", 5, 9), ("CarGoal1", 5, 9), ("PointButton1", 13, 17)])
def test_how_the_robot_moves_tells_where_everything_is_seen(task, seen, told):
    """The change is enough to put the next observation together, gremlins included, and says nothing of the world."""
    before, after, spec = driven(task, 40)
    motion = Auto(still=True, reward=True, touch=0.3 if "Button" in task else None).build(spec).motion
    assert motion.widths(spec.obs_dim) == (seen, told)
    change = motion.change(jnp.asarray(before), jnp.asarray(after))
    assert change.shape == (len(before), told)
    found = np.asarray(motion.follow(jnp.asarray(before), change))
    tilt = 0.03 if task.startswith("Car") else 1e-4  # coordinates are seen along a tilted axis
    np.testing.assert_allclose(found, after, atol=tilt)
    moved = np.abs(after - before)[:, spec.layout[4][1] :].max(axis=0)
    assert moved.min() > 10 * tilt if task != "CarGoal1" else moved.min() > tilt  # nothing of this is seen as it was


def test_turns_and_steps_by_hand():
    """A quarter turn to the left after a step of one metre ahead: what was ahead is to the right."""
    layout = (("speed", 0, 1), ("magnetometer", 1, 4), ("goal", 4, 6), ("gremlins", 6, 8), ("robot_m", 8, 10))
    spec = jsafe.EnvSpec(12, 2, layout=(*layout, ("robot", 10, 12)))
    motion = Auto(still=True).build(spec).motion
    assert motion.inputs is None  # for the reward, which is not known
    obs = jnp.array([5.0, 0, -1, 0.5, 3, 0, 0, 2, 0, -1, 7, 7])  # it heads for +y
    change = jnp.array([0.5, 0.25, 1, 0, -1, 1, 0.5, 0])  # speed, upright, step, turn less none, the gremlin's own
    want = [5.5, -1, 0, 0.75, 0, -2, 2, 0.5, -1, 0, 7, 8]
    np.testing.assert_allclose(motion.follow(obs, change), want, atol=1e-6)
    np.testing.assert_allclose(motion.change(obs, jnp.array(want)), change, atol=1e-6)


def test_without_coordinates_nothing_is_known_of_motion():
    assert Auto(still=True).build(jsafe.EnvSpec(4, 2)).motion is PLAIN
    assert Auto().build(driven("PointGoal1", 1)[2]).motion is PLAIN


def test_predictions_stay_finite_and_on_the_circle():
    """A model that has learnt nothing yet may say anything."""
    spec = driven("PointGoal2", 1)[2]
    motion = Auto(still=True, reward=True, touch=0.3).build(spec).motion
    for wild in (np.nan, 1e9, -1e9, -1.0):
        found = np.asarray(motion.follow(jnp.zeros((3, spec.obs_dim)), jnp.full((3, motion.width), wild)))
        assert np.abs(found).max() <= 100
        turned = found[:, slice(*{name: cut for name, *cut in spec.layout}["robot_m"])]
        assert (np.linalg.norm(turned, axis=-1) < 1.001).all()
