"""Training in one program: the same as the loop with environments outside, however it is cut, and exactly resumable."""

import contextlib
import functools
import io
import json

import fake_learner
import jax
import numpy as np
import pytest
from rich.console import Console

import jsafe
from jsafe import device, registry, train
from jsafe.curves import csv_table
from jsafe.data.device import DeviceCollector
from jsafe.device import make
from jsafe.envs.device import hosted
from jsafe.runs import checkpoint, evaluation
from jsafe.runs.build import build_collector, build_learner
from jsafe.runs.config import RunConfig
from jsafe.runs.many import train_many
from jsafe.scale.devices import assert_replicated, make_mesh
from jsafe.scale.processes import Team

ENV = "Toy-SpeedLimit-v0"
QUIET = Console(file=io.StringIO(), width=300)


def fake(**options):
    env = make(ENV, horizon=9)
    return env, fake_learner.build(registry.make_config(fake_learner.FAKE, **options), jsafe.env_spec(env))


def bits(tree):
    keys = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in jax.tree.leaves(tree)]  # fmt: skip
    return [np.asarray(x).tobytes() for x in keys]


def test_how_often_it_reports_changes_no_bit():
    env, learner = fake()
    ends, curves = [], []
    for every in (1, 4):
        steps = list(device.run(learner, env, key=jax.random.key(2), total_steps=95, every=every))
        curves.append([(s.iteration, s.env_steps, float(s.metrics["loss/fake"]), str(s.episodes)) for s in steps])
        assert [s.state is None for s in steps] == [every == 4 and i not in (3, 7, 9) for i in range(10)]
        ends.append(bits(steps[-1].state))
    assert ends[0] == ends[1]
    assert curves[0] == curves[1]
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        next(device.run(learner, env, key=jax.random.key(2), total_steps=95, every=0))


def test_many_runs_equal_single_ones():
    env, learner = fake()
    keys = [jax.random.key(seed) for seed in (2, 5)]
    many = list(device.run_many([learner] * 2, env, keys=keys, total_steps=80, every=3, seeds=[7, 70]))
    assert [step.state is None for step in many] == [True, True, False, True, True, False, True, False]
    for r, seed in enumerate((7, 70)):
        alone = list(device.run(learner, env, key=keys[r], total_steps=80, every=3, seed=seed))
        for step, each in zip(many, alone, strict=True):
            assert step.env_steps == each.env_steps
            np.testing.assert_allclose(step.metrics[r]["loss/fake"], each.metrics["loss/fake"], rtol=1e-4)
            np.testing.assert_allclose(list(step.episodes[r].values()), list(each.episodes.values()), rtol=1e-4)
    with pytest.raises(ValueError, match="one seed for each of 2 learners, got 1"):
        next(device.run_many([learner] * 2, env, keys=keys, total_steps=80, seeds=[1]))


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_that_diverges_does_not_disturb_the_others(inside):
    """Its policy gives NaN from the third iteration on; the other run ends as it does alone."""
    env, learner = fake()

    def update(state, batch, key):
        new, metrics = learner.update(state, batch, key)
        spoilt = 0.0 * (1.0 / ((new.weak < 50) | (new.updates < 3)))  # nothing, or NaN
        return new._replace(weights={"w": new.weights["w"] + spoilt}), metrics

    sound = learner._replace(update=update)
    doomed = sound._replace(init=lambda key: (state := learner.init(key))._replace(weak=90 * state.weak))
    learners, common = [doomed, sound], {"keys": [jax.random.key(seed) for seed in (2, 5)], "total_steps": 80}
    alone = {"key": common["keys"][1], "total_steps": 80}

    def many(learners, seeds, **options):
        if inside:
            return device.run_many(learners, env, every=3, seeds=seeds, **options)
        collector = jsafe.data.ManyCollector(functools.partial(hosted, env), learners, seeds)
        return train.run_many(learners, collector, **options)

    steps = list(many(learners, [7, 70], **common))
    assert [list(step.lost) for step in steps] == [[]] * 3 + [[0]] * 5
    assert "observation" in str(steps[-1].lost[0]) if inside else "action of environment 0" in str(steps[-1].lost[0])
    if inside:
        single = device.run(sound, env, every=3, seed=70, **alone)
    else:
        single = train.run(sound, jsafe.data.make_collector(hosted(env, 2), sound, seed=70), **alone)
    for step, each in zip(steps, single, strict=True):
        assert step.env_steps == each.env_steps
        np.testing.assert_allclose(step.metrics[1]["loss/fake"], each.metrics["loss/fake"], rtol=1e-4)
        np.testing.assert_allclose(list(step.episodes[1].values()), list(each.episodes.values()), rtol=1e-4)
    with pytest.raises(jsafe.data.BadValueError):
        list(many([doomed], [7], keys=common["keys"][:1], total_steps=80))


def test_an_algorithm_learns_the_same_inside_and_outside():
    env = make(ENV, horizon=10, terminate_probability=0.05)
    options = {"num_envs": 4, "steps_per_epoch": 80, "hidden": (4,), "step.passes": 1, "step.minibatch": 40}
    learner = jsafe.make("ppo_lag", jsafe.env_spec(env), **options)
    common = {"key": jax.random.key(0), "total_steps": 240}
    outside = train.run(learner, jsafe.data.make_collector(hosted(env, 4), learner, seed=0), **common)
    for inside, other in zip(device.run(learner, env, every=3, **common), outside, strict=True):
        assert inside.metrics.keys() == other.metrics.keys()
        for name, value in inside.metrics.items():
            np.testing.assert_allclose(value, other.metrics[name], rtol=2e-3, atol=1e-4, err_msg=name)


def test_devices_share_the_environments():
    """Four devices with two environments each: the same streams, and one state."""

    def over(mesh):
        env, learner = fake(num_envs=8)
        average = learner.update

        def update(state, batch, key):  # the fake reduces nothing
            state, metrics = average(state, batch, key)
            return jax.tree.map(lambda x: x, state)._replace(weights=jax.lax.pmean(state.weights, "devices")), metrics

        learner = learner._replace(update=update if mesh else average)
        collector = DeviceCollector(env, learner, 3, mesh=mesh)
        steps = list(device.run(learner, collector, key=jax.random.key(0), total_steps=360, every=2))
        return steps, collector, learner

    (shared, spread, learner), (alone, one, _) = over(make_mesh()), over(None)
    assert_replicated(shared[-1].state.weights)
    assert [s.env_steps for s in shared] == [s.env_steps for s in alone] == list(range(40, 361, 40))
    policy = learner.policy(alone[-1].state)
    a, b = spread.world(policy), one.world(policy)
    for name in ("seeds", "counts", "started"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.env.elapsed, b.env.elapsed)
    np.testing.assert_array_equal(a.env.direction, b.env.direction)
    assert [s.episodes["episode/count"] for s in shared] == [s.episodes["episode/count"] for s in alone]
    again = DeviceCollector(make(ENV, horizon=9), learner, mesh=make_mesh())
    again.load_state_dict(spread.state_dict(), [spread.journal()])
    assert bits(again.world(policy)) == bits(a)
    with pytest.raises(ValueError, match=r"use jsafe\.device\.run"):
        spread.collect(policy, jax.random.key(0))


def start(folder, algorithm="fake", total_steps=200, options=None, **settings):
    settings = {"log_interval": 30, "tensorboard": False, "backend": "device", **settings}
    config = RunConfig(env=ENV, total_steps=total_steps, **settings)
    return train.start(config, algorithm, registry.make_config(registry.get(algorithm), **(options or {})), folder)


def curve(folder):
    rows = csv_table.read_csv(folder / "progress.csv")
    return [{name: value for name, value in row.items() if name not in csv_table.WALL_COLUMNS} for row in rows]


def final(folder):
    """Bits of the learner and the environments in the newest checkpoint, the rows of the replay included."""
    run = train.read(folder)
    learner = build_learner(run)
    with contextlib.ExitStack() as stack:
        collector = build_collector(run, learner, stack)
        store = checkpoint.Checkpoints(folder)
        path = folder / "checkpoints" / f"{store.list()[-1]:08d}" / "manifest.json"
        store.config = json.loads(path.read_text())["config"]
        loaded = store.load(jax.eval_shape(learner.init, jax.random.key(0)), collector)
        return bits((loaded.state, collector.world(learner.policy(loaded.state)))), loaded.iteration


def test_a_run_that_was_cut_continues_exactly(tmp_path):
    whole, cut = start(tmp_path / "whole"), start(tmp_path / "cut")
    assert train.train(whole, console=QUIET).status == "finished"
    for steps in (50, 130, None):  # the middle of a call, too
        outcome = train.train(cut, total_steps=steps, console=QUIET)
        assert outcome.status == "finished"
    assert outcome.env_steps == 200
    assert final(whole) == final(cut)
    assert curve(whole)[-1] == curve(cut)[-1]
    outside = checkpoint.Checkpoints(cut, config={"backend": "host"})
    with pytest.raises(checkpoint.CheckpointError, match="backend"):
        outside.load(None, None)


def test_all_devices_of_a_process(tmp_path):
    """`--distributed --num-processes 1`: exact where it was cut."""
    options = {"num_envs": 4, "steps_per_epoch": 200, "hidden": (4,), "passes": 1, "step.optimizer": "sgd"}
    whole, cut = (start(tmp_path / name, "ppo_lag", 400, options) for name in ("whole", "cut"))
    for folder, steps in ((whole, None), (cut, 200), (cut, None)):
        assert train.train(folder, total_steps=steps, console=QUIET, team=Team()).status == "finished"
    assert final(whole) == final(cut)
    assert len(curve(whole)) == 2


def test_side_by_side(tmp_path):
    folders = [start(tmp_path / f"s{seed}", seed=seed) for seed in (0, 1)]
    outcomes = train_many(folders, console=QUIET)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 2
    assert [outcome.env_steps for outcome in outcomes] == [200] * 2
    alone = start(tmp_path / "alone", seed=1)
    train.train(alone, console=QUIET)
    assert len(curve(alone)) == len(curve(folders[1]))
    for row, other in zip(curve(alone), curve(folders[1])):
        np.testing.assert_allclose([float(x) for x in row.values()], [float(x) for x in other.values()], rtol=1e-4)
    assert train.train(folders[1], total_steps=260, console=QUIET).env_steps == 260


def test_evaluation_on_the_other_backend(tmp_path):
    folder = start(tmp_path / "run")
    train.train(folder, console=QUIET)
    own = evaluation.evaluate(folder, episodes=6)
    assert own["backend"] == "device"
    assert "trained_on" not in own
    both = evaluation.evaluate(folder, episodes=6, backend="host")
    assert both["backend"] == "host"
    assert both["trained_on"]["return"] == own["return"] != both["return"]


def test_what_a_program_cannot_do():
    for options, match in (({"depth": 1}, "depth must be 0"), ({"on_bad": "end"}, "on_bad must be 'stop'")):
        with pytest.raises(ValueError, match=match):
            RunConfig(env=ENV, backend="device", **options)
