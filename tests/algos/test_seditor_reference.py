"""SEditor's and SAC-Lag's losses a second time, in plain numpy: values by hand-written forward passes in float64,
gradients by finite differences. Only the random draws are taken from the library."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import assert_close, average, critic_values, first_gradients, forward, lambda_targets, numeric_gradient
from scipy import special, stats

import jsafe
from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.actors import FrozenQ, beta_actor, beta_network, editor_actor
from jsafe.components.rules import lagrange
from jsafe.distributions import beta
from jsafe.ops.editing import edit_action
from jsafe.testing import random_batch

OBS, ACT, COSTS = 3, 2, 2
CONFIG = OffPolicyConfig(
    hidden=(5, 4), sequences=4, num_envs=4, sequence_length=5, frame_stack=2, cost_limit_per_step=0.1
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


def one_update(actor, entropy_reward):
    """The library's gradients (from Adam's first moment after one step) and all inputs, as float64 numpy."""
    rule = lagrange(COSTS, init=1.0, learning_rate=0.01)
    learner = assemble(dataclasses.replace(CONFIG, entropy_reward=entropy_reward), SPEC, actor, rule)
    before = scattered(learner.init(jax.random.key(0)), jax.random.key(1))
    batch = random_batch(learner, jax.random.key(2))
    costly = np.random.default_rng(0).random(batch.cost.shape) < 0.4
    batch = batch._replace(cost=np.where(batch.first[..., None], 0, costly).astype(np.float32))
    key = jax.random.key(3)
    after, _ = jax.jit(learner.update)(before, batch, key)
    grads = first_gradients(after)
    as_numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), (before.params, before.target))
    return grads, *as_numpy, batch, key, after


def rows_of(batch):
    """Flattened rows, normalised rewards (first update: the batch's own mean and deviation), masks."""
    obs = batch.obs.reshape(-1, batch.obs.shape[-1]).astype(np.float64)
    action = batch.action.reshape(-1, ACT).astype(np.float64)
    raw = np.concatenate([batch.reward[..., None], -batch.cost], -1).astype(np.float64)
    flat = raw.reshape(-1, raw.shape[-1])
    reward = np.clip((raw - flat.mean(0)) / flat.std(0), -10, 10)
    return obs, action, reward, ~batch.last


def critic_loss(critic, obs, action, goal, keep):
    values = critic_values(critic, obs, action).reshape(-1, *keep.shape, goal.shape[-1])
    errors = ((goal - values[:, :-1]) ** 2).mean(-1).sum(0)
    return average(np.concatenate([errors, np.zeros_like(errors[:1])]), keep)


WEIGHTS = np.array([1.0, 1.0, 1.0]) / 3  # two multipliers of 1 beside lam_u = 1


@pytest.mark.parametrize(("distance", "edit"), [("hinge", "add"), ("l2", "soft"), ("none", "overwrite")])
def test_seditor_gradients(distance, edit):
    actor = editor_actor(OBS * 2, ACT, hidden=CONFIG.hidden, distance=distance, edit=edit, max_norm=1e9)
    grads, params, target, batch, key, _ = one_update(actor, entropy_reward=False)
    obs, replayed, reward, keep = rows_of(batch)
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
        return critic_values(params["critic"], obs, action).min(0)

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
    value = critic_values(target, obs, action).min(0).reshape(reward.shape)
    goal = lambda_targets(reward, batch.discount, value, batch.last)
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


@pytest.mark.parametrize("entropy_reward", [True, False])
def test_sac_lag_gradients(entropy_reward):
    actor = beta_actor(OBS * 2, ACT, hidden=CONFIG.hidden, max_norm=1e9)
    grads, params, target, batch, key, _ = one_update(actor, entropy_reward)
    obs, replayed, reward, keep = rows_of(batch)
    alpha = np.exp(params["log_alpha"]["actor"])
    conc = concentrations(forward(params["actor"], obs))
    noise = Noise(key, conc)

    def actor_loss(net):
        conc = concentrations(forward(net, obs))
        action = noise(conc)
        values = critic_values(params["critic"], obs, action).min(0)
        return average(alpha * log_prob(action, conc) - values @ WEIGHTS, keep)

    assert_close(grads["actor"], numeric_gradient(actor_loss, params["actor"]))

    action = noise(conc)
    value = critic_values(target, obs, action).min(0).reshape(reward.shape)
    if entropy_reward:
        entropy = -log_prob(action, conc).reshape(keep.shape)
        reward = reward + (0.99 * batch.discount * alpha * entropy)[..., None]
    goal = lambda_targets(reward, batch.discount, value, batch.last)
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
    actor = editor_actor(OBS, ACT, hidden=(5,), edit="soft", max_norm=0.01)
    params = jax.tree.map(
        lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), actor.init(jax.random.key(2))
    )
    q = FrozenQ(lambda a: jnp.stack([a @ slope, a @ slope], -1), lambda a: a @ slope)
    keys = jax.random.split(jax.random.key(3), 4)
    editor = beta_network(OBS, ACT, (5,), "tanh", late_dim=ACT)
    maximizer = beta_network(OBS, ACT, (5,), "tanh")

    def library(um):
        return actor.loss({**params, "maximizer": um}, obs, jax.random.key(3), q, weights, alpha).loss.mean()

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
    actor = editor_actor(OBS * 2, ACT, hidden=CONFIG.hidden)
    rule = lagrange(COSTS, init=1.0, learning_rate=0.01)
    learner = assemble(CONFIG, SPEC, actor, rule)
    state = learner.init(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    update = jax.jit(learner.update)
    after, metrics = update(state, batch, jax.random.key(2))

    grads = first_gradients(after)
    step = np.sqrt(1 - 0.999) / (1 - 0.9)
    for old, new, g in zip(*map(jax.tree.leaves, (state.params, after.params, grads))):
        moved = 3e-4 * step * 0.1 * g / (np.sqrt(0.001 * g**2) + 1e-7)
        np.testing.assert_allclose(new, old - moved, atol=2e-7)
    for old, new, online in zip(*map(jax.tree.leaves, (state.target, after.target, after.params["critic"]))):
        np.testing.assert_allclose(new, 0.995 * old + 0.005 * online, atol=1e-7)
    assert int(after.updates) == 1

    # Adam's first step moves rho by the learning rate, upwards where the cost exceeds its limit.
    cost = batch.fresh.total / batch.fresh.count
    moved = np.asarray(after.rule.parameter - state.rule.parameter)
    np.testing.assert_allclose(moved, 0.01 * np.sign(cost - 0.1), rtol=1e-3)
    np.testing.assert_allclose(state.rule.parameter, np.log(np.e - 1), rtol=1e-6)
    np.testing.assert_allclose(metrics["rule/cost_per_step"], cost.sum(), rtol=1e-6)

    waiting, metrics = update(state, batch._replace(learn=np.bool_(False)), jax.random.key(2))
    for old, new in zip(jax.tree.leaves(state.params), jax.tree.leaves(waiting.params)):
        np.testing.assert_array_equal(old, new)
    assert int(waiting.updates) == 0
    np.testing.assert_allclose(waiting.rule.parameter, after.rule.parameter)  # the multiplier starts at once
    assert float(metrics["loss/critic"]) == 0
