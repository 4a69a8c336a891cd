"""The command line as a user meets it: processes, signals, full disks, wrong words."""

import contextlib
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
from jsafe.cli.train import default_folder
from jsafe.curves.csv_table import WALL_COLUMNS, read_csv
from jsafe.envs import WorkerError
from jsafe.envs import registry as env_registry
from jsafe.report import plot
from jsafe.runs import build, compiled, evaluation, folder, session
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.config import RunConfig
from jsafe.runs.lock import lock

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
        {name: value for name, value in row.items() if name not in WALL_COLUMNS}
        for row in read_csv(folder / "progress.csv")
    ]
    run = train.read(folder)
    learner = build.build_learner(run)
    with contextlib.ExitStack() as stack:
        collector = build.build_collector(run, learner, stack)
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


def test_ctrl_c_is_answered_before_anything_has_begun(tmp_path, environment):
    """Wherever it comes in the imports; an exception would be lost there in callbacks of large libraries."""
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "real = builtins.__import__\n"
        "def counted(name, *rest, **named):\n"
        "    if name == os.environ['AT']:\n"
        "        try:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "        except KeyboardInterrupt:\n"
        "            pass  # swallowed, as a callback does\n"
        "    return real(name, *rest, **named)\n"
        "builtins.__import__ = counted\n"
    )
    for at in ("jsafe.curves", "jsafe.runs.session"):
        more = {"AT": at, "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"}
        process = start(environment | more, "train", "seditor", *TINY, "--run-dir", tmp_path / "run")
        output, error = process.communicate(timeout=120)
        assert (process.returncode, output, error) == (130, "", "interrupted\n")
    assert not (tmp_path / "run").exists()


def test_importing_the_command_line_is_quick_and_needs_no_engine(environment):
    code = "import sys, jsafe.cli; print('mujoco' in sys.modules, 'matplotlib' in sys.modules)"
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
    config, algorithm, options, cost_names, spec = train.read(fake_run)
    assert spec.num_costs == 1
    assert cost_names == ("cost_speed0",)
    assert (config.total_steps, config.log_interval, config.seed) == (300, 50, 0)
    assert algorithm == "fake"
    assert options == fake_learner.FakeConfig(inner=fake_learner.Inner((5, 6)))
    assert sorted(path.name for path in fake_run.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.json",
        "journal",
        "progress.csv",
        "tensorboard",
    ]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("trian", 2, "did you mean 'train'"),
        ("train fke --env X", 2, "did you mean 'fake'"),
        ("train fake --env Toy-SpeedLimit-v0 --totl-steps 5", 2, "did you mean --total-steps?"),
        ("train fake --env Toy-SpeedLimit-v0 --inner.width 5", 2, "did you mean --inner.widths?"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps 5.5", 2, "5.5 is not a whole number"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps many", 2, "many"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps inf", 2, "inf is not a whole number"),
        ("train fake --env Toy-SpeedLimit-v0 --total-steps 0", 2, "total_steps must be at least 1"),
        ("train fake --env Toy-SpeedLimit-v0 --seed 1e30", 2, "seed must be at least 0 and at most"),
        (
            "train fake --env Toy-SpeedLimit-v0 --checkpoint-seconds nan",
            2,
            "must be finite, got nan",
        ),
        ("train fake --env Toy-SpeedLimit-v0 --rate inf", 2, "rate must be finite, got inf"),
        ("train fake --env Toy-SpeedLimit-v0 --tensorboard maybe", 2, "maybe"),
        ("train fake --env Toy-SpeedLimit-v0 --run-dir=", 2, "--run-dir is empty"),
        ("train fake --env Toy-SpeedLimit-v0 --preset fats", 2, "did you mean 'fast'"),
        ("train fake --env Toy-SpeedLimit-v0 --env.wind 3", 2, "wind"),
        ("train fake --env Toy-SpeedLimit-v0 --env.num_costs nan", 2, "--env.num_costs must be finite, got nan"),
        ("train fake --env Toy-SpedLimit-v0", 2, "did you mean 'Toy-SpeedLimit-v0'"),
        ("train fake --env Toy-SpeedLimit-v0 --cost-limits 1,2", 2, "fake has no cost limit to keep"),
        ("train fake --env Toy-SpeedLimit-v0 --seeds 2 --depth 1", 2, "--depth 1 is for a run by itself"),
        ("train fake --env Toy-SpeedLimit-v0 --import no_such", 2, "cannot import 'no_such'"),
        (f"train fake --env Toy-SpeedLimit-v0 --run-dir {'x' * 300}", 1, "too long"),
        ("train fake", 2, "--env ID is missing"),
        ("train", 2, ""),
        ("train --resume nowhere", 2, "nowhere is not a run folder"),
        ("train --resume", 2, "resume"),
        ("train --resume . --total-steps -1", 2, "total_steps must be at least 1, got -1"),
        ("train --resume nowhere fake", 2, "fake"),
        ("evaluate nowhere", 2, "nowhere is not a run folder"),
        (f"evaluate {'x' * 300}", 2, "too long"),
        ("evaluate nowhere --episodes 0", 2, "episodes must be at least 1"),
        ("evaluate nowhere --episdes 3", 2, "did you mean --episodes?"),
        ("play", 2, "ID"),
        ("play Toy-SpeedLimit-v0 --width -5", 2, "width must be at least 16"),
        ("play Toy-SpeedLimit-v0 --seed -1", 2, "seed must be at least 0"),
        ("play Toy-SpeedLimit-v0 --video out.txt", 2, "output must be a video file"),
        ("plot", 2, "name at least one run folder"),
        ("plot nowhere", 2, "nowhere is not a run folder"),
        ("plot nowhere -o out.xyz", 2, "output must end in one of"),
        ("sweep nowhere.toml", 2, "cannot read the sweep file nowhere.toml"),
        ("list foo", 2, "foo"),
        ("--version extra", 2, "--version takes nothing more"),
        ("", 2, ""),
    ],
)
def test_wrong_words_are_named_and_leave_nothing_behind(tmp_path, monkeypatch, capsys, words, status, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, *words.split())
    assert code == status
    assert message in error
    assert len(error.strip().splitlines()) <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", ["", "--seeds 2"])
@pytest.mark.parametrize("fault", ["disk", "wandb", "first observations"])
def test_what_is_refused_late_leaves_nothing_behind(tmp_path, monkeypatch, capsys, fault, more):
    """The folder is made by then; the corrected command finds it gone."""
    words = f"train fake --env Toy-SpeedLimit-v0 --total-steps 100 --run-dir {tmp_path / 'run'} {more}"
    with monkeypatch.context() as patch:
        if fault == "disk":
            patch.setattr(session, "free_bytes", lambda folder: 10)
        elif fault == "wandb":
            patch.setitem(sys.modules, "wandb", None)
            words += " --wandb"
        else:
            reset = envs.ToyEnv.reset
            patch.setattr(envs.ToyEnv, "reset", lambda *args, **kwargs: reset(*args, **kwargs) * np.nan)
        code, _, error = run(capsys, *words.split())
    assert code in (1, 2)
    assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert {path.name for path in tmp_path.rglob("*")} <= {"run"}
    assert list(tmp_path.glob("run/*")) == []


def test_a_folder_that_somebody_else_has_taken_stays(tmp_path):
    options = registry.get("fake").config
    made = folder.start(RunConfig("Toy-SpeedLimit-v0"), "fake", options, tmp_path / "run")
    with lock(made):
        folder.undo(made)
    assert (made / "config.json").exists()
    folder.undo(made)
    assert not made.exists()


@pytest.mark.parametrize("chosen", ["stop", "end"])
def test_what_the_user_chose_for_bad_values_reaches_an_outside_environment(monkeypatch, chosen):
    given = []
    monkeypatch.setattr(build.envs, "make", lambda *_, **options: given.append(options))
    build.build_env(RunConfig("gymnasium:Pendulum-v1", on_bad=chosen), 2, 0)
    build.build_env(RunConfig("gymnasium:Pendulum-v1", env_options={"bad_values": "end"}), 2, 0)
    build.build_env(RunConfig("Toy-SpeedLimit-v0", on_bad=chosen), 2, 0)
    assert given == [{"bad_values": chosen}, {"bad_values": "end"}, {}]


@pytest.mark.parametrize("error", [WorkerError("environment 1 is gone"), MemoryError("2 GiB")])
def test_an_environment_that_fails_in_an_evaluation_is_a_line(capsys, monkeypatch, fake_run, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(evaluation, "evaluate", fail)
    assert cli.main(["evaluate", str(fake_run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(str(error))


def test_help_is_there(capsys):
    assert run(capsys, "--help")[0] == 0
    assert "jsafe plot" in run(capsys, "--help")[1]
    status, output, _ = run(capsys, "train", "fake", "--help")
    assert status == 0
    for text in ("--total-steps", "--rate", "Step size.", "--widths", "fast", "Large steps."):
        assert text in output
    assert run(capsys, "evaluate", "--help")[0] == 0


def fake(*words, env, **options):
    """The fake algorithm in a process of its own, which imports it from the current folder."""
    line = ["train", "fake", "--import", "fake_learner", "--env", "Toy-SpeedLimit-v0", "--total-steps", "300"]
    return subprocess.run(command(*line, *words), env=env, cwd=Path(fake_learner.__file__).parent, **options)


def test_a_run_goes_on_when_nobody_reads_what_it_says(tmp_path, environment):
    """`2>&1 | head`, and closed streams: the run ends as it should, and its files are whole."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        ended = fake("--run-dir", tmp_path / "pipe", env=environment, stdout=pipe, stderr=pipe)
    assert ended.returncode == 0
    closed = shlex.join(command("train", "--resume", tmp_path / "pipe", "--total-steps", 400)) + " >&- 2>&-"
    ended = subprocess.run(["sh", "-c", closed], env=environment, cwd=Path(fake_learner.__file__).parent)
    assert ended.returncode == 0
    rows = read_csv(tmp_path / "pipe" / "progress.csv")
    assert rows[-1]["env_steps"] == "400"
    assert len(Checkpoints(tmp_path / "pipe").list()) == 2


def test_a_full_log_is_no_reason_to_stop(tmp_path, environment):
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with open("/dev/full", "w") as log:
        ended = fake("--run-dir", tmp_path / "run", env=environment, stdout=log, stderr=log)
    assert ended.returncode == 0
    assert len(Checkpoints(tmp_path / "run").list()) == 1


def test_modules_and_options_of_the_environment_are_kept_with_the_run(tmp_path, environment):
    """The module is imported again, and the environment has two costs again, for every later command."""
    folder = tmp_path / "a[red]b"
    words = ["--env.num_costs", 2, "--env.act_dim=2", "--run-dir", folder]
    made = fake(*words, env=environment | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert str(folder) in made.stderr
    assert "speed0" in made.stdout
    assert "speed1" in made.stdout
    assert made.stdout.isascii()
    here = Path(fake_learner.__file__).parent
    done = subprocess.run(
        command("evaluate", folder, "--episodes", 2), env=environment, cwd=here, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "evaluation.json").read_text())
    assert [cost["name"] for cost in report["costs"]] == ["cost_speed0", "cost_speed1"]


def test_no_home_folder_is_no_reason_to_fail(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compiled.keep_programs()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_the_goal_of_a_session_is_not_the_goal_of_the_run(fake_run, capsys):
    before = (fake_run / "config.json").read_bytes()
    status, output, _ = run(capsys, "train", "--resume", fake_run, "--total-steps", 1)
    assert status == 0
    assert "finished" in output
    assert (fake_run / "config.json").read_bytes() == before


def test_a_reader_that_has_gone_is_no_traceback(environment):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        ended = subprocess.run(
            command("list", "tasks"), env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True
        )
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
    (cost,) = report["costs"]
    assert cost["per_step"] == pytest.approx(np.sum(values["cost"]) / np.sum(values["length"]))
    for text in (f"{cost['mean']:.4g}", f"{cost['p95']:.4g}, {cost['worst']:.4g}"):
        assert text in output
    assert f"{report['return']['mean']:.4g}" in output
    status, output, _ = run(capsys, "evaluate", fake_run, "--episodes", 1)
    assert (status, "nan" in output) == (0, False)  # a single episode has no standard error
    json.loads((fake_run / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert run(capsys, "evaluate", fake_run, "--episodes", 5, "--stochastic")[0] == 0
    sampled = json.loads((fake_run / "evaluation.json").read_text())
    assert sampled["deterministic"] is False
    assert sampled["per_episode"]["return"] != values["return"]
    status, _, error = run(capsys, "evaluate", fake_run, "--env", "SafetyPointGoal1-v0", "--episodes", 1)
    assert status == 1
    assert "SafetyPointGoal1-v0 is not the one the policy was trained with" in error


def test_a_policy_comes_back_for_a_notebook(fake_run):
    learner, loaded = evaluation.restore(fake_run)
    obs, key = np.zeros((2, 3), np.float32), jax.random.key(0)
    out = learner.act(learner.policy(loaded.state), learner.memory.init(2), obs, key, True)
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
    for text in ("fake (off-policy): Moves at random.", "--preset fast", "Safexp-PointGoal1-v0", "SafetyCarPush2-v0"):
        assert text in output
    status, output, _ = run(capsys, "list", "algorithms", "--json")
    (found,) = [each for each in json.loads(output) if each["name"] == "fake"]
    assert found["presets"] == [{"name": "fast", "summary": "Large steps.", "recommended": False, "total_steps": None}]
    tasks = {task["id"]: task["summary"] for task in json.loads(run(capsys, "list", "tasks", "--json")[1])}
    assert tasks["SafetyPointGoal1-v0"].startswith("Point: drive to a place, then to the next; hazards cost")
    assert all(tasks[name] for name in envs.list_ids() if name.startswith(("Safety", "Safexp", "SafeRacing", "Toy")))


def test_default_folders_are_numbered_and_every_file_system_takes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunConfig("Toy-SpeedLimit-v0")
    assert default_folder("fake", run) == Path("runs/fake-Toy-SpeedLimit-v0-s0")
    (tmp_path / "runs" / "fake-Toy-SpeedLimit-v0-s0").mkdir(parents=True)
    assert default_folder("fake", run) == Path("runs/fake-Toy-SpeedLimit-v0-s0-2")
    outside = default_folder("fake", RunConfig("gymnasium:mine/My Env-v0"))
    assert outside == Path("runs/fake-gymnasium-mine-My-Env-v0-s0")
    assert len(default_folder("fake", RunConfig("python:" + "x" * 400)).name) <= 150
