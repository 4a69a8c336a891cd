"""Driving by hand: what keys do, and that a terminal shows it, through a pseudo-terminal."""

import functools
import os
import termios
import threading
import time

import numpy as np
import pytest

from jsafe import cli, envs
from jsafe.report import driving, screens
from jsafe.runs.folder import RunError

UP, DOWN, RIGHT, LEFT = (b"\x1b[" + letter for letter in (b"A", b"B", b"C", b"D"))


@pytest.fixture
def terminal():
    """The other end of a pseudo-terminal, its descriptor, and what has been shown on it."""
    person, ours = os.openpty()
    shown, over = bytearray(), threading.Event()

    def read():
        while not over.is_set():
            try:
                shown.extend(os.read(person, 65536))
            except OSError:  # the other end has been closed
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield person, ours, shown
    over.set()
    os.close(ours)
    reader.join(5)
    os.close(person)


def pressed(screen, person, text, wanted):
    """Types; waits until the keys have arrived."""
    os.write(person, text)
    end = time.monotonic() + 5
    while (held := screen.held()) != wanted and time.monotonic() < end:
        time.sleep(0.005)
    return held


def test_a_terminal_tells_which_keys_are_held(terminal, monkeypatch):
    person, ours, _ = terminal
    before = termios.tcgetattr(ours)
    screen = screens.Terminal(ours, ours)
    monkeypatch.setattr(screens, "HELD", 100.0)
    assert screen.held() == set()
    assert pressed(screen, person, UP, {"up"}) == {"up"}
    assert pressed(screen, person, b"\x1bOD", {"up", "left"}) == {"up", "left"}
    assert pressed(screen, person, DOWN + RIGHT, {"down", "right"}) == {"down", "right"}
    os.write(person, b"x\x1b")
    os.write(person, b"[A")
    assert pressed(screen, person, b"", {"up", "right"}) == {"up", "right"}
    monkeypatch.setattr(screens, "HELD", 0.0)
    assert screen.held() == set()
    assert pressed(screen, person, b"q", {"quit"}) == {"quit"}
    screen.close()
    assert termios.tcgetattr(ours) == before


@pytest.mark.parametrize("colours", ["truecolor", ""])
def test_two_pixels_are_one_character(terminal, monkeypatch, colours):
    _, ours, shown = terminal
    monkeypatch.setenv("COLORTERM", colours)
    screen = screens.Terminal(ours, ours)
    picture = np.zeros((4, 2, 3), np.uint8)
    picture[0, 0], picture[1, 0] = (255, 0, 0), (0, 0, 255)
    screen.show(picture, "below")
    screen.close()
    end = time.monotonic() + 5
    while not shown.endswith(b"\x1b[?1049l") and time.monotonic() < end:
        time.sleep(0.005)
    text = shown.decode()
    assert text.count("▀") == 4
    assert ("\x1b[38;2;255;0;0;48;2;0;0;255m▀" if colours else "\x1b[38;5;196;48;5;21m▀") in text
    assert "below" in text


def test_keys_drive_the_robot_until_the_person_quits(terminal, monkeypatch, capsys):
    person, ours, shown = terminal
    ticks = iter([b"", *[UP + LEFT] * 4, b"q"])
    monkeypatch.setattr(screens, "HELD", 1e9)
    screen, now = None, [0.0]

    def open_screen(*_):
        nonlocal screen
        screen = screens.Terminal(ours, ours)
        return screen

    def sleep(seconds):
        assert seconds == pytest.approx(0.08)  # real time: four steps of 0.02 s
        now[0] += seconds
        text = next(ticks)
        pressed(screen, person, text, {"quit", "up", "left"} if text == b"q" else {"up", "left"} if text else set())

    monkeypatch.setattr(screens, "open_screen", open_screen)
    drive = driving.drive
    monkeypatch.setattr(driving, "drive", functools.partial(drive, clock=lambda: now[0], sleep=sleep))
    assert cli.main(["play", "SafetyPointGoal1-v0", "--keys", "--seed", "3"]) == 0
    env = envs.make("SafetyPointGoal1-v0", action_repeat=4)
    env.reset(seed=3)
    steps = [env.step(np.array([[0.0, 0.0] if t < 2 else [1.0, 1.0]])) for t in range(6)]
    total, cost = sum(out.reward[0] for out in steps), sum(out.cost[0, 0] for out in steps)
    assert capsys.readouterr().out == f"episode 1: return {total:.4g}, cost {cost:.4g}, 6 steps\n"
    text = shown.decode()
    assert text.count("▀") > 1000
    assert f"step 5  return {sum(out.reward[0] for out in steps[:5]):.2f}  cost" in text


def test_keys_add_up_to_actions():
    assert driving.action(driving.ROBOTS["Car"], {"up", "left"}).tolist() == [1.0, pytest.approx(0.4)]
    assert driving.action(driving.RACING, set()).tolist() == [0, -1, -1]
    assert driving.action(driving.RACING, {"up", "right"}).tolist() == [1, 1, -1]
    forward = {"Car": np.array([[1.0, 1.0]]), "Racecar": np.array([[10.0, 0.0]])}
    for robot, ahead in forward.items():
        env = envs.make(f"Safety{robot}Goal0-v0")
        env.reset(seed=0)
        assert driving.drive_of(env) == driving.ROBOTS[robot]
        low, high = np.array(env.spec.action_low), np.array(env.spec.action_high)
        wanted = low + (driving.action(driving.ROBOTS[robot], {"up"}) + 1) / 2 * (high - low)
        np.testing.assert_allclose(wanted[None], ahead)


def test_the_map_shows_what_stands_where():
    env = envs.make("SafetyPointGoal0-v0")
    env.reset(seed=0)
    x, y, _ = env.simulation.scene.agent_pos[0]
    env.set_state(0, {"bodies": {"goal": (np.array([x + 1.0, y + 0.5, 0.16]), np.array([1.0, 0, 0, 0]))}})
    picture = env.render(0, "overhead", width=88, height=44).astype(int)  # 10 pixels for a metre
    assert picture.shape == (44, 88, 3)
    rows, columns = np.nonzero(picture[..., 1] > picture[..., 0] + 30)
    assert abs(columns.mean() + 0.5 - 54) < 0.5
    assert abs(rows.mean() + 0.5 - 17) < 0.5
    assert len(rows) == pytest.approx(100 * np.pi * 0.3**2, abs=6)
    red = np.argwhere((picture == (189, 11, 47)).all(axis=-1)).mean(axis=0)
    blue = np.argwhere((picture == (1, 39, 101)).all(axis=-1)).mean(axis=0)
    nose = (blue - red)[::-1] * (1, -1)
    heading = env.simulation.scene.agent_rot[0][:2, 0]
    assert nose @ heading / np.linalg.norm(nose) > 0.8
    marked = env.render(0, "overhead", width=88, height=44, points=[(x - 2.0, y + 1.0), (90.0, 0.0)])
    rows, columns = np.nonzero((marked != picture).any(axis=-1))
    assert (abs(columns.mean() + 0.5 - 24), abs(rows.mean() + 0.5 - 12)) < (1, 1)
    with pytest.raises(ValueError, match=r"points must be finite and of shape \[P, 2\], got shape \(1, 3\)"):
        env.render(0, "overhead", points=[(1.0, 2.0, 3.0)])


def test_what_cannot_be_driven_is_named(capsys):
    never = pytest.fail
    with pytest.raises(RunError, match=r"keys cannot drive a robot of so many joints as Ant: only Point, Car, Racecar"):
        driving.drive("SafetyAntGoal0-v0", never)
    with pytest.raises(RunError, match=r"has? ?.*no render\(\)"):
        driving.drive("Toy-SpeedLimit-v0", never)
    assert cli.main(["play", "SafetyPointGoal1-v0", "--keys", "--video", "a.mp4"]) == 2
    assert "video must be left out with --keys" in capsys.readouterr().err
    read, write = os.pipe()
    with pytest.raises(screens.ScreenError, match="keys need a display or a terminal"):
        screens.Terminal(read, write)
    os.close(read)
    os.close(write)
