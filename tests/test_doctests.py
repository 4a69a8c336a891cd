"""The examples in docstrings (`>>>`) run, and print what they show."""

import doctest
import functools
import importlib
import pkgutil
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import registry
from jsafe.components import rules, steps
from jsafe.envs.safety_gym.drawing import gl
from jsafe.runs.config import RunConfig
from jsafe.runs.folder import start
from jsafe.runs.session import train

ROOT = Path(jsafe.__file__).parent
SMALL = {"hidden": (4,), "steps_per_epoch": 40, "num_envs": 4, "minibatch": 20, "passes": 1}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """Modules whose source shows an example."""
    for info in pkgutil.walk_packages([str(ROOT)], "jsafe."):
        path = ROOT.joinpath(*info.name.split(".")[1:])
        path = path / "__init__.py" if info.ispkg else path.with_suffix(".py")
        if ">>> " in path.read_text():
            yield info.name


def trained(folder):
    """A finished run of the least size."""
    options = registry.make_config(registry.get("ppo_lag"), **SMALL)
    run = start(RunConfig("Toy-SpeedLimit-v0", total_steps=40, tensorboard=False), "ppo_lag", options, folder)
    assert train(run).status == "finished"


def scope():
    """What a reader of a docstring has at hand: the package, arrays, a spec, a small task with its learner."""
    spec = jsafe.EnvSpec(60, 2)
    env = jsafe.envs.ToyEnv(4, horizon=5)
    learner = jsafe.make("ppo_lag", jsafe.env_spec(env), cost_limit=1.0, **SMALL)
    return {
        "jsafe": jsafe,
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "functools": functools,
        "PPO": steps.PPO,
        "Lagrange": rules.Lagrange,
        "spec": spec,
        "env": env,
        "learner": learner,
        "collector": jsafe.data.make_collector(env, learner, seed=0),
        "obs": np.zeros((4, env.spec.obs_dim), np.float32),
        "key": jax.random.key(0),
        "MyFeed": type("MyFeed", (), {}),
    }


def outcome(test):
    """Runs a `doctest.DocTest`; its failures are the message."""
    told = []
    failed = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.append).failed
    return failed, "".join(told)


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of(name, tmp_path, monkeypatch):
    if name == "jsafe.report.video" and not gl.available():
        pytest.skip("no GL library: nothing can be drawn")
    monkeypatch.chdir(tmp_path)
    if name in ("jsafe.runs.evaluation", "jsafe.deploy.reading", "jsafe.deploy.writing"):
        trained("runs/seditor")
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for test in finder.find(module, name, globs=scope()) if test.examples]
    assert tests, f"{name} shows examples, and none was found"
    for test in tests:
        failed, told = outcome(test)
        assert not failed, told


def test_a_wrong_example_fails():
    text = textwrap.dedent(
        """
        >>> 1 + 1
        3
        """
    )
    assert outcome(doctest.DocTestParser().get_doctest(text, {}, "wrong", None, 0))[0] == 1
