"""Policy steps against dense algebra and hand-written updates on tiny networks."""

import functools
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jsafe.components.second_order_steps import second_order

from jsafe.components import objectives, steps
from jsafe.distributions import gaussian as gaussian
from jsafe.nets.heads import gaussian_actor, value_functions
from jsafe.ops import policy_losses
from jsafe.types import Weights

OBS, A, M, B = 3, 2, 2, 24
KEY = jax.random.key(0)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Most of the time here goes into compiling programs that run once or twice."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


class Hyper(NamedTuple):
    actor_lr: float = 0.1
    critic_lr: float = 0.2
    max_grad_norm: float = 1e9
    critic_l2: float = 0.01
    entropy_coef: float = 0.0
    target_kl: float = 0.01
    clip: float = 0.2
    damping: float = 0.1
    gamma: float = 0.9
    lam: float = 0.9


NETWORKS = steps.Networks(gaussian_actor(OBS, A, hidden=(4,)), value_functions(OBS, 1 + M, hidden=(4,)))
SGD = steps.Trainer(NETWORKS, steps.optimizer("sgd"), minibatch=B)


def setup(gap=(-1.0, -1.0)):
    keys = jax.random.split(KEY, 6)
    params = steps.ActorCritic(NETWORKS.actor.init(keys[0]), NETWORKS.critics.init(keys[1]))
    obs = jax.random.normal(keys[2], (B, OBS))
    old = NETWORKS.actor.apply(params.actor, obs)
    action = gaussian.sample(old, keys[3])
    signals = jax.random.normal(keys[4], (B, 1 + M))
    batch = steps.PolicyBatch(
        obs, action, gaussian.log_prob(old, action), old, signals[:, 0], signals[:, 0], signals[:, 1:],
        jax.random.normal(keys[5], (B, 1 + M)),
    )  # fmt: skip
    view = steps.ConstraintView(jnp.zeros(M), jnp.zeros(M), jnp.array(gap), Weights(jnp.ones(()), jnp.zeros(M)))
    return params, batch, view


def dense(params, batch):
    """Fisher matrix (the Hessian of the mean KL) and gradients of the surrogates, by brute force."""
    theta, unravel = ravel_pytree(params.actor)

    def policy(t):
        return NETWORKS.actor.apply(unravel(t), batch.obs)

    def surrogate(t, signal):
        ratio = jnp.exp(gaussian.log_prob(policy(t), batch.action) - batch.log_prob)
        return jnp.mean(ratio * signal)

    H = jax.hessian(lambda t: jnp.mean(gaussian.kl(batch.old, policy(t))))(theta)
    g = jax.grad(surrogate)(theta, batch.advantage)
    b = jnp.stack([jax.grad(surrogate)(theta, column) for column in batch.advantage_cost.T])
    return [np.asarray(x, np.float64) for x in (theta, H, g, b)]


@functools.cache
def compiled(kind, kl_per_dim=False, omnisafe=False):
    """One compilation for each kind of step; everything else is traced."""
    step = second_order(SGD, kind, passes=1, cg_iterations=60, kl_per_dim=kl_per_dim, omnisafe=omnisafe)
    return step._replace(step=jax.jit(step.step))


def actor_move(step, params, batch, view, hyper=None):
    new, _, metrics = jax.jit(step.step)(params, step.init(params), batch, view, hyper or Hyper(), KEY)
    return np.asarray(ravel_pytree(new.actor)[0], np.float64), new, metrics


@pytest.mark.parametrize("kl_per_dim", [False, True])
def test_natural_step_is_the_dense_solution(kl_per_dim):
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    step = compiled("natural", kl_per_dim)
    moved, _, metrics = actor_move(step, params, batch, view)
    H = H / (A if kl_per_dim else 1) + 0.1 * np.eye(len(H))
    x = np.linalg.solve(H, g)
    expected = np.sqrt(2 * 0.01 / (x @ g)) * x
    np.testing.assert_allclose(moved - theta, expected, atol=2e-3 * np.abs(expected).max())
    assert metrics["update/xHx"] == pytest.approx(x @ g, rel=1e-3)


def test_trust_region_shrinks_until_the_divergence_fits():
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    # Without damping the quadratic model overshoots: the search has to shrink the step by 0.8 at least once.
    hyper = Hyper(damping=1e-3, target_kl=0.5)
    step = compiled("trust_region")
    moved, _, metrics = actor_move(step, params, batch, view, hyper)
    x = np.linalg.solve(H + 1e-3 * np.eye(len(H)), g)
    scale = float(metrics["update/step_scale"])
    tries = np.log(scale) / np.log(0.8)
    assert tries >= 0.99
    assert tries == pytest.approx(round(tries), abs=1e-3)
    expected = scale * np.sqrt(2 * 0.5 / (x @ g)) * x
    np.testing.assert_allclose(moved - theta, expected, atol=1e-2 * np.abs(expected).max())
    assert metrics["policy/kl"] <= 0.5


def test_trust_region_refuses_a_step_that_does_not_pay():
    params, batch, view = setup()
    step = compiled("trust_region")
    for bad in (batch._replace(advantage=jnp.full(B, jnp.nan)), batch._replace(advantage=jnp.zeros(B))):
        moved, new, _ = actor_move(step, params, bad, view)
        np.testing.assert_array_equal(moved, ravel_pytree(params.actor)[0])
        assert not np.array_equal(new.critics[0]["w"], params.critics[0]["w"])


def test_cpo_and_pcpo_steps_satisfy_their_linear_constraints():
    params, batch, _ = setup()
    theta, H, _, b = dense(params, batch)
    H = H + 0.1 * np.eye(len(H))
    reach = np.sqrt(2 * 0.01 * np.einsum("md,de,me->m", b, np.linalg.inv(H), b))
    gap = np.array([0.3, -0.2]) * reach  # the first cost is too high, the second near its limit
    view = setup(tuple(gap))[2]
    for kind in ("cpo", "pcpo"):
        step = compiled(kind)
        moved, _, metrics = actor_move(step, params, batch, view)
        scale = float(metrics["update/step_scale"])
        if scale == 0:  # the search may refuse a step of the linear model; the model's step is what is checked
            continue
        x = (moved - theta) / scale
        assert (b @ x + gap <= 0.02 * reach).all(), kind
        assert metrics["policy/kl"] <= 0.01
        if kind == "cpo":
            assert x @ H @ x == pytest.approx(0.02, rel=0.02)
            assert metrics["update/feasible"] == 1
    assert scale > 0


def test_cpo_recovers_where_no_step_is_feasible():
    params, batch, _ = setup()
    theta, H, _, b = dense(params, batch)
    H = H + 0.1 * np.eye(len(H))
    view = setup((5.0, -1.0))[2]
    moved, _, metrics = actor_move(compiled("cpo"), params, batch, view)
    p = np.linalg.solve(H, b[0])
    expected = -np.sqrt(0.02 / (b[0] @ p)) * p
    scale = float(metrics["update/step_scale"])
    assert metrics["update/feasible"] == 0
    assert scale > 0
    np.testing.assert_allclose(moved - theta, scale * expected, atol=5e-3 * np.abs(expected).max())


def test_released_pcpo_follows_the_plain_gradient():
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    hyper = Hyper(target_kl=1e-4)
    H = H / A + 0.1 * np.eye(len(H))
    moved = {}
    for released in (False, True):
        step = compiled("pcpo", True, released)
        theta1, _, metrics = actor_move(step, params, batch, view, hyper)
        moved[released] = (theta1 - theta) / float(metrics["update/step_scale"])
    size = np.sqrt(2e-4 / (g @ np.linalg.solve(H, g)))
    np.testing.assert_allclose(moved[True], size * g, atol=1e-2 * np.abs(size * g).max())
    np.testing.assert_allclose(moved[False], size * np.linalg.solve(H, g), atol=1e-2 * np.abs(moved[False]).max())


def test_first_order_pass_is_one_gradient_step_for_everything():
    params, batch, view = setup()
    hyper = Hyper(entropy_coef=0.05)
    step = steps.first_order(SGD, objectives.clipped(), passes=1, early_stop=False)
    _, new, metrics = actor_move(step, params, batch, view, hyper)

    def actor_loss(actor):
        dist = NETWORKS.actor.apply(actor, batch.obs)
        ratio = jnp.exp(gaussian.log_prob(dist, batch.action) - batch.log_prob)
        surrogate = jnp.minimum(ratio * batch.advantage, jnp.clip(ratio, 0.8, 1.2) * batch.advantage)
        return -surrogate.mean() - 0.05 * gaussian.entropy(dist).mean()

    def critic_loss(critics):
        error = NETWORKS.critics.apply(critics, batch.obs) - batch.target
        return (error**2).mean(0).sum() + 0.01 * sum((leaf**2).sum() for leaf in jax.tree.leaves(critics))

    actor = jax.tree.map(lambda p, d: p - 0.1 * d, params.actor, jax.grad(actor_loss)(params.actor))
    critics = jax.tree.map(lambda p, d: p - 0.2 * d, params.critics, jax.grad(critic_loss)(params.critics))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(steps.ActorCritic(actor, critics))):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert metrics["update/passes"] == 1


def test_objectives_hand_over_the_right_parts():
    params, batch, view = setup((0.3, -0.1))
    batch = batch._replace(advantage_reward=batch.advantage + 1)
    out = steps.evaluate(NETWORKS.actor, jax.tree.map(lambda x: 1.1 * x, params.actor), batch)
    hyper = SimpleNamespace(
        clip=0.2, focops_temperature=1.5, focops_radius=0.05, p3o_kappa=20.0, ipo_kappa=0.01, ipo_slope=9.0,
        gamma=0.9, lam=0.5,
    )  # fmt: skip
    view = view._replace(weights=Weights(jnp.array(0.5), jnp.array([0.25, 1.0])))
    ppo = policy_losses.clipped(out.ratio, batch.advantage, 0.2)
    kl = gaussian.kl(out.dist, batch.old)
    cost, gap = batch.advantage_cost, view.gap
    penalty = [policy_losses.exact_penalty(out.ratio, cost, gap, 20.0, clip) for clip in (0.2, None)]
    assert penalty[0] > penalty[1]
    focops = [policy_losses.focops(out.ratio, batch.advantage, kl, 1.5, 0.05, pairwise=p) for p in (False, True)]
    expected = {
        objectives.policy_gradient(): policy_losses.policy_gradient(out.ratio, batch.advantage),
        objectives.clipped(): ppo,
        objectives.clipped_reward(): policy_losses.clipped(out.ratio, batch.advantage + 1, 0.2),
        objectives.focops(): focops[0],
        objectives.focops(omnisafe=True): focops[1],
        objectives.p3o(): ppo + penalty[0],
        objectives.p3o(omnisafe=True): ppo + penalty[1],
        objectives.ipo(): ppo + policy_losses.log_barrier(out.ratio, cost, gap, 0.01, 9.0),
        objectives.cup_projection(): policy_losses.cup_projection(out.ratio, cost, kl, jnp.array([0.5, 2.0]), 5.5),
    }
    for objective, value in expected.items():
        assert objective(out, batch, view, hyper, jnp.mean) == pytest.approx(float(value), rel=1e-5)
    assert len({float(value) for value in expected.values()}) == len(expected)


def test_gradients_are_clipped_network_by_network():
    clipped = steps.clip_rows(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    np.testing.assert_allclose(clipped, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)


def test_a_pass_visits_every_row_once_and_keeps_the_last_part():
    rows = jnp.arange(10.0)[:, None]
    seen = []
    for key in jax.random.split(KEY, 2):
        sums, order, sizes = steps.minibatch_pass(
            lambda c, x: (c[0] + x.sum(), jnp.concatenate([c[1], x[:, 0]])[-10:], c[2] + 1),
            (0.0, jnp.full(10, -1.0), 0),
            rows,
            key,
            4,
            None,
        )
        assert sums == 45
        assert sizes == 3
        assert sorted(order.tolist()) == list(range(10))
        seen.append(order.tolist())
    assert seen[0] != seen[1]


def test_a_minibatch_that_does_not_split_is_refused():
    with pytest.raises(ValueError, match="multiple of the number of devices, 2, got 5"):
        jax.vmap(lambda rows: steps.minibatch_pass(lambda c, x: c, 0.0, rows, KEY, 5, "d"), axis_name="d")(
            jnp.zeros((2, 10, 1))
        )


def test_early_stop_counts_passes():
    params, batch, view = setup()
    hyper = Hyper(actor_lr=0.3, target_kl=0.02)
    counts = {}
    for limit in (0.02, 1e9):
        step = steps.first_order(SGD, objectives.policy_gradient(), passes=6, early_stop=True)
        *_, metrics = actor_move(step, params, batch, view, hyper._replace(target_kl=limit))
        counts[limit] = float(metrics["update/passes"])
    assert counts[1e9] == 6
    assert 1 <= counts[0.02] < 6


def test_cup_projects_from_the_policy_of_the_first_stage():
    """With multiplier 0 the second stage has no gradient: it starts where its divergence is measured from."""
    params, batch, view = setup()
    first = steps.first_order(SGD, objectives.clipped_reward(), passes=2, early_stop=False)
    second = steps.first_order(SGD, objectives.cup_projection(), passes=2, early_stop=False, train_critics=False)
    both = steps.sequence(SGD, first, second)
    alone, *_ = actor_move(steps.sequence(SGD, first), params, batch, view)
    idle, new, metrics = actor_move(both, params, batch, view)
    np.testing.assert_allclose(idle, alone, atol=1e-6)
    assert metrics["update/passes"] == 4
    weights = Weights(jnp.ones(()) / 3, jnp.ones(M) / 3)
    _, other, _ = actor_move(both, params, batch, view._replace(weights=weights))
    cost = []
    for moved in (new, other):
        ratio = steps.evaluate(NETWORKS.actor, moved.actor, batch).ratio
        cost.append(jnp.mean(ratio[:, None] * batch.advantage_cost))
    assert cost[1] < cost[0]
    for a, b in zip(jax.tree.leaves(new.critics), jax.tree.leaves(other.critics)):
        np.testing.assert_array_equal(a, b)


def test_multiplier_of_a_view():
    weights = Weights(jnp.array(0.25), jnp.array([0.5, 0.25]))
    assert steps.ConstraintView(None, None, None, weights).multiplier == pytest.approx([2, 1])
    switched = Weights(jnp.zeros(()), jnp.array([0.0, 1.0]))
    assert steps.ConstraintView(None, None, None, switched).multiplier == pytest.approx([0, 1])


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="adam, sgd"):
        steps.optimizer("rmsprop")
