"""Films of environments from outside, through the command line."""

import math
from pathlib import Path

import imageio.v2 as imageio
import pytest

from jsafe import cli
from jsafe.report import video

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
