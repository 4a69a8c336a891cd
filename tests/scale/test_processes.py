"""Jobs of several processes: the same parameters everywhere, lost processes, checkpoints for any number of them."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jsafe
from jsafe import testing, train
from jsafe.curves import csv_table
from jsafe.runs.checkpoint import Checkpoints
from jsafe.scale import devices as parallel
from jsafe.scale.processes import JobConfig, connect

TINY = shlex.split(
    "--env Toy-SpeedLimit-v0 --total-steps 4e3 --log-interval 300 --num-envs 8 --steps-per-epoch 200 --hidden 4 "
    "--passes 2 --minibatch 40 --seed 3"
)
ITERATIONS = 20


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Two devices in each process; compiled programs are shared by all of them."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("cache"))
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def launch(environment, words, count=2):
    """Starts the processes of a job: `python WORDS` with the flags of each."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = ["--distributed", "--coordinator", f"localhost:{free_port()}", "--num-processes", str(count)]
    commands = [[sys.executable, *map(str, words), *job, "--process-id", str(i)] for i in range(count)]
    return [subprocess.Popen(command, env=environment, **pipes) for command in commands]


def finish(processes, timeout=300):
    """`(exit status, standard output, standard error)` of each."""
    try:
        texts = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts)]


def wait_for_checkpoint(processes, folder, after=0):
    store, end = Checkpoints(folder), time.monotonic() + 200
    while not (store.list() and store.list()[-1] > after):
        assert all(process.poll() is None for process in processes), finish(processes)
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.01)


def content(folder):
    """Curve without wall time, and the arrays of the newest checkpoint in the order of its file."""
    rows = [
        {name: value for name, value in row.items() if name not in csv_table.WALL_COLUMNS}
        for row in csv_table.read_csv(folder / "progress.csv")
    ]
    path = folder / "checkpoints" / f"{Checkpoints(folder).list()[-1]:08d}"
    with np.load(path / "arrays.npz") as arrays:
        return rows, json.loads((path / "manifest.json").read_text())["iteration"], dict(arrays)


UPDATES = """
import sys, zlib
import jax, numpy as np, tyro
import jsafe
from jsafe import testing
from jsafe.scale import devices as parallel
from jsafe.data import make_collector
from jsafe.envs.toy import ToyEnv
from jsafe.scale.processes import JobConfig, connect, local_learner

team = connect(tyro.cli(JobConfig))
assert (len(jax.devices()), jax.local_device_count(), team.count) == (4, 2, 2)
learner = jsafe.make("ppo_lag", jsafe.EnvSpec(3, 2), axis_name="devices", **{options!r})
update = parallel.shard_map_update(learner, team.mesh)
state = update.place_state(learner.init(jax.random.key(0)))
for seed in range(2):
    batch = testing.random_batch(learner, jax.random.key(seed))
    steps = jax.tree.map(lambda x: np.split(x, 2, 1)[team.index], batch.steps)
    mine = batch._replace(steps=steps, measured=jax.tree.map(lambda x: x / 2, batch.measured))
    state, metrics = update(state, mine, jax.random.key(9))
parallel.assert_replicated(state)
team.check_equal(parallel.local(state))
print("values", *[np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state.params)])
for bad in (parallel.assert_replicated, team.check_equal):
    try:
        bad(parallel.replicate({{"a": np.ones(2), "b": np.full(2, team.index)}}, team.mesh))
    except (AssertionError, RuntimeError) as error:
        print(error)
print("sum", np.asarray(team.votes([team.index, 10])).tolist(), team.gather("x" * team.index * 1000)[1][:3])
print("agreed", team.agreed(team.index == 1, False), team.agreed(False, False), team.agreed(False, team.index == 0))
team.forget()
print("forgotten", team.agreed(True, True))
env = ToyEnv(4, 4 * team.index, horizon=5 + 10 * team.index)
mine = local_learner(jsafe.make("ppo", jsafe.env_spec(env), **{options!r}), team)
collector = team.collector(make_collector(env, mine, seed=0))
policy = mine.policy(mine.init(jax.random.key(0)))
for i in range(2):
    collector.collect(policy, jax.random.key(0))
    found = collector.pooled(collector.episodes()["episode/count"])
    print("pooled", i, found["episode/count"], found["episode/length"], found["episode/finished_envs"])
big = team.collect(np.arange(300_000) * (1 + team.index))
print("big", None if big is None else [int(part[-1]) for part in big])
"""
OPTIONS = {"num_envs": 8, "steps_per_epoch": 64, "hidden": (4,), "passes": 2, "minibatch": 64, "step.optimizer": "sgd"}


def test_processes_equal_one(environment):
    """Two processes of two devices update as one process of four does on the whole batch."""
    results = finish(launch(environment, ["-c", UPDATES.format(options=OPTIONS)]))
    assert [status for status, *_ in results] == [0, 0], results
    outputs = [output.splitlines() for _, output, _ in results]
    first, second = (next(line for line in lines if line.startswith("values")) for lines in outputs)
    assert first == second
    learner = jsafe.make("ppo_lag", jsafe.EnvSpec(3, 2), axis_name="devices", **OPTIONS)
    update = parallel.shard_map_update(learner)
    state = learner.init(jax.random.key(0))
    for seed in range(2):
        state, _ = update(state, testing.random_batch(learner, jax.random.key(seed)), jax.random.key(9))
    found = np.concatenate([np.array(part, float) for part in json.loads(f"[{first[7:].replace('] [', '], [')}]")])
    expected = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for i, lines in enumerate(outputs):
        assert "devices hold different values of ['b']" in lines
        assert "the processes hold different values of ['b']" in lines
        assert "sum [1, 20] xxx" in lines
        # What any process wished one call before; episodes of 5 and of 15 steps in 8 and then 16 steps.
        assert "agreed (False, False) (True, False) (False, False)" in lines
        assert "forgotten (False, False)" in lines
        assert "pooled 0 4.0 nan 4.0" in lines
        assert f"pooled 1 {4 * 2 + 4}.0 {(4 * 3 * 5 + 4 * 15) / 16} 8.0" in lines
        assert f"big {None if i else [299_999, 599_998]}" in lines


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    results = finish(launch(environment, ["-m", "jsafe.cli", "train", "ppo_lag", *TINY, "--run-dir", folder]))
    assert [status for status, *_ in results] == [0, 0], results
    assert "finished" in results[0][1]
    assert "steps/s" in results[0][2]
    assert "steps" not in results[1][1] + results[1][2]  # process 0 alone reports
    return folder


def test_a_broken_job_resumes_bit_for_bit(tmp_path, environment, unbroken):
    """One process gets SIGTERM, then one is killed; the third session ends the run."""
    folder = tmp_path / "run"
    words = ["-m", "jsafe.cli", "train", "ppo_lag", *TINY, "--checkpoint-seconds", 0, "--run-dir", folder]
    processes = launch(environment, words)
    wait_for_checkpoint(processes, folder)
    processes[1].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert [status for status, *_ in results] == [128 + signal.SIGTERM] * 2, results
    assert f"saved; continue with: jsafe train --resume {folder} --distributed" in results[0][2].replace("\n", "")
    saved = Checkpoints(folder).list()[-1]
    assert 0 < saved < ITERATIONS

    words = ["-m", "jsafe.cli", "train", "--resume", folder]
    processes = launch(environment, words)
    wait_for_checkpoint(processes, folder, saved)
    processes[1].kill()
    start = time.monotonic()
    results = finish(processes)
    assert time.monotonic() - start < 60
    assert results[0][0] not in (0, -signal.SIGKILL), results
    assert "error: process 0 of 2" in results[0][2], results[0][2]
    assert f"; continue with: jsafe train --resume {folder} --distributed" in results[0][2]
    assert saved < Checkpoints(folder).list()[-1] < ITERATIONS

    results = finish(launch(environment, words))
    assert [status for status, *_ in results] == [0, 0], results
    assert "continuing at" in results[0][2]
    (rows, iteration, arrays), (other_rows, other_iteration, other_arrays) = content(folder), content(unbroken)
    assert iteration == other_iteration == ITERATIONS
    assert len(rows) == 13
    assert rows == other_rows
    assert arrays.keys() == other_arrays.keys()
    different = [name for name in arrays if arrays[name].tobytes() != other_arrays[name].tobytes()]
    assert not different


def test_another_number_of_processes_continues(tmp_path, environment, unbroken):
    """A job's checkpoint in one process without a team, and that one's in a job again."""
    for words, count in ((["--total-steps", 4400], 0), (["--total-steps", 4800], 2)):
        arguments = ["-m", "jsafe.cli", "train", "--resume", unbroken, *words]
        if count:
            results = finish(launch(environment, arguments, count))
        else:
            command = [sys.executable, *map(str, arguments)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            results = [(done.returncode, done.stdout, done.stderr)]
        assert all(status == 0 for status, *_ in results), results
        assert "continuing at 4" in results[0][2]
    rows = csv_table.read_csv(unbroken / "progress.csv")
    assert float(rows[-1]["env_steps"]) == 4800
    assert all(np.isfinite(float(row["episode/return"])) for row in rows[1:])


def test_what_process_0_cannot_start_no_process_starts(environment, unbroken):
    words = ["-m", "jsafe.cli", "train", "ppo_lag", *TINY, "--run-dir", unbroken]
    results = finish(launch(environment, words), timeout=60)
    assert [status for status, *_ in results] == [1, 1], results
    assert all(f"error: {unbroken} holds a run already" in error for *_, error in results)


def test_when_the_first_process_is_killed(tmp_path, environment):
    folder = tmp_path / "run"
    words = ["-m", "jsafe.cli", "train", "ppo_lag", *TINY, "--total-steps", 1e6, "--checkpoint-seconds", 0]
    processes = launch(environment, [*words, "--run-dir", folder])
    wait_for_checkpoint(processes, folder)
    processes[0].kill()
    start = time.monotonic()
    status, _, error = finish(processes)[1]
    assert time.monotonic() - start < 60
    assert status != 0
    assert "error: process 1 of 2" in error, error
    assert f"; continue with: jsafe train --resume {folder} --distributed" in error


def test_flags(environment, monkeypatch):
    assert connect(JobConfig()).flags == ""
    for given, message in (
        ({"coordinator": "a:1"}, "coordinator has a meaning with --distributed only"),
        ({"distributed": True, "num_processes": 0}, "num_processes must be at least 1, got 0"),
        ({"distributed": True, "num_processes": 2, "process_id": 2}, "process_id must be in 0"),
        ({"distributed": True, "coordinator": "host"}, "coordinator must be HOST:PORT, got 'host'"),
    ):
        with pytest.raises(ValueError, match=message):
            JobConfig(**given)
    command = [sys.executable, "-m", "jsafe.cli", "train", "ppo", *TINY, "--distributed"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: --distributed needs --coordinator HOST:PORT, --num-processes and --process-id" in done.stderr
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be a whole number, got 'two'"):
        connect(JobConfig(distributed=True))


def test_a_process_that_stays_alone_says_so(environment):
    script = "from jsafe.scale import processes as d; d.JOIN_SECONDS = 2; d.connect(d.JobConfig({}))"
    given = f"distributed=True, coordinator='localhost:{free_port()}', num_processes=2, process_id=0"
    command = [sys.executable, "-c", script.format(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "error: this process ended before all processes of the job were there (they have 2 s)" in done.stderr


def test_one_process_may_use_all_its_devices(tmp_path):
    """`--distributed --num-processes 1`; and what its devices cannot share is an error."""
    from jsafe import cli

    words = ["train", "ppo_lag", *TINY, "--distributed", "--num-processes", "1", "--run-dir"]
    assert cli.main([*words, str(tmp_path / "run"), "--total-steps", "400"]) == 0
    assert cli.main([*words, str(tmp_path / "odd"), "--num-envs", "10"]) == 2
    assert train.read(tmp_path / "run")[0].total_steps == 400
