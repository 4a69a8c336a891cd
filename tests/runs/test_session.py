"""The loop and the trainer: deterministic, resumable, honest about disks and divergence."""

import dataclasses
import errno
import io
import json
import shutil
import signal

import fake_learner
import jax
import numpy as np
import pytest
from rich.console import Console

import jsafe
from jsafe import data as collect
from jsafe import envs, registry, train
from jsafe.curves import csv_table
from jsafe.options import from_json, to_json
from jsafe.runs import build, checkpoint, loop, session, storage
from jsafe.runs.config import RunConfig, env_seed

ENV = "Toy-SpeedLimit-v0"


def parts(seed=0, **options):
    env = envs.ToyEnv(2, seed)
    config = registry.make_config(fake_learner.FAKE, **options)
    learner = fake_learner.build(config, jsafe.env_spec(env))
    return learner, collect.make_collector(env, learner, seed=seed)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_run_is_the_plain_loop_over_fold_in_keys():
    learner, collector = parts()
    key = jax.random.key(4)
    steps = [
        (step.iteration, step.env_steps, float(step.metrics["loss/fake"]), jax.device_get(step.state.weights))
        for step in train.run(learner, collector, key=key, total_steps=95)
    ]
    assert [step[:2] for step in steps] == [(i, 10 * i) for i in range(1, 11)]
    learner, collector = parts()
    state = jax.jit(learner.init)(jax.random.fold_in(key, loop.INIT_FOLD))
    for i in range(10):
        collect_key, update_key = jax.random.split(jax.random.fold_in(key, i))
        batch = collector.collect(learner.policy(state), collect_key)
        state, metrics = jax.jit(learner.update)(state, batch, update_key)
        np.testing.assert_allclose(state.weights["w"], steps[i][3]["w"], rtol=1e-5)
        np.testing.assert_allclose(metrics["loss/fake"], steps[i][2], rtol=1e-5)


def test_run_compiles_the_update_once_and_donates_the_state():
    learner, collector = parts()
    fake_learner.TRACES.clear()
    old = None
    for step in train.run(learner, collector, key=jax.random.key(0), total_steps=100):
        if old is not None:
            assert old.is_deleted()
        old = step.state.weights["w"]
    assert fake_learner.TRACES == ["update"]


def test_run_continues_exactly_and_leaves_the_given_state_intact():
    key = jax.random.key(1)
    learner, collector = parts()
    unbroken = list(train.run(learner, collector, key=key, total_steps=200))[-1].state
    learner, collector = parts()
    *_, middle = train.run(learner, collector, key=key, total_steps=90)
    *_, end = train.run(learner, collector, key=key, total_steps=200, state=middle.state, iteration=middle.iteration)
    assert end.iteration == 20
    assert_same(end.state, unbroken)
    assert not middle.state.weights["w"].is_deleted()


def test_seeds_of_environments_do_not_overlap():
    starts = [env_seed(seed, purpose) for seed in range(50) for purpose in (0, 1)]
    assert np.diff(np.sort(starts)).min() > 4096
    assert max(starts) < 2**31


def test_config_goes_through_json_and_names_unknown_fields():
    config = fake_learner.FakeConfig(rate=0.5, inner=fake_learner.Inner((7, 8)))
    assert from_json(fake_learner.FakeConfig, json.loads(json.dumps(to_json(config)))) == config
    with pytest.raises(ValueError, match=r"field of FakeConfig 'rat'; did you mean 'rate'\?"):
        from_json(fake_learner.FakeConfig, {"rat": 1.0})
    for field, value in {"total_steps": 0, "seed": -1, "keep_checkpoints": 0, "checkpoint_seconds": -1.0}.items():
        with pytest.raises(ValueError, match=field):
            RunConfig(env=ENV, **{field: value})


def launch(folder, total_steps=200, checkpoint_seconds=1e6, log_interval=30, resume=False, depth=0, keep=2, **options):
    """One session of a run; the outcome and what it printed."""
    if not resume:
        config = RunConfig(
            env=ENV,
            total_steps=total_steps,
            checkpoint_seconds=checkpoint_seconds,
            log_interval=log_interval,
            keep_checkpoints=keep,
            depth=depth,
            tensorboard=False,
        )
        train.start(config, "fake", registry.make_config(fake_learner.FAKE, **options), folder)
    text = io.StringIO()
    outcome = train.train(folder, console=Console(file=text, width=300))
    return outcome, text.getvalue()


def curve(folder):
    rows = csv_table.read_csv(folder / "progress.csv")
    return [{name: value for name, value in row.items() if name not in csv_table.WALL_COLUMNS} for row in rows]


def journal(folder):
    """The arrays of every chunk of the replay's journal."""
    return [checkpoint._read_chunk(folder, path.name, storage.checksum(path.read_bytes())) for path in chunks(folder)]


def chunks(folder):
    return sorted((folder / "journal").glob("*.npz"))


def final(folder):
    """Learner, collector and curve averages of the newest checkpoint."""
    learner, collector = parts()
    store = checkpoint.Checkpoints(folder)
    path = folder / "checkpoints" / f"{store.list()[-1]:08d}" / "manifest.json"
    store.config = json.loads(path.read_text())["config"]
    loaded = store.load(jax.eval_shape(learner.init, jax.random.key(0)), collector)
    host = collector.state_dict()
    del host["replay"]["chunk_ends"]  # how the rows are cut into files depends on when it was saved
    state = {"state": loaded.state, "collector": host, "interval": loaded.extra["interval"]}
    arrays = [np.asarray(x) if not isinstance(x, jax.Array) else x for x in jax.tree.leaves(state)]
    return loaded.iteration, arrays, collector.replay


def assert_same_run(a, b):
    assert curve(a) == curve(b)
    (iteration, arrays, replay), (other_iteration, other_arrays, other_replay) = final(a), final(b)
    assert iteration == other_iteration
    assert_same(arrays, other_arrays)
    rng = [np.random.default_rng(0), np.random.default_rng(0)]
    assert_same(replay.sample(rng[0], 8, 3), other_replay.sample(rng[1], 8, 3))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    outcome, text = launch(folder)
    assert outcome.status == "finished"
    assert (outcome.iteration, outcome.env_steps) == (20, 200)
    assert "200/200 steps" in text
    assert "multiplier" in text
    return folder


def test_progress_holds_averages_over_each_interval(unbroken):
    rows = csv_table.read_progress(unbroken / "progress.csv")
    np.testing.assert_array_equal(rows["env_steps"], [30, 60, 90, 120, 150, 180, 200])
    np.testing.assert_array_equal(rows["iteration"], rows["env_steps"] / 10)
    learner, collector = parts(env_seed(0))
    steps = list(train.run(learner, collector, key=jax.random.key(0), total_steps=200))
    losses = np.array([float(step.metrics["loss/fake"]) for step in steps])
    np.testing.assert_allclose(rows["loss/fake"][:2], [losses[:3].mean(), losses[3:6].mean()], rtol=1e-12)
    np.testing.assert_allclose(rows["loss/fake"][-1], losses[18:].mean(), rtol=1e-12)
    assert rows["episode/count"].sum() == 4
    for name in ("return", "cost", "length", "success", "cost_rate"):
        assert rows[f"episode/{name}"][-1] == steps[-1].episodes[f"episode/{name}"]
    assert (rows["time/steps_per_second"] > 0).all()
    assert (np.diff(rows["time/wall_seconds"]) >= 0).all()


def crash_after(monkeypatch, iterations, error):
    """Makes the collector of the next session fail after this many batches of that session."""
    original = collect.make_collector

    def make(*args, **kwargs):
        collector = original(*args, **kwargs)
        collect_batch, count = collector.collect, 0

        def collect_or_fail(policy, key):
            nonlocal count
            count += 1
            if count > iterations:
                error()
            return collect_batch(policy, key)

        collector.collect = collect_or_fail
        return collector

    monkeypatch.setattr(build, "make_collector", make)


class Crash(BaseException):
    """Ends a session on the spot, as a kill does."""


def crash():
    raise Crash


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_a_crashed_run_resumes_to_the_unbroken_one(tmp_path, monkeypatch, unbroken, seconds):
    """At every iteration with a checkpoint each (0 s), and without any checkpoint: then it starts again."""
    with monkeypatch.context() as patch:
        crash_after(patch, 8, crash)
        with pytest.raises(Crash):
            launch(tmp_path / "run", checkpoint_seconds=seconds)
    assert checkpoint.Checkpoints(tmp_path / "run").list() == ([7, 8] if seconds == 0 else [])
    with open(tmp_path / "run" / "progress.csv", "a") as file:
        file.write("9,90,1.5,3")  # a line that was cut off by the crash
    with monkeypatch.context() as patch:
        crash_after(patch, 5, crash)
        with pytest.raises(Crash):
            launch(tmp_path / "run", resume=True)
    outcome, _ = launch(tmp_path / "run", resume=True)
    assert outcome.status == "finished"
    assert_same_run(tmp_path / "run", unbroken)


def test_rows_after_the_checkpoint_are_dropped(tmp_path, monkeypatch, unbroken):
    """The checkpoint of iteration 4 (in the middle of an interval), rows up to iteration 12, then a crash."""
    with monkeypatch.context() as patch:
        crash_after(patch, 12, crash)
        patch.setattr(session.Session, "_save", only_at(4, session.Session._save))
        with pytest.raises(Crash):
            launch(tmp_path / "run", checkpoint_seconds=0.0)
    assert checkpoint.Checkpoints(tmp_path / "run").list() == [4]
    assert [row["iteration"] for row in curve(tmp_path / "run")] == ["3", "6", "9", "12"]
    launch(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.parametrize("error", [MemoryError("out of memory"), SystemExit("out of memory")], ids=type)
def test_an_exception_saves_first_and_says_how_to_go_on(tmp_path, monkeypatch, unbroken, error):
    def out_of_memory():
        raise error

    with monkeypatch.context() as patch:
        crash_after(patch, 8, out_of_memory)
        outcome, _ = launch(tmp_path / "run")
    assert (outcome.status, outcome.iteration) == ("failed", 8)
    assert (
        f"{type(error).__name__}: out of memory; the last good checkpoint, of iteration 8, is kept" in outcome.message
    )
    assert f"continue with: jsafe train --resume {tmp_path / 'run'}" in outcome.message
    outcome, _ = launch(tmp_path / "run", resume=True)
    assert outcome.status == "finished"
    assert_same_run(tmp_path / "run", unbroken)


def test_a_bad_value_stops_the_run_before_it_is_stored(tmp_path, monkeypatch):
    step = envs.ToyEnv.step

    def poisoned(self, actions):
        out = step(self, actions)
        steps.append(None)
        if len(steps) == 42:
            out.reward[1] = np.nan
        return out

    steps: list = []
    monkeypatch.setattr(envs.ToyEnv, "step", poisoned)
    outcome, _ = launch(tmp_path / "run", checkpoint_seconds=0.0)
    assert outcome.status == "diverged"
    assert "reward of environment 1 is nan in step" in outcome.message
    assert "the last good checkpoint, of iteration 8, is kept" in outcome.message
    rows = [chunk["rows"] for chunk in journal(tmp_path / "run")]
    assert len(rows) == 8
    assert all(np.isfinite(array).all() for array in rows)


def test_a_folder_has_one_owner(tmp_path):
    launch(tmp_path / "run", total_steps=50)
    with session.held(tmp_path / "run"), pytest.raises(train.RunError, match=r"in use: training by process \d+ on "):
        launch(tmp_path / "run", resume=True)
    assert launch(tmp_path / "run", resume=True)[0].status == "finished"


def test_what_vanishes_under_a_run_is_told_and_restored(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    once = []

    def take_away():
        if once:
            return
        once.append(True)
        (folder / "config.json").write_text("")
        (folder / "progress.csv").unlink()
        shutil.rmtree(folder / "checkpoints")

    with monkeypatch.context() as patch:
        crash_after(patch, 7, take_away)
        outcome, text = launch(folder, checkpoint_seconds=0.0)
    assert outcome.status == "finished", outcome.message
    text = " ".join(text.split())
    assert "warning: config.json (restored), progress.csv (the curve begins anew), the newest checkpoint" in text
    assert text.count("had vanished") == 1
    assert train.read(folder).algorithm == "fake"
    assert curve(folder)[-1]["iteration"] == "20"


def only_at(iteration, save):
    def maybe(self, state):
        if self.iteration == iteration:
            save(self, state)

    return maybe


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(tmp_path, monkeypatch, unbroken, number):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        crash_after(patch, 7, lambda: signal.raise_signal(number) if signal.getsignal(number) != signal.SIG_DFL else 0)
        outcome, _ = launch(tmp_path / "run")
    assert (outcome.status, outcome.signal, outcome.iteration) == ("interrupted", number, 8)
    assert "--resume" in outcome.message
    assert signal.getsignal(number) == before
    outcome, _ = launch(tmp_path / "run", resume=True)
    assert outcome.status == "finished"
    assert_same_run(tmp_path / "run", unbroken)


def test_after_the_first_signal_the_next_one_kills():
    with session.Signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_finished_run_trains_on_with_more_steps(tmp_path, unbroken):
    launch(tmp_path / "run", total_steps=120)
    outcome = train.train(tmp_path / "run", total_steps=200, console=Console(file=io.StringIO()))
    assert outcome.env_steps == 200
    assert train.read(tmp_path / "run")[0].total_steps == 120  # the goal of the run stays; this was one session's
    assert_same_run(tmp_path / "run", unbroken)


def test_one_batch_ahead_resumes_exactly_and_learns_from_older_data(tmp_path, unbroken):
    launch(tmp_path / "ahead", depth=1)
    launch(tmp_path / "two", total_steps=120, depth=1)
    outcome = train.train(tmp_path / "two", total_steps=200, console=Console(file=io.StringIO()))
    assert outcome.env_steps == 200
    assert curve(tmp_path / "two") == curve(tmp_path / "ahead")
    assert curve(tmp_path / "ahead") != curve(unbroken)
    with pytest.raises(ValueError, match="depth must be one of 0, 1, got 2"):
        RunConfig(env=ENV, depth=2)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    launch(tmp_path / "run")
    before = (tmp_path / "run" / "progress.csv").read_bytes(), final(tmp_path / "run")[0]
    outcome, _ = launch(tmp_path / "run", resume=True)
    assert outcome.status == "finished"
    assert outcome.values["env_steps"] == 200
    assert ((tmp_path / "run" / "progress.csv").read_bytes(), final(tmp_path / "run")[0]) == before


@pytest.mark.parametrize(("how", "name"), [("diverge_at", "loss/fake"), ("poison_at", "state.weights['w']")])
def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, how, name):
    outcome, _ = launch(tmp_path / "run", checkpoint_seconds=0.0, **{how: 14})
    assert outcome.status == "diverged"
    assert outcome.iteration == 14
    assert name in outcome.message
    assert "iteration 13" in outcome.message
    iteration, arrays, _ = final(tmp_path / "run")
    assert iteration == 13
    weights = [a for a in arrays if getattr(a, "shape", ()) == (3, 1)]
    assert weights
    assert all(np.isfinite(np.asarray(a)).all() for a in weights)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_and_training_goes_on(tmp_path, monkeypatch, unbroken):
    """Checkpoints and rows fail from iteration 5 to 12; afterwards nothing is missing."""
    write, append = checkpoint.write_through, csv_table.CsvTable._write
    trainers = []
    original = session.Session.__init__

    def remember(self, *args):
        trainers.append(self)
        original(self, *args)

    def failing(function):
        return lambda *args: full_disk() if 5 <= trainers[-1].iteration <= 12 else function(*args)

    monkeypatch.setattr(session.Session, "__init__", remember)
    monkeypatch.setattr(checkpoint, "write_through", failing(write))
    monkeypatch.setattr(csv_table.CsvTable, "_write", failing(append))
    outcome, text = launch(tmp_path / "run", checkpoint_seconds=0.0)
    assert outcome.status == "finished"
    assert text.count("could not write the checkpoint: No space left on device") == 1
    assert "The last good checkpoint is of iteration 4" in text
    assert text.count("could not write progress.csv") == 1
    monkeypatch.undo()
    assert_same_run(tmp_path / "run", unbroken)


def test_a_disk_that_stays_full_ends_unsaved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write_through", full_disk)
    outcome, _ = launch(tmp_path / "run")
    assert outcome.status == "unsaved"
    assert "No space left" in outcome.message
    assert "there is no checkpoint" in outcome.message


def test_too_little_room_is_an_error_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "free_bytes", lambda folder: 1000)
    fake_learner.TRACES.clear()
    with pytest.raises(train.RunError, match="MiB free; this run needs about"):
        launch(tmp_path / "run")
    assert fake_learner.TRACES == []
    # However many may be kept, there is at most one for each iteration.
    monkeypatch.setattr(session, "free_bytes", lambda folder: 2**20)
    assert launch(tmp_path / "kept", keep=10**6)[0].status == "finished"


def test_an_unwritable_folder_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(train.RunError, match="cannot write to the run folder"):
        launch(tmp_path / "file" / "run")
    launch(tmp_path / "run")
    with pytest.raises(train.RunError, match="holds a run already"):
        launch(tmp_path / "run")


def test_a_run_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(train.RunError, match="is not a run folder"):
        train.train(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"algorithm": "fake"}')
    with pytest.raises(train.RunError, match=r"config\.json cannot be used: it was damaged or changed"):
        train.train(tmp_path)


def test_a_changed_config_does_not_resume(tmp_path):
    launch(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_bytes(storage.sealed(json.loads(path.read_text().replace('"rate": 0.1', '"rate": 0.2'))))
    with pytest.raises(checkpoint.CheckpointError, match=r"options\.rate: 0\.1 there, 0\.2 here"):
        launch(tmp_path / "run", resume=True)


def test_unknown_environments_are_named():
    with pytest.raises(ValueError, match="did you mean 'Toy-SpeedLimit-v0'"):
        build.build_env(RunConfig(env="Toy-SpedLimit-v0"), 1, 0)


def test_lazy_names():
    assert jsafe.train.run is train.run
    assert dataclasses.is_dataclass(RunConfig)
