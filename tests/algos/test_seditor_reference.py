"""SEditor's and SAC-Lag's losses a second time, in plain numpy: values by hand-written forward passes in float64,
gradients by finite differences. Only the random draws are taken from the library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import assert_close, average, first_gradients, forward, group_values, lambda_targets, numeric_gradient
from scipy import special, stats

import jsafe
from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.seditor import PAPER
from jsafe.components.actors import ActorInputs, FrozenQ, Values
from jsafe.components.actors.beta import beta_actor, beta_network
from jsafe.components.actors.editor import editor_actor
from jsafe.distributions import beta
from jsafe.ops.editing import edit_action
from jsafe.options import replace
from jsafe.testing import random_batch

OBS, ACT, COSTS = 3, 2, 2
HIDDEN = (5, 4)
CONFIG = replace(
    PAPER,
    {
        "hidden": HIDDEN,
        "sequences": 4,
        "num_envs": 4,
        "sequence_length": 5,
        "frame_stack": 2,
        "cost_limit_per_step": 0.1,
    },
)
SPEC = jsafe.EnvSpec(OBS, ACT, num_costs=COSTS, horizon=20)


def concentrations(logits):
    return np.split(np.log1p(np.exp(logits)) + 1.0, 2, axis=-1)


def log_prob(action, conc):
    return (stats.beta.logpdf((action + 1) / 2, *conc) - np.log(2)).sum(-1)


class Noise:
    """Beta samples as a smooth function of the concentrations: the quantiles of the library's own gamma draws."""

    def __init__(self, key, conc):
        stacked = np.stack(conc)
        draws = np.asarray(beta._gamma(jnp.asarray(stacked, jnp.float32), key), np.float64)
        self.quantiles = special.gammainc(stacked, draws)

    def __call__(self, conc):
        a, b = special.gammaincinv(np.stack(conc), self.quantiles)
        return 2 * a / (a + b) - 1


def scattered(state, key):
    """Random parameters of a size at which nothing is zero or saturated, and targets of their own."""
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(key, len(leaves) + 1)
    leaves = [x + 0.4 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)]
    params = jax.tree.unflatten(tree, leaves)
    params["log_alpha"] = jax.tree.map(lambda x: x - 1.0, params["log_alpha"])
    target = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(keys[-1], x.shape), params["critic"])
    return state._replace(params=params, target=target)


def one_update(actor, soft="none"):
    """The library's gradients (from Adam's first moment after one step) and all inputs, as float64 numpy."""
    learner = assemble(replace(CONFIG, {"actor": actor, "temperature.soft": soft}), SPEC)
    before = scattered(learner.init(jax.random.key(0)), jax.random.key(1))
    batch = random_batch(learner, jax.random.key(2))
    steps = batch.steps
    costly = np.random.default_rng(0).random(steps.cost.shape) < 0.4
    batch = batch._replace(steps=steps._replace(cost=costly * steps.weight[..., None].astype(np.float32)))
    key = jax.random.key(3)
    after, _ = jax.jit(learner.update)(before, batch, key)
    grads = first_gradients(after)
    as_numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), (before.params, before.target))
    return grads, *as_numpy, batch.steps, key, after


def rows_of(steps):
    """Flattened rows, normalised signals (first update: the batch's own mean and deviation), masks."""
    obs = steps.obs.reshape(-1, steps.obs.shape[-1]).astype(np.float64)
    action = steps.action[:-1].reshape(-1, ACT).astype(np.float64)
    raw = np.concatenate([steps.reward[..., None], steps.cost], -1)[:-1].astype(np.float64)
    flat = raw.reshape(-1, raw.shape[-1])
    signals = np.clip((raw - flat.mean(0)) / flat.std(0), -10, 10)
    return obs, action, signals, steps.weight > 0


def critic_loss(critic, obs, action, goal, keep):
    """Squared errors averaged over reward and costs, over all rows of the window."""
    here = obs[: len(action)]
    values = group_values(critic, here, action)
    values = np.concatenate([values["reward"], values["cost"]], -1).reshape(-1, *goal.shape)
    errors = ((goal - values) ** 2).mean(-1).sum(0)
    return average(np.concatenate([errors, np.zeros_like(errors[:1])]), keep)


def pessimistic(critic, obs, action):
    """`[R, 1 + M]`: the smaller reward, the larger costs."""
    values = group_values(critic, obs, action)
    return np.concatenate([values["reward"].min(0), values["cost"].max(0)], -1)


def targets(target, obs, action, signals, steps):
    """Lambda returns `[T - 1, B, 1 + M]`, actions given at all rows."""
    width = steps.weight.shape[1]
    following = pessimistic(target, obs[width:], action[width:]).reshape(signals.shape)
    return lambda_targets(signals, steps.terminated[:-1], following, steps.weight[1:])


WEIGHTS = np.array([1.0, -1.0, -1.0]) / 3  # two multipliers of 1 beside lam_u = 1


@pytest.mark.parametrize(("distance", "edit"), [("hinge", "add"), ("l2", "soft"), ("none", "overwrite")])
def test_seditor_gradients(distance, edit):
    actor = editor_actor(OBS * 2, ACT, HIDDEN, "tanh", distance=distance, edit=edit, max_norm=1e9)
    grads, params, target, steps, key, _ = one_update(actor)
    obs, replayed, signals, keep = rows_of(steps)
    keys = jax.random.split(key, 4)
    um, se = params["actor"]["maximizer"], params["actor"]["editor"]
    alpha = {name: np.exp(value) for name, value in params["log_alpha"].items()}

    def edited(proposal, delta):
        if edit == "overwrite":
            return delta
        total = proposal + 2 * delta
        if edit == "add":
            return np.clip(total, -1, 1)
        return total + 0.1 * (np.logaddexp(0, (-1 - total) / 0.1) - np.logaddexp(0, (total - 1) / 0.1))

    def q(action):
        return pessimistic(params["critic"], obs, action)

    conc = concentrations(forward(um, obs))
    noise_p, noise_given = Noise(keys[0], conc), Noise(keys[2], conc)
    conc_d = concentrations(forward(se, obs, noise_p(conc)))
    noise_d = Noise(keys[1], conc_d)
    given = noise_given(conc)
    noise_edit = Noise(keys[3], concentrations(forward(se, obs, given)))

    def maximizer_loss(um):
        conc = concentrations(forward(um, obs))
        proposal = noise_p(conc)
        delta = noise_d(concentrations(forward(se, obs, proposal)))
        rows = -q(edited(proposal, delta))[:, 0] + alpha["maximizer"] * log_prob(proposal, conc)
        return average(rows, keep)

    def editor_loss(se):
        conc = concentrations(forward(se, obs, given))
        delta = noise_edit(conc)
        action = edited(given, delta)
        values, proposed = q(action), q(given)[:, 0]
        paid = {
            "hinge": np.maximum(proposed - values[:, 0], 0),
            "l2": ((action - given) ** 2).mean(-1),
            "none": -values[:, 0],
        }[distance]
        objective = values[:, 1:] @ WEIGHTS[1:] - WEIGHTS[0] * paid
        return average(-objective + alpha["editor"] * log_prob(delta, conc), keep)

    assert_close(grads["actor"]["maximizer"], numeric_gradient(maximizer_loss, um))
    assert_close(grads["actor"]["editor"], numeric_gradient(editor_loss, se))

    action = edited(noise_p(conc), noise_d(conc_d))
    goal = targets(target, obs, action, signals, steps)
    assert_close(
        grads["critic"], numeric_gradient(lambda c: critic_loss(c, obs, replayed, goal, keep), params["critic"])
    )

    wanted = ACT * (np.log(2) + np.log(0.1))
    for name, rows in {
        "maximizer": log_prob(noise_p(conc), conc),
        "editor": log_prob(
            noise_edit(concentrations(forward(se, obs, given))), concentrations(forward(se, obs, given))
        ),
    }.items():
        np.testing.assert_allclose(grads["log_alpha"][name], average(-rows - wanted, keep), rtol=1e-3)


@pytest.mark.parametrize("soft", ["all", "reward", "none"])
def test_sac_lag_gradients(soft):
    actor = beta_actor(OBS * 2, ACT, HIDDEN, "tanh", max_norm=1e9)
    grads, params, target, steps, key, _ = one_update(actor, soft)
    obs, replayed, signals, keep = rows_of(steps)
    alpha = np.exp(params["log_alpha"]["actor"])
    conc = concentrations(forward(params["actor"], obs))
    noise = Noise(key, conc)

    def actor_loss(net):
        conc = concentrations(forward(net, obs))
        action = noise(conc)
        values = pessimistic(params["critic"], obs, action)
        return average(alpha * log_prob(action, conc) - values @ WEIGHTS, keep)

    assert_close(grads["actor"], numeric_gradient(actor_loss, params["actor"]))

    action = noise(conc)
    entropy = -log_prob(action, conc).reshape(keep.shape)[1:]
    bonus = 0.99 * ~steps.terminated[:-1] * alpha * entropy
    signs = {"all": [1, -1, -1], "reward": [1, 0, 0], "none": [0, 0, 0]}[soft]
    goal = targets(target, obs, action, signals + bonus[..., None] * signs, steps)
    assert_close(
        grads["critic"], numeric_gradient(lambda c: critic_loss(c, obs, replayed, goal, keep), params["critic"])
    )


def test_the_editor_path_is_damped_by_the_row_clip():
    """dQ/d proposal = direct part + editor's Jacobian transposed times the row-clipped gradient at its concentrations,
    where the clip sees the sum over rows, not the mean."""
    obs = jax.random.normal(jax.random.key(0), (6, OBS))
    weights = jsafe.types.Weights(jnp.float32(0.5), jnp.array([0.5]))
    alpha = {"maximizer": jnp.float32(0), "editor": jnp.float32(0)}
    slope = jnp.array([0.05, -0.03])
    actor = editor_actor(OBS, ACT, (5,), "tanh", edit="soft", max_norm=0.01)
    params = jax.tree.map(
        lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), actor.init(jax.random.key(2))
    )
    q = FrozenQ(lambda a: Values(a @ slope, -(a @ slope)[..., None]), lambda a: a @ slope)
    inputs = ActorInputs(obs, obs[:, :ACT], jnp.ones(6), q, q, (), weights, jnp.zeros(1), alpha, ())
    keys = jax.random.split(jax.random.key(3), 4)
    editor = beta_network(OBS, ACT, (5,), "tanh", late_dim=ACT)
    maximizer = beta_network(OBS, ACT, (5,), "tanh")

    def library(um):
        return actor.loss({**params, "maximizer": um}, jax.random.key(3), inputs).loss.mean()

    def reference(um, max_norm):
        proposal = beta.sample(keys[0], *beta.concentrations(maximizer.apply(um, obs)))
        fixed = jax.lax.stop_gradient(proposal)

        def logits(p):
            return jnp.concatenate(beta.concentrations(editor.apply(params["editor"], obs, p)), -1)

        conc, pull = jax.vjp(logits, fixed)

        def total(p, c):
            return (edit_action(p, beta.sample(keys[1], *jnp.split(c, 2, -1)), "soft") @ slope).sum()

        direct, at_conc = jax.grad(total, argnums=(0, 1))(fixed, conc)
        norm = jnp.linalg.norm(at_conc, axis=-1, keepdims=True)
        through = pull(at_conc * jnp.minimum(1.0, max_norm / norm))[0]
        return -((direct + through) * proposal).sum(-1).mean()

    got = jax.grad(library)(params["maximizer"])["kernel_0"]
    damped = jax.grad(reference)(params["maximizer"], 0.01)["kernel_0"]
    free = jax.grad(reference)(params["maximizer"], 1e9)["kernel_0"]
    np.testing.assert_allclose(got, damped, rtol=1e-4, atol=1e-7)
    assert not np.allclose(got, free, rtol=1e-2, atol=1e-7)


def test_update_details_of_the_checklist():
    """Adam's epsilon-hat step, soft targets, and the multiplier on raw fresh costs."""
    learner = assemble(CONFIG, SPEC)
    state = learner.init(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    update = jax.jit(learner.update)
    after, metrics = update(state, batch, jax.random.key(2))

    step = np.sqrt(1 - 0.999) / (1 - 0.9)
    grads = first_gradients(after)
    for part in ("actor", "critic", "log_alpha"):
        for old, new, g in zip(*map(jax.tree.leaves, (state.params[part], after.params[part], grads[part]))):
            moved = 3e-4 * step * 0.1 * g / (np.sqrt(0.001 * g**2) + 1e-7)
            np.testing.assert_allclose(new, old - moved, atol=2e-7)
    for old, new, online in zip(*map(jax.tree.leaves, (state.target, after.target, after.params["critic"]))):
        np.testing.assert_allclose(new, 0.995 * old + 0.005 * online, atol=1e-7)
    assert int(after.updates) == 1

    # Adam's first step moves rho by the learning rate, upwards where the cost exceeds its limit.
    fresh = batch.measured.rows
    cost = fresh.total / fresh.count
    moved = np.asarray(after.rule.parameter - state.rule.parameter)
    np.testing.assert_allclose(moved, 0.01 * np.sign(cost - 0.1), rtol=1e-3)
    np.testing.assert_allclose(state.rule.parameter, np.log(np.e - 1), rtol=1e-6)
    np.testing.assert_allclose([metrics["cost/0/per_step"], metrics["cost/1/per_step"]], cost, rtol=1e-6)

    waiting, metrics = update(state, batch._replace(ready=np.bool_(False)), jax.random.key(2))
    for old, new in zip(jax.tree.leaves(state.params), jax.tree.leaves(waiting.params)):
        np.testing.assert_array_equal(old, new)
    assert int(waiting.updates) == 0
    np.testing.assert_allclose(waiting.rule.parameter, after.rule.parameter)  # the multiplier starts at once
    assert float(metrics["loss/critic_reward"]) == 0
