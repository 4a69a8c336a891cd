"""A batch in several processes is the batch in one, bit for bit."""

import numpy as np
import pytest

import jsafe.envs
from jsafe.envs import Task, place, register
from jsafe.envs.outside.workers import WorkerError

ID, N = "SafetyPointGoal1-v0", 5


@pytest.fixture(scope="module")
def both():
    envs = [jsafe.envs.make(ID, N, seed=3, num_threads=2, costs="separate", num_processes=p) for p in (None, 2)]
    yield envs
    for env in envs:
        env.close()


def same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def test_everything_is_the_same(both):
    alone, team = both
    assert alone.spec == team.spec
    same(alone.reset(), team.reset())
    rng = np.random.default_rng(0)
    for turn in range(6):
        mask = None if turn else np.arange(N) < 2
        actions = rng.uniform(-1, 1, (N, 2))
        same(alone.step(actions, mask=mask)._asdict(), team.step(actions, mask=mask)._asdict())
    same(alone.reset(mask=np.arange(N) == 4), team.reset(mask=np.arange(N) == 4))
    same(alone.get_state(3), team.get_state(3))
    late = alone.get_state(3) | {"step": 999}
    for env in both:
        env.set_state(3, late)
    actions = rng.uniform(-1, 1, (N, 2))
    one, other = alone.step(actions), team.step(actions)
    same(one._asdict(), other._asdict())
    np.testing.assert_array_equal(one.truncated, np.arange(N) == 3)
    same(alone.observe(), team.observe())
    same(alone.reset(seed=9), team.reset(seed=9))


def test_either_loads_the_others_state(both):
    alone, team = both
    team.reset(seed=1)
    saved = team.state_dict()
    alone.load_state_dict(saved)
    same(alone.state_dict(), saved)
    actions = np.ones((N, 2))
    same(alone.step(actions)._asdict(), team.step(actions)._asdict())
    moved = alone.state_dict()
    broken = moved | {"streams": moved["streams"] | {"pos": np.array([0, 0, 0, 0, 999])}}
    before = team.state_dict()
    with pytest.raises(ValueError, match=r"streams\.pos"):
        team.load_state_dict(broken)
    same(team.state_dict(), before)
    team.load_state_dict(moved)
    same(alone.step(actions)._asdict(), team.step(actions)._asdict())


def test_errors_come_back_as_they_are(both):
    _, team = both
    team.reset()
    with pytest.raises(ValueError, match="actions"):
        team.step(np.zeros((N, 3)))
    with pytest.raises(ValueError, match="step must be"):
        team.set_state(4, {"step": -1})
    for options, match in (
        ({"id": "Toy-SpeedLimit-v0"}, "one process"),
        ({"id": "gymnasium:CartPole-v1"}, "num_processes is for ours"),
        ({"num_processes": 0}, "num_processes"),
        ({"level": 7}, "level"),
    ):
        with pytest.raises(ValueError, match=match):
            jsafe.envs.make(**({"id": ID, "num_envs": 2, "num_processes": 2} | options))


class Still(Task):
    """One's own task, which another process has to be told of."""

    objects = (place("goal"),)

    def reward(self, scene, now, met):
        return scene.agent_pos[:, 0] * 0.5


def test_ones_own_task_and_a_process_that_dies():
    if "TeamStill-v0" not in jsafe.envs.list_ids():
        register("TeamStill-v0", Still, "Point")
    team = jsafe.envs.make("TeamStill-v0", 2, num_threads=1, num_processes=2, action_repeat=2)
    team.reset(seed=[4, 8])
    step = team.step(np.ones((2, 2)))
    assert step.reward.shape == (2,)
    assert step.reward.all()
    team.env._workers[1].process.kill()
    team.env._workers[1].process.wait()
    with pytest.raises(WorkerError, match=r"killed by signal 9\), in the process of environments 1 to 1"):
        team.step(np.ones((2, 2)))
    team.close()
