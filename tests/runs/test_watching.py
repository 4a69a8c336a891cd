"""Evaluations while a run trains, the best checkpoint that keeps the limit, and the episodes of a training."""

import dataclasses
import io

import fake_learner
import jax
import numpy as np
import pytest
from rich.console import Console

import jsafe
from jsafe import registry, train
from jsafe.cli import main
from jsafe.components.limits import CostLimit
from jsafe.curves.csv_table import read_csv, read_progress
from jsafe.runs import checkpoint, evaluation, folder, watching
from jsafe.runs.config import RunConfig, env_seed
from jsafe.runs.many import train_many

ENV = "Toy-SpeedLimit-v0"


def begin(path, **changes):
    options = {"total_steps": 200, "log_interval": 60, "eval_interval": 40, "eval_episodes": 3, "keep_checkpoints": 1}
    options |= {"env_options": {"horizon": 9}, "checkpoint_seconds": 1e6, "tensorboard": False} | changes
    if options.get("backend") != "device":
        options.setdefault("episodes_csv", True)
    return train.start(RunConfig(ENV, **options), "fake", registry.make_config(fake_learner.FAKE), path)


def go(path, **options):
    text = io.StringIO()
    outcome = train.train(path, console=Console(file=text, width=300), **options)
    assert outcome.status == "finished", outcome.message
    return text.getvalue()


def same_files(one, other):
    for name in ("evaluations.csv", "episodes.csv"):
        assert read_csv(one / name) == read_csv(other / name)
    states = [evaluation.restore(path, "best")[1] for path in (one, other)]
    assert states[0].iteration == states[1].iteration
    assert np.array_equal(states[0].state.weights["w"], states[1].state.weights["w"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a limit, and what it said."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return begin(path), go(path)


def test_every_evaluation_has_a_row_of_its_own_episodes(whole):
    path, said = whole
    rows = read_csv(path / "evaluations.csv")
    assert [row["env_steps"] for row in rows] == ["40", "80", "120", "160", "200"]
    assert [row["seed"] for row in rows] == [str(env_seed(0, 3, int(row["iteration"]))) for row in rows]
    assert len({row["seed"] for row in rows}) == 5
    assert "kept" not in rows[0]
    curve = read_progress(path / "progress.csv")
    told = dict(zip(curve["env_steps"], curve["eval/return"]))
    returns = [pytest.approx(float(row["return"])) for row in rows]
    assert told == {60: returns[0], 120: returns[2], 180: returns[3], 200: returns[4]}  # the newest of each interval
    assert said.count("evaluated at") == 5
    # What is in the row is what the state of that iteration does on that seed.
    learner, loaded = evaluation.restore(path)
    env = jsafe.envs.make(ENV, 3, 0, horizon=9)
    again = evaluation.rollout(env, learner, loaded.state, 3, int(rows[-1]["seed"]), True)
    assert again["return"].mean() == pytest.approx(float(rows[-1]["return"]))


def test_the_best_of_a_run_without_a_limit_has_the_highest_return(whole):
    path, said = whole
    rows = read_csv(path / "evaluations.csv")
    best = max(rows, key=lambda row: float(row["return"]))
    assert evaluation.restore(path, "best")[1].iteration == int(best["iteration"])
    assert checkpoint.Checkpoints(path).list() == [20]  # the rotation has gone over it, and is not disturbed
    firsts = [r for i, r in enumerate(rows) if all(float(r["return"]) > float(o["return"]) for o in rows[:i])]
    assert said.count("the best so far") == len(firsts)


def test_the_best_one_keeps_the_limit(whole, tmp_path, monkeypatch):
    rows = read_csv(whole[0] / "evaluations.csv")
    bound = sorted(float(row["cost"]) for row in rows)[1]  # two of five keep it
    monkeypatch.setattr(watching, "limit_of", lambda options: CostLimit(bound))
    go(begin(tmp_path / "limited"))
    ours = read_csv(tmp_path / "limited/evaluations.csv")
    assert [row["kept"] for row in ours] == [str(int(float(row["cost"]) <= bound)) for row in rows]
    allowed = [row for row in ours if row["kept"] == "1"]
    best = max(allowed, key=lambda row: float(row["return"]))
    assert evaluation.restore(tmp_path / "limited", "best")[1].iteration == int(best["iteration"])
    monkeypatch.setattr(watching, "limit_of", lambda options: CostLimit(0.0))
    go(begin(tmp_path / "never"))
    with pytest.raises(checkpoint.CheckpointError, match="no evaluation has kept the limit yet"):
        evaluation.restore(tmp_path / "never", "best")


def test_how_a_run_reports_changes_nothing_that_it_learns(whole, tmp_path):
    """A new field of a run is in this list, which decides what is learned, or declared as `told`."""
    decides = "env env_options imports data data_sha256 costs total_steps seed on_bad backend depth"
    telling = {field.name for field in dataclasses.fields(RunConfig)} - set(decides.split())
    other = {"eval_interval": 0, "eval_episodes": 1, "preset": "any", "num_threads": 1, "log_interval": 7}
    other |= {"checkpoint_seconds": 0.0, "keep_checkpoints": 3, "episodes_csv": False, "tensorboard": True}
    other |= {"wandb_project": "a", "wandb_group": "b", "wandb_tags": ("c",)}
    assert other.keys() == telling - {"wandb"}  # which needs its package
    again = begin(tmp_path / "again", **other)
    one, two = (folder.read(path).config for path in (whole[0], again))
    assert one.meaning() == two.meaning() != dataclasses.replace(two, seed=1).meaning()
    go(again)
    weights = [evaluation.restore(path)[1].state.weights for path in (whole[0], again)]
    jax.tree.map(np.testing.assert_array_equal, *weights)


def test_continuing_is_exact_wherever_it_was_cut(whole, tmp_path):
    for steps in (50, 80, 130):
        broken = begin(tmp_path / str(steps))
        go(broken, total_steps=steps)
        go(broken)
        same_files(whole[0], broken)


def test_what_a_kill_leaves_behind_the_checkpoint_is_made_again(whole, tmp_path, monkeypatch):
    broken = begin(tmp_path / "killed")
    go(broken, total_steps=50)
    monkeypatch.setattr(checkpoint.Checkpoints, "load", lambda *args: None)  # as if that save had not come
    go(broken)
    same_files(whole[0], broken)


def test_episodes_are_those_of_the_curve(whole):
    rows = read_csv(whole[0] / "episodes.csv")
    curve = read_progress(whole[0] / "progress.csv")
    assert len(rows) == curve["episode/count"].sum() == 2 * (100 // 9)
    assert {row["env"] for row in rows} == {"0", "1"}
    for name in ("return", "length", "success", "cost"):
        mean = np.mean([float(row[name]) for row in rows])
        assert mean == pytest.approx(curve[f"episode/{name}"][-1])


def test_runs_in_one_program_and_in_the_program_are_evaluated_too(tmp_path):
    inside = begin(tmp_path / "inside", backend="device", total_steps=80)
    assert "evaluated at 40 steps" in go(inside)
    assert [row["env_steps"] for row in read_csv(inside / "evaluations.csv")] == ["40", "80"]
    again = begin(tmp_path / "again", backend="device", total_steps=80)
    go(again, total_steps=40)
    go(again)
    assert read_csv(inside / "evaluations.csv") == read_csv(again / "evaluations.csv")
    pair = [begin(tmp_path / f"s{seed}", seed=seed, total_steps=90) for seed in (0, 1)]
    train_many(pair, console=Console(file=io.StringIO()))
    seeds = [[row["seed"] for row in read_csv(path / "evaluations.csv")] for path in pair]
    assert seeds == [[str(env_seed(seed, 3, iteration)) for iteration in (4, 8)] for seed in (0, 1)]
    assert all(len(read_csv(path / "episodes.csv")) == 10 for path in pair)


def test_commands_take_the_best_checkpoint(whole, tmp_path, capsys):
    path = whole[0]
    assert main(["evaluate", str(path), "--episodes", "2", "--checkpoint", "best"]) == 0
    assert (path / "evaluation-best.json").exists()
    assert main(["export", str(path), "-o", str(tmp_path / "best.npz"), "--checkpoint", "best"]) == 0
    newest, last, best = (jsafe.load(path, checkpoint=which) for which in (None, 20, "best"))
    file = jsafe.load(tmp_path / "best.npz")
    obs = np.full(newest.about["spec"]["obs"]["shape"], 0.1, np.float32)
    np.testing.assert_allclose(best(obs), file(obs), rtol=1e-5)
    np.testing.assert_allclose(newest(obs), last(obs), rtol=1e-5)
    assert not np.allclose(best(obs), newest(obs))
    capsys.readouterr()
    for words, told in (
        (["evaluate", str(path), "--checkpoint", "first"], "must be best or the number of an iteration, got 'first'"),
        (["evaluate", "zoo:seditor", "--checkpoint", "best"], "--checkpoint is for a run folder"),
        (["evaluate", str(path), "--checkpoint", "3"], "no checkpoint of iteration 3"),
    ):
        assert main(words) in (1, 2)
        assert told in capsys.readouterr().err


def test_a_run_that_was_not_evaluated_says_so(tmp_path):
    path = begin(tmp_path / "run", total_steps=30, eval_interval=None)
    go(path)
    assert not (path / "evaluations.csv").exists()
    with pytest.raises(checkpoint.CheckpointError, match=r"trained without evaluations \(--eval-interval\)"):
        jsafe.load(path, checkpoint="best")


def test_the_interval_of_former_folders_was_for_data_sets():
    former = {"env": ENV, "eval_interval": 5000}
    assert "eval_interval" not in folder._of_today(former)
    assert folder._of_today(former | {"data": "file.npz"})["eval_interval"] == 5000
    assert RunConfig(ENV).evaluated_every == 0
    assert RunConfig(ENV, data="file.npz").evaluated_every == 5000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backend": "device"}, "episodes_csv is for backend='host'"),
        ({"depth": 1}, "depth must be 0 with episodes_csv"),
        ({"data": "file.npz"}, "episodes_csv is for runs that step an environment"),
    ],
)
def test_episodes_that_nobody_knows_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        RunConfig(ENV, episodes_csv=True, **changes)


def test_the_key_of_jax_is_not_touched(whole, tmp_path):
    """Evaluations change nothing of what is learnt."""
    plain = begin(tmp_path / "plain", eval_interval=0, episodes_csv=False)
    go(plain)
    ours, theirs = (evaluation.restore(path)[1].state for path in (whole[0], plain))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours.weights, theirs.weights))
