"""Policy steps against dense algebra and hand-written updates on tiny networks."""

import dataclasses
import functools
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jsafe.components import steps
from jsafe.components.policies import GaussianPolicy
from jsafe.components.steps.base import Descent, Outputs, clip_rows, minibatch_pass
from jsafe.components.steps.first_order import FirstOrder
from jsafe.components.steps.second_order import Problem, SecondOrder
from jsafe.distributions import gaussian
from jsafe.ops import policy_losses
from jsafe.options import kinds, traced_values
from jsafe.types import EnvSpec, Weights

OBS, A, M, B = 3, 2, 2, 24


class Numbers(NamedTuple):
    gamma: float
    lam: float


SPEC = EnvSpec(OBS, A, num_costs=M)
KEY = jax.random.key(0)


FIT = steps.CriticFit(hidden=(4,), learning_rate=0.2, l2=0.01)
POLICY = GaussianPolicy(hidden=(4,)).build(SPEC)
NETWORKS = steps.Networks(POLICY, FIT.networks(SPEC, 1 + M))
SGD = {"optimizer": "sgd", "minibatch": B, "max_grad_norm": 1e9, "target_kl": 0.01, "critics": FIT}


def options(kind, **given):
    """The options of a step: plain gradient descent on the full batch."""
    cls = kinds("step")[kind]
    rate = {"learning_rate": 0.1} if issubclass(cls, FirstOrder) else {}
    return cls(**{**SGD, **rate, "passes": 1, **given})


def apply(params, obs):
    return POLICY.apply(params, (), obs)[0]


def setup(gap=(-1.0, -1.0)):
    keys = jax.random.split(KEY, 6)
    params = steps.ActorCritic(POLICY.init(keys[0]), NETWORKS.critics.init(keys[1]))
    obs = jax.random.normal(keys[2], (B, OBS))
    old = apply(params.actor, obs)
    action = gaussian.sample(old, keys[3])
    signals = jax.random.normal(keys[4], (B, 1 + M))
    batch = steps.PolicyBatch(
        obs, action, gaussian.log_prob(old, action), old, signals[:, 0], signals[:, 0], signals[:, 1:],
        jax.random.normal(keys[5], (B, 1 + M)),
    )  # fmt: skip
    discounts = {"gamma": 0.9, "lam": 0.9}
    view = steps.ConstraintView(
        jnp.array(gap),
        jnp.zeros(M),
        jnp.ones(M),
        Weights(jnp.ones(()), jnp.zeros(M)),
        jnp.ones(()),
        Numbers(**discounts),
    )
    return params, batch, view


def dense(params, batch):
    """Fisher matrix (the Hessian of the mean KL) and gradients of the surrogates, by brute force."""
    theta, unravel = ravel_pytree(params.actor)

    def policy(t):
        return apply(unravel(t), batch.obs)

    def surrogate(t, signal):
        ratio = jnp.exp(gaussian.log_prob(policy(t), batch.action) - batch.log_prob)
        return jnp.mean(ratio * signal)

    H = jax.hessian(lambda t: jnp.mean(gaussian.kl(batch.old, policy(t))))(theta)
    g = jax.grad(surrogate)(theta, batch.advantage)
    b = jnp.stack([jax.grad(surrogate)(theta, column) for column in batch.advantage_cost.T])
    return [np.asarray(x, np.float64) for x in (theta, H, g, b)]


@functools.cache
def compiled(part, compat="paper"):
    """One compilation for each step; numbers are traced."""
    step = part.build(SPEC, None, compat)
    return step._replace(step=jax.jit(step.step, static_argnums=0))


def second(kind, compat="paper", **given):
    return compiled(options(kind, cg_iterations=60, **given), compat)


def actor_move(step, params, batch, view, **numbers):
    state = step.init(params)
    state = state._replace(numbers=state.numbers._replace(**{k: jnp.float32(v) for k, v in numbers.items()}))
    new, _, metrics = step.step(NETWORKS, params, state, batch, view, KEY)
    return np.asarray(ravel_pytree(new.actor)[0], np.float64), new, metrics


@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_natural_step_is_the_dense_solution(compat):
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    moved, _, metrics = actor_move(second("natural_pg", compat), params, batch, view)
    H = H / (1 if compat == "paper" else A) + 0.1 * np.eye(len(H))
    x = np.linalg.solve(H, g)
    expected = np.sqrt(2 * 0.01 / (x @ g)) * x
    np.testing.assert_allclose(moved - theta, expected, atol=2e-3 * np.abs(expected).max())
    assert metrics["update/xHx"] == pytest.approx(x @ g, rel=1e-3)


def test_trust_region_shrinks_until_the_divergence_fits():
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    # Without damping the quadratic model overshoots: the search has to shrink the step by 0.8 at least once.
    moved, _, metrics = actor_move(second("trpo"), params, batch, view, damping=1e-3, target_kl=0.5)
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
    step = second("trpo")
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
        step = second(kind)
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
    moved, _, metrics = actor_move(second("cpo"), params, batch, view)
    p = np.linalg.solve(H, b[0])
    expected = -np.sqrt(0.02 / (b[0] @ p)) * p
    scale = float(metrics["update/step_scale"])
    assert metrics["update/feasible"] == 0
    assert scale > 0
    np.testing.assert_allclose(moved - theta, scale * expected, atol=5e-3 * np.abs(expected).max())


def test_released_pcpo_follows_the_plain_gradient():
    params, batch, view = setup()
    theta, H, g, _ = dense(params, batch)
    moved, scales = {}, {"paper": 1, "omnisafe": A}
    for compat, share in scales.items():
        theta1, _, metrics = actor_move(second("pcpo", compat), params, batch, view, target_kl=1e-4)
        moved[compat] = (theta1 - theta) / float(metrics["update/step_scale"])
        x = np.linalg.solve(H / share + 0.1 * np.eye(len(H)), g)
        expected = np.sqrt(2e-4 / (g @ x)) * (g if compat == "omnisafe" else x)
        np.testing.assert_allclose(moved[compat], expected, atol=1e-2 * np.abs(expected).max())


def test_small_gradients_are_solved_as_well_as_large_ones():
    """The step does not depend on the scale of the advantages."""
    params, batch, view = setup()
    tiny = batch._replace(advantage=1e-6 * batch.advantage)
    theta, step = ravel_pytree(params.actor)[0], second("natural_pg")
    large, small = (actor_move(step, params, rows, view)[0] - theta for rows in (batch, tiny))
    np.testing.assert_allclose(small, large, atol=1e-2 * np.abs(large).max())


def test_a_learned_margin_tightens_the_constraint():
    """`margin <- max(0, margin + rate (J - d))`, in the unit of the limits; the surrogate's is `unit` times smaller."""
    params, batch, view = setup()
    view = view._replace(J_cost=jnp.array([30.0, 20.0]), limit=jnp.full(M, 25.0), unit=jnp.full(M, 1000.0))
    step = second("cpo")
    state = step.init(params)
    for margin, rate in (([10.0, 0.0], 2.0), ([20.0, 0.0], 2.0), ([20.0, 0.0], 0.0)):
        state = state._replace(numbers=state.numbers._replace(margin_learning_rate=jnp.float32(rate)))
        _, state, metrics = step.step(NETWORKS, params, state, batch, view, KEY)
        assert state.margin.tolist() == margin
        assert metrics["cost/0/margin"] == margin[0]
    np.testing.assert_allclose(view._replace(margin=state.margin).gap, [0.025, -0.005], rtol=1e-5)


def test_first_order_pass_is_one_gradient_step_for_everything():
    params, batch, view = setup()
    step = compiled(options("ppo", entropy_coef=0.05, early_stop=False))
    _, new, metrics = actor_move(step, params, batch, view)

    def actor_loss(actor):
        dist = apply(actor, batch.obs)
        ratio = jnp.exp(gaussian.log_prob(dist, batch.action) - batch.log_prob)
        surrogate = jnp.minimum(ratio * batch.advantage, jnp.clip(ratio, 0.8, 1.2) * batch.advantage)
        return -surrogate.mean() - 0.05 * gaussian.entropy(dist).mean()

    def critic_loss(critics):
        error = NETWORKS.critics.apply(critics, batch.seen) - batch.target
        return (error**2).mean(0).sum() + 0.01 * sum((leaf**2).sum() for leaf in jax.tree.leaves(critics))

    actor = jax.tree.map(lambda p, d: p - 0.1 * d, params.actor, jax.grad(actor_loss)(params.actor))
    critics = jax.tree.map(lambda p, d: p - 0.2 * d, params.critics, jax.grad(critic_loss)(params.critics))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(steps.ActorCritic(actor, critics))):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert metrics["update/passes"] == 1
    assert metrics["update/learning_rate"] == pytest.approx(0.1)
    assert metrics["policy/std"] == pytest.approx(float(jnp.exp(new.actor["log_std"]).mean()))
    assert metrics["policy/std_warning"] == 0


def test_a_wide_policy_raises_its_flag():
    params, batch, view = setup()
    params.actor["log_std"] = jnp.full(A, np.log(6.0))
    _, _, metrics = actor_move(compiled(options("ppo", early_stop=False)), params, batch, view)
    assert metrics["policy/std_warning"] == 1


def test_the_rate_falls_with_what_is_left_of_the_run():
    params, batch, view = setup()
    theta = ravel_pytree(params.actor)[0]
    moves = {}
    for decay in ("linear", "none"):
        step = compiled(options("policy_gradient", decay=decay))
        for left in (1.0, 0.25):
            moved, _, metrics = actor_move(step, params, batch, view._replace(remaining=jnp.float32(left)))
            moves[decay, left] = moved - theta
            assert metrics["update/learning_rate"] == pytest.approx(0.1 * (left if decay == "linear" else 1))
    np.testing.assert_allclose(moves["linear", 0.25], 0.25 * moves["linear", 1.0], atol=1e-5)
    np.testing.assert_allclose(moves["none", 0.25], moves["linear", 1.0], atol=1e-6)


MIXED = Weights(jnp.array(0.5), jnp.array([0.25, 1.0]))


def loss_of(kind, compat, params, batch, view, **given):
    """The objective of a step at other parameters than the behaviour policy's, on all rows."""
    part = options(kind, **given)
    numbers = traced_values(part)
    descent = Descent(NETWORKS, None, B, None, numbers, None)
    out = descent.evaluate(params, batch)
    objective = part.objective(compat)
    whole = None if objective.whole is None else objective.whole(out, batch, view, numbers, jnp.mean)
    return float(objective.loss(out, batch, view, numbers, jnp.mean, whole)), out


@pytest.mark.parametrize("gap", [(0.3, -0.1), (0.2, 0.4), (-3.0, -3.0)])
def test_objectives_hand_over_the_right_parts(gap):
    params, batch, view = setup(gap)
    batch = batch._replace(advantage_reward=batch.advantage + 1)
    view = view._replace(weights=MIXED)
    moved = jax.tree.map(lambda x: 1.1 * x, params.actor)

    def found(kind, compat="paper", **given):
        return loss_of(kind, compat, moved, batch, view, **given)[0]

    _, out = loss_of("ppo", "paper", moved, batch, view)
    kl = gaussian.kl(out.dist, batch.old)
    ppo = policy_losses.clipped(out.ratio, batch.advantage, 0.2)
    clipped, plain = (
        np.asarray(policy_losses.cost_surrogates(out.ratio, batch.advantage_cost, c)) for c in (0.2, None)
    )
    focops = [policy_losses.focops(out.ratio, batch.advantage, kl, 1.5, 0.05, pairwise=p) for p in (False, True)]
    slope = 0.01 / np.maximum(-(clipped + np.array(gap)), 0.01 / 9.0)
    assert not np.allclose(clipped, plain)
    reward = policy_losses.clipped(out.ratio, batch.advantage + 1, 0.2)
    assert found("policy_gradient") == pytest.approx(
        float(policy_losses.policy_gradient(out.ratio, batch.advantage)), rel=1e-5
    )
    assert found("ppo") == pytest.approx(float(ppo), rel=1e-5)
    assert found("focops", radius=0.05) == pytest.approx(float(focops[0]), rel=1e-5)
    assert found("focops", "omnisafe", radius=0.05) == pytest.approx(float(focops[1]), rel=1e-5)
    assert found("p3o") == pytest.approx(float(ppo + 20 * ((clipped + gap > 0) * clipped).sum()), rel=1e-5)
    assert found("p3o", "omnisafe") == pytest.approx(float(ppo + 20 * np.maximum(plain + gap, 0).sum()), rel=1e-5)
    assert found("ipo", slope=9.0) == pytest.approx(float(ppo + (slope * clipped).sum()), rel=1e-5)
    assert found("appo") == pytest.approx(float(0.5 * reward + np.array([0.25, 1.0]) @ clipped), rel=1e-5)


def test_the_gate_and_the_barrier_ask_the_whole_batch():
    """With a limit far away a pass of small, noisy minibatches is one of PPO; P3O's gate as released is not shut."""
    params, batch, view = setup((-0.05, -0.05))
    batch = batch._replace(advantage_cost=batch.advantage_cost - batch.advantage_cost.mean(0))
    moves = {}
    for kind, compat in (("ppo", "paper"), ("p3o", "paper"), ("ipo", "paper"), ("p3o", "omnisafe")):
        strength = {"kappa": 1e-6} if kind == "ipo" else {}
        step = compiled(options(kind, minibatch=2, early_stop=False, **strength), compat)
        moves[kind, compat] = actor_move(step, params, batch, view, learning_rate=1e-3)[0]
    ppo = moves["ppo", "paper"]
    np.testing.assert_allclose(moves["p3o", "paper"], ppo, atol=1e-7)
    np.testing.assert_allclose(moves["ipo", "paper"], ppo, atol=1e-6)
    assert np.abs(moves["p3o", "omnisafe"] - ppo).max() > 1e-3


def test_the_gate_shuts_once_the_constraint_holds():
    """The second pass sees what the first has done to the surrogate of all rows."""
    params, batch, view = setup((1e-4, -1.0))
    batch = batch._replace(advantage_cost=batch.advantage_cost - batch.advantage_cost.mean(0))
    one, two = (compiled(options("p3o", passes=n, early_stop=False, kappa=2.0)) for n in (1, 2))
    ppo = compiled(options("ppo", passes=1, early_stop=False))
    _, once, _ = actor_move(one, params, batch, view)
    surrogate = policy_losses.cost_surrogates(
        jnp.exp(gaussian.log_prob(apply(once.actor, batch.obs), batch.action) - batch.log_prob),
        batch.advantage_cost,
        0.2,
    )
    assert surrogate[0] + 1e-4 < 0
    twice = actor_move(two, params, batch, view)[0]
    np.testing.assert_allclose(twice, actor_move(ppo, once, batch, view)[0], atol=1e-6)


def test_gradients_are_clipped_network_by_network():
    clipped = clip_rows(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    np.testing.assert_allclose(clipped, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)


def test_a_pass_visits_every_row_once_and_keeps_the_last_part():
    rows = jnp.arange(10.0)[:, None]
    seen = []
    for key in jax.random.split(KEY, 2):
        sums, order, sizes = minibatch_pass(
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
        jax.vmap(lambda rows: minibatch_pass(lambda c, x: c, 0.0, rows, KEY, 5, "d"), axis_name="d")(
            jnp.zeros((2, 10, 1))
        )


def test_early_stop_counts_passes():
    params, batch, view = setup()
    step = compiled(options("policy_gradient", passes=6, learning_rate=0.3))
    counts = {}
    for limit in (0.02, 1e9):
        *_, metrics = actor_move(step, params, batch, view, target_kl=limit)
        counts[limit] = float(metrics["update/passes"])
    assert counts[1e9] == 6
    assert 1 <= counts[0.02] < 6


def test_cup_projects_from_the_policy_of_the_first_stage():
    params, batch, view = setup()
    start = compiled(options("cup", passes=2, early_stop=False))
    alone, first, metrics = actor_move(start, params, batch, view)
    assert metrics["update/passes"] == 2  # with a multiplier of 0 the projection is left out
    released = compiled(options("cup", passes=2, early_stop=False), "omnisafe")
    idle, _, metrics = actor_move(released, params, batch, view)
    np.testing.assert_allclose(idle, alone, atol=1e-6)  # it starts where its divergence is measured from
    assert metrics["update/passes"] == 4
    view = view._replace(weights=Weights(jnp.ones(()) / 3, jnp.ones(M) / 3))
    _, other, metrics = actor_move(start, params, batch, view)
    assert metrics["update/passes_projection"] == 2
    # One step of the projection from the first stage's policy, by hand: its KL has no gradient there yet.
    one, _, _ = actor_move(
        start._replace(step=jax.jit(options("cup", early_stop=False).build(SPEC).step, static_argnums=0)),
        params, batch, view,
    )  # fmt: skip
    middle = actor_move(compiled(options("cup", early_stop=False)), params, batch, setup()[2])[1]

    def projection(actor):
        ratio = jnp.exp(gaussian.log_prob(apply(actor, batch.obs), batch.action) - batch.log_prob)
        return jnp.mean((1 - 0.9 * 0.9) / (1 - 0.9) * ratio * batch.advantage_cost.sum(-1))

    by_hand = jax.tree.map(lambda p, d: p - 0.1 * d, middle.actor, jax.grad(projection)(middle.actor))
    np.testing.assert_allclose(one, ravel_pytree(by_hand)[0], atol=1e-5)
    for a, b in zip(jax.tree.leaves(first.critics), jax.tree.leaves(other.critics)):
        np.testing.assert_array_equal(a, b)


def test_multiplier_of_a_view():
    weights = Weights(jnp.array(0.25), jnp.array([0.5, 0.25]))
    assert steps.ConstraintView(None, None, None, weights, None).multiplier == pytest.approx([2, 1])
    switched = Weights(jnp.zeros(()), jnp.array([0.0, 1.0]))
    assert steps.ConstraintView(None, None, None, switched, None).multiplier == pytest.approx([0, 1])


@pytest.mark.parametrize("kind", sorted(kinds("step")))
def test_options_are_the_steps_own(kind):
    """A trust-region step has no clip, no rate of an actor, no early stop; a first-order one no damping."""
    names = {field.name for field in dataclasses.fields(kinds("step")[kind])}
    first = {"learning_rate", "decay", "early_stop", "entropy_coef"}
    second = {"damping", "cg_iterations"}
    assert (first <= names) != (second <= names)
    assert not (first & names and second & names)
    assert ("clip" in names) == (kind in ("ppo", "p3o", "ipo", "cup", "appo"))
    assert len(names) <= 14


def test_bad_options_are_named():
    for given, message in (
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"clip": 0.0}, "clip must be above 0, got 0.0"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"target_kl": float("inf")}, "target_kl must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            steps.PPO(**given)
    with pytest.raises(ValueError, match="step='ppo' with rule='ipo'"):
        steps.IPO().build(SPEC, None, "omnisafe")


# ---- properties --------------------------------------------------------------------------------------------------


NUMBER = st.floats(-3, 3, width=32)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=4, max_size=4)
FIRST = {
    # By the papers, at the behaviour policy: the advantages that the first step follows.
    "policy_gradient": lambda reward, costs, gates, slopes: reward,
    "ppo": lambda reward, costs, gates, slopes: reward,
    "focops": lambda reward, costs, gates, slopes: reward / 1.5,
    "p3o": lambda reward, costs, gates, slopes: reward - 20 * costs @ gates,
    "ipo": lambda reward, costs, gates, slopes: reward - costs @ slopes,
    "appo": lambda reward, costs, gates, slopes: 0.5 * reward - costs @ np.array([0.25, 1.0]),
}


def columns(rows):
    reward, *costs = np.array(rows, np.float32).T
    return reward, np.stack(costs, axis=1)


@pytest.mark.parametrize("kind", [kind for kind, cls in kinds("step").items() if issubclass(cls, FirstOrder)])
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(rows=ROWS, gap=st.tuples(NUMBER, NUMBER))
def test_the_first_step_is_a_policy_gradient_of_the_steps_own_advantages(kind, rows, gap):
    """Whatever the rows: the derivative by each row's log-probability at the behaviour policy."""
    reward, costs = columns(rows)
    shifted = costs.mean(0) + np.array(gap, np.float32)
    hypothesis.assume((np.abs(shifted) > 1e-3).all())
    dist = gaussian.Gaussian(jnp.zeros((len(rows), A)), jnp.zeros((len(rows), A)))
    view = setup(gap)[2]._replace(weights=MIXED)
    batch = steps.PolicyBatch(None, None, jnp.zeros(len(rows)), dist, reward, reward, costs, None)
    if kind == "cup":
        cls, found = kinds("step")[kind], {}
        cls.descend = lambda self, objective, **_: found.setdefault(len(found), objective)
        try:
            options(kind).update(SPEC, None, "paper")
        finally:
            del cls.descend
        lam = np.array([0.25, 1.0]) / 0.5
        scale = (1 - 0.9 * 0.9) / (1 - 0.9)
        cases = [(found[0], reward), (found[1], -scale * costs @ lam)]
    else:
        gates, slopes = shifted > 0, 0.01 / np.maximum(-shifted, 0.01 / 10.0)
        cases = [(options(kind).objective("paper"), FIRST[kind](reward, costs, gates, slopes))]
    numbers = traced_values(options(kind))
    for objective, wanted in cases:
        whole = objective.whole
        extra = None if whole is None else whole(Outputs(dist, jnp.ones(len(rows))), batch, view, numbers, jnp.mean)

        def loss(log_ratio, objective=objective, extra=extra):
            out = Outputs(dist, jnp.exp(log_ratio))
            return objective.loss(out, batch, view, numbers, jnp.mean, extra)

        slope = jax.grad(loss)(jnp.zeros(len(rows)))
        np.testing.assert_allclose(slope, -wanted / len(rows), atol=1e-4 * (1 + np.abs(wanted).max()))


@pytest.mark.parametrize("kind", [kind for kind, cls in kinds("step").items() if issubclass(cls, SecondOrder)])
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), gap=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_a_proposed_step_is_within_the_region_and_the_constraints(kind, seed, gap):
    """For any metric, gradients and gaps: the linear model of the paper holds for what is proposed."""
    rng, size, delta = np.random.default_rng(seed), 6, 0.01
    root = rng.normal(size=(size, size))
    H, g, b = root @ root.T + np.eye(size), rng.normal(size=size), rng.normal(size=(M, size))
    reach = np.sqrt(2 * delta * np.einsum("md,de,me->m", b, np.linalg.inv(H), b))
    gap = np.array(gap) * reach
    x, inverse = np.linalg.solve(H, g), np.linalg.inv(H)
    matrices = [jnp.asarray(each, jnp.float32) for each in (g, x, x @ g, delta, gap, H, inverse, b)]
    *first, metric, solver, costs = matrices
    problem = Problem(*first, lambda v: metric @ v, lambda v: solver @ v, lambda row: costs[row - 1])
    direction = options(kind).direction(problem, "paper")
    move = np.asarray(direction.step, np.float64)
    assert np.isfinite(move).all()
    length, after = move @ H @ move / 2, b @ move + gap
    if kind in ("natural_pg", "trpo"):
        assert length == pytest.approx(delta, rel=1e-3)
        assert g @ move > 0
    elif kind == "cpo":
        assert length <= delta * (1 + 1e-2)
        if direction.metrics["update/feasible"]:
            assert (after <= 0.02 * reach).all()
        else:
            assert (gap > 0).any()
    else:
        assert kind == "pcpo"
        assert (after <= 0.02 * reach + 0.02 * np.abs(gap)).all()
    if (gap < -reach).all():  # no step of the region reaches a limit: it is the natural one
        np.testing.assert_allclose(move, np.sqrt(2 * delta / (x @ g)) * x, atol=1e-2 * np.abs(move).max())
