"""Several runs in one program equal the runs by themselves."""

import dataclasses
import functools
import json
import shlex

import jax
import numpy as np
import pytest

import jsafe
from jsafe import cli, envs, train
from jsafe.curves import csv_table
from jsafe.data import ManyCollector, make_collector
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.many import train_many

SEEDS = (7, 50)
ON_POLICY = {"num_envs": 2, "steps_per_epoch": 60, "hidden": (4,), "passes": 2, "minibatch": 10}
CASES = {
    "ppo_lag": (ON_POLICY, "cost_limit", (1.0, 20.0)),
    "ppo_simmer_pid": ({**ON_POLICY, "preset": "omnisafe"}, "cost_limit", (1.0, 20.0)),
    "trpo_early_terminated": ({**ON_POLICY, "cg_iterations": 3}, "cost_limit", (1.5, 6.0)),
    "sac_lag": (
        {
            "preset": "seditor_paper",
            "num_envs": 2,
            "unroll": 5,
            "hidden": (4,),
            "actor.hidden": (4,),
            "frame_stack": 2,
            "sequences": 8,
            "sequence_length": 3,
            "replay_rows": 60,
            "initial_rows": 25,
            "learning_rate": 0.01,
        },
        "cost_limit_per_step",
        (0.01, 0.5),
    ),
}


def make_env(num_envs):
    return envs.ToyEnv(num_envs, terminate_probability=0.05, horizon=20)


@pytest.mark.parametrize("name", CASES)
def test_runs_equal_single_ones(name):
    options, field, limits = CASES[name]
    spec = jsafe.env_spec(make_env(1))
    traces = []

    def make(limit):
        learner = jsafe.make(name, spec, **options, **{field: limit})

        def update(state, batch, key):
            traces.append(limit)
            return learner.update(state, batch, key)

        return learner._replace(update=update)

    made = [make(limit) for limit in limits]
    learners = [learner for learner in made for _ in SEEDS]
    seeds = list(SEEDS) * len(limits)
    keys = [jax.random.key(seed) for seed in seeds]
    collector = ManyCollector(make_env, learners, seeds)
    total = 6 * 60 if name != "sac_lag" else 100
    steps = []
    for step in train.run_many(learners, collector, keys=keys, total_steps=total):
        steps.append((step.env_steps, jax.device_get((step.state, step.metrics)), step.episodes))
    assert len(traces) == 1 + len(made)  # compiled once; each learner was looked at once before
    ends = []
    for r, (learner, seed) in enumerate(zip(learners, seeds)):
        alone = make_collector(make_env(2), learner, seed=seed)
        single = train.run(learner, alone, key=keys[r], total_steps=total)
        for (env_steps, (states, metrics), episodes), step in zip(steps, single, strict=True):
            assert env_steps == step.env_steps
            close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4)
            jax.tree.map(lambda x, y, r=r, close=close: close(x[r], y), states, jax.device_get(step.state))
            jax.tree.map(close, metrics[r], jax.device_get(step.metrics))
            assert episodes[r].keys() == step.episodes.keys()
            close(list(episodes[r].values()), list(step.episodes.values()))
        own, other = collector.collectors[r].state_dict(), alone.state_dict()
        np.testing.assert_array_equal(own["env"]["counters"], other["env"]["counters"])  # the same random numbers
        ends.append(np.asarray(own["env"]["position"]))
    assert len({end.tobytes() for end in ends}) == len(ends)  # all runs went their own way
    # Another collector goes on from the saved state.
    again = ManyCollector(make_env, learners, [1] * len(seeds))
    again.load([each.state_dict() for each in collector.collectors], [()] * len(seeds))
    policy = jax.vmap(made[0].policy)(step_state(steps))
    new = jax.random.split(jax.random.key(5), len(seeds))
    for x, y in zip(*(jax.tree.leaves(each.collect(policy, new)) for each in (collector, again)), strict=True):
        np.testing.assert_array_equal(x, y)


def step_state(steps):
    return steps[-1][1][0]


def test_the_engine_can_be_shared():
    make = functools.partial(envs.make, "SafetyPointGoal1-v0", num_threads=1)
    spec = jsafe.env_spec(make(1))
    learner = jsafe.make("ppo_lag", spec, num_envs=1, steps_per_epoch=30, hidden=(4,))
    states = [learner.init(jax.random.key(seed)) for seed in SEEDS]
    keys = jax.random.split(jax.random.key(0))
    many = ManyCollector(make, [learner] * 2, SEEDS)
    batch = many.collect(learner.policy(jax.tree.map(lambda *x: np.stack(x), *states)), keys)
    for r, seed in enumerate(SEEDS):
        alone = make_collector(make(1), learner, seed=seed).collect(learner.policy(states[r]), keys[r])
        for x, y in zip(jax.tree.leaves(batch), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(x[r], y, atol=1e-4)
    many.close()


def test_bad_input():
    spec = jsafe.env_spec(make_env(1))
    make = functools.partial(jsafe.make, "ppo_lag", spec, **ON_POLICY)
    with pytest.raises(ValueError, match="one seed for each run, got 2 learners and 1 seeds"):
        ManyCollector(make_env, [make(), make()], [1])
    learners = [make(), make(gamma=0.9, cost_limit=3.0), make(passes=1, target_kl=0.5)]
    collector = ManyCollector(make_env, learners, [1, 2, 3])
    keys = [jax.random.key(0)] * 3
    with pytest.raises(ValueError, match="one learner and one key for each of 3 runs, got 3 and 2"):
        next(train.run_many(learners, collector, keys=keys[:2], total_steps=60))
    with pytest.raises(ValueError, match=r"differ only in what their states hold(?s:.*)passes: 2 there, 1 here"):
        next(train.run_many(learners, collector, keys=keys, total_steps=60))
    learners = [make(), make(hidden=(5,))]
    with pytest.raises(
        ValueError, match=r"differ only in what their states hold(?s:.*)hidden: \[4\] there, \[5\] here"
    ):
        next(train.run_many(learners, ManyCollector(make_env, learners, [1, 2]), keys=keys[:2], total_steps=60))


WORDS = shlex.split(
    "ppo_lag --env Toy-SpeedLimit-v0 --total-steps 400 --log-interval 100 --num-envs 2 --steps-per-epoch 100 "
    "--hidden 4 --passes 1 --minibatch 20"
)


def curve(folder):
    rows = csv_table.read_csv(folder / "progress.csv")
    names = [name for name in rows[0] if name not in csv_table.WALL_COLUMNS]
    return np.array([[float(row[name]) for name in names] for row in rows])


def test_the_command_line(tmp_path, capsys):
    """Every run has a folder like any other: its curve is that of the run by itself, and it can be continued."""
    many = ["train", *WORDS, "--seed", "3", "--seeds", "2", "--cost-limits", "5,20", "--run-dir", str(tmp_path / "all")]
    assert cli.main(many) == 0
    folders = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert folders == ["c20-s3", "c20-s4", "c5-s3", "c5-s4"]
    output = capsys.readouterr()
    assert output.out.count("finished") == 4
    assert "4 runs side by side" in output.err
    alone = tmp_path / "alone"
    assert cli.main(["train", *WORDS, "--seed", "4", "--cost-limit", "5", "--run-dir", str(alone)]) == 0
    one = tmp_path / "all" / "c5-s4"
    assert json.loads((one / "config.json").read_text()) == json.loads((alone / "config.json").read_text())
    np.testing.assert_allclose(curve(one), curve(alone), rtol=1e-3, atol=1e-4)
    for folder in (one, alone):
        assert cli.main(["train", "--resume", str(folder), "--total-steps", "800"]) == 0
        assert Checkpoints(folder).list()[-1] == 8
    np.testing.assert_allclose(curve(one), curve(alone), rtol=5e-3, atol=1e-3)
    with pytest.raises(train.RunError, match="was trained already; continue it by itself"):
        train_many([one])
    config, algorithm, options, *_ = train.read(one)
    other = train.start(dataclasses.replace(config, total_steps=500), algorithm, options, tmp_path / "other")
    with pytest.raises(train.RunError, match=r"cannot share a program with(?s:.*)total_steps: 400 there, 500 here"):
        train_many([one, other])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 0", "seeds must be at least 1 and at most 4096, got 0"),
        ("--cost-limits 1,x", "cost_limits must be numbers separated by commas, got '1,x'"),
        ("--cost-limits 1,2,1.0", "cost_limits names a limit twice: 1,2,1.0"),
        ("--cost-limits 1,-2", "cost_limits must be finite and at least 0, got '1,-2'"),
        ("--cost-limits 1,2 --rule none", "ppo_lag has no cost limit to keep"),
        ("--seeds 2 --depth 1", "--depth 1 is for a run by itself"),
        ("--seeds 2 --distributed --num-processes 1", "leave --distributed out"),
    ],
)
def test_wrong_words(words, message, capsys, tmp_path):
    try:
        status = cli.main(["train", *WORDS, *words.split(), "--run-dir", str(tmp_path / "run")])
    except SystemExit as exit:  # the parser's own errors
        status = exit.code
    assert status == 2
    output = capsys.readouterr()
    assert message in " ".join((output.out + output.err).replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_no_run_is_made_where_one_of_them_is_there(tmp_path, capsys):
    folder = tmp_path / "all" / "s4"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert cli.main(["train", *WORDS, "--seed", "3", "--seeds", "2", "--run-dir", str(tmp_path / "all")]) == 1
    assert "s4 holds a run already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["s4"]
