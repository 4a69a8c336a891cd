"""`jsafe reproduce`: takes in what is there, trains what is missing, scores it, and keeps it with the results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jsafe
from jsafe import cli
from jsafe.curves.csv_table import read_progress
from jsafe.deploy import writing
from jsafe.report import benchmark
from jsafe.runs import lock
from jsafe.runs.checkpoint import CheckpointError
from jsafe.runs.folder import RunError, read, start
from jsafe.runs.session import train
from jsafe.sweeps import grid, pools, reproduce, session, worker
from jsafe.sweeps.store import Store

ENV = "Toy-SpeedLimit-v0"
OPTIONS = "num_envs = 2, steps_per_epoch = 200, hidden = [4], passes = 1"
CELLS = f"""cell,family,task,algorithm,preset,options,limit,steps,backend
tiny,on_policy,{ENV},ppo_lag,,"{OPTIONS}",25,400,host
step,on_policy,{ENV},ppo_lag,,"{OPTIONS}, limit.per = 'step'",25,400,host
kind,off_policy,{ENV},ppo_lag,,"{OPTIONS}",25,400,host
wide,on_policy,{ENV},ppo_lag,,"{OPTIONS}, clip = [0.1, 0.2]",25,400,host
tiny-c10,on_policy,{ENV},ppo_lag,,"{OPTIONS}",10,400,host
lost,on_policy,{ENV},ppo_lag,,"{OPTIONS}, clop = 0.1",25,400,host
"""
PUBLISHED = f"env,algorithm,return_mean,return_std,cost_mean,cost_std,runs\n{ENV},ppo_lag,35,1,25,1,10\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    there = tmp_path / "experiments" / "benchmark"
    (there / "published").mkdir(parents=True)
    (there / "cells.csv").write_text(CELLS)
    (there / "published" / "a.csv").write_text(PUBLISHED)
    monkeypatch.chdir(tmp_path)
    return there


def made(seed, **changes):
    """A run as `jsafe train` makes it, with another way to report."""
    about = {
        "algorithm": "ppo_lag",
        "env": ENV,
        "seed": seed,
        "total_steps": 400,
        "log_interval": 200,
        "cost_limit": 25,
    }
    options = {"num_envs": 2, "steps_per_epoch": 200, "hidden": [[4]], "passes": 1}
    return grid.expand(about | options | changes)[0].run


class Here:
    """A pool of this machine that works in this process."""

    def __init__(self, paths, num_threads):
        self.code = worker._train([str(path) for path in paths], num_threads or 1)

    def poll(self):
        return pools.Ended(self.code)

    def stop(self):
        """Nothing."""


@pytest.fixture
def run_here(monkeypatch):
    """Workers are in this process; the names of the runs that were started."""
    started = []

    def here(self, paths, num_threads):
        started.append([path.name for path in paths])
        return Here(paths, num_threads)

    monkeypatch.setattr(pools.Local, "start", here)
    return started


def test_what_is_there_is_taken_in_and_the_rest_is_trained(folder, tmp_path, monkeypatch, capsys):
    run = made(0, eval_interval=200, eval_episodes=1)
    train(start(run.config, run.algorithm, run.options, "reproduced/runs/tiny-s0"))
    curve = (tmp_path / "reproduced/runs/tiny-s0/progress.csv").read_bytes()
    started = []

    def train_here(self, pack):  # in this process: what a worker does is tested with sweeps
        (cell,) = pack
        started.append(cell.name)
        where = start(cell.config, cell.algorithm, cell.options, self.store.path(cell))
        train(where)
        self._note(cell, "finished")

    monkeypatch.setattr("jsafe.sweeps.session._Session._start", train_here)
    command = ["reproduce", "tiny", "--seeds", "0", "1", "--episodes", "3", "--record"]
    assert cli.main(command) == 0
    assert started == ["tiny-s1"]
    assert (tmp_path / "reproduced/runs/tiny-s0/progress.csv").read_bytes() == curve
    said = capsys.readouterr().out
    assert "35 ± 1 at 25 ± 1" in said
    assert "earlier" not in said
    scores = benchmark.read_rows(folder / "results" / "scores.csv", benchmark.Score)
    assert [(score.cell, score.seed, score.env_steps, score.episodes) for score in scores] == [
        ("tiny", 0, 400, 3),
        ("tiny", 1, 400, 3),
    ]
    report = json.loads((tmp_path / "reproduced/runs/tiny-s1/evaluation.json").read_text())
    assert scores[1].episode_return == pytest.approx(report["return"]["mean"], rel=1e-5)
    assert report["deterministic"]
    kept = folder / "results" / "runs" / "tiny-s1"
    assert read(kept).config.seed == 1
    assert len((kept / "progress.csv").read_text().splitlines()) == 2
    names = {
        "scores.csv",
        "comparison.csv",
        "comparison.md",
        "pareto.png",
        f"curves-{ENV}-0.0004M.png",
        "runs",
        "policies",
        ".lock",
    }
    assert {path.name for path in (folder / "results").iterdir()} == names
    policy = jsafe.load(folder / "results" / "policies" / "tiny.npz")
    assert policy(np.zeros(3, np.float32)).shape == (1,)

    def no_word(*given):
        raise ValueError("no word for it")

    with monkeypatch.context() as patched:  # as for a planner
        patched.setitem(writing.WRITERS, ".npz", no_word)
        assert cli.main(command) == 0
    assert [path.name for path in (folder / "results" / "policies").iterdir()] == ["tiny.stablehlo"]
    policy = jsafe.load(folder / "results" / "policies" / "tiny.stablehlo")
    assert policy(np.zeros(3, np.float32)).shape == (1,)
    capsys.readouterr()

    started.clear()
    stamp = (tmp_path / "reproduced/runs/tiny-s1/evaluation.json").stat().st_mtime_ns
    assert (
        cli.main([*command[:-1], "--truth", "2"]) == 0
    )  # neither training nor evaluation; the earlier ones are the same
    assert started == []
    assert (tmp_path / "reproduced/runs/tiny-s1/evaluation.json").stat().st_mtime_ns == stamp
    said = capsys.readouterr()
    assert "| tiny | return | 2 and 2 |" in said.out
    assert "tiny-s1: critics not asked: the states of Toy-SpeedLimit-v0 cannot be branched" in " ".join(
        said.err.split()
    )
    assert cli.main(["reproduce"]) == 0
    assert "seeds 0, 1 in the results" in capsys.readouterr().out


def test_seeds_and_limits_share_a_program(folder, tmp_path, run_here, capsys):
    started = run_here
    assert cli.main(["reproduce", "tiny*", "--seeds", "0", "1", "--episodes", "1", "--together", "8"]) == 0
    assert started == [["tiny-s0", "tiny-c10-s0", "tiny-s1", "tiny-c10-s1"]]
    assert "| 10 |" in capsys.readouterr().out
    runs = {name: read_progress(tmp_path / "reproduced/runs" / name / "progress.csv") for name in started[0]}
    alone = made(1, log_interval=10_000)
    train(start(alone.config, alone.algorithm, alone.options, tmp_path / "alone"))
    for name, values in read_progress(tmp_path / "alone/progress.csv").items():
        if not name.startswith("time/"):
            np.testing.assert_allclose(runs["tiny-s1"][name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert runs["tiny-c10-s1"]["cost/0/limit"][-1] == 10


def test_a_cluster_trains(folder, tmp_path, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(
        "jsafe.sweeps.session.run",
        lambda cells, folder, **how: given.update(how) or session.Report({"tiny-s0": "failed"}, []),
    )
    (tmp_path / "here.toml").write_text("[cluster]\ncpus = 4\npartition = 'short'\n")
    command = ["reproduce", "tiny", "--on", "slurm", "--cluster", "here.toml"]
    assert cli.main(command) == 1
    assert (given["on"], given["options"], given["workers"]) == ("slurm", {"cpus": 4, "partition": "short"}, None)
    assert "not finished: tiny-s0" in capsys.readouterr().err


def test_another_run_under_the_name_is_refused(folder, tmp_path):
    run = made(0, clip=0.3)
    start(run.config, run.algorithm, run.options, "reproduced/runs/tiny-s0")
    cells = reproduce.planned(benchmark.read_cells(folder / "cells.csv")[:1], [0])
    with pytest.raises(ValueError, match=r"(?s)holds another run than tiny-s0.*options.step.clip: 0.3 there, 0.2 here"):
        Store(tmp_path / "reproduced", cells, shared=True).load()
    with pytest.raises(ValueError, match="does not belong to this sweep"):
        Store(tmp_path / "reproduced", cells).load()


def test_several_commands_share_a_folder(folder, tmp_path):
    (tmp_path / "shared").mkdir()
    cell = benchmark.read_cells(folder / "cells.csv")[0]
    one, other = (reproduce.planned([cell], [seed]) for seed in (0, 1))
    first, second = (Store(tmp_path / "shared", cells, shared=True) for cells in (one, other))
    first.load()
    run = made(0)
    (start(run.config, run.algorithm, run.options, first.path(one[0])) / "progress.csv").write_text("iteration\n1\n")
    first.ended["tiny-s0"] = "finished"
    first.save()
    second.load()
    assert json.loads((tmp_path / "shared" / "sweep.json").read_text())["runs"].keys() == {"tiny-s0", "tiny-s1"}
    first.load()
    assert first.ended == {"tiny-s0": "finished"}
    with pytest.raises(ValueError, match="not in the file any more"):
        Store(tmp_path / "shared", one).load()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tinny", "unknown cell 'tinny'; did you mean 'tiny'"),
        ("tiny --cluster here.toml", "--cluster is for a cluster: say which by --on"),
        ("tiny --truth 1", "--truth must be 0 or at least 2, got 1"),
        ("tiny --seeds 0 0", "--seeds must be different whole numbers of at least 0, got (0, 0)"),
        ("tiny --benchmark nowhere", "cannot read nowhere/cells.csv"),
        ("wide", "cell wide: options must have one value each"),
        ("step", "cell step: limit is a cost per episode, and the options have limit.per = 'step'"),
        ("kind", "cell kind: family must be on_policy or empty, got 'off_policy'"),
        ("lost", "cell lost: unknown option 'clop'; did you mean 'clip'"),
    ],
)
def test_bad_words_are_told_before_anything_starts(folder, tmp_path, capsys, words, message):
    assert cli.main(["reproduce", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "reproduced").exists()


def test_a_dry_run_lists_the_runs(folder, tmp_path, capsys):
    assert cli.main(["reproduce", "tiny", "--seeds", "3", "1", "--dry-run"]) == 0
    assert capsys.readouterr().out.split() == ["tiny-s3", "tiny-s1"]
    assert not (tmp_path / "reproduced").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has finished, and what it scored; to be copied."""
    run, where = made(0), tmp_path_factory.mktemp("trained") / "tiny-s0"
    train(start(run.config, run.algorithm, run.options, where))
    return where, reproduce.score("tiny", where, 2)


def test_an_evaluation_counts_if_it_says_what_would_be_asked(trained, tmp_path):
    run, first = shutil.copytree(trained[0], tmp_path / "tiny-s0"), trained[1]
    report = json.loads((run / "evaluation.json").read_text())
    for bad in (
        {"env": "Another-v0"},
        {"env_options": {"tau": 3}},
        {"seed": 1},
        {"per_episode": {}},
        {"success": None},
    ):
        (run / "evaluation.json").write_text(json.dumps(report | bad))
        assert reproduce.score("tiny", run, 2) == first
        assert json.loads((run / "evaluation.json").read_text()) == report
    shutil.rmtree(run / "checkpoints")  # to save room: what was evaluated still counts
    assert reproduce.score("tiny", run, 2) == first
    curve = (run / "progress.csv").read_text()
    (run / "progress.csv").write_text("iteration,env_steps\n1,200\n2,400\n")  # as of a data set
    assert np.isnan(reproduce.score("tiny", run, 2)[9:12]).all()
    (run / "progress.csv").write_text(curve)
    (run / "evaluation.json").write_text('{"backend": "ho')
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        reproduce.score("tiny", run, 2)


def test_an_interrupted_record_changes_nothing(trained, folder, monkeypatch):
    results, cells = folder / "results", benchmark.read_cells(folder / "cells.csv")
    one = reproduce.Reproduced(session.Report({}, []), [trained[1]], [trained[0]], [])
    monkeypatch.setattr("jsafe.deploy.writing.export", lambda folder, output: Path(output).touch())
    monkeypatch.setattr("jsafe.report.plot.save", lambda folders, output, view: output)
    monkeypatch.setattr("jsafe.report.plot.write", lambda drawn, output: output)
    reproduce.record(results, cells, one, folder / "published")

    def there():
        found = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
        found.pop(results / ".lock")
        return found

    files = there()
    assert {path.name for path in files} == {
        *("scores.csv", "comparison.csv", "comparison.md", "config.json", "progress.csv", "tiny.npz")
    }

    def interrupt(*given):
        raise KeyboardInterrupt

    other = one._replace(scores=[one.scores[0]._replace(episode_return=99.0, seed=1)])
    monkeypatch.setattr("jsafe.report.plot.save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        reproduce.record(results, cells, other, folder / "published")
    assert there() == files
    monkeypatch.setattr(reproduce, "PATIENCE", 0.0)
    with lock.lock(results, "recording"), pytest.raises(RunError, match="in use: recording by process"):
        reproduce.record(results, cells, other, folder / "published")
    assert reproduce.record(results / "new", [], one._replace(scores=[]), folder / "published") == []
    assert not (results / "new").exists()


def test_what_was_removed_is_trained_again_and_what_is_damaged_is_told(folder, tmp_path, monkeypatch, capsys):
    run = made(0)
    there = start(run.config, run.algorithm, run.options, "reproduced/runs/tiny-s0")
    (there / "progress.csv").write_text("iteration,env_steps\n2,400\n")
    monkeypatch.setattr("jsafe.sweeps.session.summarize", lambda store: [])
    assert cli.main(["reproduce", "tiny"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "not scored: no readable checkpoint in reproduced/runs/tiny-s0; remove reproduced/runs/tiny-s0 to" in said
    assert "not finished: tiny-s0 (not scored)" in said

    def ended():
        store = Store(tmp_path / "reproduced", cells, shared=True)
        store.load()
        return store.ended

    cells = reproduce.planned(benchmark.read_cells(folder / "cells.csv")[:1], [0])
    assert ended() == {"tiny-s0": "finished"}
    (there / "progress.csv").unlink()
    kept = there / "checkpoints" / "00000002"
    kept.mkdir(parents=True)
    (kept / "manifest.json").touch()
    with pytest.raises(RunError, match=r"is damaged \(.*\): remove .* trained again"):
        ended()
    shutil.rmtree(kept)
    assert ended() == {}
    shutil.rmtree(there)
    assert ended() == {}
    for bad in ("{}", "[]", '{"runs": {}, "ended": []}'):
        (tmp_path / "reproduced/sweep.json").write_text(bad)
        with pytest.raises(RunError, match=r"sweep.json cannot be read: .*; remove it, and the runs that are there"):
            ended()


def test_a_folder_keeps_the_scores_of_several_commands(tmp_path):
    given = [benchmark.Score(cell, 0, "host", 1, *([1.0] * 4), 1, *([1.0] * 3), "", "", "") for cell in ("a", "b", "a")]
    for score in given:
        one = reproduce.Reproduced(session.Report({}, []), [score], [], [])
        scores, _ = reproduce.merged(tmp_path, one)
        benchmark.write_rows(scores, tmp_path / "scores.csv")
    assert [score.cell for score in benchmark.read_rows(tmp_path / "scores.csv", benchmark.Score)] == ["a", "b"]
