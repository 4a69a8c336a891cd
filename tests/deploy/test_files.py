"""Policies in files act like the learner they come from, in the environment's units, with their memory inside."""

import contextlib
import functools
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jsafe
from jsafe import data, registry, spaces
from jsafe.deploy import evaluation as of_file
from jsafe.deploy import policy_file, program, reading, writing, zoo
from jsafe.deploy.instructions import listing
from jsafe.envs.toy import ToyEnv
from jsafe.runs import evaluation, folder
from jsafe.runs.config import RunConfig
from jsafe.runs.session import train
from jsafe.spaces import Box, Discrete, Tree
from jsafe.types import EnvSpec, spec_from_json

BOX = EnvSpec(6, Box(2, (-2.0, 0.0), (2.0, 3.0)), 2)
PICTURE = Box((12, 12, 3), 0, 255, "uint8")
MIXED = EnvSpec(Tree({"picture": PICTURE, "speed": Box(3), "mode": Discrete((4,))}), 2)
SMALL = {"hidden": (8,)}
CASES = {
    "gaussian": ("ppo_lag", BOX, {}),
    "recurrent": ("ppo_lag", BOX, {"policy": "gru", "units": 5}),
    "budget": ("ppo_saute", BOX, {}),
    "choices of a picture": ("ppo_lag", EnvSpec(PICTURE, Discrete(3)), {}),
    "beta, stacked frames": ("seditor", BOX, {}),
    "squashed": ("sac_lag", BOX, {}),
    "deterministic": ("td3_lag", BOX, {}),
    "a tree, stacked": ("sac_lag", MIXED, {"frame_stack": 2}),
    "two choices": ("sac_discrete_lag", EnvSpec(6, Discrete((3, 2))), {}),
}


@functools.cache
def made(case):
    """A policy's program, and the policy as JAX computes it; its numbers are moved away from their first values."""
    name, spec, options = CASES[case]
    learner = jsafe.make(name, spec, **SMALL, **options)
    state = learner.policy(jax.jit(learner.init)(jax.random.key(0)))
    rng = np.random.default_rng(1)
    state = state._replace(
        params=jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(x.dtype), state.params)
    )
    policy = program.program(learner, state)
    about = {"inputs": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in policy.inputs]}
    about |= {"outputs": list(policy.outputs)}
    function = jax.jit(lambda inputs: policy.function(inputs, jax.random.key(7)))
    mine = policy_file.Policy(about, lambda inputs: {k: np.asarray(v) for k, v in function(inputs).items()})
    return learner, state, policy, about, mine


def acted(policy, spec, rows=3, steps=5):
    """Actions over a few steps; two rows begin anew at step 3."""
    rng, found = np.random.default_rng(2), []
    policy.reset()
    for t in range(steps):
        if t == 3:
            policy.reset([True, False, True])
        obs = spaces.sample(spec.obs, rng, (rows,))
        found.append(policy(obs, rng.random((rows, spec.num_costs))))
    return np.stack(found)


def saved(kind, policy, about, tmp_path):
    path = tmp_path / f"policy{kind}"
    path.write_bytes(writing.WRITERS[kind](policy, about))
    return reading.load(path)


@pytest.mark.parametrize("case", CASES)
def test_a_file_for_numpy_acts_like_the_learner(case, tmp_path):
    learner, _, policy, about, mine = made(case)
    want, got = (acted(each, learner.spec) for each in (mine, saved(".npz", policy, about, tmp_path)))
    assert got.dtype == want.dtype
    assert got.shape == want.shape == (5, 3, *learner.spec.action.shape)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert np.abs(np.diff(want, axis=0)).max() > 0


@pytest.mark.parametrize("case", ["recurrent", "budget", "a tree, stacked"])
def test_stablehlo_acts_like_the_learner(case, tmp_path):
    learner, _, policy, about, mine = made(case)
    read = saved(".stablehlo", policy, about, tmp_path)
    np.testing.assert_allclose(acted(read, learner.spec), acted(mine, learner.spec), atol=1e-6)
    (file,) = tmp_path.glob("*.stablehlo")
    assert str(Path(jsafe.__file__).parent).encode() not in file.read_bytes()  # where it was made is nobody's business


@pytest.mark.parametrize("case", ["recurrent", "budget", "beta, stacked frames", "choices of a picture"])
def test_onnxruntime_acts_like_the_learner(case, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    learner, _, policy, about, mine = made(case)
    read = saved(".onnx", policy, about, tmp_path)
    np.testing.assert_allclose(acted(read, learner.spec), acted(mine, learner.spec), atol=1e-5)
    assert read.about == about


@pytest.mark.parametrize("case", ["recurrent", "budget", "beta, stacked frames"])
def test_actions_are_those_of_evaluation(case):
    """`jsafe.data.evaluate` goes another way: it carries memory and budget itself, and scales actions on the host."""
    name, _, options = CASES[case]
    env = ToyEnv(3, horizon=4)
    learner = jsafe.make(name, jsafe.env_spec(env), **SMALL, **options)
    state = learner.policy(jax.jit(learner.init)(jax.random.key(3)))
    mine = program.program(learner, state)
    function = jax.jit(mine.function)
    about = {"inputs": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in mine.inputs]}
    policy = policy_file.Policy(about, lambda inputs: function(inputs, jax.random.key(0)))
    want = data.evaluate(env, learner, state, 6, jax.random.key(0), True, seed=5)
    got = data.run_episodes(env, of_file.acting(policy), 6, seed=5)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=1e-4, err_msg=name)


def test_actions_are_clipped_and_scaled_to_the_box():
    action = program.in_environment(np.array([[-3.0, -1.0], [0.0, 0.5], [1.0, 40.0]], np.float32), BOX.action)
    np.testing.assert_allclose(action, [[-2, 0], [0, 2.25], [2, 3]])
    wild = program.in_environment(np.full((1, 2), 9.0, np.float32), Box(2))
    np.testing.assert_array_equal(wild, [[1, 1]])  # no bounds: what a policy acts in


def test_one_observation_is_a_row():
    *_, policy = made("recurrent")
    policy.reset()
    obs = np.linspace(-1, 1, 6)
    alone = [policy(obs), policy(obs)]
    policy.reset()
    many = [policy(obs[None].repeat(2, axis=0)) for _ in range(2)]
    assert alone[0].shape == (2,)
    np.testing.assert_allclose(alone, [row[0] for row in many], atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-6  # the state has moved
    policy.reset()
    np.testing.assert_array_equal(policy(obs), alone[0])


def test_a_budget_is_spent_by_the_costs_it_is_told():
    *_, policy = made("budget")
    policy.reset()
    obs = np.zeros(6)
    first = policy(obs)
    with pytest.raises(ValueError, match=r"cost must be finite and of shape \(1, 2\), got none"):
        policy(obs)
    same, spent = policy(obs, [0.0, 0.0]), policy(obs, [20.0, 20.0])
    assert np.abs(spent - same).max() > 10 * np.abs(same - first).max()
    policy.reset()
    np.testing.assert_array_equal(policy(obs), first)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(5), r"obs must be finite and of shape \(1, 6\), got \(5,\)"),
        (np.full(6, np.nan), "finite: False"),
        ({"lidar": np.zeros(6)}, "got none"),
        (np.zeros((4, 6)), "4 observations after 1: call reset"),
    ],
)
def test_an_observation_that_does_not_fit_is_told(obs, message):
    *_, policy = made("recurrent")
    policy.reset()
    policy(np.zeros(6))
    with pytest.raises(ValueError, match=message):
        policy(obs)


def test_what_numpy_has_no_word_for_is_named():
    shapes = {"obs": jax.ShapeDtypeStruct((2, 3), "float32")}
    with pytest.raises(ValueError, match="no word for 'erf_inv'"):
        listing(lambda inputs: {"action": jax.lax.erf_inv(inputs["obs"])}, shapes)
    kept = listing(lambda inputs: {"action": inputs["obs"], "?": jax.lax.erf_inv(inputs["obs"])} and inputs, shapes)
    assert [line[0] for line in kept.program] == ["reshape"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    where = tmp_path_factory.mktemp("runs") / "run"
    options = {"hidden": (8,), "num_envs": 4, "steps_per_epoch": 80, "minibatch": 40, "passes": 1}
    config = RunConfig("Toy-SpeedLimit-v0", total_steps=160, tensorboard=False, env_options={"horizon": 10})
    made = folder.start(
        config, "trpo_lag", registry.make_config(registry.get("trpo_lag"), **options, cost_limit=2.0), where
    )
    assert train(made).status == "finished"
    return where


def test_a_run_acts_without_its_environment(run, tmp_path):
    policy = jsafe.load(run)
    obs = np.random.default_rng(0).standard_normal((4, 3))
    want = policy(obs)
    described = folder.read(run)
    gone = described.config.__class__(
        "python:gone:Gone", imports=("not_installed",), total_steps=160, tensorboard=False
    )
    folder.write(described._replace(config=gone), run)
    try:
        with pytest.raises(folder.RunError, match="not_installed"):
            folder.read(run)
        np.testing.assert_array_equal(jsafe.load(run)(obs), want)
        path = jsafe.deploy.export(run, tmp_path / "policy.npz")
    finally:
        folder.write(described, run)
    np.testing.assert_allclose(jsafe.load(path)(obs), want, atol=1e-6)
    drawn = jsafe.load(run, deterministic=False, seed=1)
    assert np.abs(drawn(obs) - drawn(obs)).max() > 1e-3
    with pytest.raises(ValueError, match="most likely actions only"):
        jsafe.load(path, deterministic=False)


def test_the_reader_is_one_short_file_that_needs_numpy_alone(run, tmp_path):
    source = Path(policy_file.__file__)
    assert len(source.read_text().splitlines()) <= 100
    (tmp_path / "reader.py").write_text(source.read_text())
    path = jsafe.deploy.export(run, tmp_path / "policy.npz")
    code = "import reader, sys, numpy as np; policy = reader.load('policy.npz'); print(policy(np.ones(3)).tolist());"
    code += "assert not {'jax', 'jsafe', 'flax'} & set(sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(json.loads(said.stdout), jsafe.load(run)(np.ones(3)), atol=1e-6)
    assert path.read_bytes() == jsafe.deploy.export(run, tmp_path / "again.npz").read_bytes()


def test_a_file_is_evaluated_like_its_run(run, tmp_path):
    path = jsafe.deploy.export(run, tmp_path / "policy.npz")
    got, want = of_file.evaluate(path, episodes=4), evaluation.evaluate(run, episodes=4)
    assert (run / "evaluation.json").is_file()
    assert {name: got[name] for name in ("algorithm", "env", "env_steps", "seed", "episodes")} == {
        name: want[name] for name in ("algorithm", "env", "env_steps", "seed", "episodes")
    }
    assert got["per_episode"]["length"] == [10] * 4  # the option of its environment came along
    assert got["costs"][0]["limit"] == 2.0
    for name in ("return", "cost"):
        np.testing.assert_allclose(got["per_episode"][name], want["per_episode"][name], atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"not a zip"])
def test_a_damaged_file_is_an_error_that_names_it(content, tmp_path):
    path = tmp_path / "policy.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"policy\.npz is not a policy"):
        jsafe.load(path)


def test_other_kinds_of_file_are_an_error(run, tmp_path):
    with pytest.raises(ValueError, match=r"unknown kind of policy file '.onx'; did you mean '.onnx'"):
        jsafe.deploy.export(run, tmp_path / "policy.onx")
    with pytest.raises(ValueError, match="there is no folder"):
        jsafe.deploy.export(run, tmp_path / "nowhere" / "policy.npz")
    (tmp_path / "policy.txt").write_text("")
    with pytest.raises(ValueError, match=r"unknown kind of policy file '\.txt'"):
        jsafe.load(tmp_path / "policy.txt")
    with pytest.raises(ValueError, match="unknown policy of the zoo 'nobody'"):
        jsafe.load("zoo:nobody")


def test_the_service_of_the_documentation_answers(run, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "pages" / "deploy.md"
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "Service" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "service.py").write_text(code.replace("8000", str(port)))
    (tmp_path / "policy_file.py").write_text(Path(policy_file.__file__).read_text())
    jsafe.deploy.export(run, tmp_path / "policy.npz")
    process = subprocess.Popen([sys.executable, "service.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)

    def ask(**question):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/", json.dumps(question))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            time.sleep(0.05)
        status, answer = ask(obs=[0.1, 0.2, 0.3], start=True)
        assert status == 200
        np.testing.assert_allclose(answer["action"], jsafe.load(run)([0.1, 0.2, 0.3]), atol=1e-6)
        status, answer = ask(obs=[0.1, 0.2])
        assert (status, answer) == (400, {"error": "obs must be finite and of shape (1, 3), got (2,), finite: True"})
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", zoo.names())
def test_the_policies_of_the_zoo_act(name):
    """The file says what it did, within its limit; here it is enough that it acts on its own task."""
    about = zoo.about(name)
    assert {"algorithm", "env", "env_steps", "limit", "results"} <= set(about)
    assert about["results"]["episodes"] == 100
    assert all(cost["kept"] for cost in about["results"]["costs"] if about["limit"])
    policy, spec = jsafe.load(f"zoo:{name}"), spec_from_json(about["spec"])
    actions = acted(policy, spec)
    low, high = (np.broadcast_to(end, spec.action.shape) for end in spaces.bounds(spec.action))
    assert (actions >= low).all()
    assert (actions <= high).all()
    assert np.abs(np.diff(actions, axis=0)).max() > 0.1
    assert jsafe.envs.make(about["env"]).spec.obs_dim == spec.obs_dim
