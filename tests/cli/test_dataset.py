"""`jsafe dataset`: what is recorded can be looked at, thinned, handed on to others and evaluated."""

import json

import numpy as np
import pytest
from fake_learner import FAKE, FakeConfig

from jsafe.cli import main
from jsafe.data import datasets
from jsafe.report import dataset as report
from jsafe.runs import fitted, recording
from jsafe.runs.config import RunConfig
from jsafe.runs.evaluation import restore
from jsafe.runs.folder import start
from jsafe.runs.session import train

pytest.importorskip("h5py")
ENV = "Toy-SpeedLimit-v0"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run with two checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    start(RunConfig(ENV, total_steps=20, tensorboard=False, log_interval=20), FAKE.name, FakeConfig(), folder)
    train(folder)
    train(folder, total_steps=40)
    return folder


def run(capsys, *words):
    status = main([*map(str, words)])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_runs_are_recorded_with_their_shares(run_folder, tmp_path, capsys):
    output = tmp_path / "set.npz"
    words = ["--shares", ".25,.75", "--episodes", 8, "--num-envs", 4, "--seed", 3]
    status, shown, _ = run(capsys, "dataset", "record", f"{run_folder}@2", "random", "-o", output, *words)
    assert status == 0
    assert "16" in shown
    episodes = datasets.read(output)
    assert (len(episodes), episodes.about.env, episodes.about.horizon) == (16, ENV, 50)
    assert np.bincount(episodes.behaviour).tolist() == [4, 12]
    first, second = episodes.about.behaviours
    assert (first["run"], first["algorithm"], first["iteration"], first["deterministic"]) == ("one", "fake", 2, False)
    assert second["algorithm"] == "random"
    told = report.describe(episodes.take(episodes.behaviour == 1))["behaviours"]
    assert [(each["algorithm"], each["episodes"]) for each in told] == [("random", 12)]  # who has none is left out
    again = recording.record([f"{run_folder}@2", "random"], shares=[1, 3], episodes=8, num_envs=4, seed=3)
    assert datasets.checksum(again) == datasets.checksum(episodes)
    old, new = (restore(run_folder, iteration)[1].state.weights["w"] for iteration in (2, 4))
    assert not np.array_equal(old, new)
    newest = recording.record([str(run_folder)], episodes=2, deterministic=True)
    assert newest.about.behaviours[0]["iteration"] == 4
    np.testing.assert_allclose(newest.action[0], np.clip(np.tanh(newest.obs[0] @ new), -1, 1), rtol=1e-5)


def test_a_data_set_is_told_and_drawn(run_folder, tmp_path, capsys):
    output = tmp_path / "set.npz"
    assert run(capsys, "dataset", "record", "random", "--env", ENV, "-o", output, "--steps", 500)[0] == 0
    status, shown, _ = run(capsys, "dataset", "info", output, "--plot", tmp_path / "a.png", "--replay", 2)
    assert status == 0
    assert "2 of 2 episodes done over again are the same bit for bit" in shown
    assert (tmp_path / "a.png").stat().st_size > 1000
    found = json.loads(run(capsys, "dataset", "info", output, "--json")[1])
    episodes = datasets.read(output)
    assert found["episodes"] == len(episodes) >= 10
    assert found["sha256"] == datasets.checksum(episodes)
    np.testing.assert_allclose(found["quantiles"]["return"]["0.5"], np.median(episodes.returns))
    assert found["within"]["25"] == np.mean(episodes.costs[:, 0] <= 25)
    axis = report.figure(episodes, [20.0]).axes[0]
    dots = axis.collections[0].get_offsets()
    np.testing.assert_allclose(dots, np.column_stack([episodes.costs[:, 0], episodes.returns]))


def test_episodes_are_filtered_and_put_together(tmp_path, capsys):
    output, thin = tmp_path / "set.npz", tmp_path / "thin.npz"
    run(capsys, "dataset", "record", "random", "--env", ENV, "-o", output, "--episodes", 12)
    episodes = datasets.read(output)
    middle = float(np.median(episodes.costs))
    cases = {
        ("--safe", middle): episodes.costs[:, 0] <= middle,
        ("--costs", f"{middle}:"): episodes.costs[:, 0] >= middle,
        ("--returns", ":0"): episodes.returns <= 0,
    }
    for words, kept in cases.items():
        assert run(capsys, "dataset", "filter", output, "-o", thin, *words)[0] == 0
        np.testing.assert_allclose(datasets.read(thin).returns, episodes.returns[kept])
    status, _, error = run(capsys, "dataset", "filter", output, "-o", thin, "--returns", "1e6:")
    assert status == 2
    assert f"none of 12 episodes is left by --returns 1e6:: theirs are {episodes.returns.min():.4g} to" in error
    assert run(capsys, "dataset", "filter", output, output, "-o", thin, "--fraction", 0.5)[0] == 0
    assert len(datasets.read(thin)) == 12
    assert run(capsys, "dataset", "filter", output, "-o", thin, "--grid", "3x3", "--per-cell", 1)[0] == 0
    assert len(datasets.read(thin)) < 10


@pytest.mark.parametrize(("layout", "name"), [("omnisafe", "o.npz"), ("dsrl", "d.hdf5"), ("minari", "m-v0")])
def test_layouts_of_others_come_and_go(tmp_path, capsys, layout, name):
    output, other, again = tmp_path / "set.npz", tmp_path / name, tmp_path / "again.npz"
    run(capsys, "dataset", "record", "random", "--env", ENV, "-o", output, "--episodes", 4)
    assert run(capsys, "dataset", "export", output, "-o", other, "--format", layout)[0] == 0
    words = ["--env", ENV, "--format", layout]
    assert run(capsys, "dataset", "import", other, "-o", again, *words)[0] == 0
    one, two = datasets.read(output), datasets.read(again)
    assert (two.about.env, two.about.source, two.spec) == (ENV, layout, one.spec)
    for column in ("obs", "action", "reward", "cost", "terminated", "truncated", "start"):
        np.testing.assert_allclose(getattr(one, column), getattr(two, column), atol=1e-6 if column == "action" else 0)


def test_what_is_read_is_not_written_over(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(capsys, "dataset", "record", "random", "--env", ENV, "-o", "set.npz", "--episodes", 1)
    run(capsys, "dataset", "export", "set.npz", "-o", "o.npz", "--format", "omnisafe")
    for words in (
        "export set.npz -o ./set.npz --format omnisafe",
        "filter o.npz set.npz -o set.npz --finished",
        "import o.npz -o o.npz",
    ):
        status, _, err = run(capsys, "dataset", *words.split())
        assert (status, "must be another file than what is read" in err) == (2, True)
    status, _, err = run(capsys, "dataset", "import", "set.npz", "-o", "a.npz")
    assert (status, "set.npz is in our own layout already" in err) == (2, True)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "set.npz").read_bytes()[:-30])
    status, _, err = run(capsys, "dataset", "info", "cut.npz")
    assert (status, "cut.npz is no .npz file, or is damaged" in err) == (2, True)


def test_fitted_values_are_those_of_the_policy(tmp_path, run_folder, capsys):
    """Data of random actions, another policy: its discounted return and cost, measured beside the estimate."""
    episodes = recording.record(["random"], env=ENV, env_options={"horizon": 50}, episodes=60, seed=1)
    learner, loaded = restore(run_folder)
    gamma = 0.8
    found = fitted.fitted_q(
        learner,
        learner.policy(loaded.state),
        episodes,
        updates=1000,
        batch_size=128,
        gamma=gamma,
        hidden=(32,),
        learning_rate=3e-3,
        tau=0.05,
    )
    played = recording.record([str(run_folder)], episodes=30, deterministic=True, seed=5)
    # An episode of 50 steps is endless at this discount (0.8^50 = 1e-5).
    for number, column in enumerate((played.reward, played.cost[:, 0])):
        measured = played.to_go(column, gamma)[played.start[:-1]].mean()
        assert abs(found.J_discounted[number] - measured) < 0.1 * abs(measured) + 0.02, (number, measured)
    np.testing.assert_allclose(found.J_episodic, found.J_discounted * 0.2 * 50)
    datasets.write(episodes, tmp_path / "set.npz")
    status, shown, _ = run(capsys, "dataset", "evaluate", run_folder, tmp_path / "set.npz", "--updates", 10)
    assert status == 0
    assert "return per episode" in shown


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("dataset", 2, ""),
        ("dataset recrd", 2, "did you mean 'record'"),
        ("dataset record -o a.npz --steps 5", 2, "name at least one run folder, or random"),
        ("dataset record random -o a.npz --steps 5", 2, "--env ID is missing"),
        (f"dataset record random -o a.npz --env {ENV}", 2, "give one of steps and episodes"),
        (f"dataset record random -o a.txt --env {ENV} --steps 5", 2, "output must end in .npz"),
        (
            f"dataset record random -o a.npz --env {ENV} --steps 5 --shares 1,2",
            2,
            "a share of at least 0 for each of 1",
        ),
        ("dataset record nowhere -o a.npz --steps 5", 1, "nowhere is not a run folder"),
        ("dataset record nowhere@x -o a.npz --steps 5", 1, "by a number or `best`, got 'x'"),
        ("dataset info nowhere.npz", 1, "nowhere.npz: No such file"),
        ("dataset filter -o a.npz", 2, "name at least one data set"),
        ("dataset filter nowhere.npz -o a.npz --costs 3", 2, "costs must be LOW:HIGH, got '3'"),
        ("dataset filter nowhere.npz -o a.npz --costs 3:2", 2, "LOW at most HIGH, got '3:2'"),
        ("dataset filter nowhere.npz -o a.npz --returns nan:", 2, "LOW at most HIGH, got 'nan:'"),
        ("dataset filter nowhere.npz -o a.npz --grid 3", 2, "grid must be two whole numbers"),
        ("dataset filter nowhere.npz -o a.npz --per-cell 3", 2, "give --grid, or --target"),
        ("dataset import nowhere.npz -o a.npz", 1, "nowhere.npz: No such file"),
        ("dataset info nowhere.npz --plot a.xyz", 2, "output must end in one of"),
        ("dataset evaluate nowhere a.npz", 2, "nowhere is not a run folder"),
    ],
)
def test_what_is_wrong_is_said(capsys, words, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got, _, err = run(capsys, *words.split())
    assert got == status
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_not_there_is_named(run_folder, tmp_path, capsys):
    got, _, err = run(capsys, "dataset", "record", f"{run_folder}@9", "-o", tmp_path / "a.npz", "--steps", 5)
    assert (got, "has no checkpoint of iteration 9; it has [2, 4]" in err) == (1, True)
