"""Choices, structured observations and memory through every kind of learner, and over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.algos.off_policy import losses
from jsafe.components.actors import ActorInputs, Categorical, FrozenQ, Values
from jsafe.components.critics import Ensemble
from jsafe.spaces import Box, Discrete, Tree
from jsafe.testing import check_learner, random_batch
from jsafe.types import EnvSpec, Measured, Weights

KEY = jax.random.key(0)
TREE = Tree({"picture": Box((8, 8, 1), 0, 255, "uint8"), "speed": Box(3), "gear": Discrete((4, 2))})
CHOICES, SIGHTS = EnvSpec(5, Discrete((3, 2)), horizon=16), EnvSpec(TREE, 2, horizon=16)
ON = {"num_envs": 4, "steps_per_epoch": 64, "hidden": (4,), "minibatch": 32, "passes": 2}
GRU = {"policy": "gru", "units": 3, "policy.segment": 8}
EYES = {"channels": (2,), "kernels": (4,), "strides": (4,), "width": 3}
SEEING = {f"{where}.encoder.{name}": x for where in ("policy", "step.critics") for name, x in EYES.items()}
OFF = {"hidden": (4,), "sequences": 4, "num_envs": 4, "sequence_length": 3, "updates": 1}
SEEING_OFF = {f"encoder.{name}": value for name, value in EYES.items()}


ON_CASES = [
    *(("choices", {"step": step}) for step in ("ppo", "focops", "cup", "p3o", "ipo", "appo", "policy_gradient")),
    *(("choices", {"step": step, "cg_iterations": 3}) for step in ("natural_pg", "trpo", "cpo", "pcpo")),
    *(("remembered", {"step": step}) for step in ("ppo", "cpo")),
    *(("seen", {"step": step}) for step in ("ppo", "trpo")),
    ("seen and remembered", {"step": "ppo", "transform": "identity", "rule": "lagrange"}),
    ("remembered", {"step": "ppo", "transform": "saute", "compat": "omnisafe"}),
]
WORLDS = {
    "choices": (CHOICES, {}),
    "remembered": (CHOICES, GRU),
    "seen": (SIGHTS, SEEING),
    "seen and remembered": (SIGHTS, {**SEEING, **GRU}),
}


@pytest.mark.parametrize(("world", "options"), ON_CASES, ids=lambda x: x if isinstance(x, str) else x["step"])
def test_on_policy_learners_keep_their_promises(world, options):
    spec, more = WORLDS[world]
    _, metrics = check_learner(jsafe.on_policy(spec, **ON, **more, **options), KEY, updates=1)
    assert metrics["update/passes"] >= 1
    assert "policy/std" in metrics or spec is CHOICES


OFF_CASES = [
    ("sac_discrete_lag", EnvSpec(5, Discrete(3)), {}),
    ("sac_discrete_lag", CHOICES, {"preset": "laptop", "frame_stack": 2, "updates": 2}),
    ("sac_lag", SIGHTS, SEEING_OFF),
    ("td3_lag", SIGHTS, {**SEEING_OFF, "updates": 2, "normalize_obs": True, "max_grad_norm": 1.0}),
    ("seditor", EnvSpec(TREE["picture"], 2), {**SEEING_OFF, "frame_stack": 3}),
]


@pytest.mark.parametrize(("name", "spec", "options"), OFF_CASES, ids=lambda x: x if isinstance(x, str) else None)
def test_off_policy_learners_keep_their_promises(name, spec, options):
    state, _ = check_learner(jsafe.make(name, spec, **{**OFF, **options}), KEY, updates=1)
    assert ("encoder" in state.params) == (name != "sac_discrete_lag")


def test_critics_alone_train_the_encoder():
    def moved(**rates):
        learner = jsafe.make("sac_lag", SIGHTS, **OFF, **SEEING_OFF, **rates)
        before = learner.init(KEY)
        after, _ = jax.jit(learner.update)(before, random_batch(learner, KEY), KEY)
        change = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, before.params)
        return {name: max(jax.tree.leaves(tree)) > 1e-20 for name, tree in change.items()}

    assert moved(critic_learning_rate=1e-30) == {"actor": True, "critic": False, "encoder": False, "log_alpha": False}
    assert moved(actor_learning_rate=1e-30) == {"actor": False, "critic": True, "encoder": True, "log_alpha": True}


def test_the_encoders_gradient_is_that_of_the_critics_loss():
    """Through the latents of the replayed rows only: what targets bootstrap from is a constant."""
    learner = jsafe.make("sac_lag", SIGHTS, **{**OFF, "sequence_length": 2}, **SEEING_OFF, rule="none", gamma=0.0)
    state, batch = learner.init(KEY), random_batch(learner, KEY)
    after, _ = jax.jit(learner.update)(state, batch, KEY)
    parts = [getattr(learner.config, name) for name in ("encoder", "critics")]
    encoder = parts[0].build(SIGHTS)
    critics = parts[1].build(EnvSpec(encoder.width, 2))
    steps = batch.steps

    def loss(params):
        h = critics.embed(state.params["critic"], encoder.apply(params, jax.tree.map(lambda x: x[0], steps.obs)))
        rows = critics.loss(
            state.params["critic"],
            h,
            steps.action[0],
            {"reward": steps.reward[:1, :, None], "cost": steps.cost[:1]},
            {"reward": jnp.zeros((1, 4, 1, 1)), "cost": jnp.zeros((1, 4, 1, 1))},
            lambda signal, following, **_: signal[..., None],
        )
        return (sum(row.sum(-1) for row in rows.values()) * (steps.weight[0] > 0)).sum() / 4

    want = jax.grad(loss)(state.params["encoder"])
    for a, b in zip(jax.tree.leaves(after.opt_state["encoder"].mu), jax.tree.leaves(want)):
        np.testing.assert_allclose(a, 0.1 * b, rtol=1e-4, atol=1e-7)


class Marked(nn.Module):
    """An encoder with an operation that nothing else has."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(3)(jax.lax.cbrt(obs["picture"].reshape(obs["picture"].shape[0], -1).astype(jnp.float32)))


def count(jaxpr, name):
    """How often an operation stands in a program, inner ones included."""
    inner = [x for eqn in jaxpr.eqns for x in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns"))]
    inside = sum(count(getattr(x, "jaxpr", x), name) for x in inner if hasattr(getattr(x, "jaxpr", x), "eqns"))
    return inside + sum(eqn.primitive.name == name for eqn in jaxpr.eqns)


@pytest.mark.parametrize("name", ["seditor", "sac_lag"])
def test_every_row_is_encoded_once(name):
    """For critics, targets, actors and the rule: no slow encoder, and none besides."""
    learner = jsafe.make(name, SIGHTS, **OFF, encoder=Marked(), td_lambda=0.9)
    state, batch = jax.eval_shape(learner.init, KEY), random_batch(learner, KEY)
    assert count(jax.make_jaxpr(learner.update)(state, batch, KEY).jaxpr, "cbrt") == 1
    assert jax.tree.structure(state.target) == jax.tree.structure(state.params["critic"])
    twice = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jax.lax.cbrt, jnp.sin, jax.lax.cbrt(x)))(1.0)
    assert count(twice.jaxpr, "cbrt") == 2


def test_the_papers_run_on_pictures():
    tree = Tree({"picture": Box((96, 96, 1), 0, 255, "uint8"), "car": Box(11)})
    spec = EnvSpec(tree, 3)
    learner = jsafe.make("seditor", spec, preset="paper_racing")
    state = jax.eval_shape(learner.init, KEY)
    assert state.params["encoder"]["picture"]["Dense_0"]["kernel"].shape == (4096, 256)
    heat = learner.config.temperature.build(spec)
    entropy = [float(-jax.grad(lambda a, k=k: heat.loss(a, jnp.float32(0), k))(0.0)) for k in range(2)]
    assert learner.config.actor.build(EnvSpec(256, 3)).policies == ("maximizer", "editor")
    np.testing.assert_allclose(entropy, [-4.828, -2.749], atol=1e-3)
    assert learner.feed.steps_per_batch == 80
    wider = jsafe.make("sac_actor2x_lag", spec, preset="paper_racing").config
    assert (wider.actor.hidden, wider.critics.hidden, wider.feed) == ((360, 360), (256, 256), learner.feed)
    with pytest.raises(ValueError, match=r"one for each policy \(actor\), got 2 numbers"):
        jsafe.make("sac_lag", spec, **{"temperature.target": (-1.0, -2.0)})


def test_the_categorical_actors_loss_is_the_sum_over_all_choices():
    spec = EnvSpec(2, Discrete((3, 2)))
    actor = Categorical(hidden=(4,)).build(spec)
    params = actor.init(KEY)
    obs = jax.random.normal(KEY, (5, 2))
    table = np.random.default_rng(0).standard_normal((2, 5))  # values are linear in the one-hot columns
    weights, alpha = Weights(jnp.float32(0.7), jnp.array([0.4])), 0.3

    def values(action):
        return Values(action @ table[0].astype(np.float32), (action @ table[1].astype(np.float32))[..., None])

    q = FrozenQ(values, lambda action: values(action).reward)
    inputs = ActorInputs(obs, None, jnp.ones(5), q, q, (), weights, None, {"actor": alpha}, ())
    out = actor.loss(params, KEY, inputs)
    bootstrap = actor.bootstrap(params, (), obs, KEY)
    for row in range(5):
        single = actor.draw(params, jnp.tile(obs[row], (1, 1)), KEY, True)
        want = entropy = 0.0
        for i in range(3):
            for j in range(2):
                k = 2 * i + j
                p = float(out.draw.chance[k, row])
                assert out.draw.action[k, row].tolist() == [i, j]
                value = 0.7 * (table[0, i] + table[0, 3 + j]) - 0.4 * (table[1, i] + table[1, 3 + j])
                want += p * (alpha * np.log(p) - value)
                entropy -= p * np.log(p)
        assert out.loss[row] == pytest.approx(want, abs=1e-5)
        assert out.draw.log_probs["actor"][row] == pytest.approx(-entropy, abs=1e-5)
        best = out.draw.action[int(np.argmax(out.draw.chance[:, row])), row]
        assert single.action[0].tolist() == best.tolist()
        assert single.log_probs["actor"][0] == pytest.approx(np.log(np.max(out.draw.chance[:, row])), abs=1e-5)
    np.testing.assert_allclose(out.draw.chance.sum(0), 1, atol=1e-6)
    np.testing.assert_array_equal(bootstrap.chance, out.draw.chance)


def test_targets_bootstrap_from_the_expectation():
    spec = EnvSpec(3, Discrete(3))
    learner = jsafe.make("sac_discrete_lag", spec, **{**OFF, "sequence_length": 2}, gamma=0.9)
    state, steps = learner.init(KEY), random_batch(learner, KEY).steps
    critics = Ensemble(hidden=(4,)).build(spec)
    parts = losses.Parts(
        learner.config.actor.build(spec),
        critics,
        learner.config.encoder.build(spec),
        learner.config.temperature.build(spec),
        spec.action,
        False,
        1,
    )
    raw = jnp.concatenate([steps.reward[:-1, :, None], steps.cost[:-1]], axis=-1)
    obs, pull = losses.encoded_obs(parts, state.params, steps.obs)
    assert pull is None
    window = losses.read_window(parts, steps, obs, raw)
    draw = parts.actor.bootstrap(state.params["actor"], (), window.obs[4:], KEY)
    _, metrics = losses.critic_loss(state.params["critic"], parts, state, window, draw)

    there, here = steps.obs[1], steps.obs[0]
    chance = np.asarray(draw.chance, np.float64)
    reward, cost = np.zeros(4), np.zeros(4)
    for a in range(3):
        action = jnp.tile(jnp.eye(3)[a], (4, 1))
        q = critics.values(state.target, critics.embed(state.target, there), action)
        reward += chance[a] * (np.asarray(q.reward, np.float64) - 1.0 * np.log(chance[a]))  # alpha starts at 1
        cost += chance[a] * np.asarray(q.cost[:, 0], np.float64)
    alive = 0.9 * (1 - steps.terminated[0]) * steps.weight[1] + 0.9 * (1 - steps.weight[1]) * (1 - steps.terminated[0])
    goal = np.asarray(steps.reward[0] + alive * reward), np.asarray(steps.cost[0, :, 0] + alive * cost)
    h = critics.embed(state.params["critic"], here)
    taken = jax.nn.one_hot(steps.action[0], 3)
    signals = {name: jnp.asarray(g, jnp.float32).reshape(1, 4, 1) for name, g in zip(("reward", "cost"), goal)}
    zero = jax.tree.map(lambda g: jnp.zeros((*g.shape, 1)), signals)
    rows = critics.loss(state.params["critic"], h, taken, signals, zero, lambda signal, following: signal[..., None])
    want = jax.tree.map(jnp.mean, rows)
    for name in want:
        assert metrics[f"loss/critic_{name}"] == pytest.approx(float(want[name]), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jsafe.off_policy(EnvSpec(5, 2), actor="categorical"), "needs choices .* got Box"),
        (lambda: jsafe.make("sac_lag", EnvSpec(5, Discrete(3))), "actions are Discrete.* not continuous"),
        (lambda: jsafe.off_policy(EnvSpec(5, Discrete((50, 50))), actor="categorical"), "at most 1024 joint choices"),
        (lambda: jsafe.off_policy(SIGHTS, encoder=3), "encoder must be"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Two devices, one batch; a full-batch minibatch and SGD on-policy, no sampling off-policy.
SPLIT = {**ON, "minibatch": 64, "step.optimizer": "sgd", "learning_rate": 0.05, "critic_learning_rate": 0.05}
TWO_DEVICES = [
    ("ppo", CHOICES, {**SPLIT, "rule": "lagrange"}),
    ("cpo", CHOICES, {**SPLIT, "cg_iterations": 3, "cost_limit": 3.0}),
    ("ppo", SIGHTS, {**SPLIT, **SEEING}),
    ("ppo", CHOICES, {**SPLIT, **GRU}),
    ("off", CHOICES, {**OFF, "actor": "categorical", "temperature.target": 0.5}),
    ("off", SIGHTS, {**OFF, **SEEING_OFF, "actor": "deterministic", "temperature": "none", "normalize_obs": True}),
]


def split(batch, feed, i):
    """The part of device i of two; the sums go to the first."""
    axis = len(feed.shape) - 1

    def half(x, axis):
        size = x.shape[axis] // 2
        return np.take(np.asarray(x), np.arange(i * size, (i + 1) * size), axis)

    steps = jax.tree.map(lambda x: half(x, axis), batch.steps)
    measured = Measured(*jax.tree.map(lambda x: np.asarray(x) * (i == 0), tuple(batch.measured)))
    return batch._replace(steps=steps, measured=measured, memory=jax.tree.map(lambda x: half(x, 0), batch.memory))


@pytest.mark.parametrize(("step", "spec", "options"), TWO_DEVICES, ids=lambda x: x if isinstance(x, str) else None)
def test_two_devices_equal_one(step, spec, options):
    def make(axis_name):
        if step == "off":
            return jsafe.off_policy(spec, axis_name=axis_name, **options)
        return jsafe.on_policy(spec, step=step, axis_name=axis_name, **options)

    whole, part = make(None), make("d")
    sharded = jax.jit(jax.vmap(part.update, in_axes=(None, 0, None), axis_name="d"))
    state, batch = whole.init(KEY), random_batch(whole, KEY)
    one = jax.jit(whole.update)(state, batch, KEY)
    halves = jax.tree.map(lambda *x: np.stack(x), *(split(batch, whole.feed, i) for i in range(2)))
    many = sharded(state, halves, KEY)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(many)):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(b[0], b[1], rtol=1e-6, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(a, b[0], rtol=2e-3, atol=2e-5, err_msg=name)
