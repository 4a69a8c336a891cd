"""Films of environments from outside, through the command line."""

import math
from pathlib import Path

import imageio.v2 as imageio
import jax
import numpy as np
import pytest

import jsafe
from jsafe import cli, data
from jsafe.envs import Spec
from jsafe.ops.editing import edit_action
from jsafe.report import bars, video
from jsafe.spaces import Box

HERE = Path(__file__).parent


def test_an_outside_environment_is_filmed_at_its_own_speed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(HERE)  # its module is found in the current folder
    path = tmp_path / "out.mp4"
    words = ["play", "python:drawable:Drawable", "--env.level=20", "--env.horizon", "10", "--video", str(path)]
    assert cli.main(words) == 0
    frames = imageio.mimread(path, memtest=False)
    assert len(frames) == 11
    assert frames[9].mean() == pytest.approx(180, abs=3)
    assert imageio.get_reader(path).get_meta_data()["fps"] == 5
    assert "episode 1: return 10, cost 5, 10 steps" in capsys.readouterr().out


def test_a_step_of_unknown_length_is_shown_for_a_thirtieth_of_a_second():
    assert [video._frames_per_second(dt) for dt in (0.1, 10.0, math.nan, 0.0)] == [10, 1, 30, 30]


def test_a_gif_has_at_most_25_frames_a_second(tmp_path):
    assert video._pace(0.02, Path("a.gif")) == (2, {"duration": 40.0, "loop": 0, "subrectangles": True})
    assert video._pace(0.05, Path("a.GIF"))[0] == 1
    recorded = video.record(Sled(), tmp_path / "a.gif", lambda env: video.random_policy(env, seed=0), with_bars=True)
    frames = imageio.mimread(tmp_path / "a.gif")
    assert (recorded.frames, len(frames)) == (10, 5)  # at 50 steps a second
    assert frames[0].shape[0] == 32 + bars.height(2)


class Sled:
    """Nine steps of 0.02 s with two components of which the second is in other units; black pictures."""

    num_envs = 1
    spec = Spec("Sled", Box(2), Box(2, (-1.0, 0.0), (1.0, 10.0)), 1, 9, ("cost",), {}, 0.02, action_names=("to", "fro"))

    def reset(self, seed=None):
        """At the start."""
        self.steps = 0
        return np.zeros((1, 2))

    def step(self, actions):
        """One step."""
        self.steps += 1
        self.last, no = actions, np.zeros(1, bool)
        return jsafe.envs.Step(
            np.zeros((1, 2)), np.ones(1), np.zeros((1, 1)), no, np.array([self.steps == 9]), np.zeros((1, 2)), {}
        )

    def render(self, i, width=64, height=32):
        """Nothing."""
        return np.zeros((height, width, 3), np.uint8)


def columns(picture, colour):
    """First and last column that has a colour."""
    found = np.flatnonzero((picture == colour).all(-1).any(0))
    return (int(found[0]), int(found[-1])) if len(found) else None


def test_bars_reach_from_nothing_to_the_proposal_and_on_to_the_action():
    picture = np.zeros((10, 220, 3), np.uint8)
    left, right = bars._MARGIN + 2 * bars._LETTER, 220 - bars._MARGIN
    at = lambda value: left + (right - left) * (value + 1) / 2  # noqa: E731
    drawn = bars.under(picture, ("x",), np.array([0.75]), np.array([-0.5]))
    assert drawn.shape == (10 + bars.height(1), 220, 3)
    assert not drawn[:10].any()
    assert columns(drawn, bars.PROPOSAL) == pytest.approx((at(-0.5), at(0)), abs=1.5)
    assert columns(drawn, bars.ACTION) == pytest.approx((at(-0.5), at(0.75)), abs=1.5)
    alone = bars.under(picture, ("x",), np.array([0.75]))
    assert columns(alone, bars.PROPOSAL) is None
    assert columns(alone, bars.ACTION) == pytest.approx((at(0), at(0.75)), abs=1.5)
    assert columns(bars.under(picture, ("x",), None), bars.ACTION) is None
    assert video._Bars(jsafe.envs.make("Toy-SpeedLimit-v0"))._names == ("action 0",)


def test_the_film_is_told_the_proposal_of_the_action_that_follows():
    env = Sled()
    options = {"hidden": (8,), "num_envs": 2, "sequences": 2, "frame_stack": 2}
    learner = jsafe.make("seditor", jsafe.env_spec(env), **options)
    policy, told, frames = jax.jit(lambda key: learner.policy(learner.init(key)))(jax.random.key(0)), [], []
    filmed = video.Filmed(env, frames.append, {"width": 200}, with_bars=True)

    def tell(extras):
        told.append(extras)
        filmed.tell(extras)

    acting = data.Policy(learner, policy, deterministic=False)
    for _, played in zip(range(3), data.play(filmed, acting, jax.random.key(1), tell=tell)):
        extras = told[-1]
        assert extras["proposal"].shape == (1, 2)
        np.testing.assert_allclose(played.action, edit_action(extras["proposal"], extras["delta"], "add"), atol=1e-6)
        expected = bars.under(
            np.zeros((32, 200, 3), np.uint8), ("to", "fro"), played.action[0], extras["proposal"][0], line_of(filmed)
        )
        np.testing.assert_array_equal(frames[-1], expected)
    np.testing.assert_allclose(env.last[0, 1], 5 + 5 * played.action[0, 1], rtol=1e-6)


def line_of(filmed):
    """What is written above the bars."""
    return {"step": filmed._length, "return": f"{filmed._return:.2f}", "cost": "0"}


def test_the_plan_that_led_to_a_picture_is_marked_in_it():
    env = jsafe.envs.make("SafetyPointGoal1-v0-modelbased")
    planner = {"planner.samples": 8, "elites": 2, "planner.horizon": 3, "planner.iterations": 1, "particles": 5}
    learner = jsafe.make("cce_pets", jsafe.env_spec(env), hidden=(8,), **planner)
    policy, told, frames = jax.jit(lambda key: learner.policy(learner.init(key)))(jax.random.key(0)), [], []
    view = {"camera": "overhead", "width": 64, "height": 48}
    filmed = video.Filmed(env, frames.append, view, with_plans=True)

    def tell(extras):
        told.append(extras["plan"])
        filmed.tell(extras)

    for _ in zip(range(2), data.play(filmed, data.Policy(learner, policy), jax.random.key(1), seed=3, tell=tell)):
        places = told[-1][0, ..., 27:29].reshape(-1, 2)
        assert places.shape == (5 * 3, 2)
        np.testing.assert_array_equal(frames[-1], env.render(0, **view, points=places))
        assert (frames[-1] != env.render(0, **view)).any()
    with pytest.raises(ValueError, match="this one acts by its policy"):
        filmed.tell({"proposal": np.zeros((1, 2))})


def test_plans_where_there_are_none(tmp_path, capsys):
    with pytest.raises(ValueError, match="those of SafetyPointGoal1-v0 have none"):
        video.Filmed(jsafe.envs.make("SafetyPointGoal1-v0"), lambda frame: None, {}, with_plans=True)
    words = ["play", "SafetyPointGoal1-v0-modelbased", "--plans", "--video", str(tmp_path / "out.gif")]
    assert cli.main(words) == 2
    assert "plans are those of a run folder, not of random" in capsys.readouterr().err


def test_bars_of_choices_are_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(HERE)
    words = ["play", "python:drawable:Drawable", "--env.horizon", "10", "--video", str(tmp_path / "out.mp4"), "--bars"]
    assert cli.main(words) == 2
    assert "bars need actions in a box with bounds" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
