"""Doggo, Racecar and Ant against facts of the official models, official resets and recorded steps."""

import json

import mujoco
import numpy as np
import pytest
import recordings

import jsafe.envs
from jsafe.envs.safety_gym.robots import ROBOTS
from jsafe.envs.safety_gym.robots.racecar import _chassis, with_mesh
from jsafe.envs.safety_gym.tasks import TASKS

FACTS = json.loads((recordings.DATA / "robots.json").read_text())
JOINTS = {"free": 0, "ball": 1, "slide": 2, "hinge": 3}


@pytest.fixture(scope="module", params=["Doggo", "Racecar", "Ant"])
def pair(request):
    """(model, official facts)"""
    return jsafe.envs.make(f"Safety{request.param}Goal1-v0").simulation.world.model, FACTS["models"][request.param]


def _named(rows):
    return {row[0]: row for row in rows if row[0]}


def test_bodies(pair):
    model, facts = pair
    for name, (_, parent, mass, pos, quat, ipos, _, inertia) in _named(facts["bodies"]).items():
        body = model.body(name)
        assert model.body(int(body.parentid[0])).name == parent
        assert body.mass[0] == pytest.approx(mass, rel=1e-7)
        np.testing.assert_allclose(sorted(body.inertia), sorted(inertia), rtol=1e-7, atol=1e-15)
        if name != "agent":  # which stands at the layout in the facts, with its frame there if it weighs nothing
            np.testing.assert_allclose(body.pos, pos, atol=1e-8)
            np.testing.assert_allclose(body.quat, quat, atol=1e-8)
            np.testing.assert_allclose(body.ipos, ipos, atol=1e-8)
    of_robot = [b for b in range(model.nbody) if model.body_rootid[b] == model.body("agent").id]
    assert model.body_mass[of_robot].sum() == pytest.approx(sum(row[2] for row in facts["bodies"]), rel=1e-8)
    assert len(of_robot) == len(facts["bodies"])


def test_joints(pair):
    model, facts = pair
    of_robot = [model.joint(j).name for j in range(model.njnt) if model.joint(j).name != "vase0"]
    assert of_robot == [row[0] for row in facts["joints"]]
    for name, body, kind, pos, axis, limited, bounds, damping, armature, stiffness, spring, margin in facts["joints"]:
        joint = model.joint(name)
        assert model.body(int(joint.bodyid[0])).name == body
        assert joint.type[0] == JOINTS[kind]
        assert joint.limited[0] == limited
        np.testing.assert_allclose(joint.pos, pos)
        np.testing.assert_allclose(joint.axis, axis, atol=1e-8)
        np.testing.assert_allclose(joint.range, bounds, atol=1e-8)
        assert (joint.damping[0], joint.armature[0]) == pytest.approx((damping, armature))
        assert (joint.stiffness[0], joint.margin[0]) == pytest.approx((stiffness, margin))
        if kind == "hinge":
            assert joint.qpos_spring[0] == pytest.approx(spring)


def test_colliding_geoms(pair):
    model, facts = pair
    ours = {}
    for g in range(model.ngeom):
        body = int(model.geom_bodyid[g])
        if model.body_rootid[body] == model.body("agent").id and model.geom_contype[g]:
            ours.setdefault(model.body(body).name, []).append(g)
    assert sum(map(len, ours.values())) == len(facts["geoms"])
    for name, geoms in ours.items():
        official = [row for row in facts["geoms"] if row[1] == name]
        assert len(official) == len(geoms)
        if not name:  # Doggo's shanks
            continue
        for g, (_, _, kind, size, pos, _, friction, _, condim, contype, conaffinity, _) in zip(geoms, official):
            assert mujoco.mjtGeom(model.geom_type[g]).name == f"mjGEOM_{kind.upper()}"
            assert (model.geom_condim[g], model.geom_contype[g], model.geom_conaffinity[g]) == (
                condim, contype, conaffinity)  # fmt: skip
            np.testing.assert_allclose(model.geom_friction[g], friction)
            if kind != "mesh":
                np.testing.assert_allclose(model.geom_size[g], size, atol=1e-8)
                np.testing.assert_allclose(model.geom_pos[g], pos, atol=1e-8)


def test_actuators_and_sensors(pair):
    model, facts = pair
    assert model.nu == len(facts["actuators"])
    for a, row in enumerate(facts["actuators"]):
        name, _, target, gear, _, ctrl, forced, force, gain, gainprm, bias, biasprm = row
        assert model.actuator(a).name == name
        assert model.joint(model.actuator_trnid[a, 0]).name == target
        np.testing.assert_allclose(model.actuator_gear[a], gear)
        np.testing.assert_allclose(model.actuator_ctrlrange[a], ctrl)
        assert model.actuator_forcelimited[a] == forced
        np.testing.assert_allclose(model.actuator_forcerange[a], force)
        assert (model.actuator_gaintype[a], model.actuator_biastype[a]) == (gain, bias)
        np.testing.assert_allclose(model.actuator_gainprm[a, :3], gainprm)
        np.testing.assert_allclose(model.actuator_biasprm[a, :3], biasprm)
    unobserved = ("subtreecom", "subtreelinvel", "subtreeangmom")
    ours = {model.sensor(s).name: int(model.sensor_dim[s]) for s in range(model.nsensor)}
    for name, _, dim, _, _ in facts["sensors"]:
        if name not in unobserved:
            assert ours[name] == dim
    assert model.opt.timestep == facts["timestep"]


@pytest.mark.parametrize("robot", ["Doggo", "Racecar", "Ant"])
def test_observation_and_action_spaces(robot):
    spec, facts = jsafe.envs.make(f"Safety{robot}Goal1-v0").spec, FACTS["models"][robot]
    assert list(spec.obs_slices) == list(facts["obs_space"])
    assert [stop - start for start, stop in spec.obs_slices.values()] == [w[0] for w in facts["obs_space"].values()]
    np.testing.assert_allclose(spec.action_low, facts["low"])
    np.testing.assert_allclose(spec.action_high, facts["high"])


@pytest.mark.parametrize("id", sorted(FACTS["resets"]))
def test_resets_are_the_official_ones(id):
    env = jsafe.envs.make(id, num_envs=2, seed=0)
    obs = env.reset()
    for i, facts in FACTS["resets"][id].items():
        expected = np.array(facts["obs"])
        same = np.ones(len(expected), bool)
        for name, (start, stop) in env.spec.obs_slices.items():
            # Whether a wheel that just touches the floor pushes in the first instant is decided by rounding.
            same[start:stop] = not (name == "accelerometer" and "Car" in id)
        np.testing.assert_allclose(obs[int(i)][same], expected[same], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(env.simulation.scene.agent_pos[int(i), :2], facts["agent"], atol=1e-9)


STEPS = ("DoggoGoal2", "DoggoPush1", "DoggoButton1", "RacecarGoal0", "RacecarCircle1", "RacecarRun0", "AntGoal2",
         "AntPush2", "AntCircle2", "AntRun0", "PointCircle1", "CarCircle2", "PointRun0", "CarRun0")  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_the_recorded_ones(name):
    g = recordings.load("robots.npz", name)
    env = jsafe.envs.make(f"Safety{name}-v0", num_envs=len(g["reward"]))
    env.reset()
    for k in range(env.num_envs):
        env.set_state(k, recordings.state(g, k))
    out = env.step(g["action"])
    met = g["info_goal_met"] > 0 if "info_goal_met" in g else np.zeros(env.num_envs, bool)
    np.testing.assert_allclose(out.final_obs[~met], g["obs"][~met], rtol=0, atol=2e-8)
    np.testing.assert_allclose(out.reward, g["reward"], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(out.cost[:, 0], g["cost"])
    np.testing.assert_array_equal(out.terminated, g["terminated"])
    np.testing.assert_array_equal(out.truncated, g["truncated"])


def test_ant_starts_on_its_legs_and_dies_on_its_back():
    env = jsafe.envs.make("SafetyAntGoal0-v0", num_envs=50)
    env.reset()
    model = env.simulation.world.model
    at = [int(model.joint(f"{part}_{i}").qposadr[0]) for i in range(1, 5) for part in ("hip", "ankle")]
    angles = np.stack([data.qpos[at] for data in env.physics.data])
    middle = np.array([0, np.pi / 2, 0, -np.pi / 2, 0, -np.pi / 2, 0, np.pi / 2])
    assert np.abs(angles - middle).max() < 0.1
    assert (np.ptp(angles, axis=0) > 0.15).all()
    joints = env.get_state(0)["joints"]
    joints["root"][0][2:] = [0.07, 0.0, 1.0, 0.0, 0.0]  # on its back
    env.set_state(0, {"joints": joints})
    assert env.step(np.zeros((50, 8))).terminated.tolist() == [True] + [False] * 49


def test_chassis_hull():
    points = _chassis()
    assert points.shape == (72, 3)
    np.testing.assert_allclose(points.max(axis=0), [0.365, 0.1, 0.03])
    np.testing.assert_allclose(points.min(axis=0), [-0.04, -0.1, -0.03])
    np.testing.assert_allclose(np.sort(points[:, 1]), np.sort(-points[:, 1]), atol=1e-15)  # mirrored


def test_chassis_from_a_file(tmp_path):
    path = tmp_path / "box.obj"
    corners = [(x, y, z) for x in (0, 0.3) for y in (-0.1, 0.1) for z in (-0.03, 0.03)]
    path.write_text("".join(f"v {x} {y} {z}\n" for x, y, z in corners) + "f 1 2 3\nf 1 3 5\nf 1 5 2\nf 8 7 6\n")
    jsafe.envs.register("BoxRacecar-v0", TASKS["Goal"][0], with_mesh(path), level=0)
    model = jsafe.envs.make("BoxRacecar-v0").simulation.world.model
    assert model.nmeshvert == 8
    assert model.body("car_body").mass[0] == pytest.approx(0.0176055, rel=1e-5)
    with pytest.raises(ValueError, match="path must be a mesh file"):
        with_mesh(tmp_path / "none.stl")


def test_robots_are_complete():
    assert set(ROBOTS) == {"Point", "Car", "Doggo", "Racecar", "Ant"}
