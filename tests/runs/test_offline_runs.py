"""Runs on a data set: the folder knows which, continuing is exact, what does not fit is told first."""

import contextlib
import csv
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import registry
from jsafe.cli import main
from jsafe.components.limits import CostLimit
from jsafe.data import datasets
from jsafe.envs import make
from jsafe.feeds import Dataset
from jsafe.options import Options
from jsafe.runs import evaluation
from jsafe.runs.build import build_task
from jsafe.runs.config import RunConfig
from jsafe.runs.folder import RunError, read, start
from jsafe.runs.session import train
from jsafe.types import NO_MEMORY, ActOutput, Learner, PolicyState

ENV = "Toy-SpeedLimit-v0"


FEED = Dataset(batch_size=32, updates=5)


@dataclasses.dataclass(frozen=True)
class CloneConfig(Options):
    feed: Dataset = FEED
    limit: CostLimit = CostLimit()
    rate: float = 0.3

    SHORT = {"cost_limit": lambda value: {"limit.value": value}}  # noqa: RUF012


def build(config, spec, axis_name=None):
    """Behaviour cloning by least squares, one gradient step for each minibatch."""

    def init(key):
        return {
            "w": 0.1 * jax.random.normal(key, (spec.obs_dim, spec.act_dim)),
            "limit": config.limit.array(spec.num_costs),
        }

    def update(state, batch, key):
        def loss(w, rows):
            return jnp.square(rows.obs @ w - rows.action).mean()

        def step(w, rows):
            value, slope = jax.value_and_grad(loss)(w, rows)
            return w - config.rate * slope + 0.001 * jax.random.normal(key, w.shape), value

        w, losses = jax.lax.scan(step, state["w"], batch.steps)
        return {**state, "w": w}, {"loss/clone": losses.mean(), "cost/0/limit": state["limit"][0]}

    def act(policy_state, memory, obs, key, deterministic=False):
        return ActOutput(jnp.clip(obs @ policy_state.params, -1, 1), jnp.zeros(len(obs)), {}, memory)

    return Learner(init, update, lambda s: PolicyState(s["w"]), act, NO_MEMORY, config.feed, config, spec)


with contextlib.suppress(ValueError):  # imported twice
    registry.register(
        registry.Algorithm("clone", "offline", CloneConfig(), build, {}, "none", "Clones.", module=__name__)
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    env = make(ENV, 4, 0)
    path = tmp_path_factory.mktemp("data") / "set.npz"
    datasets.write(datasets.record(env, None, jax.random.key(0), episodes=20), path)
    return path


def begin(file, folder, **changes):
    values = {
        "env": ENV,
        "data": str(file),
        "total_steps": 40,
        "eval_interval": 10,
        "log_interval": 10,
        "tensorboard": False,
    }
    return start(RunConfig(**values | changes), "clone", CloneConfig(), folder)


def curve(folder):
    with open(Path(folder) / "progress.csv") as table:
        rows = list(csv.DictReader(table))
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def test_a_run_counts_updates_and_reports_evaluations(file, tmp_path):
    folder = begin(file, tmp_path / "run")
    outcome = train(folder)
    assert (outcome.status, outcome.env_steps, outcome.offline) == ("finished", 40, True)
    rows = curve(folder)
    assert [row["env_steps"] for row in rows] == ["10", "20", "30", "40"]
    assert [row["episode/count"] for row in rows] == ["0.0", "10.0", "10.0", "10.0"]
    assert rows[0]["episode/return"] == "nan" != rows[1]["episode/return"]
    assert float(rows[-1]["loss/clone"]) < float(rows[0]["loss/clone"])
    assert read(folder).config.data_sha256 == datasets.checksum(datasets.read(file))
    report = evaluation.evaluate(folder, episodes=4)
    assert (report["episodes"], report["offline"]) == (4, True)


@pytest.mark.parametrize("depth", [0, 1])
def test_continuing_is_exact(file, tmp_path, depth):
    whole, broken = (begin(file, tmp_path / name, depth=depth) for name in ("whole", "broken"))
    train(whole)
    train(broken, total_steps=20)
    train(broken)
    assert curve(whole) == curve(broken)
    states = [evaluation.restore(folder)[1].state for folder in (whole, broken)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_another_file_on_resume_is_an_error_and_a_moved_one_is_not(file, tmp_path):
    path = tmp_path / "set.npz"
    path.write_bytes(file.read_bytes())
    folder = begin(path, tmp_path / "run")
    train(folder, total_steps=15)
    moved = path.rename(tmp_path / "moved.npz")
    with pytest.raises(FileNotFoundError):
        train(folder)
    assert main(["train", "--resume", str(folder), "--data", str(moved), "--total-steps", "20"]) == 0
    datasets.write(datasets.read(moved).take(np.arange(10)), path)
    with pytest.raises(datasets.DatasetError, match="another data set than the run was made with"):
        train(folder)
    assert evaluation.evaluate(folder, episodes=2)["env_steps"] == 20  # which needs no data


def test_a_data_set_alone_is_enough(file, tmp_path):
    folder = begin(file, tmp_path / "run", env="none")
    assert train(folder).status == "finished"
    assert curve(folder)[-1]["episode/return"] == "nan"
    assert build_task(read(folder).config).spec.horizon == 50
    with pytest.raises(ValueError, match="env is 'none'"):
        evaluation.evaluate(folder)


def test_what_does_not_fit_is_told_before_anything_is_made(file, tmp_path):
    def wrong(message, algorithm="clone", **changes):
        options = registry.get(algorithm).config
        with pytest.raises((ValueError, RunError), match=message):
            start(RunConfig(**{"env": ENV, "data": str(file)} | changes), algorithm, options, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    wrong("--data FILE is missing", data=None)
    wrong("leave --data out", "ppo")
    wrong("was recorded on Toy-SpeedLimit-v0, not on SafetyPointGoal1-v0", env="SafetyPointGoal1-v0")
    wrong("have up to 50 steps, those of Toy-SpeedLimit-v0 7", env_options=(("horizon", 7),))
    wrong("was not recorded on Toy-SpeedLimit-v0: its obs space is another one", env_options=(("act_dim", 3),))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(file.read_bytes()[:-40])
    wrong("damaged", data=str(damaged))


def test_the_command_line_takes_the_task_from_the_file(file, tmp_path, capsys):
    words = ["--total-steps", "10", "--no-tensorboard", "--eval-interval", "0", "--run-dir", str(tmp_path / "run")]
    assert main(["train", "clone", "--data", str(file), *words]) == 0
    shown = capsys.readouterr()
    assert "clone on Toy-SpeedLimit-v0 at the end" in shown.out
    assert "updates" in shown.out
    assert read(tmp_path / "run").config.env == ENV
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["episodes"] == 20
    assert main(["train", "clone", *words]) == 2
    assert "--env ID is missing" in capsys.readouterr().err
    assert main(["train", "clone", "--data", str(tmp_path / "nothing.npz")]) == 1
    assert "nothing.npz: No such file" in capsys.readouterr().err
    nameless = dataclasses.replace(datasets.read(file), about=dataclasses.replace(datasets.read(file).about, env=None))
    datasets.write(nameless, tmp_path / "nameless.npz")
    assert main(["train", "clone", "--data", str(tmp_path / "nameless.npz")]) == 2
    assert "does not say which task it was recorded on" in capsys.readouterr().err
    for name in ("ppo", "clone"):  # evaluations on the task while it trains are for both
        main(["train", name, "--help"])
        assert "--eval-interval" in capsys.readouterr().out


def test_seeds_and_limits_share_a_program(file, tmp_path, capsys):
    words = ["--total-steps", "20", "--no-tensorboard", "--eval-interval", "10", "--log-interval", "10"]
    many = ["--seeds", "2", "--cost-limits", "5,10", "--run-dir", str(tmp_path / "many")]
    assert main(["train", "clone", "--data", str(file), *words, *many]) == 0
    folder = tmp_path / "many" / "c10-s1"
    alone = begin(file, tmp_path / "alone", seed=1, total_steps=20)
    train(alone)
    one, other = curve(alone), curve(folder)
    assert [row["episode/count"] for row in one] == [row["episode/count"] for row in other] == ["0.0", "10.0"]
    np.testing.assert_allclose(float(one[-1]["loss/clone"]), float(other[-1]["loss/clone"]), rtol=1e-4)
    assert other[-1]["cost/0/limit"] == "10.0"
    capsys.readouterr()
    unseen = ["--env", "none", "--seeds", "2", "--run-dir", str(tmp_path / "unseen")]
    assert main(["train", "clone", "--data", str(file), *words, *unseen]) == 0
    shown = capsys.readouterr()
    rows = [curve(tmp_path / "unseen" / name)[-1] for name in ("s0", "s1")]
    assert f"loss: clone {np.mean([float(row['loss/clone']) for row in rows]):.3g}" in shown.err
    assert "nan" not in shown.out  # nothing was measured


def test_a_sweep_checks_its_data_set_before_it_starts(file, tmp_path, capsys):
    sweep = tmp_path / "sweep.toml"
    text = (
        f'algorithm = "clone"\nenv = "{ENV}"\nseeds = 2\ntotal_steps = 10\ndata = "{file}"\ncost_limit = [5.0, 10.0]\n'
    )
    sweep.write_text(text)
    assert main(["sweep", str(sweep), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    sweep.write_text(text.replace(f'data = "{file}"\n', ""))
    assert main(["sweep", str(sweep), "--dry-run"]) == 2
    assert "clone learns from a data set: --data FILE is missing" in capsys.readouterr().err
