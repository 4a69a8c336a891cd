"""Constraint rules against scalar simulations written from the papers."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsafe.components import rules
from jsafe.components.limits import CostLimit
from jsafe.components.optim import adam_epsilon_hat
from jsafe.options import kinds, to_json
from jsafe.types import ConstraintRule, EnvSpec

COSTS = [30.0, 50.0, 20.0, 10.0, 26.0, 40.0, 0.0, 0.0, 90.0, 25.0, 25.0, 25.0, 60.0, 5.0]
LIMIT = 25.0


def build(kind, num_costs=1, **options):
    """A rule by its kind and its options."""
    return kinds("rule")[kind](**options).build(EnvSpec(1, 1, num_costs=num_costs))


def run(rule, costs, limit):
    """States after each call; `costs [steps, M]`."""
    update, states = jax.jit(rule.update), [rule.init()]
    for cost in costs:
        states.append(update(states[-1], jnp.asarray(cost, jnp.float32), jnp.asarray(limit, jnp.float32)))
    return states


def column(*values):
    return np.array(values, float).reshape(-1, 1)


def test_softplus_multiplier_follows_tensorflows_adam():
    """SEditor's form by hand: rho, m, v; epsilon added to the root of the uncorrected second moment."""
    rule = build("lagrange", 1, learning_rate=0.01, init=1.0, transform="softplus")
    rho, m, v = np.log(np.e - 1), 0.0, 0.0
    states = run(rule, column(*[0.0, 2e-3, 1e-3] * 4), [5e-4])
    assert states[0].parameter == pytest.approx([rho], rel=1e-6)
    for t, cost in enumerate([0.0, 2e-3, 1e-3] * 4, start=1):
        grad = (5e-4 - cost) / (1 + np.exp(-rho))
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        rho -= 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        assert states[t].parameter == pytest.approx([rho], rel=1e-4)
    weights = rule.weights(states[-1], None, None)
    lam = np.log1p(np.exp(rho))
    assert weights.reward == pytest.approx(1 / (1 + lam), rel=1e-4)
    assert weights.cost == pytest.approx([lam / (1 + lam)], rel=1e-4)


def test_clamped_multiplier_follows_adam_and_its_bounds():
    rule = build("lagrange", 1, learning_rate=0.035, transform="clamp", upper_bound=0.1)
    lam, m, v = 0.001, 0.0, 0.0
    states = run(rule, column(*COSTS), [LIMIT])
    values = []
    for t, cost in enumerate(COSTS, start=1):
        grad = LIMIT - cost
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        step = 0.035 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        lam = min(max(lam - step, 0.0), 0.1)
        values.append(lam)
        assert states[t].parameter == pytest.approx([lam], rel=1e-4, abs=1e-6)
    assert max(values) == 0.1


def test_plain_dual_ascent_and_several_costs():
    rule = build("lagrange", 2, learning_rate=0.01, transform="clamp", init=0.5, optimizer=optax.identity())
    states = run(rule, [[35.0, 0.0], [25.0, 0.0]], [25.0, 40.0])
    assert states[1].parameter == pytest.approx([0.6, 0.1])
    assert states[2].parameter == pytest.approx([0.6, 0.0])
    weights = rule.weights(states[1], None, None)
    assert weights.reward == pytest.approx(1 / 1.7)
    assert weights.cost == pytest.approx([0.6 / 1.7, 0.1 / 1.7])
    plain = build("lagrange", 2, learning_rate=0.01, transform="clamp", init=0.5, normalize="none")
    assert plain.weights(states[1], None, None).cost == pytest.approx([0.6, 0.1])
    assert plain.weights(states[1], None, None).reward == 1


def test_the_learning_rate_is_part_of_the_state():
    rule = build("lagrange", 1, learning_rate=0.1, transform="clamp", init=1.0, optimizer=optax.identity())
    rates = jnp.array([0.0, 0.01, 0.1])
    states = jax.vmap(lambda rate: rule.init()._replace(numbers=rule.init().numbers._replace(learning_rate=rate)))(
        rates
    )
    moved = jax.vmap(lambda s: rule.update(s, jnp.array([26.0]), jnp.array([25.0])))(states)
    assert moved.parameter.ravel() == pytest.approx([1.0, 1.01, 1.1])


@pytest.mark.parametrize("delay", [1, 3, 10])
def test_pid_against_a_scalar_simulation(delay):
    """Stooke et al. 2020, algorithm 2, with both smoothings and the delayed difference."""
    kp, ki, kd, a, b = 0.1, 0.01, 0.05, 0.95, 0.9
    rule = build("pid", 1, kp=kp, ki=ki, kd=kd, init=0.2, error_decay=a, cost_decay=b, delay=delay, upper_bound=1.0)
    states = run(rule, column(*COSTS), [LIMIT])
    integral, error, past = 0.2, 0.0, [0.0]
    reached = False
    for state, cost in zip(states[1:], COSTS):
        gap = cost - LIMIT
        integral = max(0.0, integral + ki * gap)
        error = a * error + (1 - a) * gap
        smooth = b * past[-1] + (1 - b) * cost
        before = past[-delay] if len(past) >= delay else 0.0
        past.append(smooth)
        lam = min(max(0.0, kp * error + integral + kd * max(0.0, smooth - before)), 1.0)
        reached |= lam == 1.0
        assert state.multiplier == pytest.approx([lam], rel=1e-4, abs=1e-6)
    weights = rule.weights(states[2], None, None)
    assert weights.reward + weights.cost.sum() == pytest.approx(1)
    assert reached


def test_pid_gains_can_be_swept():
    rule = build("pid", 2)
    gains = rule.init().numbers._replace(kp=jnp.array([1.0, 0.0]), ki=jnp.array([0.0, 1.0]), kd=jnp.zeros(2))
    states = jax.vmap(lambda g: rule.init()._replace(numbers=g))(gains)
    moved = jax.vmap(lambda s: rule.update(s, jnp.array([27.0, 20.0]), jnp.array([25.0, 25.0])))(states)
    np.testing.assert_allclose(moved.multiplier, [[0.05 * 2 + 0.001, 0.0], [2.001, 0.0]], rtol=1e-5)


def begun(rule):
    return rule.update(rule.init(), jnp.zeros(0), jnp.zeros(0))


def test_crpo_switches_to_the_worst_cost():
    rule = build("crpo", 2, distance=2.0)
    limit = jnp.array([25.0, 10.0])
    cases = [([26.9, 11.9], 1, [0, 0]), ([28.0, 0.0], 0, [1, 0]), ([28.0, 20.0], 0, [0, 1])]
    for cost, reward, weight in cases:
        weights = rule.weights(begun(rule), jnp.array(cost), limit)
        assert weights.reward == reward
        assert weights.cost.tolist() == weight
        assert rules.multiplier(weights).tolist() == weight  # relative to the reward, or absolute without one


def test_ipo_weights():
    rule = build("ipo", 3, kappa=0.01, penalty_max=1.0)
    # inside: .01 / 5; close: .01 / .005 = 2 is capped; violated: the cap
    weights = rule.weights(begun(rule), jnp.array([20.0, 24.995, 30.0]), jnp.full(3, 25.0))
    lam = np.array([0.002, 1.0, 1.0])
    assert weights.cost == pytest.approx(lam / (1 + lam.sum()), rel=1e-4)
    assert rules.multiplier(weights) == pytest.approx(lam, rel=1e-4)


START = {"none": 0.0, "lagrange": 0.3, "pid": 0.3, "crpo": 0.0, "ipo": 0.0, "augmented": 0.3}


@pytest.mark.parametrize("kind", sorted(kinds("rule")))
def test_before_the_first_update_the_weights_are_those_of_the_start(kind):
    """Whatever was measured: this is what holds while a caller's warm-up withholds `update`."""
    options = {"init": 0.3} if START[kind] else {}
    rule = build(kind, 2, **options)
    for cost in ([0.0, 0.0], [25.0, 24.999], [1e6, 90.0]):
        weights = rule.weights(rule.init(), jnp.array(cost), jnp.full(2, LIMIT))
        assert rules.multiplier(weights) == pytest.approx([START[kind]] * 2, rel=1e-6)
        assert weights.reward == pytest.approx(1 / (1 + 2 * START[kind]))


# Costs in bursts: J is 0 but for one call in `burst`, then `burst` times its mean, which the weight of the cost lowers.
DUAL = {
    "sgd": ("lagrange", {"learning_rate": 1e-4, "optimizer": "sgd"}),
    "pid": ("pid", {"kp": 1e-3, "ki": 1e-4, "kd": 0.0}),
    "augmented": ("augmented", {"learning_rate": 1e-4, "penalty": 1e-4}),
    "adam": ("lagrange", {"learning_rate": 0.003}),
    "softplus": ("lagrange", {"learning_rate": 0.003, "init": 1.0, "transform": "softplus"}),
    "crpo": ("crpo", {}),
    "ipo": ("ipo", {"kappa": 25.0, "penalty_max": 3.0}),
}


def rest(kind, burst, calls=60_000):
    """The mean cost, relative to the limit, that a rule settles at; without a rule it is twice the limit."""
    rule = build(kind[0], **kind[1])
    limit = jnp.array([LIMIT])

    def call(carry, key):
        state, measured = carry
        weights = rule.weights(state, measured, limit)
        mean = 2 * LIMIT * weights.reward / (weights.cost[0] + weights.reward)  # the limit where the weights are equal
        measured = (mean * jnp.where(jax.random.uniform(key) < 1 / burst, burst, 0.0))[None]
        return (rule.update(state, measured, limit), measured), mean

    _, means = jax.lax.scan(call, (rule.init(), jnp.zeros(1)), jax.random.split(jax.random.key(0), calls))
    return float(means[calls // 4 :].mean() / LIMIT)


@pytest.mark.parametrize("name", DUAL)
def test_where_a_rule_rests_under_bursty_costs(name):
    steady, bursty = rest(DUAL[name], 1), rest(DUAL[name], 300)
    if name in ("crpo", "ipo"):  # no memory: they answer the last call alone, which mostly says that all is well
        assert bursty > 1.3 * min(steady, 1.4)
        return
    assert steady == pytest.approx(1.0, abs=0.02)
    if name in ("adam", "softplus"):
        assert 1.15 < bursty < 1.4  # as the options say
    else:
        assert bursty == pytest.approx(1.0, abs=0.1)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    costs=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=8), limit=st.floats(0, 100, width=32)
)
@pytest.mark.parametrize("kind", sorted(kinds("rule")))
def test_weights_are_shares(kind, costs, limit):
    """Whatever is measured: no negative weight, and reward and costs share one."""
    rule = build(kind)
    state = rule.init()
    for cost in costs:
        state = rule.update(state, jnp.array([cost]), jnp.array([limit]))
        weights = rule.weights(state, jnp.array([cost]), jnp.array([limit]))
        assert weights.reward >= 0
        assert weights.cost[0] >= 0
        assert weights.reward + weights.cost[0] == pytest.approx(1, rel=1e-5)


def test_augmented_lagrangian():
    rule = build("augmented", 1, learning_rate=0.1, penalty=0.5, init=1.0, upper_bound=4.0)
    states = run(rule, column(30.0, 20.0, 100.0), [25.0])
    assert [float(s.multiplier[0]) for s in states] == pytest.approx([1.0, 1.5, 1.0, 4.0])
    lam = 1.5 + 0.5 * 4
    assert rule.weights(states[1], jnp.array([29.0]), jnp.array([25.0])).cost == pytest.approx([lam / (1 + lam)])
    assert rule.weights(states[1], jnp.array([0.0]), jnp.array([25.0])).cost == pytest.approx([0])


def test_none():
    rule = build("none", 2)
    assert rule.weights(rule.init(), None, None).cost.tolist() == [0, 0]
    assert rule.weights(rule.init(), None, None).reward == 1


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lagrange", {"learning_rate": -0.1}, "learning_rate must be at least 0, got -0.1"),
        ("lagrange", {"init": 0.0, "transform": "softplus"}, "init must be positive"),
        ("lagrange", {"optimizer": "adm"}, "did you mean 'adam'"),
        ("lagrange", {"transform": "relu"}, "transform"),
        ("lagrange", {"init": 2.0, "upper_bound": 1.0}, "upper_bound must be at least init"),
        ("lagrange", {"normalize": "max"}, "normalize"),
        ("pid", {"kp": float("nan")}, "kp must be finite"),
        ("pid", {"delay": 0}, "delay must be at least 1"),
        ("pid", {"error_decay": 1.0}, "error_decay must be at least 0 and below 1"),
        ("crpo", {"distance": -1.0}, "distance"),
        ("ipo", {"kappa": -1.0}, "kappa"),
        ("augmented", {"penalty": float("inf")}, "penalty must be finite"),
    ],
)
def test_bad_options_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kinds("rule")[kind](**options)


def test_a_transformation_of_ones_own_is_not_saved():
    with pytest.raises(ValueError, match="plain values"):
        to_json(rules.Lagrange(optimizer=optax.scale_by_rms()))


def test_one_limit_in_two_units():
    assert CostLimit(10).values(2) == (10.0, 10.0)
    several = CostLimit((25.0, 5.0), margin=0.1)
    assert several.aim(several.array(2)).tolist() == pytest.approx([22.5, 4.5])
    J, rate, multiplier = jnp.array([30.0, 2.0]), jnp.array([0.03, 0.002]), jnp.array([0.5, 0.0])
    metrics = several.metrics(J, rate, several.array(2), multiplier)
    assert {"cost/0/episodic": 30.0, "cost/1/limit": 5.0, "cost/0/multiplier": 0.5}.items() <= metrics.items()
    assert len(metrics) == 8
    assert "cost/0/limit_per_step" in CostLimit(0.01, per="step").metrics(J, rate, J, multiplier)
    for options, message in (
        ({"value": -1.0}, "value must be at least 0, got -1.0"),
        ({"value": (1.0, float("nan"))}, "value must be finite"),
        ({"value": ()}, "one for each cost"),
        ({"margin": 1.0}, "margin"),
        ({"per": "steps"}, "did you mean 'step'"),
    ):
        with pytest.raises(ValueError, match=message):
            CostLimit(**options)
    with pytest.raises(ValueError, match="value has 2 values, the environment has 1 costs"):
        several.values(1)


def test_costs_of_a_wrong_shape_are_refused():
    with pytest.raises(AssertionError):
        build("pid", 2).update(build("pid", 2).init(), jnp.zeros(1), jnp.zeros(2))


def test_adam_epsilon_hat_differs_from_adam_where_gradients_are_small():
    params = {"w": jnp.array([1.0, 1.0])}
    grads = {"w": jnp.array([1.0, 1e-7])}
    moved = {}
    for name, tx in (("hat", adam_epsilon_hat(0.1, eps=1e-7)), ("plain", optax.adam(0.1, eps=1e-7))):
        updates, _ = tx.update(grads, tx.init(params), params)
        moved[name] = np.asarray(updates["w"])
    assert moved["hat"][0] == pytest.approx(-0.1, rel=1e-4)
    # first step: m = .1 g, v = .001 g^2; the root of v is .0316 g against an epsilon of 1e-7
    scale = np.sqrt(0.001) / 0.1
    assert moved["hat"][1] == pytest.approx(-0.1 * scale * 1e-8 / (np.sqrt(1e-17) + 1e-7), rel=1e-3)
    assert moved["plain"][1] == pytest.approx(-0.05, rel=1e-3)


@pytest.mark.parametrize("interval", [None, 1, 7, 64, 20_000, 999_983, 10**9])
def test_the_pace_of_a_rule_does_not_depend_on_how_long_a_run_has_been(interval):
    """Counted with Python's integers, also after more steps than 32 bits can count."""

    def count(state, J_cost, limit):
        return state + 1

    rule = ConstraintRule(lambda: jnp.zeros((), jnp.int32), count, None)

    @jax.jit
    def moved(first):
        pace = {"steps": 200, "interval": interval, "warmup": 3_000_000_000}
        return jax.vmap(lambda i: rules.paced(rule, jnp.int32(0), 0.0, 0.0, iteration=i, **pace))(first)

    every = interval or 200
    for first in (0, 14_999_990, 15_000_000, 10**9 // 200 * 4 - 500, 2**31 - 1_001):
        steps = [200 * i for i in range(first, first + 1000)]
        wanted = [((s + 200) // every - s // every) * (s + 200 > 3_000_000_000) for s in steps]
        assert moved(jnp.arange(first, first + 1000, dtype=jnp.int32)).tolist() == wanted
