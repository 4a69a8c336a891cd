"""Constraint rules against scalar simulations written from the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsafe.components import rules
from jsafe.components.optim import adam_epsilon_hat

COSTS = [30.0, 50.0, 20.0, 10.0, 26.0, 40.0, 0.0, 0.0, 90.0, 25.0, 25.0, 25.0, 60.0, 5.0]
LIMIT = 25.0


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
    rule = rules.lagrange(1, learning_rate=0.01)
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
    rule = rules.lagrange(1, learning_rate=0.035, transform="clamp", upper_bound=0.1)
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
    rule = rules.lagrange(2, learning_rate=0.01, transform="clamp", init=0.5, optimizer=optax.identity())
    states = run(rule, [[35.0, 0.0], [25.0, 0.0]], [25.0, 40.0])
    assert states[1].parameter == pytest.approx([0.6, 0.1])
    assert states[2].parameter == pytest.approx([0.6, 0.0])
    weights = rule.weights(states[1], None, None)
    assert weights.reward == pytest.approx(1 / 1.7)
    assert weights.cost == pytest.approx([0.6 / 1.7, 0.1 / 1.7])
    plain = rules.lagrange(2, learning_rate=0.01, transform="clamp", init=0.5, normalize="none")
    assert plain.weights(states[1], None, None).cost == pytest.approx([0.6, 0.1])
    assert plain.weights(states[1], None, None).reward == 1


def test_the_learning_rate_is_part_of_the_state():
    rule = rules.lagrange(1, learning_rate=0.1, transform="clamp", init=1.0, optimizer=optax.identity())
    rates = jnp.array([0.0, 0.01, 0.1])
    states = jax.vmap(lambda rate: rule.init()._replace(learning_rate=rate))(rates)
    moved = jax.vmap(lambda s: rule.update(s, jnp.array([26.0]), jnp.array([25.0])))(states)
    assert moved.parameter.ravel() == pytest.approx([1.0, 1.01, 1.1])


def test_dual_gradient_is_averaged_over_an_axis():
    def moved(costs, axis_name):
        rule = rules.lagrange(
            1, learning_rate=0.01, transform="clamp", init=1.0, optimizer=optax.identity(), axis_name=axis_name
        )
        step = jax.vmap(lambda cost: rule.update(rule.init(), cost, jnp.array([25.0])), axis_name="d")
        return step(jnp.asarray(costs)).parameter.ravel()

    assert moved([[35.0], [25.0]], "d") == pytest.approx([1.05, 1.05])
    assert moved([[35.0], [25.0]], None) == pytest.approx([1.1, 1.0])


@pytest.mark.parametrize("delay", [1, 3, 10])
def test_pid_against_a_scalar_simulation(delay):
    """Stooke et al. 2020, algorithm 2, with both smoothings and the delayed difference."""
    kp, ki, kd, a, b = 0.1, 0.01, 0.05, 0.95, 0.9
    rule = rules.pid(1, kp=kp, ki=ki, kd=kd, init=0.2, error_decay=a, cost_decay=b, delay=delay, upper_bound=1.0)
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
    rule = rules.pid(2)
    gains = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    states = jax.vmap(lambda g: rule.init()._replace(gains=g))(gains)
    moved = jax.vmap(lambda s: rule.update(s, jnp.array([27.0, 20.0]), jnp.array([25.0, 25.0])))(states)
    np.testing.assert_allclose(moved.multiplier, [[0.05 * 2 + 2.001 * 0 + 0.001, 0.0], [2.001, 0.0]], rtol=1e-5)


def test_crpo_switches_to_the_worst_cost():
    rule = rules.crpo(2, distance=2.0)
    limit = jnp.array([25.0, 10.0])
    cases = [([26.9, 11.9], 1, [0, 0]), ([28.0, 0.0], 0, [1, 0]), ([28.0, 20.0], 0, [0, 1])]
    for cost, reward, weight in cases:
        weights = rule.weights((), jnp.array(cost), limit)
        assert weights.reward == reward
        assert weights.cost.tolist() == weight


def test_ipo_weights():
    rule = rules.ipo(3, kappa=0.01, penalty_max=1.0)
    # inside: .01 / 5; close: .01 / .005 = 2 is capped; violated: the cap
    weights = rule.weights((), jnp.array([20.0, 24.995, 30.0]), jnp.full(3, 25.0))
    lam = np.array([0.002, 1.0, 1.0])
    assert weights.cost == pytest.approx(lam / (1 + lam.sum()), rel=1e-4)


def test_augmented_lagrangian():
    rule = rules.augmented(1, learning_rate=0.1, penalty=0.5, init=1.0, upper_bound=4.0)
    states = run(rule, column(30.0, 20.0, 100.0), [25.0])
    assert [float(s.multiplier[0]) for s in states] == pytest.approx([1.0, 1.5, 1.0, 4.0])
    lam = 1.5 + 0.5 * 4
    assert rule.weights(states[1], jnp.array([29.0]), jnp.array([25.0])).cost == pytest.approx([lam / (1 + lam)])
    assert rule.weights(states[1], jnp.array([0.0]), jnp.array([25.0])).cost == pytest.approx([0])


def test_none():
    rule = rules.none(2)
    assert rule.weights(rule.init(), None, None).cost.tolist() == [0, 0]
    assert rule.weights(rule.init(), None, None).reward == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.lagrange(0, learning_rate=0.1), "num_costs"),
        (lambda: rules.lagrange(1, learning_rate=-0.1), "learning_rate"),
        (lambda: rules.lagrange(1, learning_rate=0.1, init=0.0), "init"),
        (lambda: rules.lagrange(1, learning_rate=0.1, optimizer="rmsprop"), "optimizer must be 'adam', 'sgd' or"),
        (lambda: rules.lagrange(1, learning_rate=0.1, transform="relu"), "transform"),
        (lambda: rules.lagrange(1, learning_rate=0.1, init=2.0, upper_bound=1.0), "upper_bound"),
        (lambda: rules.lagrange(1, learning_rate=0.1, normalize="max"), "normalize"),
        (lambda: rules.pid(1, kp=-1.0), "kp"),
        (lambda: rules.pid(1, delay=0), "delay"),
        (lambda: rules.pid(1, error_decay=1.0), "error_decay"),
        (lambda: rules.crpo(1, distance=-1.0), "distance"),
        (lambda: rules.ipo(1, kappa=-1.0), "kappa"),
        (lambda: rules.augmented(1, penalty=-1.0), "penalty"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_costs_of_a_wrong_shape_are_refused():
    with pytest.raises(AssertionError):
        rules.pid(2).update(rules.pid(2).init(), jnp.zeros(1), jnp.zeros(2))


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
