"""Parts of offline learners against hand-made tables, closed forms and plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsafe.components.actors import Values
from jsafe.components.choices import ActParams, Best, Safest, Softmax, Switch
from jsafe.components.critics import Critics
from jsafe.components.critics.blended import blend
from jsafe.components.generators import (
    CVAE,
    Deterministic,
    Diffusion,
    Gaussian,
    Generator,
    Supported,
    TanhGaussian,
    diffusion,
)
from jsafe.components.generators.cvae import kl_from_prior
from jsafe.components.generators.diffusion import variance_preserving
from jsafe.components.improvements import ClimbFeasible, Frozen, Regress
from jsafe.components.regression_weights import Binary, Exp, Feasible, PerHead
from jsafe.components.transforms.remaining import RemainingParams, remaining_budget
from jsafe.components.valuations import (
    Bootstrapped,
    Context,
    Dice,
    Expectile,
    Judgement,
    Penalised,
    Reach,
    Rows,
    Valuation,
    reach,
)
from jsafe.components.valuations.expectile import Pairs
from jsafe.nets.denoiser import Denoiser
from jsafe.ops import reachability
from jsafe.ops.expectile import expectile_loss
from jsafe.ops.fdivergence import DIVERGENCES
from jsafe.types import EnvSpec, Weights

KEY = jax.random.key(0)
SPEC = EnvSpec(1, 1)


def rows_of(action, reward=0.0, cost=0.0, terminated=False, obs=0.0):
    action = jnp.atleast_1d(jnp.float32(action))
    count = len(action)
    full = lambda x: jnp.broadcast_to(jnp.float32(x), (count,))  # noqa: E731
    seen = full(obs)[:, None]
    return Rows(seen, action[:, None], full(reward), full(cost)[:, None], seen, full(terminated) > 0, seen)


def context_of(rows, generator, weights=(1.0, 0.0), limit=5.0, gamma=0.9, state=()):
    mix = Weights(jnp.float32(weights[0]), jnp.float32([weights[1]]))
    return Context(rows, generator, {}, {}, mix, jnp.float32([limit]), jnp.float32(gamma), state)


def fixed(*actions):
    """A policy whose samples are these actions, in this order."""
    table = jnp.float32(actions)[:, None, None]

    def draw(params, obs, noise):
        return jnp.broadcast_to(table, (len(actions), obs.shape[0], 1))

    return Generator(
        lambda key: {}, lambda key, n, rows: jnp.zeros((n, rows, 0)), draw, lambda p, obs: draw(p, obs, 0)[0], None
    )


def tabled(reward, cost):
    """Critics that are functions of the action; their loss is what they should become."""

    def values(params, h, action):
        return Values(reward(params, action[..., 0]), cost(params, action[..., 0])[..., None])

    def bootstrap(params, h, action, cost_action):
        q = values(params, h, action)
        return {"reward": q.reward[..., None, None], "cost": q.cost[..., None]}

    def loss(params, h, action, signals, following, returns):
        return {name: returns(signals[name], following[name])[0, ..., 0] for name in signals}

    return Critics(lambda key: {}, lambda p, obs: (), values, None, bootstrap, loss, lambda g, m: g, 1)


def test_a_blend_of_the_smaller_and_the_larger():
    q = jnp.float32([[1.0, 5.0], [3.0, 1.0]])
    np.testing.assert_allclose(blend(0.75)(q), [1.5, 2.0])
    np.testing.assert_array_equal(blend(1.0)(q), [1, 1])
    np.testing.assert_array_equal(blend(0.0)(q), [3, 5])


@pytest.mark.parametrize(
    ("weights", "target", "reward", "cost"),
    [
        ((1.0, 0.0), "same", 3.0, 4.0),  # the most rewarding candidate, and what that one costs
        ((0.5, 0.5), "same", 2.0, 0.5),  # 3 - 4, 2 - 0.5, 1 - 5
        ((0.5, 0.5), "max", 2.0, 5.0),  # the costliest candidate, which is not the one that is taken
    ],
)
def test_reward_and_cost_bootstrap_from_the_action_that_would_be_taken(weights, target, reward, cost):
    prices = jnp.float32([4.0, 0.5, 5.0])
    index = lambda a: a.astype(jnp.int32)  # noqa: E731
    critics = tabled(lambda p, a: 3.0 - a, lambda p, a: prices[index(a)])
    valuation = Bootstrapped(critics, candidates=3, cost_target=target).build(SPEC)
    context = context_of(rows_of(0.0, reward=10.0, cost=20.0), fixed(0.0, 1.0, 2.0), weights)
    valued = valuation.loss({"critic": {}}, {"critic": {}}, context, KEY)
    assert float(valued.metrics["loss/critic_reward"]) == pytest.approx(10 + 0.9 * reward)
    assert float(valued.metrics["loss/critic_cost"]) == pytest.approx(20 + 0.9 * cost)
    assert float(valued.cost[0]) == pytest.approx(4.0 if weights[1] == 0 else 0.5)
    ended = context._replace(rows=rows_of(0.0, reward=10.0, cost=20.0, terminated=True))
    valued = valuation.loss({"critic": {}}, {"critic": {}}, ended, KEY)
    assert float(valued.loss) == pytest.approx(30.0)


def test_the_advantage_over_the_policys_own_actions():
    critics = tabled(lambda p, a: a, lambda p, a: 2.0 * a)
    for baseline, expected in (("mean", 0.5 - 0.25), ("max", 0.5 - 1.0)):
        valuation = Bootstrapped(critics, samples=2, baseline=baseline).build(SPEC)
        found = valuation.judge({"critic": {}}, {}, context_of(rows_of(0.5), fixed(-0.5, 1.0)), KEY)
        assert float(found.advantage.reward[0]) == pytest.approx(expected)
        assert float(found.advantage.cost[0, 0]) == pytest.approx(2 * expected)
        assert float(found.cost[0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("acts", "rewards", "costs"),
    [
        (1.0, {0.0: 0.5, 1.0: 1.0}, {0.0: 9.0, 1.0: 10.0}),  # always risky: above the limit, nothing is bootstrapped
        (0.0, {0.0: 5.0, 1.0: 5.5}, {0.0: 0.0, 1.0: 1.0}),
    ],
)
def test_the_operator_of_cpq_on_a_table(acts, rewards, costs):
    """One state, a safe action (reward 0.5, cost 0) and a risky one (1, 1), gamma 0.9, limit 5."""
    critics = tabled(*(lambda p, a, i=i: jnp.where(a > 0.5, p[i][1], p[i][0]) for i in range(2)))
    valuation = Penalised(critics, ood="none").build(SPEC)

    @jax.jit
    def sweep(table):
        found = []
        for action in (0.0, 1.0):
            context = context_of(rows_of(action, reward=0.5 + 0.5 * action, cost=action), fixed(acts))
            metrics = valuation.loss({"critic": table}, {"critic": table}, context, KEY).metrics
            found.append([metrics["loss/critic_reward"], metrics["loss/critic_cost"]])
        return jnp.float32(found).T

    table = jnp.zeros((2, 2))
    for _ in range(300):
        table = sweep(table)
    np.testing.assert_allclose(table[0], list(rewards.values()), atol=1e-5)
    np.testing.assert_allclose(table[1], list(costs.values()), atol=1e-5)


def test_the_penalty_of_cpq_raises_the_costs_of_unlikely_actions():
    """`d L_c / d Q_c(a) = -alpha` times the share of the flagged actions that `a` is; 0 for the others."""
    generator = fixed(*np.linspace(-1, 1, 8))
    far = lambda params, obs, action: jnp.abs(action[..., 0])  # noqa: E731

    def table(params, action):
        return params[jnp.round((action + 1) * 3.5).astype(jnp.int32)]

    critics = tabled(lambda p, a: 0.0 * a, table)._replace(
        loss=lambda *given: {"reward": jnp.zeros((1, 1)), "cost": jnp.zeros((1, 1))}
    )
    valuation = Penalised(critics, penalty=3.0, samples=8).build(SPEC)
    support = generator._replace(support=type("Support", (), {"divergence": staticmethod(far)}))
    context = context_of(rows_of(0.0), support, state=valuation.start())

    def loss(params):
        return valuation.loss({"critic": params}, {"critic": jnp.zeros(8)}, context, KEY).loss

    grads = jax.jit(jax.grad(loss))(jnp.arange(8.0))
    np.testing.assert_allclose(grads, [-1.5, 0, 0, 0, 0, 0, 0, -1.5], atol=1e-6)  # the outermost two of eight
    after = valuation.loss({"critic": jnp.arange(8.0)}, {"critic": jnp.zeros(8)}, context, KEY).state
    step = 1e-4 * 3.0 * (1.5 * 5.0 - 3.5)  # (0 + 7) / 2 on average
    np.testing.assert_allclose(after.log_alpha, np.log(3.0) + step, rtol=1e-6)


@pytest.mark.parametrize(("infeasible", "slope"), [("stuck", 0.0), ("descend", 4.0)])
def test_where_everything_exceeds_the_limit_cpq_is_stuck(infeasible, slope):
    improve = ClimbFeasible(imitation=0.0, infeasible=infeasible).build(SPEC)
    generator = fixed(0.0)._replace(
        draw=lambda params, obs, noise: jnp.broadcast_to(params, (1, obs.shape[0], 1)),
        loss=lambda params, obs, action, key: jnp.zeros((1, obs.shape[0])),
    )
    context = context_of(rows_of(0.0), generator)

    def loss(mean, price):
        frozen = Frozen(lambda a: Values(3.0 * a[..., 0], 4.0 * a + price), None, None)
        return improve.loss(mean, context, frozen, (), KEY).loss

    assert float(jax.grad(loss)(jnp.float32(0.0), 6.0)) == slope
    assert float(jax.grad(loss)(jnp.float32(0.0), 4.0)) == -3.0  # within the limit: up the reward


def test_weights_of_recorded_actions():
    mix = Weights(jnp.float32(0.5), jnp.float32([0.5]))
    judged = Judgement(advantage=Values(jnp.float32([1.0, 2.0]), jnp.float32([[2.0], [0.0]])))
    exp, binary = (part.build(SPEC) for part in (Exp(beta=0.5, cap=5.0), Binary()))
    np.testing.assert_allclose(exp.apply(judged, mix, exp.start(), None), [[np.exp(-1), 5.0]], rtol=1e-6)
    np.testing.assert_array_equal(binary.apply(judged, mix, (), None), [[0, 1]])
    heads = PerHead(heads=3, beta=1.0).build(SPEC)
    first, last = np.exp([1.0, 2.0]), np.exp([-2.0, 0.0])
    np.testing.assert_allclose(heads.apply(judged, mix, heads.start(), None), [first, first + last, last], rtol=1e-6)


def test_weights_where_a_violation_can_and_cannot_be_avoided():
    v, q = jnp.float32([1.0, 1.0, -1.0, -1.0, -1.0, 9.0]), jnp.float32([2.0, 0.5, -0.5, 0.5, 0.0, -9.0])
    judged = Judgement(Values(jnp.full(6, 0.1), jnp.zeros((6, 1))), reach=(v, q))
    weights = Feasible().build(SPEC)
    expected = [np.exp(-5), np.exp(2.5), np.exp(0.3), 0.0, np.exp(0.3), 150.0]
    np.testing.assert_allclose(weights.apply(judged, None, weights.start(), None)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(("unsafe", "expectile"), [(25.0, 0.9), (1.0, 0.9), (25.0, 0.99)])
def test_how_far_the_safest_action_is_heard(unsafe, expectile):
    """The fixed point of both equations where a quarter of the actions violates, against its closed form."""
    share, gamma = 0.25, 0.9
    weights = jnp.array([share, 1 - share])
    h = reachability.violation(jnp.array([[1.0], [0.0]]), unsafe)

    def loss(estimate, q):
        return (weights * expectile_loss(-(q - estimate), expectile)).sum()

    @jax.jit
    def better(value):
        q = reachability.reach_target(h, value, gamma, jnp.zeros(2, bool))
        for _ in range(3):  # Newton's steps: the loss is a parabola on either side of a sample
            value -= jax.grad(loss)(value, q) / jax.grad(jax.grad(loss))(value, q)
        return value

    value = jnp.float32(0.0)
    for _ in range(400):
        value = better(value)
    heard, unheard = expectile * (1 - share) * (1 - gamma), (1 - expectile) * share
    np.testing.assert_allclose(value, (unheard * unsafe - heard) / (unheard + heard), rtol=1e-4)


@pytest.mark.parametrize(("q", "v", "cost"), [(40.0, 60.0, 0.0), (-3.0, -9.0, 0.0), (10.0, 5.0, 1.0)])
def test_nothing_is_worse_than_the_worst_step_nor_better_than_the_best(monkeypatch, q, v, cost):
    """Networks that say more than 25 or less than -1: what others learn from them is cut there."""
    constant = Pairs(None, lambda p, obs, action: jnp.full((2, 1, 1), p), lambda p, obs: jnp.full((1, 1), p))
    monkeypatch.setattr(reach, "pairs", lambda *_: constant)
    valuation = Reach(expectile=0.8).build(SPEC)
    params = {"q": 0.0, "v": 0.0, "qh": q, "vh": v}
    found = valuation.loss(params, params, context_of(rows_of(0.0, cost=cost), None), KEY).metrics
    h = 25.0 if cost else -1.0
    goal = 0.1 * h + 0.9 * max(h, min(max(v, -1.0), 25.0))
    u = min(max(q, -1.0), 25.0) - v
    np.testing.assert_allclose(found["loss/critic_reach"], 2 * (goal - q) ** 2, rtol=1e-5)
    np.testing.assert_allclose(found["loss/value_reach"], (0.8 if u < 0 else 0.2) * u**2, rtol=1e-5)


def act(choice, generator, reward, cost, more=(), weights=(1.0, 0.0), key=KEY, certain=True):
    """The action at one state."""
    values = lambda params, obs, action: Values(jnp.float32(reward)[:, None], jnp.float32(cost)[:, None, None])  # noqa: E731
    valuation = Valuation(None, None, None, values)
    mix = Weights(jnp.float32(weights[0]), jnp.float32([weights[1]]))
    params = ActParams({}, {}, mix, jnp.float32(0.9))
    more = jnp.float32(more).reshape(1, -1)
    return float(choice.build(SPEC).act(generator, valuation, params, jnp.zeros((1, 1)), more, key, certain)[0, 0])


def test_candidates_are_chosen_by_critics():
    three = fixed(-0.5, 0.0, 0.5)
    assert act(Best(candidates=3), three, [1, 2, 3], [0, 0, 4]) == 0.5
    assert act(Best(candidates=3), three, [1, 2, 3], [0, 0, 4], weights=(0.5, 0.5)) == 0.0
    assert act(Safest(candidates=3), three, [1, 2, 3], [1, 0, 4]) == 0.0
    assert act(Softmax(candidates=3, beta=0.1), three, [1, 2, 3], [0, 0, 0]) == 0.5
    draws = [
        act(Softmax(3, beta=2.0), three, [0, 0, 4], [0, 0, 0], key=jax.random.key(i), certain=False) for i in range(60)
    ]
    assert 0.6 < np.mean(np.array(draws) == 0.5) < 0.95  # e^2 / (e^2 + 2) = 0.79


def test_the_budget_that_is_left_picks_a_head():
    two = fixed(1.0, -1.0)._replace(heads=2)
    reward, cost = [5.0, 1.0], [3.0, 0.5]
    pick = lambda left, steps: act(Switch(), two, reward, cost, more=(left, steps))  # noqa: E731
    assert pick(100.0, 20.0) == 1.0
    # 10 spread over 20 steps, discounted at 0.9, is 4.39: the greedy head fits; 6 is 2.63: it does not
    assert pick(10.0, 20.0) == 1.0
    assert pick(6.0, 20.0) == -1.0
    assert pick(0.0, 20.0) == -1.0  # nothing is left: the cheapest
    assert pick(-3.0, 20.0) == -1.0
    assert pick(3.1, 1.0) == 1.0  # in the last step the threshold is what is left
    assert pick(2.9, 1.0) == -1.0


def test_what_is_left_of_limit_and_time():
    transform = remaining_budget(2)
    params = RemainingParams(jnp.float32([10.0, 5.0]), jnp.float32(4))
    z = transform.init(jax.device_get(params), 2)
    np.testing.assert_array_equal(z, [[10, 5, 4]] * 2)
    cost = np.float32([[1, 6], [0, 2]])
    for xp in (np, jnp):
        given = [xp.asarray(x) for x in (z, np.float32([7, 8]), cost, np.array([False, True]), np.zeros(2, bool))]
        step = transform.step(params, *given)
        np.testing.assert_array_equal(step.z, [[9, -1, 3], [10, 5, 4]])  # the second has ended: all over again
        np.testing.assert_array_equal(step.z_final, [[9, -1, 3], [10, 3, 3]])
        np.testing.assert_array_equal(step.reward, [7, 8])
        assert transform.augment(given[0], given[0]).shape == (2, 6)


def test_what_is_left_of_a_wish():
    """The return that is still to come, as promised, in a column of its own."""
    transform = remaining_budget(1, wish=True)
    params = RemainingParams(jnp.float32([10.0]), jnp.float32(4), jnp.float32([30.0]))
    z = transform.init(jax.device_get(params), 2)
    np.testing.assert_array_equal(z, [[10, 4, 30]] * 2)
    for xp in (np, jnp):
        ended = xp.asarray(np.array([False, True]))
        step = transform.step(
            params, xp.asarray(z), xp.asarray([7.0, 8.0]), xp.asarray([[1.0], [0.0]]), ended, ended & ~ended
        )
        np.testing.assert_array_equal(step.z, [[9, 3, 23], [10, 4, 30]])
        np.testing.assert_array_equal(step.z_final, [[9, 3, 23], [10, 3, 22]])
    assert transform.extra_obs == 3


def test_the_divergence_of_the_encoder_by_hand():
    mean, log_std = jnp.float32([[1.0, 0.0]]), jnp.log(jnp.float32([[2.0, 0.5]]))
    expected = np.mean([-(1 + 2 * np.log(2) - 1 - 4) / 2, -(1 + 2 * np.log(0.5) - 0 - 0.25) / 2])
    np.testing.assert_allclose(kl_from_prior(mean, log_std), [expected], rtol=1e-6)


@pytest.mark.parametrize(("variance", "decoded"), [(0.3, 0.175), (0.1, 0.0)])
def test_the_latent_collapses_where_actions_vary_little(variance, decoded):
    """Probabilistic PCA: with linear networks the decoded variance is `max(0, v - b / 4)`, here with b = 0.5."""
    part = CVAE(hidden=(), latent=2, squash=False, kl_weight=0.5)
    codec = part.codec(SPEC)
    adam = optax.adam(3e-3)
    params = codec.init(KEY)
    obs = jnp.zeros((256, 1))

    @jax.jit
    def train(params):
        def body(carry, key):
            params, state = carry
            action = jnp.sqrt(variance) * jax.random.normal(key, (256, 1))
            grads = jax.grad(lambda p: part.row_loss(codec, p, obs, action, jax.random.fold_in(key, 1)).mean())(params)
            change, state = adam.update(grads, state, params)
            return (optax.apply_updates(params, change), state), None

        return jax.lax.scan(body, (params, adam.init(params)), jax.random.split(KEY, 3000))[0][0]

    params = train(params)
    z = jax.random.normal(jax.random.key(1), (20_000, 2))
    spread = codec.decode(params, jnp.zeros((20_000, 1)), z).var()
    assert float(spread) == pytest.approx(decoded, rel=0.12, abs=0.01)


@pytest.mark.parametrize(("weight", "expected"), [(Exp(beta=1.0), 0.2311), (Exp(beta=0.5), 0.3808), (Binary(), 0.5)])
def test_weighted_regression_has_a_closed_form(weight, expected):
    """Actions of -0.5 and 0.5, values q_r a: the mean is `0.5 tanh(q_r / (2 beta))`, the variance `0.25 - mean^2`."""
    spec, generator = EnvSpec(1, 1), Gaussian(hidden=()).build(EnvSpec(1, 1))
    weigh, adam = weight.build(spec), optax.adam(0.05)
    rows = rows_of([-0.5, 0.5])
    judged = Judgement(advantage=Values(rows.action[:, 0], jnp.zeros((2, 1))))
    context = context_of(rows, generator)
    frozen = Frozen(None, lambda key: judged, lambda j: weigh.apply(j, context.weights, weigh.start(), None))
    improve = Regress().build(spec)

    @jax.jit
    def train(params):
        def body(carry, _):
            params, state = carry
            grads = jax.grad(lambda p: improve.loss(p, context, frozen, (), KEY).loss)(params)
            change, state = adam.update(grads, state, params)
            return (optax.apply_updates(params, change), state), None

        return jax.lax.scan(body, (params, adam.init(params)), None, length=600)[0][0]

    params = train(generator.init(KEY))
    assert float(generator.mode(params, rows.obs)[0, 0]) == pytest.approx(expected, abs=2e-2)
    if expected < 0.5:
        variance = float(jnp.exp(2 * params["actor"]["log_std"][0, 0]))
        assert variance == pytest.approx(0.25 - expected**2, abs=2e-2)


@pytest.mark.parametrize(
    "part",
    [
        Deterministic(hidden=(4,)),
        Gaussian(hidden=(4,)),
        TanhGaussian(hidden=(4,)),
        CVAE(hidden=(4,), phi=0.1),
        Diffusion(hidden=(8,), steps=2),
    ],
)
def test_generators_draw_within_the_box(part):
    generator = part.build(EnvSpec(3, 2))

    @jax.jit
    def run():
        params, obs = generator.init(KEY), jax.random.normal(KEY, (5, 3))
        drawn = generator.draw(params, obs, generator.noise(jax.random.key(1), 7, 5))
        same = generator.draw(params, jnp.tile(obs[:1], (5, 1)), generator.noise(KEY, 7, 1))
        return drawn, same, generator.loss(params, obs, drawn[0], KEY)

    drawn, same, loss = map(np.asarray, run())
    assert drawn.shape == (7, 5, 2)
    assert np.abs(drawn).max() <= 1
    np.testing.assert_allclose(same, np.broadcast_to(same[:, :1], same.shape), atol=1e-6)  # rows of the same noise
    assert loss.shape == (1, 5)


def test_the_schedule_of_a_diffusion_policy():
    """Five steps, low 0.1, high 10: hardly anything of the action is left at the end."""
    beta, kept = variance_preserving(5)
    assert beta[0] == pytest.approx(1 - np.exp(-0.02 - 9.9 / 50))
    assert kept[-1] == pytest.approx(np.exp(-0.1 - 9.9 / 2))  # the sum of 2 t - 1 is N^2


def test_with_the_exact_noise_a_diffusion_policy_ends_at_the_action(monkeypatch):
    """Recorded is one action; of what it was mixed with nothing is left after the last step, and the loss is 0."""
    _, kept = variance_preserving(4)

    def exact(params, obs, mixed, step, key):
        share = jnp.float32(kept)[jnp.broadcast_to(step, mixed.shape[:-1]).astype(int) - 1][..., None]
        return (mixed - jnp.sqrt(share) * 0.3) / jnp.sqrt(1.0 - share)

    monkeypatch.setattr(diffusion, "denoiser", lambda *sizes, **options: Denoiser(lambda key: {}, exact))
    generator = Diffusion(steps=4).build(SPEC)
    params, obs = generator.init(KEY), jnp.zeros((5, 1))
    np.testing.assert_allclose(generator.draw(params, obs, generator.noise(KEY, 3, 5)), 0.3, atol=1e-5)
    np.testing.assert_allclose(generator.mode(params, obs), 0.3, atol=1e-5)
    np.testing.assert_allclose(generator.loss(params, obs, jnp.full((5, 1), 0.3), KEY), 0.0, atol=1e-8)


def test_as_released_ccrr_asks_the_rewards_critics_for_costs():
    """They are trained towards `c + gamma Q_r'`, too; the costs' critics give the recorded action's cost alone."""
    critics = tabled(lambda p, a: 1.0 + a, lambda p, a: 10.0 + 0.0 * a)
    valuation = Bootstrapped(critics, cost_target="reward", samples=2).build(SPEC)
    context = context_of(rows_of(0.5, reward=3.0, cost=2.0), fixed(-0.5, 1.0))
    found = valuation.loss({"critic": {}}, {"critic": {}}, context, KEY)
    assert float(found.metrics["loss/critic_reward"]) == pytest.approx(3 + 0.9 * 2.0)
    assert float(found.metrics["loss/critic_cost"]) == pytest.approx(2 + 0.9 * 2.0)
    judged = valuation.judge({"critic": {}}, {}, context, KEY)
    assert float(judged.advantage.cost[0, 0]) == pytest.approx(10 - np.mean([0.5, 2.0]))
    assert float(judged.cost[0]) == pytest.approx(np.mean([0.5, 2.0]))


def test_only_the_perturbation_learns_from_critics():
    generator = CVAE(hidden=(4,), phi=0.2).build(SPEC)
    obs = jnp.ones((3, 1))
    drawn = jax.jit(jax.grad(lambda p: generator.draw(p, obs, generator.noise(KEY, 2, 3)).sum()))
    grads = drawn(jax.jit(generator.init)(KEY))
    assert all(not leaf.any() for leaf in jax.tree.leaves(grads["cvae"]))
    assert any(leaf.any() for leaf in jax.tree.leaves(grads["perturbation"]))


def test_the_model_beside_a_policy_says_how_far_an_action_is():
    generator = Supported(hidden=(4,), behaviour=CVAE(hidden=(4,))).build(SPEC)
    params, obs = jax.eval_shape(generator.init, KEY), jnp.ones((3, 1))
    action = jnp.linspace(-1, 1, 6).reshape(2, 3, 1)
    assert jax.eval_shape(generator.support.divergence, params, obs, action).shape == (2, 3)
    for raw in (generator.support.raw, generator.support.policy_raw):
        assert jax.eval_shape(lambda p, f=raw: f(p, obs, KEY, 4), params).shape == (4, 3, 1)


def test_expectile_pairs_against_numpy():
    rng, spec = np.random.default_rng(0), EnvSpec(2, 1)
    valuation = Expectile(hidden=(), expectile=0.8).build(spec)
    params = jax.jit(valuation.init)(KEY)
    slow = jax.tree.map(lambda x: x + 0.1, {"q": params["q"]})
    obs, later, action = (rng.normal(size=(4, n)).astype(np.float32) for n in (2, 2, 1))
    reward, cost = rng.normal(size=4).astype(np.float32), rng.random((4, 1)).astype(np.float32)
    ended = np.array([False, True, False, False])
    rows = Rows(*map(jnp.asarray, (obs, action, reward, cost, later, ended, obs)))
    context = context_of(rows, None)
    found = jax.jit(lambda p: valuation.loss(p, slow, context, KEY))(params)
    advantage = jax.jit(lambda p: valuation.judge(p, slow, context, KEY).advantage)(params)

    def linear(net, j, k, x):
        return x @ np.float64(net["kernel_0"])[j, k] + np.float64(net["bias_0"])[j, k]

    def v_of(k, x):
        return (x @ np.float64(params["v"]["kernel_0"])[k] + np.float64(params["v"]["bias_0"])[k])[:, 0]

    both, total = np.concatenate([obs, action], axis=1), 0.0
    for k, signal in enumerate((reward, -cost[:, 0])):
        u = np.min([linear(slow["q"], j, k, both)[:, 0] for j in range(2)], axis=0) - v_of(k, obs)
        total += np.mean(np.where(u < 0, 0.2, 0.8) * u**2)
        goal = signal + 0.9 * ~ended * v_of(k, later)
        total += sum(np.mean((goal - linear(params["q"], j, k, both)[:, 0]) ** 2) for j in range(2))
        np.testing.assert_allclose(advantage.reward if k == 0 else -advantage.cost[:, 0], u, rtol=1e-4, atol=1e-6)
    assert float(found.loss) == pytest.approx(total, rel=1e-5)


def test_as_released_every_row_of_coptidice_meets_all_others():
    """OmniSafe's arrays `[B, 1]` and `[B]`, in plain numpy."""
    rng, spec, gamma, alpha, eps = np.random.default_rng(0), EnvSpec(2, 1), 0.9, 0.5, 0.05
    valuation = Dice(hidden=(), alpha=alpha, eps=eps, multiplier=0.7).build(spec, compat="omnisafe")
    params = jax.jit(valuation.init)(KEY)
    obs, later, first = (rng.normal(size=(5, 2)).astype(np.float32) for _ in range(3))
    reward, cost = rng.normal(size=(5, 1)), rng.random((5, 1))
    done = np.array([[0.0], [1.0], [0.0], [0.0], [1.0]])
    rows = Rows(
        *map(jnp.float32, (obs, obs[:, :1], reward[:, 0], cost, later)), jnp.asarray(done[:, 0] > 0), jnp.asarray(first)
    )
    context = context_of(rows, None, limit=0.06)
    found = jax.jit(lambda p: valuation.loss(p, {}, context, KEY))(params)
    ratio = jax.jit(lambda p: valuation.judge(p, {}, context, KEY).ratio)(params)

    def net(p, x):
        return (x @ np.float64(p["kernel_0"]) + np.float64(p["bias_0"]))[:, 0]

    chi_params = jax.tree.map(lambda x: x[0], params["chi"])
    adv = reward - 0.7 * cost + (1 - done) * gamma * net(params["nu"], later) - net(params["nu"], obs)
    assert adv.shape == (5, 5)
    soft = DIVERGENCES["soft_chi2"]
    w = np.maximum(np.float64(soft.inverse_slope(jnp.float32(adv / alpha))), 0)
    f = np.float64(soft.f(jnp.float32(w)))
    nu_loss = (1 - gamma) * net(params["nu"], first).mean() - alpha * f.mean() + (w * adv).mean()
    chi = [net(chi_params, x) for x in (obs, later, first)]
    ell = (1 - gamma) * chi[2] + w * (cost + gamma * (1 - done) * chi[1] - chi[0])
    v = np.exp(ell) / np.exp(ell).sum(axis=0) * 5
    kl = (v * np.log(v) - v + 1).mean()
    total = nu_loss + (v * ell).mean() - (kl - eps) - 0.7 * ((w * cost).mean() - 0.06)
    assert float(found.loss) == pytest.approx(total, rel=1e-4)
    assert float(found.cost[0]) == pytest.approx((w * cost).mean(), rel=1e-4)
    np.testing.assert_allclose(ratio, w.mean(axis=0), rtol=1e-4)
