"""The command line as a user meets it: processes, signals, full disks, wrong words."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_learner
import jax
import numpy as np
import pytest

from jsafe import cli, envs, registry, train
from jsafe.cli import commands
from jsafe.curves import logging
from jsafe.envs import registry as env_registry
from jsafe.report import plot
from jsafe.runs import build, evaluation
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.config import RunConfig

TINY = shlex.split(
    "--env Toy-SpeedLimit-v0 --total-steps 2.4e3 --log-interval 200 --num-envs 4 --unroll 2 --sequences 8 "
    "--sequence-length 4 --hidden 8 --frame-stack 2 --initial-rows 100 --replay-rows 150 --seed 3"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compiled programs are shared by the processes of these tests."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def command(*words):
    return [sys.executable, "-m", "jsafe.cli", *map(str, words)]


def start(environment, *words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*words), env=environment, **pipes)


def wait_for_checkpoint(process, folder, after=-1):
    """Waits until a checkpoint later than iteration `after` is there."""
    store, end = Checkpoints(folder), time.monotonic() + 120
    while not (store.list() and store.list()[-1] > after):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no checkpoint in two minutes"
        time.sleep(0.01)
    return store.list()[-1]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    process = start(environment, "train", "seditor", *TINY, "--run-dir", folder)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "finished" in output
    assert "multiplier" in error
    return folder


def content(folder):
    """Curve without wall time, and every array of the last checkpoint but those about chunks and time, by name."""
    rows = [
        {name: value for name, value in row.items() if name not in logging.WALL_COLUMNS}
        for row in logging.read_csv(folder / "progress.csv")
    ]
    config, algorithm, options = train.read(folder)
    learner = build.make_learner(algorithm, options, config.env)
    from jsafe.data import make_collector

    env = build.make_env(config.env, learner.data.num_envs)
    collector = make_collector(env, learner)
    store = Checkpoints(folder)
    path = folder / "checkpoints" / f"{store.list()[-1]:08d}" / "manifest.json"
    store.config = json.loads(path.read_text())["config"]
    loaded = store.load(learner.init(jax.random.key(0)), collector)
    host = collector.state_dict()
    del host["replay"]["chunk_ends"]
    batch = collector.replay.sample(np.random.default_rng(0), 64, 4)
    return rows, loaded.iteration, [loaded.state, host, list(batch), loaded.extra["interval"]]


def assert_same_run(a, b):
    (rows, iteration, tree), (other_rows, other_iteration, other_tree) = content(a), content(b)
    assert len(rows) == 12
    assert rows == other_rows
    assert iteration == other_iteration
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    others, other_structure = jax.tree_util.tree_flatten_with_path(other_tree)
    assert structure == other_structure
    assert len(leaves) > 30
    for (path, x), (_, y) in zip(leaves, others):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)


def test_a_killed_run_resumes_bit_for_bit(tmp_path, environment, unbroken):
    """SIGKILL at two random moments, each somewhere after a checkpoint; the third session ends the run."""
    folder, seed = tmp_path / "run", random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    words = ["train", "seditor", *TINY, "--checkpoint-seconds", 0.02, "--run-dir", folder]
    last = -1
    for _ in range(2):
        process = start(environment, *words)
        last = wait_for_checkpoint(process, folder, last)
        time.sleep(moments.random() * 0.3)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was done before the kill (seed {seed})"
        words = ["train", "--resume", folder]
    process = start(environment, *words)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "continuing at" in error
    assert_same_run(folder, unbroken)


def test_ctrl_c_saves_and_exits(tmp_path, environment, unbroken):
    folder = tmp_path / "run"
    process = start(environment, "train", "seditor", *TINY, "--checkpoint-seconds", 0.02, "--run-dir", folder)
    wait_for_checkpoint(process, folder)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert f"jsafe train --resume {folder}" in error
    assert "interrupted" in output
    process = start(environment, "train", "--resume", folder)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert_same_run(folder, unbroken)


def test_files_that_cannot_grow_are_reported_and_nothing_breaks(tmp_path, environment):
    """The kernel refuses to let any file grow beyond 4 kB, as a full disk or a quota would."""

    folder = tmp_path / "run"
    words = command("train", "seditor", *TINY, "--total-steps", 400, "--run-dir", folder)
    limited = f"ulimit -f 8; exec {shlex.join(words)}"  # in blocks of 512 bytes
    done = subprocess.run(["sh", "-c", limited], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "unsaved" in done.stdout
    assert "could not write the checkpoint: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert Checkpoints(folder).list() == []
    process = start(environment, "train", "--resume", folder)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert len(Checkpoints(folder).list()) == 1


def test_importing_the_command_line_is_quick_and_needs_no_engine(environment):
    code = "import sys, jsafe.cli.main; print('mujoco' in sys.modules, 'matplotlib' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["False", "False"]


def run(capsys, *words):
    """Exit status, standard output and standard error of a command in this process."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as end:  # tyro's way to end after --help and after errors
        status = end.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def fake_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fake"
    words = (
        f"train fake --env Toy-SpeedLimit-v0 --total-steps 3e2 --log-interval 50 --inner.widths 5 6 --run-dir {folder}"
    )
    assert cli.main(words.split()) == 0
    return folder


def test_options_reach_the_run(fake_run):
    config, algorithm, options = train.read(fake_run)
    assert (config.total_steps, config.log_interval, config.seed) == (300, 50, 0)
    assert algorithm == "fake"
    assert options == fake_learner.FakeConfig(inner=fake_learner.Inner((5, 6)))
    assert sorted(path.name for path in fake_run.iterdir()) == [
        "checkpoints",
        "config.json",
        "journal",
        "progress.csv",
        "tensorboard",
    ]


def test_a_preset_moves_the_defaults_and_options_come_last():
    algorithm = registry.get("fake")
    env = ["--env", "Toy-SpeedLimit-v0"]
    assert commands._train_options(algorithm, [*env, "--preset", "fast"])[1].rate == 1.0
    run, options, *_ = commands._train_options(algorithm, [*env, "--preset=fast", "--rate", "3", "--seed", "4"])
    assert options.rate == 3.0
    assert run.preset == "fast"
    assert commands._default_folder("fake", run) == Path("runs/fake-Toy-SpeedLimit-v0-s4")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("trian", 2, "did you mean 'train'"),
        ("train sedito --env X", 2, "did you mean 'seditor'"),
        ("train fake --env Toy-SpeedLimit-v0 --totl-steps 5", 2, "did you mean --total-steps?"),
        ("train fake --env Toy-SpeedLimit-v0 --inner.width 5", 2, "did you mean --inner.widths?"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps 5.5", 2, "5.5 is not a whole number"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps many", 2, "many"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps 0", 2, "total_steps must be a whole number of at least 1"),
        ("train fake --env Toy-SpeedLimit-v0 --preset fats", 2, "did you mean 'fast'"),
        ("train fake --env Toy-SpedLimit-v0", 2, "did you mean 'Toy-SpeedLimit-v0'"),
        ("train fake", 2, "--env"),
        ("train", 2, ""),
        ("train --resume nowhere", 1, "nowhere is not a run folder"),
        ("evaluate nowhere", 1, "nowhere is not a run folder"),
        ("plot nowhere", 2, "nowhere is not a run folder"),
        ("list tasks", 2, "takes no options"),
        ("", 2, ""),
    ],
)
def test_wrong_words_are_named(tmp_path, monkeypatch, capsys, words, status, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, *words.split())
    assert code == status
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_help_is_there(capsys):
    assert run(capsys, "--help")[0] == 0
    assert "jsafe plot" in run(capsys, "--help")[1]
    status, output, _ = run(capsys, "train", "fake", "--help")
    assert status == 0
    for text in ("--total-steps", "--rate", "Step size.", "--inner.widths", "Presets: fast"):
        assert text in output


def test_a_reader_that_has_gone_is_no_traceback(environment):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        ended = subprocess.run(command("train"), env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 128 + signal.SIGPIPE
    assert ended.stderr == ""


def test_evaluate_writes_what_it_prints(capsys, fake_run):
    status, output, progress = run(capsys, "evaluate", fake_run, "--episodes", 5)
    assert status == 0
    assert " steps" in progress
    report = json.loads((fake_run / "evaluation.json").read_text())
    assert report["episodes"] == 5
    assert report["deterministic"] is True
    assert report["env_steps"] == 300
    values = report["per_episode"]
    assert len(values["return"]) == 5
    assert report["return"]["mean"] == pytest.approx(np.mean(values["return"]))
    assert report["cost_rate"] == pytest.approx(np.sum(values["cost"]) / np.sum(values["length"]))
    assert f"{report['return']['mean']:.4g}" in output
    assert run(capsys, "evaluate", fake_run, "--episodes", 5, "--stochastic")[0] == 0
    sampled = json.loads((fake_run / "evaluation.json").read_text())
    assert sampled["deterministic"] is False
    assert sampled["per_episode"]["return"] != values["return"]
    assert run(capsys, "evaluate", fake_run, "--episodes", 0)[0] == 2


def test_a_policy_comes_back_for_a_notebook(fake_run):
    learner, loaded = evaluation.restore(fake_run)
    out = learner.act(learner.policy(loaded.state), np.zeros((2, 3), np.float32), jax.random.key(0), True)
    assert out.action.shape == (2, 1)


class Drawn(envs.ToyEnv):
    """A toy that can be drawn: the frame's brightness is the elapsed time."""

    def render(self, i=0, camera="track", width=64, height=48):
        if camera != "track":
            raise ValueError(f"unknown camera {camera!r}")
        level = 5 * int(self.state_dict()["elapsed"][i])
        return np.full((height, width, 3), level, np.uint8)


def test_a_video_holds_every_step(tmp_path, monkeypatch, capsys, fake_run):
    import imageio.v2 as imageio

    monkeypatch.setitem(env_registry.TOYS, "Toy-SpeedLimit-v0", Drawn)
    path = tmp_path / "out.mp4"
    assert run(capsys, "evaluate", fake_run, "--episodes", 1, "--video", path)[0] == 0
    frames = imageio.mimread(path, memtest=False)
    assert len(frames) == 51  # the first observation and 50 steps
    assert frames[0].shape == (480, 640, 3)
    assert frames[40].mean() > frames[5].mean() + 100
    status, _, error = run(capsys, "evaluate", fake_run, "--episodes", 1, "--video", path, "--camera", "side")
    assert status == 2
    assert "unknown camera 'side'" in error


def test_play_shows_how_far_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(env_registry.TOYS, "Toy-SpeedLimit-v0", Drawn)
    words = ["play", "Toy-SpeedLimit-v0", "--video", tmp_path / "out.mp4", "--episodes", 2, "--steps", 70]
    status, output, error = run(capsys, *words, "--width", 64, "--height", 48)
    assert status == 0
    assert "1/70 steps" in error
    assert "70/70 steps" in error
    assert "(71 frames)" in output


def test_what_cannot_be_drawn_is_explained(tmp_path, monkeypatch, capsys, fake_run):
    status, _, error = run(capsys, "evaluate", fake_run, "--episodes", 1, "--video", tmp_path / "out.mp4")
    assert status == 1
    assert "no render()" in error

    class NoLibrary(Drawn):
        def render(self, *_, **__):
            raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setitem(env_registry.TOYS, "Toy-SpeedLimit-v0", NoLibrary)
    status, _, error = run(capsys, "evaluate", fake_run, "--episodes", 1, "--video", tmp_path / "out.mp4")
    assert status == 1
    assert "libosmesa6" in error


def test_plot_draws_the_run(tmp_path, capsys, fake_run):
    status, output, _ = run(capsys, "plot", fake_run, "-o", tmp_path / "curves.png")
    assert status == 0
    assert output.strip() == str(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    labels = [line.get_label() for line in plot.figure([fake_run]).axes[-1].lines]
    assert labels == ["fake", "limit 0.25"]


def test_list_names_algorithms_and_tasks(capsys):
    status, output, _ = run(capsys, "list")
    assert status == 0
    for text in ("seditor", "sac_lag", "Safexp-PointGoal1-v0", "SafetyCarPush2-v0"):
        assert text in output


def test_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunConfig("Toy-SpeedLimit-v0")
    assert commands._default_folder("fake", run) == Path("runs/fake-Toy-SpeedLimit-v0-s0")
    (tmp_path / "runs" / "fake-Toy-SpeedLimit-v0-s0").mkdir(parents=True)
    assert commands._default_folder("fake", run) == Path("runs/fake-Toy-SpeedLimit-v0-s0-2")
