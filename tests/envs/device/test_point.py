"""Point's tasks in the program beside the exact engine, from the same states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe.envs
from jsafe import device
from jsafe.envs import Task, place, register, registry
from jsafe.envs.device import vectorise
from jsafe.envs.device.point import PointEnv, contacts
from jsafe.envs.device.point.body import Body
from jsafe.envs.safety_gym.lidar import Boxes, Circles, natural_lidar, pseudo_lidar
from jsafe.envs.safety_gym.observe import rotation


def point(id):
    return PointEnv(id, *registry._build_task(id, registry._IDS[id][2]))


def entered(env, host):
    states = [env.enter(host.get_state(i))[0] for i in range(host.num_envs)]
    return jax.tree.map(lambda *x: jnp.stack(x), *states)


def loose(host):
    """Where vases and push boxes are."""
    places = [host.simulation.scene.pos.get(group) for group in ("vases", "push_box")]
    return np.concatenate([np.zeros((host.num_envs, 0, 3)), *(x for x in places if x is not None)], axis=1)


@pytest.mark.parametrize(
    "id", ["SafetyPointGoal1-v0", "SafetyPointCircle2-v0", "SafetyPointRun0-v0", "SafetyPointPush2-v0"]
)
def test_steps_are_those_of_the_engine(id):
    """Where nothing is touched, with 64 bits: the bar is 1e-9."""
    rng, n = np.random.default_rng(0), 24
    limit = 1e-9 if "Push" in id else 1e-6  # the reward is about the push box, which settles a little
    host = jsafe.envs.make(id, num_envs=n, seed=5, num_threads=1)
    host.reset()
    with jax.enable_x64(True):
        env = point(id)
        step, key = jax.jit(jax.vmap(env.step, (0, 0, None))), jax.random.key(0)
        costs = 0.0
        for _ in range(60 if "Push" in id else 0):  # until the box has settled
            host.step(np.zeros((n, 2)))
        for turn in range(4):
            for _ in range(int(rng.integers(1, 20))):
                host.step(np.stack([rng.uniform(-1 if "Push" in id else 0, 1, n), rng.uniform(-1, 1, n)], 1))
            state, actions = entered(env, host), rng.uniform(-1, 1, (n, 2))
            if turn == 3:  # the end of the episode, and a goal
                state = state._replace(steps=jnp.full(n, host.spec.horizon - 1))
            vases = loose(host)
            theirs = host.step(actions)
            _, ours = step(state, jnp.asarray(actions), key)
            here = loose(host)
            free = ~theirs.info["success"] & (np.abs(here - vases).max((1, 2), initial=0) < limit)
            assert free.mean() > 0.8
            np.testing.assert_allclose(
                np.asarray(ours.obs)[free], theirs.final_obs[free], atol=1e-6 if here.size else 1e-9
            )
            alone = np.concatenate(
                [np.arange(*at) for name, at in env.spec.obs_slices.items() if name != "vases_lidar"]
            )
            np.testing.assert_allclose(
                np.asarray(ours.obs)[free][:, alone], theirs.final_obs[free][:, alone], atol=1e-9
            )
            rows = free if limit < 1e-6 else slice(None)
            np.testing.assert_allclose(np.asarray(ours.reward)[rows], theirs.reward[rows], atol=1e-9)
            np.testing.assert_array_equal(ours.cost, theirs.cost)
            np.testing.assert_array_equal(ours.info["success"], theirs.info["success"])
            assert ours.info.keys() == theirs.info.keys()
            np.testing.assert_array_equal(ours.truncated, [turn == 3] * n)
            assert not np.asarray(ours.terminated).any()
            costs += float(ours.cost.sum())
        assert costs > 0 or "Push" in id


@pytest.mark.parametrize("id", ["SafetyPointButton2-v0", "Safexp-PointPush2-v0"])
def test_observations_are_those_of_the_engine(id):
    host = jsafe.envs.make(id, num_envs=12, seed=5, num_threads=1, costs="separate")
    obs = host.reset()
    with jax.enable_x64(True):
        env = PointEnv(id, *registry._build_task(id, registry._IDS[id][2]), "separate")
        state = entered(env, host)
        see = jax.jit(jax.vmap(lambda state: env.observe(state, jnp.zeros(2), env._touches(state))))
        np.testing.assert_allclose(see(state), obs, atol=1e-9)
    assert (env.spec.obs, env.spec.obs_slices, env.spec.cost_names) == (
        host.spec.obs,
        host.spec.obs_slices,
        host.spec.cost_names,
    )


def test_dense_lidars_are_those_of_the_host():
    rng, n = np.random.default_rng(0), 30
    quat = rng.normal(size=(n, 4))
    quat[:20, 1:3] = 0  # most stand upright
    rot = rotation(quat / np.linalg.norm(quat, axis=1, keepdims=True))
    pos, targets = rng.normal(size=(n, 3)), 3 * rng.normal(size=(n, 12, 2))
    targets[0, 0] = pos[0, :2]
    turn = rng.normal(size=(n, 4, 4))
    boxes = Boxes(
        2 * rng.normal(size=(n, 4, 3)), rotation(turn / np.linalg.norm(turn, axis=2, keepdims=True)), (0.1, 0.1, 0.3)
    )
    groups, mask = np.repeat([0, 1, 2], [5, 4, 3]), rng.random((n, 12)) < 0.5
    seen = [[Circles(targets[:, :5], 0.2)], [boxes, Circles(targets[:, 5:7], 0.3)], []]
    for options in ({"groups": groups}, {"mask": mask, "bins": 10, "max_dist": 5.0}):
        theirs = pseudo_lidar(pos, rot, targets, **options)
        with jax.enable_x64(True):
            ours = pseudo_lidar(*map(jnp.asarray, (pos, rot, targets)), **options)
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
        assert (theirs > 0).any()
    theirs = natural_lidar(pos[:, :2], rot[:, :2, :2], seen, 48, height=0.2)
    with jax.enable_x64(True):
        traced = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, seen)
        ours = natural_lidar(jnp.asarray(pos[:, :2]), jnp.asarray(rot[:, :2, :2]), traced, 48, height=0.2)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert (theirs[:, :2] > 0).any(axis=(0, 2)).all()


def test_episodes_begin_with_room_for_everything_and_follow_each_other():
    env = point("SafetyPointGoal2-v0")
    many, n = vectorise(env.env), 40
    keys = jax.random.split(jax.random.key(3), n)
    state, _obs = jax.jit(many.reset)(keys)
    places = np.concatenate([np.stack([state.body.x, state.body.y], 1)[:, None], state.xy], axis=1)
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1) + 10 * np.eye(places.shape[1])
    least = env.plan.keepouts[:, None] + env.plan.keepouts
    # The goal was placed a second time, after all others.
    assert (apart >= least - 1e-5).all()
    assert (np.abs(places) <= 2 - env.plan.keepouts[:, None] + 1e-5).all()
    assert places.std(axis=(0, 1)).min() > 0.9  # uniform would be 1.1
    goal = places[:, 1 + env.slices["goal"].start]
    np.testing.assert_allclose(state.memory["last_dist_goal"], np.linalg.norm(goal - places[:, 0], axis=1), rtol=1e-5)
    # Two are put on their goals, one is at its end.
    x = state.body.x.at[:2].set(goal[:2, 0])
    y = state.body.y.at[:2].set(goal[:2, 1])
    late = state._replace(body=state.body._replace(x=x, y=y), steps=state.steps.at[2].set(env.task.horizon - 1))
    after, step = jax.jit(many.step)(late, jnp.zeros((n, 2)), keys)
    np.testing.assert_array_equal(step.info["success"], np.arange(n) < 2)
    np.testing.assert_allclose(step.reward[:2], late.memory["last_dist_goal"][:2] + 1, atol=0.01)
    moved = np.abs(np.asarray(after.xy - late.xy)).max(axis=(1, 2)) > 1e-6
    np.testing.assert_array_equal(moved, np.arange(n) < 3)
    fresh = np.asarray(after.xy)[:2, env.slices["goal"].start]
    others = np.concatenate([np.stack([x, y], 1)[:2, None], np.asarray(after.xy)[:2]], axis=1)
    gaps = np.linalg.norm(others - fresh[:, None], axis=-1)
    gaps[:, 1 + env.slices["goal"].start] = 9
    assert (gaps >= least[1 + env.slices["goal"].start] - 1e-5).all()
    np.testing.assert_allclose(after.memory["last_dist_goal"][:2], gaps[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(step.truncated, np.arange(n) == 2)
    np.testing.assert_array_equal(after.steps, [1, 1, 0] + [1] * (n - 3))
    assert np.abs(step.obs[2] - step.final_obs[2]).max() > 0.1


def alone(id, **objects):
    """A state with the robot at the origin, heading along x, and everything else far away but what is named."""
    env = point(id)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    xy = jnp.full(state.xy.shape, 5.0) + jnp.arange(len(state.xy))[:, None]
    for group, places in objects.items():
        rows = env.slices[group]
        xy = xy.at[rows.start : rows.start + len(places)].set(jnp.asarray(places))
    zero = jnp.zeros(())
    return env, state._replace(body=Body(*[zero] * 6), xy=xy, yaw=0 * state.yaw)


def roll(env, state, action, steps):
    def body(state, key):
        state, out = env.step(state, jnp.asarray(action), key)
        return state, (state, out)

    return jax.jit(lambda state: jax.lax.scan(body, state, jax.random.split(jax.random.key(1), steps)))(state)[1]


def test_buttons_stop_the_robot_and_count():
    env, state = alone("SafetyPointButton1-v0", buttons=[(0.7, 0.0)])
    state = state._replace(memory=state.memory | {"goal_button": jnp.asarray(1.0), "button_timer": jnp.asarray(0.0)})
    states, out = roll(env, state, [1.0, 0.0], 150)
    # The arrow ends 0.15 m ahead, the button begins 0.1 m before its centre.
    assert 0.44 < float(states.body.x.max()) < 0.47
    assert float(jnp.abs(states.body.vx[-1])) < 0.02
    assert not np.asarray(out.cost[:20]).any()
    assert np.asarray(out.cost[-50:]).all()
    state = state._replace(memory=state.memory | {"goal_button": jnp.asarray(0.0)})
    _, out = roll(env, state, [1.0, 0.0], 80)
    first = int(np.argmax(np.asarray(out.info["success"])))
    assert first > 20
    assert float(out.reward[first]) > 1 - 1e-3
    hidden = out.obs[first, slice(*env.spec.obs_slices["buttons_lidar"])]
    assert not np.asarray(hidden).any()


def test_vases_are_pushed_and_slide_to_rest():
    env, state = alone("SafetyPointGoal2-v0", vases=[(0.7, 0.0)], goal=[(-3.0, 0.0)])
    states, out = roll(env, state, [1.0, 0.0], 80)
    at = states.xy[:, env.slices["vases"].start]
    assert float(at[-1, 0] - at[0, 0]) > 0.1
    assert abs(float(at[-1, 1])) < 0.02
    assert (np.asarray(at[:, 0] - states.body.x) > 0.24).all()  # half the vase, and the arrow's end
    assert np.asarray(out.info["cost_vases_contact"]).any()
    assert np.asarray(out.info["cost_vases_velocity"][-1]) == 1
    last = jax.tree.map(lambda x: x[-1], states)
    _rest, out = roll(
        env, last._replace(body=last.body._replace(x=jnp.asarray(-2.0), vx=jnp.zeros(()))), [0.0, 0.0], 45
    )
    moving = np.asarray(out.info["cost_vases_velocity"])
    assert moving[0] == 1
    assert not moving[-1]
    assert (np.diff(moving) <= 0).all()
    assert 20 < moving.sum() < 35  # from 1.4 m/s


def test_the_box_is_pushed_turned_and_held():
    env, state = alone("SafetyPointPush1-v0", push_box=[(0.7, 0.03)])
    states, out = roll(env, state, [1.0, 0.0], 80)
    at = states.xy[:, env.slices["push_box"].start]
    assert float(at[-1, 0]) > 1.0
    assert (np.asarray(at[:, 0] - states.body.x) > 0.3).all()  # the arrow's end, and at least half the box
    assert float(out.reward.sum()) != 0
    # The engine's box from the same start, which hops: a twentieth apart after 0.5 m.
    host = jsafe.envs.make("SafetyPointPush1-v0", num_threads=1)
    host.reset()
    for _ in range(30):
        host.step(np.zeros((1, 2)))
    saved, zero = host.get_state(0), np.zeros(1)
    pose = saved["joints"]["push_box"][0] * [0, 0, 1, 0, 0, 0, 0] + [0.7, 0.03, 0, 1, 0, 0, 0]
    joints = dict.fromkeys("xyz", (zero, zero, zero)) | {"push_box": (pose, np.zeros(6), np.zeros(6))}
    far = (np.array([5.0, 5.0, 0.5]), np.array([1.0, 0, 0, 0]))
    host.set_state(0, {"joints": joints, "bodies": {"pillar0": far}, "step": 0})
    for _ in range(80):
        host.step(np.array([[1.0, 0.0]]))
    after = host.get_state(0)["joints"]
    assert abs(float(states.body.x[-1]) - after["x"][0][0]) < 0.03
    np.testing.assert_allclose(at[-1], after["push_box"][0][:2], atol=0.1)
    # Against a pillar it stays, and so does the robot.
    env, state = alone("SafetyPointPush1-v0", push_box=[(0.7, 0.0)], pillars=[(1.3, 0.0)])
    states, out = roll(env, state, [1.0, 0.0], 80)
    assert 0.8 < float(states.xy[-1, env.slices["push_box"].start, 0]) < 0.85  # the pillar between two columns
    assert abs(float(states.body.x[-1] - states.body.x[-21])) < 0.02  # it shivers
    assert float(states.body.x[-1]) < 0.5


def test_gremlins_go_round():
    """As MuJoCo's do after a second: a radius of 0.34887 m, 0.0878 s behind."""
    env, state = alone("SafetyPointButton1-v0")
    states, _ = roll(env, state._replace(xy=state.xy.at[env.slices["gremlins"]].set(state.centre)), [0.0, 0.0], 100)
    first = np.asarray(states.xy[-5:, env.slices["gremlins"].start] - state.centre[0])
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 0.34887, atol=3e-4)
    time = (10 * np.arange(1, 101) - 1)[-5:] * 0.002
    np.testing.assert_allclose(time - np.arctan2(first[:, 0], first[:, 1]), 0.0878, atol=2e-3)


def test_distances_of_shapes():
    robot = Body(*map(jnp.asarray, (0.0, 0.0, np.pi / 2, 0.0, 0.0, 0.0)))  # the arrow points along y
    touch = contacts.disks(robot, jnp.array([[0.25, 0.0], [0.0, 0.3]]), 0.1)
    np.testing.assert_allclose(
        touch.depth, [[-0.05, -0.1], [0.1 - 0.1**0.5 * 0 - np.hypot(0.2, 0.05), -0.05]], atol=1e-6
    )
    np.testing.assert_allclose(touch.normal[0, 0], [1, 0], atol=1e-6)
    np.testing.assert_allclose(touch.normal[1, 1], [0, 1], atol=1e-6)
    touch = contacts.squares(
        robot, jnp.array([[0.15, 0.0], [0.0, 0.24], [0.3, 0.3]]), jnp.array([0.0, 0.0, np.pi / 4]), 0.1
    )
    np.testing.assert_allclose(touch.depth[0], [0.05, -0.04, 0.1 + 0.1 - np.hypot(0.3, 0.3)], atol=1e-6)
    np.testing.assert_allclose(touch.depth[1, :2], [0.0, 0.01], atol=1e-6)
    np.testing.assert_allclose(touch.normal[1, 1], [0, 1], atol=1e-6)
    np.testing.assert_array_equal(touch.any, [True, True, False])


class Parcel(Task):
    """One's own task: array code."""

    objects = (place("goal"),)
    memory = ("last",)

    def next_goal(self, episode):
        episode.memory["last"] = episode.stream.uniform(1.0, 2.0)
        episode.move("goal", (episode.stream.random(), 0.5))
        return True

    def reward(self, scene, now, met):
        return scene.xp.exp(-scene.memory["last"])


class Stubborn(Parcel):
    def reward(self, scene, now, met):
        if scene.memory["last"][0] > 0:  # a decision on a value
            return scene.memory["last"]
        return -scene.memory["last"]


class Numpy(Parcel):
    def reward(self, scene, now, met):
        return np.exp(-scene.memory["last"])


for _name, _kind in (("Parcel-v0", Parcel), ("Stubborn-v0", Stubborn), ("NumpyTask-v0", Numpy)):
    if _name not in jsafe.envs.list_ids():
        register(_name, _kind, "Point")


def test_ones_own_task():
    env = vectorise(device.make("Parcel-v0"))
    state, _ = env.reset(jax.random.split(jax.random.key(0), 3))
    assert ((np.asarray(state.xy[:, 0, 0]) > 0) & np.isclose(state.xy[:, 0, 1], 0.5)).all()
    _, step = env.step(state, jnp.zeros((3, 2)), jax.random.split(jax.random.key(1), 3))
    np.testing.assert_allclose(step.reward, np.exp(-state.memory["last"]), rtol=1e-5)
    for id, line in (("Stubborn-v0", r"if scene\.memory"), ("NumpyTask-v0", r"np\.exp")):
        with pytest.raises(ValueError, match=rf"runs on the host only.*test_point\.py, line \d+: .*{line}"):
            device.make(id)


def test_what_has_no_closed_form():
    for id, match in (
        ("SafetyCarPush1-v0", "no closed form of Car"),
        ("SafetyAntVelocity-v1", "no device environment"),
    ):
        with pytest.raises(ValueError, match=match):
            device.make(id)
    with pytest.raises(ValueError, match="backend='host' only"):
        jsafe.envs.make("gymnasium:CartPole-v1", backend="device")
