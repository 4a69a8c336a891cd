"""Sweeps: the grid of a file, its errors, its table; and a sweep that is interrupted, killed and continued."""

import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from jsafe import cli
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.folder import RunError
from jsafe.runs.lock import lock
from jsafe.sweeps import grid, pools, table
from jsafe.sweeps import session as sweep
from jsafe.sweeps.screen import Screen
from jsafe.sweeps.store import Store

ENV = "Toy-SpeedLimit-v0"
FILE = f"""
algorithm = "ppo_lag"
env = "{ENV}"
total_steps = 2e4
log_interval = 2000
checkpoint_seconds = 0.05
tensorboard = false
num_envs = 2
steps_per_epoch = 200
hidden = [4]
passes = 1
learning_rate = [3e-4, 1e30]             # the second one diverges
"""


def test_a_file_is_a_grid(tmp_path):
    (tmp_path / "a.toml").write_text(
        f"""
        algorithm = ["ppo_lag", "ppo", "sac_lag"]
        env = "{ENV}"
        seed = [3, 5]
        total_steps = 1e5
        num_threads = "none"
        hidden = [[8, 8], [4]]

        [algorithms.ppo_lag]
        cost_limit = [10, [5.0]]
        [algorithms.ppo]
        passes = 2
        [algorithms.sac_lag]
        preset = "laptop"
        """
    )
    cells = grid.read(tmp_path / "a.toml")
    names = [cell.name for cell in cells]
    assert names[:8] == [
        f"ppo_lag-{ENV}-hidden=8x8-cost_limit=10-s3",
        f"ppo_lag-{ENV}-hidden=8x8-cost_limit=5-s3",
        f"ppo_lag-{ENV}-hidden=4-cost_limit=10-s3",
        f"ppo_lag-{ENV}-hidden=4-cost_limit=5-s3",
        f"ppo-{ENV}-hidden=8x8-s3",
        f"ppo-{ENV}-hidden=4-s3",
        f"sac_lag-{ENV}-hidden=8x8-s3",
        f"sac_lag-{ENV}-hidden=4-s3",
    ]
    assert names[8:] == [name.replace("-s3", "-s5") for name in names[:8]]
    first = cells[0]
    assert (first.config.seed, first.config.total_steps, first.config.num_threads) == (3, 100_000, None)
    assert (first.options.policy.hidden, first.options.step.critics.hidden) == ((8, 8), (8, 8))
    assert (first.options.limit.value, cells[1].options.limit.value) == (10.0, (5.0,))
    assert (cells[4].options.step.passes, cells[0].options.step.passes) == (2, 40)
    assert (cells[6].config.preset, cells[6].options.actor.hidden) == ("laptop", (8, 8))
    assert cells[6].config.total_steps == 100_000
    assert first.group + "-s3" == first.name


def test_parts_are_axes_and_bring_their_options(tmp_path):
    (tmp_path / "a.toml").write_text(
        f"""
        algorithm = "ppo_lag"
        env = "{ENV}"
        rule = ["pid", "lagrange"]
        step.clip = [0.1, 0.2]
        env_options.horizon = [20, 40]
        """
    )
    cells = grid.read(tmp_path / "a.toml")
    assert len(cells) == 8
    assert [cell.options.rule.kind for cell in cells] == 4 * ["pid"] + 4 * ["lagrange"]
    assert {(cell.options.step.clip, cell.config.env_options) for cell in cells} == {
        (clip, (("horizon", horizon),)) for clip in (0.1, 0.2) for horizon in (20, 40)
    }
    assert cells[0].name == f"ppo_lag-{ENV}-rule=pid-step.clip=0.1-env_options.horizon=20-s0"
    assert cells[0].run.cost_names == ("cost_speed0",)
    whole = {"algorithm": "ppo_lag", "env": ENV, "rule": {"kind": "pid", "kp": [0.1, 0.3]}}
    assert [cell.options.rule.kp for cell in grid.expand(whole)] == [0.1, 0.3]
    short = {"algorithm": "ppo_lag", "env": ENV, "rule": "pid", "kp": [0.1, 0.3]}
    assert [cell.options for cell in grid.expand(short)] == [cell.options for cell in grid.expand(whole)]


@pytest.mark.parametrize(
    ("shared", "own", "limit"),
    [
        ({"cost_limit": [10.0, 20.0]}, {"cost_limit_per_step": 0.01}, (0.01, "step")),
        ({"limit.value": 10.0}, {"cost_limit": 5.0}, (5.0, "episode")),
        ({"cost_limit_per_step": 0.01}, {"limit.value": 5.0}, (5.0, "episode")),
    ],
)
def test_the_table_of_an_algorithm_counts_by_any_name(shared, own, limit):
    cells = grid.expand({"algorithm": ["ppo_lag", "cpo"], "env": ENV, **shared, "algorithms": {"cpo": own}})
    (cell,) = [cell for cell in cells if cell.algorithm == "cpo"]
    assert (cell.options.limit.value, cell.options.limit.per) == limit
    assert cell.given.keys() - {"algorithm", "env", "seed"} == own.keys()
    assert {cell.options.limit.value for cell in cells if cell.algorithm == "ppo_lag"} == {
        value for given in shared.values() for value in (given if isinstance(given, list) else [given])
    }


def test_seeds_are_a_number_or_a_list():
    for given, seeds in (({}, [0]), ({"seeds": 3}, [0, 1, 2]), ({"seed": 4, "seeds": 2}, [4, 5]), ({"seed": [9]}, [9])):
        cells = grid.expand({"algorithm": "ppo", "env": ENV, **given})
        assert [cell.config.seed for cell in cells] == seeds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "ppo_lg"}, r"unknown algorithm 'ppo_lg'; did you mean 'ppo_lag'\?"),
        ({"algorithm": []}, "algorithm is an empty list"),
        ({"algorithm": None}, "algorithm must be a name or a list of names, got None"),
        ({"env": "Toy-SpedLimit-v0"}, f"did you mean '{ENV}'"),
        ({"env": 3}, "env must be a name or a list of names, got 3"),
        ({"env": "SafetyPointGaol1-v0"}, "did you mean 'SafetyPointGoal1-v0'"),
        ({"cost_limt": 3.0}, r"unknown option 'cost_limt'; did you mean 'cost_limit'\? `jsafe train ppo_lag --help`"),
        ({"cost_limit": []}, "cost_limit is an empty list"),
        ({"cost_limit": "low"}, "limit.value must be float, got 'low'"),
        ({"hidden": [64, "x"]}, "policy.hidden must be int, got 'x'"),
        ({"hidden": [[64], 32]}, "policy.hidden must be a sequence, got 32"),
        ({"hidden": []}, "hidden is an empty list"),
        ({"gamma": [0.9, 1.5]}, "estimator.gamma must be at least 0 and at most 1, got 1.5"),
        ({"total_steps": 1.5}, "run.total_steps must be int, got 1.5"),
        ({"total_steps": 0}, "total_steps must be at least 1 and at most 1e.15, got 0"),
        ({"preset": "quick"}, "unknown preset of ppo_lag 'quick'"),
        ({"cost_limit": [10, 10.0]}, f"two runs would share the folder ppo_lag-{ENV}-cost_limit=10-s0"),
        ({"algorithms": {"cpo": {"target_kl": 0.1}}}, "unknown algorithm in .algorithms. 'cpo'.*Allowed: ppo_lag"),
        ({"algorithms": {"ppo_lag": {"env": "x"}}}, r"env belongs to the whole sweep, not into the table \[algorithms"),
        ({"algorithms": 3}, "algorithms must hold a table for each algorithm"),
        ({"ppo_lag": {"clip": 0.1}}, r"write \[algorithms.ppo_lag\] for the options of one algorithm, not \[ppo_lag\]"),
        (
            {"rule": ["pid", "none"], "kp": 0.1},
            "option 'kp' of ppo_lag belongs to the rule 'pid', and the rule here is 'none'",
        ),
        (
            {"rule": "pid", "kp": [0.1, 0.2], "rule.kp": 0.3},
            r"kp and rule\.kp are two names of one option of ppo_lag, rule\.kp: leave one out",
        ),
        ({"rule": "pidd"}, "unknown rule 'pidd'; did you mean 'pid'"),
        ({"rule.kp": 0.1}, "option 'rule.kp' of ppo_lag belongs to the rule 'pid', and .* is 'lagrange'"),
        ({"cost_limit": float("nan")}, "limit.value must be finite, got nan"),
        ({"imports": "mine"}, "imports must be a list of modules, got 'mine'"),
        ({"imports": ["no_such_module"]}, "cannot import 'no_such_module'"),
        (
            {"algorithm": ["ppo", "sac_lag"], "clip": 0.1},
            r"sac_lag has no option clip; write it into the table \[algorithms.ppo\]",
        ),
        ({"seeds": 0}, "seeds must be a whole number of at least 1 and at most 1000000, got 0"),
        ({"seeds": 2, "seed": [1]}, "not both"),
        ({"seed": [-1]}, "seed must be at least 0 and at most 4.*, got -1"),
    ],
)
def test_bad_files_are_explained(change, message):
    data = {"algorithm": "ppo_lag", "env": ENV} | change
    with pytest.raises(ValueError, match=message):
        grid.expand({name: value for name, value in data.items() if value is not None})


def run(capsys, *words):
    status = cli.main(["sweep", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_checks_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(FILE)
    bad.write_text("algorithm = ppo")
    for words, message in (
        (["missing.toml"], "cannot read the sweep file missing.toml: No such file"),
        ([bad], "bad.toml is not a TOML file"),
        ([good, "--workers", 0], "error: workers must be at least 1 and at most 4096, got 0"),
    ):
        status, _, error = run(capsys, *words)
        assert status == 2
        assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "good.toml"]
    status, output, _ = run(capsys, good, "--dry-run")
    assert status == 0
    assert output.split() == [f"ppo_lag-{ENV}-learning_rate={lr}-s0" for lr in ("0.0003", "1e+30")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "good.toml"]


def cells(**change):
    return grid.expand({"algorithm": "ppo_lag", "env": ENV, "total_steps": 400, "seeds": 2} | change)


def test_runs_that_differ_in_numbers_of_the_state_share_a_program():
    about = {"algorithm": "ppo_lag", "env": ENV, "seeds": 2, "cost_limit": [10, 25], "passes": [1, 2], "rule.init": 0.5}
    cells = grid.expand(about | {"total_steps": 100})
    found = sweep.packs(cells, 3)
    assert [len(pack) for pack in found] == [3, 3, 1, 1]  # two programs, of four runs each
    assert sorted(cell.name for pack in found for cell in pack) == sorted(cell.name for cell in cells)
    for pack in found:
        assert len({cell.options.step.passes for cell in pack}) == 1
    assert [len(pack) for pack in sweep.packs(cells, 1)] == [1] * 8
    listed = grid.expand(about | {"cost_limit": [[10.0]]})  # one number for each cost, of which there is one
    assert len(sweep.packs(listed + cells, 16)) == 4
    ahead = grid.expand(about | {"depth": 1, "passes": 1, "total_steps": 100})
    assert [len(pack) for pack in sweep.packs(ahead, 4)] == [1] * 4


@pytest.mark.parametrize("stopping", [False, True])
def test_what_became_of_runs_that_shared_a_program(tmp_path, stopping):
    """One has finished, one has diverged; one failed with the program, and of one nothing is known: they go on."""
    found = cells(seeds=4)
    events = dict(zip([cell.name for cell in found], ["finished", "diverged", "failed", "began"]))
    started = []

    class Pool:
        workers, again, told = 1, False, "in a test"

        def start(self, paths, num_threads):
            started.append([path.name for path in paths])
            for path in paths:
                event = events[path.name] if len(paths) > 1 else "finished"
                (path / "workers.csv").write_text(f"time,host,process,event,iteration\nnow,here,1,{event},1\n")
            code = 0 if len(paths) == 1 else 130 if stopping else 1
            return type("Job", (), {"poll": lambda _: sweep.Ended(code), "stop": lambda _: None})()

        def close(self):
            pass

    console = Console(width=300, file=io.StringIO())
    store = Store(tmp_path, found)
    session = sweep._Session(store, Pool(), False, 4, console)
    session._start(session._waiting.pop())
    while session.step(stopping):
        pass
    session.close()
    names = list(events)
    assert started == [names] + ([] if stopping else [[names[2]], [names[3]]])
    left = "interrupted" if stopping else "finished"
    assert session.states == dict(zip(names, ["finished", "failed", left, left]))
    assert f"{names[1]}: failed (it diverged)" in console.file.getvalue()
    told = json.loads((tmp_path / "sweep.json").read_text())["ended"]
    assert told == {name: state for name, state in session.states.items() if state != "interrupted"}


def test_a_folder_belongs_to_one_sweep(tmp_path):
    store = Store(tmp_path, cells())
    store.load()
    path = store.path(cells()[0])
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "progress.csv").write_text("iteration\n1\n")
    store.ended[cells()[0].name] = "finished"
    store.save()
    for change, message in (
        ({"total_steps": 800}, r"another sweep; name another --folder\n  .*-s0: total_steps: 400 there, 800 here"),
        ({"seeds": 1}, "-s1: not in the file any more"),
        ({"cost_limit": [1.0]}, "not in the file any more"),
        ({"passes": 3}, "passes: 'nothing' there, 3 here"),
    ):
        with pytest.raises(ValueError, match=message):
            Store(tmp_path, cells(**change)).load()
    more = Store(tmp_path, cells(seeds=3))  # runs may join
    more.load()
    assert more.ended == {cells()[0].name: "finished"}
    assert len(json.loads((tmp_path / "sweep.json").read_text())["runs"]) == 3
    (tmp_path / "runs" / cells(seeds=4)[3].name).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"-s3 exists, but does not belong to this sweep"):
        Store(tmp_path, cells(seeds=4)).load()
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(RunError, match=r"sweep\.json cannot be read"):
        Store(tmp_path, cells()).load()


def test_one_sweep_at_a_time(tmp_path):
    with lock(tmp_path, "sweep"), pytest.raises(RunError, match=rf"is in use: sweep by process {os.getpid()} on"):
        sweep.run(cells(), tmp_path)


def test_runs_that_cannot_start_are_reported(tmp_path, monkeypatch):
    """The processes cannot be made, and neither can what would be written about it."""

    def full(*_, **__):
        monkeypatch.setattr(os, "replace", full)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subprocess, "Popen", full)
    console = Console(width=300, file=io.StringIO())
    report = sweep.run(cells(), tmp_path, console=console)
    assert set(report.states.values()) == {"failed"}
    assert report.files == []
    text = console.file.getvalue()
    for cell in cells():
        assert f"{cell.name}: could not be started: [Errno 28] No space left on device" in text
    assert text.count("warning: cannot write") == 2
    assert "2 failed" in text


def test_workers_share_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    for name in ("PJRT_NPROC", "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    alone = pools.worker_environment(0, 1)
    assert alone["PJRT_NPROC"] == "8"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in alone
    assert pools.worker_environment(2, 3)["PJRT_NPROC"] == "2"
    assert pools.worker_environment(2, 3)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.300"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [pools.worker_environment(i, 4)["CUDA_VISIBLE_DEVICES"] for i in range(4)] == ["4", "6", "4", "6"]
    assert pools.worker_environment(0, 4)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"


def test_the_table_averages_over_seeds():
    def columns(value, cost, limit=25.0):
        names = ("return", "cost", "cost_rate", "success")
        last = dict(zip((f"episode/{name}" for name in names), (value, cost, cost / 1000, np.nan)))
        return {name: np.array([0.0, number]) for name, number in ({"env_steps": 400.0} | last).items()} | (
            {} if limit is None else {"cost/0/limit": np.array([0.0, limit])}
        )

    runs = cells(cost_limit=[25.0], seeds=3)
    curves = [columns(1.0, 20.0), columns(2.0, 30.0), columns(6.0, 10.0)]
    runs += cells(algorithm="ppo", seeds=1)
    runs = [cell._replace(run=cell.run._replace(cost_names=("sum",))) for cell in runs]
    rows = table.table([*zip(runs, [*curves, columns(7.0, 50.0, None)])])
    assert [row["algorithm"] for row in rows] == ["ppo_lag", "ppo"]
    assert rows[0] == {
        "algorithm": "ppo_lag",
        "env": ENV,
        "cost_limit": "25",
        "runs": 3,
        "env_steps": 400,
        "return_mean": 3.0,
        "return_std": pytest.approx(np.std([1, 2, 6], ddof=1)),
        "success_mean": "",
        "success_std": "",
        "cost_mean": 20.0,
        "cost_std": 10.0,
        "cost_rate_mean": pytest.approx(0.02),
        "cost_rate_std": pytest.approx(0.01),
        "limit_per_episode": 25.0,
        "limit_per_step": "",
        "within_limit": pytest.approx(2 / 3),
    }
    assert [rows[1][name] for name in ("cost_limit", "return_std", "within_limit")] == ["", "", ""]
    lines = table.markdown(rows).splitlines()
    assert lines[0] == "| algorithm | env | cost_limit | runs | env_steps | return | cost | cost_rate | " + (
        "limit_per_episode | within_limit |"
    )
    assert lines[2] == f"| ppo_lag | {ENV} | 25 | 3 | 400 | 3 ± 2.6 | 20 ± 10 | 0.02 ± 0.01 | 25 | 0.6667 |"
    assert lines[3] == f"| ppo | {ENV} |  | 1 | 400 | 7 | 50 | 0.05 |  |  |"


def test_the_table_has_columns_for_every_cost():
    (cell,) = cells(seeds=1)
    cell = cell._replace(run=cell.run._replace(cost_names=("cost_hazards", "cost_vases")))
    last = {
        "env_steps": 400.0,
        "episode/cost/0": 12.0,
        "episode/cost/1": 30.0,
        "cost/0/limit": 25.0,
        "cost/1/limit": 10.0,
    }
    (row,) = table.table([(cell, {name: np.array([value]) for name, value in last.items()})])
    assert (row["hazards_cost_mean"], row["hazards_limit_per_episode"], row["hazards_within_limit"]) == (12, 25, 1.0)
    assert (row["vases_cost_mean"], row["vases_limit_per_episode"], row["vases_within_limit"]) == (30, 10, 0.0)
    assert "cost_mean" not in row


def test_the_screen_shows_all_runs_that_fit(tmp_path):
    store = Store(tmp_path, cells(seeds=5))
    names = [cell.name for cell in store.cells]
    states = dict(zip(names, ["finished", "failed", "running", "waiting", "waiting"]))
    for name, steps in zip(names, (400, 100, 200)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        header = "iteration,env_steps,time/steps_per_second,episode/return,episode/cost,cost/0/limit"
        (tmp_path / "runs" / name / "progress.csv").write_text(f"{header}\n1,{steps},50,1.5,3,25\n")
    console = Console(width=150, height=6, record=True)
    screen = Screen(console, store, states)
    console.print(screen.renderable())
    lines = console.export_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{names[2]} running")
    assert lines[0].rstrip().endswith("200 steps, 50 steps/s, return 1.50, speed0 3.00/25 kept")
    assert lines[1].startswith(f"{names[1]} failed")
    assert lines[2].startswith(f"{names[0]} finished")
    assert lines[3] == ("1 finished, 1 failed, 1 running, 2 waiting; 700/2000 steps (2 more runs are not shown)")
    screen.close()


def test_the_screen_shows_the_losses_of_runs_on_a_data_set(tmp_path):
    (cell,) = cells(seeds=1)
    run = cell.run._replace(config=dataclasses.replace(cell.run.config, data="episodes.npz"))
    store = Store(tmp_path, [cell._replace(run=run)])
    (tmp_path / "runs" / cell.name).mkdir(parents=True)
    text = "iteration,env_steps,time/steps_per_second,episode/window,loss/actor\n1,200,50,0,2.5\n"
    (tmp_path / "runs" / cell.name / "progress.csv").write_text(text)
    console = Console(width=150, height=6, record=True)
    screen = Screen(console, store, {cell.name: "running"})
    console.print(screen.renderable())
    assert "200 updates, 50 updates/s, loss: actor 2.5" in console.export_text()
    screen.close()


def start(words):
    command = [sys.executable, "-m", "jsafe.cli", "sweep", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process, folder, after=0):
    end = time.monotonic() + 120
    while not max([0, *Checkpoints(folder).list()]) > after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no checkpoint in two minutes"
        time.sleep(0.01)


def test_a_sweep_survives(tmp_path):
    """Ctrl-C, then SIGKILL of the sweep alone, then to the end, the failed run included."""
    file, folder = tmp_path / "tiny.toml", tmp_path / "sweep"
    file.write_text(FILE)
    words = [file, "--folder", folder, "--workers", 2]
    good = folder / "runs" / f"ppo_lag-{ENV}-learning_rate=0.0003-s0"
    process = start(words)
    wait_for_checkpoint(process, good)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"{good.name}: interrupted, saved" in error
    assert f"continue with: jsafe sweep {file} --folder {folder}" in error
    assert "saved; continue with" in (good / "train.log").read_text()
    saved = Checkpoints(good).list()[-1]
    assert 0 < saved < 100

    process = start(words)
    wait_for_checkpoint(process, good, saved)
    process.kill()
    process.communicate()

    process = start([*words, "--retry"])  # the run of the killed sweep saves first
    output, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    log = (good / "train.log").read_text()
    assert log.count("saved; continue with") == 2
    assert log.count("continuing at") == 2
    assert f"{good.name}: finished" in error
    assert "1 finished, 1 failed" in error
    bad = folder / "runs" / f"ppo_lag-{ENV}-learning_rate=1e+30-s0"
    assert f"{bad.name}: failed (exit status 1); the end of {bad / 'train.log'}:" in error
    assert "  | error: the run diverged: not finite in iteration" in error
    assert f"failed: {bad.name}\ntry them again with: jsafe sweep {file} --folder {folder} --retry" in error
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [(row["learning_rate"], row["runs"], row["env_steps"]) for row in rows] == [("0.0003", "1", "20000")]
    assert float(rows[0]["limit_per_episode"]) == 25.0
    assert (folder / "table.md").read_text() in output
    assert (folder / "curves.png").stat().st_size > 1000

    before = (good / "train.log").read_text(), (bad / "train.log").read_text()
    report = sweep.run(grid.read(file), folder)  # finished runs are skipped, failed ones wait for --retry
    assert report.states == {good.name: "finished", bad.name: "failed"}
    assert before == ((good / "train.log").read_text(), (bad / "train.log").read_text())
