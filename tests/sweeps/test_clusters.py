"""Sweeps on clusters: workers and nodes that are lost, and what comes of their runs. Each test where its engine is."""

import contextlib
import csv
import io
import os
import signal
import threading
import time
from pathlib import Path

import fake_learner
import numpy as np
import pytest
from rich.console import Console

from jsafe.curves.csv_table import read_progress
from jsafe.runs.checkpoint import Checkpoints
from jsafe.sweeps import grid, pools, session, worker

HERE = Path(fake_learner.__file__).parent
FILE = {
    "algorithm": "fake",
    "env": "Toy-SpeedLimit-v0",
    "imports": ["fake_learner"],
    "log_interval": 500,
    "checkpoint_seconds": 0.5,
    "tensorboard": False,
}


class Running:
    """A sweep in a thread of its own."""

    def __init__(self, folder, on, seeds, total_steps=20_000, **options):
        self.folder, self.said, self.report = folder, io.StringIO(), None
        self.cells = grid.expand(FILE | {"seeds": seeds, "total_steps": total_steps})
        console = Console(file=self.said, width=300)

        def work():
            self.report = session.run(self.cells, folder, on=on, console=console, **options)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def runs(self):
        return [self.folder / "runs" / cell.name for cell in self.cells]

    def worker_of(self, path, after=0):
        """The process of a run's newest worker, once it has gone past a checkpoint."""
        end = time.monotonic() + 240
        while time.monotonic() < end and self._thread.is_alive():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if Checkpoints(path).list()[-1] > after:
                    return int(rows(path)[-1]["process"])
            time.sleep(0.02)
        raise AssertionError(f"no checkpoint of {path}: {self.said.getvalue()}")

    def end(self):
        self._thread.join(timeout=240)
        assert not self._thread.is_alive(), self.said.getvalue()
        assert self.report is not None, self.said.getvalue()
        return self.report


def rows(path):
    return list(csv.DictReader((path / worker.WORKERS).open()))


def check_whole(path, steps=20_000):
    """Trained to the end, and no row of the curve twice."""
    curve = read_progress(path / "progress.csv")
    np.testing.assert_array_equal(curve["env_steps"], np.arange(500, steps + 1, 500))


def check_table(folder, runs, lost):
    (row,) = csv.DictReader((folder / "table.csv").open())
    assert (row["runs"], row["lost"], int(row["workers"])) == (str(runs), str(lost), runs + lost)
    assert row["hosts"]


def test_jobs_of_submitit_survive_their_workers(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.chdir(HERE)
    sweep = Running(tmp_path, "slurm-local", 1, options={"minutes": 5})
    (victim,) = sweep.runs()
    os.kill(sweep.worker_of(victim), signal.SIGKILL)
    report = sweep.end()
    assert set(report.states.values()) == {"finished"}, sweep.said.getvalue()
    assert f"{victim.name}: its worker was lost" in sweep.said.getvalue()
    events = [row["event"] for row in rows(victim)]
    assert events == ["began", "began", "finished"]
    assert int(rows(victim)[1]["iteration"]) > 0  # from its checkpoint
    check_whole(victim)
    check_table(tmp_path, runs=1, lost=1)
    again = session.run(sweep.cells, tmp_path, on="slurm-local", console=Console(file=io.StringIO()))
    assert set(again.states.values()) == {"finished"}
    assert len(rows(victim)) == 3  # nothing is trained twice


def test_a_ray_cluster_survives_a_worker_and_a_node(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.chdir(HERE)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        second = nodes.add_node(num_cpus=1)
        sweep = Running(tmp_path, "ray", 1, total_steps=60_000)
        (path,) = sweep.runs()
        os.kill(sweep.worker_of(path), signal.SIGKILL)
        before = Checkpoints(path).list()[-1]
        sweep.worker_of(path, after=before)
        nodes.add_node(num_cpus=1)
        nodes.remove_node(second, allow_graceful=False)
        report = sweep.end()
    finally:
        ray.shutdown()
        nodes.shutdown()
    said = sweep.said.getvalue()
    assert "on a Ray cluster of 2 nodes" in said
    assert set(report.states.values()) == {"finished"}, said
    assert said.count("its worker was lost") == 2
    check_whole(path, 60_000)
    began = [int(row["iteration"]) for row in rows(path) if row["event"] == "began"]
    assert 0 == began[0] < began[1] < began[2]  # each from the checkpoint of the one before
    check_table(tmp_path, runs=1, lost=2)


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    for engine in ("ray", "slurm", "slurm-local"):
        with pytest.raises(ValueError, match=r"is not installed: pip install 'jsafe\[cluster\]'"):
            pools.cluster(engine, tmp_path, None, {})
    for options, message in (
        ({"cpus": 0}, "cluster.cpus must be a number of at least 1, got 0"),
        ({"gpus": "one"}, "cluster.gpus must be a number of at least 0, got 'one'"),
        ({"minutes": 5}, "cluster.minutes is for Slurm"),
    ):
        with pytest.raises(ValueError, match=message):
            pools.cluster("ray", tmp_path, None, options)


def test_slurm_is_asked_for_by_its_command(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no command sbatch"):
        pools.cluster("slurm", tmp_path, None, {})
    with pytest.raises(ValueError, match=r"submitit refuses an option of \[cluster\].*memory"):
        pools.cluster("slurm-local", tmp_path, None, {"memory": 3})


class Scripted:
    """A pool whose workers end as they are told."""

    workers, again, told = 2, True, "as scripted"

    def __init__(self, ends):
        self.ends, self.started = ends, []

    def start(self, paths, num_threads):
        self.started.append("+".join(path.name for path in paths))
        (paths[0] / "progress.csv").write_text("iteration,env_steps,episode/return\n1,10,1.0\n")
        return self

    def poll(self):
        return self.ends.pop(0)

    def stop(self):
        """Nothing."""

    close = stop


@pytest.mark.parametrize(
    ("ends", "state", "starts"),
    [
        ([pools.Ended(None, "node gone"), pools.Ended(0)], "finished", 2),
        ([pools.Ended(143), pools.Ended(0)], "finished", 2),  # its time was over
        ([pools.Ended(1, "ValueError: no")], "failed", 1),
        ([pools.Ended(None, "node gone")] * 4, "failed", 4),
        ([pools.Ended(worker.BUSY), pools.Ended(0)], "finished", 2),
    ],
)
def test_lost_workers_are_replaced_and_failed_runs_are_not(tmp_path, monkeypatch, ends, state, starts):
    monkeypatch.setattr(session, "_BUSY_SECONDS", 0.0)
    monkeypatch.setattr(session, "cluster", lambda *args: pool)
    pool, console = Scripted(list(ends)), Console(file=io.StringIO(), width=300)
    cells = grid.expand({"algorithm": "fake", "env": "Toy-SpeedLimit-v0", "total_steps": 10})
    report = session.run(cells, tmp_path, on="ray", console=console)
    assert [*report.states.values()] == [state]
    assert pool.started == [cells[0].name] * starts


def test_runs_of_one_program_go_on_one_by_one_when_it_is_lost(tmp_path, monkeypatch):
    ends = [pools.Ended(None, "node gone"), pools.Ended(0), pools.Ended(1, "ValueError: no")]
    pool, console = Scripted(ends), Console(file=io.StringIO(), width=300)
    monkeypatch.setattr(session, "cluster", lambda *args: pool)
    cells = grid.expand({"algorithm": "fake", "env": "Toy-SpeedLimit-v0", "total_steps": 10, "seeds": 2})
    report = session.run(cells, tmp_path, on="ray", together=2, console=console)
    one, other = (cell.name for cell in cells)
    assert pool.started == [f"{one}+{other}", one, other]
    assert report.states == {one: "finished", other: "failed"}
    assert "(node gone); they go on one by one" in console.file.getvalue()


def test_the_history_counts_whom_nobody_heard_of_again(tmp_path):
    lines = ["time,host,process,event,iteration", "t,a,1,began,0", "t,b,2,began,4", "t,b,2,interrupted,6"]
    lines += ["t,c,3,began,6", "t,c,3,refused,6", "t,a,4,began,6", "t,a,4,finished,9", ""]
    assert worker.history(tmp_path) == (0, 0, ())
    (tmp_path / worker.WORKERS).write_text("\n".join(lines))
    assert worker.history(tmp_path) == (3, 1, ("a", "b", "c"))


def test_a_worker_leaves_a_folder_alone_that_is_in_use(tmp_path):
    from jsafe.runs.lock import lock

    (cell,) = grid.expand(FILE | {"imports": [], "total_steps": 10})
    session.folders.write(cell.run, tmp_path)
    task = worker.Task((str(tmp_path),), 1, str(tmp_path), str(tmp_path / "stop"))
    here = os.getcwd()
    try:
        with lock(tmp_path):
            assert worker.train_task(task) == worker.BUSY
    finally:
        os.chdir(here)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert "is in use: training by process" in (tmp_path / worker.LOG).read_text()
    assert [row["event"] for row in rows(tmp_path)] == ["began", "refused"]
