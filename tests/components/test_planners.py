"""Planners on problems whose optimum is known, and scores on hand-made numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.components.dynamics.propagation import Rollout
from jsafe.components.planners import ARC, CEM
from jsafe.components.planners.arc import boltzmann
from jsafe.components.scores import Aim, Constrained, Judged, Penalised, Returns
from jsafe.components.scores.base import ranked

SPEC = jsafe.EnvSpec(2, 2)


def judged(returns):
    """Candidates without costs."""
    free = jnp.ones(returns.shape, bool)
    return Judged(returns, returns, jnp.zeros((*returns.shape, 1)), free, jnp.ones((), bool))


def planned(part, evaluate, mean, seeds, compat="paper", proposals=None, explore=False):
    """The planner's answers for several keys at once."""
    planner = part.build(SPEC, None, compat)
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.jit(jax.vmap(lambda key: planner.plan(mean, evaluate, proposals, key, explore)))(keys)


@pytest.mark.parametrize(
    ("sampling", "iterations", "most"), [("clipped", 5, 0.05), ("truncated", 10, 5e-3), ("clipped", 20, 1e-4)]
)
def test_cem_finds_the_best_action(sampling, iterations, most):
    """`-||a - a*||^2`: the error falls from refinement to refinement, for ten seeds."""
    best = jnp.array([[0.3, -0.6], [0.1, 0.4], [-0.2, 0.5]])

    def evaluate(actions, key):
        return judged(-jnp.square(actions - best[:, None]).sum(axis=(0, 2)))

    part = CEM(horizon=3, iterations=iterations, elites=64, sampling=sampling, init_var=1.0, epsilon=0.0)
    out = planned(part, evaluate, jnp.zeros((3, 2)), 10)
    assert np.abs(out.mean - best).max() < most


def corridor(start, limit, costs=1):
    """`s' = s + a`, reward `sum a`, cost `1[s > 1/2]`, and idle costs beside it."""

    def evaluate(actions, key):
        place = start + jnp.cumsum(actions[..., 0], axis=0)
        cost = (place > 0.5).sum(axis=0).astype(jnp.float32)
        idle = jnp.zeros((cost.shape[0], costs - 1))
        both = jnp.concatenate([cost[:, None], idle], axis=1)
        return ranked(actions.sum(axis=(0, 2)), both, jnp.full((costs,), limit), 64)

    return evaluate


def test_constrained_cem_goes_up_to_the_limit():
    part = CEM(horizon=2, iterations=10, elites=64, init_var=1.0, sampling="clipped")
    mean = jnp.zeros((2, 1))
    out = planned(part, corridor(0.0, 0.0), mean, 10)
    ends = np.asarray(out.mean.sum(axis=(1, 2)))
    assert ((ends > 0.48) & (ends <= 0.5)).all()
    two = planned(part, corridor(0.0, 0.0, costs=2), mean, 10)
    np.testing.assert_array_equal(two.mean, out.mean)  # an idle cost changes nothing
    np.testing.assert_array_equal(out.info["cost/0"], 0.0)
    # From deep inside what costs, where nothing is feasible within the plan: back, as fast as it goes.
    lost = planned(part, corridor(2.0, 0.0), mean, 10)
    assert (lost.mean.sum(axis=(1, 2)) < -1.0).all()


def test_a_linear_regulator():
    """Double integrator with Riccati's value at the end of the plan: the first action is Riccati's."""
    dt, r = 0.1, 0.1
    a, b, q = np.array([[1, dt], [0, 1]]), np.array([[dt**2 / 2], [dt]]), np.diag([1, 0.1])
    p = q.copy()
    for _ in range(2000):
        gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        p = q + a.T @ p @ (a - b @ gain)
    state = np.array([0.2, -0.1])
    start, (af, bf, qf, pf) = jnp.array(state), map(jnp.array, (a, b, q, p))

    def evaluate(actions, key):
        x, total = jnp.broadcast_to(start, (actions.shape[1], 2)), 0.0
        for step in actions:
            total = total - jnp.einsum("si,ij,sj->s", x, qf, x) - r * jnp.square(step[:, 0])
            x = x @ af.T + step @ bf.T
        return judged(total - jnp.einsum("si,ij,sj->s", x, pf, x))

    part = CEM(horizon=5, iterations=60, samples=500, elites=50, epsilon=0.0, init_var=0.25)
    out = planned(part, evaluate, jnp.zeros((5, 1)), 3)
    np.testing.assert_allclose(out.action[:, 0], float(-(gain @ state)[0]), atol=1e-3)


def test_the_weights_of_actor_regularised_control():
    score = jnp.array([0.1, -0.3, 0.25, -jnp.inf])
    plain = np.exp(2 * np.array([0.1, -0.3, 0.25]))
    np.testing.assert_allclose(boltzmann(score, 2.0), [*(plain / plain.sum()), 0], rtol=1e-5)
    np.testing.assert_allclose(boltzmann(score, 1e6), [0, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(boltzmann(score[:3], 0.0), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(boltzmann(jnp.full(4, -jnp.inf), 3.0), [0.25] * 4, rtol=1e-6)


def test_a_refinement_by_hand():
    """One refinement of each planner against numpy, from the candidates it has asked about."""
    part = ARC(horizon=2, iterations=1, samples=30, kappa=3.0, smoothing=0.2, mean_smoothing=0.25, init_var=0.5)
    proposals = jnp.array(np.random.default_rng(0).uniform(-1, 1, (2, 5, 2)))
    asked = []

    def evaluate(actions, key):
        jax.debug.callback(lambda x: asked.append(np.asarray(x, np.float64)), actions)
        return judged(actions[0, :, 0] - jnp.square(actions[1, :, 1]))

    old = jnp.array([[0.1, 0.2], [-0.3, 0.4]])

    def found(part, compat, explore):
        asked.clear()
        plan = jax.jit(part.build(SPEC, None, compat).plan, static_argnums=(1, 4))
        out = jax.device_get(plan(old, evaluate, proposals, jax.random.key(1), explore))
        jax.effects_barrier()
        return out

    out = found(part, "paper", False)
    (actions,) = asked
    assert actions.shape == (2, 35, 2)
    np.testing.assert_allclose(actions[:, 30:], proposals, rtol=1e-6)
    returns = actions[0, :, 0] - actions[1, :, 1] ** 2
    weights = np.exp(3 * returns) / np.exp(3 * returns).sum()
    shifted = np.array([old[1], old[1]])
    mean = 0.25 * shifted + 0.75 * np.einsum("s,hsa->ha", weights, actions)
    np.testing.assert_allclose(out.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(out.action, mean[0], rtol=1e-5)
    np.testing.assert_allclose(out.info["return"], weights @ returns, rtol=1e-5)
    drawn = found(part, "paper", True)
    assert np.abs(asked[-1][0] - drawn.action).sum(axis=-1).min() < 1e-6  # training executes a candidate
    np.testing.assert_allclose(found(part, "omnisafe", True).action, mean[0], rtol=1e-5)

    cem = CEM(horizon=2, iterations=1, samples=30, elites=6, smoothing=0.2, init_var=0.5, last="zero")
    out = found(cem, "paper", True)
    (actions,) = asked
    elites = actions[:, np.argsort(actions[1, :, 1] ** 2 - actions[0, :, 0])[:6]]
    shifted = np.array([old[1], [0, 0]])
    np.testing.assert_allclose(out.mean, 0.2 * shifted + 0.8 * elites.mean(axis=1), rtol=1e-5)


def test_samples_stay_within_the_bounds():
    for sampling in ("clipped", "truncated"):
        part = CEM(horizon=2, sampling=sampling)
        mean, var = jnp.array([[0.9, -1.0], [0.0, 1.5]]), jnp.full((2, 2), 4.0)
        actions = part.candidates(mean, var, jax.random.key(0))
        assert float(jnp.abs(actions).max()) <= 1
    # Cut at two standard deviations, each half the way to the nearer bound: nothing is piled up at the bounds.
    assert not np.isin(np.abs(actions[1, :, 0]), 1.0).any()


ROLLOUT = Rollout(
    reward=jnp.array([[[1.0, 5.0, 3.0]], [[3.0, 5.0, jnp.nan]]]),
    cost=jnp.array([[[[0.0], [2.0], [1.0]]], [[[1.0], [2.0], [0.0]]]]),
    worst=jnp.array([[1.0], [3.0], [1.0]]),
    spread=jnp.array([[0.1, 0.2, 0.4]]),
    final=jnp.zeros((2, 1, 3, 2)),
    left=jnp.ones((2, 1, 3)),
    afresh=jnp.zeros((2, 1, 3)),
)
"""Two nets of one particle, three candidates, two steps."""


@pytest.mark.parametrize(
    ("part", "compat", "cost"),
    [
        (Returns(), "paper", [0.5, 2.0, 0.5]),
        (Constrained(over="mean"), "paper", [0.5, 2.0, 0.5]),
        (Constrained(over="max"), "paper", [1.0, 2.0, 1.0]),
        (Constrained(over="max"), "omnisafe", [1.0, 3.0, 1.0]),
        (Constrained(over="sum_max"), "paper", [1.0, 3.0, 1.0]),
        (Penalised(), "paper", [0.5 + 0.2, 2.0 + 0.4, 0.5 + 0.8]),
    ],
)
def test_scores_by_hand(part, compat, cost):
    """Costs of plans of two steps count five times for episodes of ten."""
    score = part.build(jsafe.EnvSpec(2, 1, horizon=10), None, compat, steps=2)
    aim = Aim(jnp.array([6.0]), jnp.array([2.0]))
    out = score.judge(ROLLOUT, 0.5, aim, 1)
    np.testing.assert_allclose(out.cost[:, 0], 5 * np.array(cost), rtol=1e-6)
    np.testing.assert_array_equal(out.feasible, 5 * np.array(cost) <= 6)
    returns = np.array([2.5, 5.5, -np.inf])  # what is no number is never chosen
    np.testing.assert_allclose(out.returns, returns)
    if isinstance(part, Returns):
        np.testing.assert_allclose(out.score, returns)
    else:
        allowed = 5 * np.array(cost) <= 6
        np.testing.assert_allclose(out.score, np.where(allowed, returns, -np.inf))
        few = score.judge(ROLLOUT, 0.5, aim, 3)
        np.testing.assert_allclose(few.score, -5 * np.array(cost), rtol=1e-6)


def test_the_violation_of_several_costs():
    cost, limit = jnp.array([[1.0, 9.0], [8.0, 1.0], [jnp.nan, 0.0]]), jnp.array([0.5, 4.0])
    out = ranked(jnp.zeros(3), cost, limit, 1)
    np.testing.assert_allclose(out.score, [-(0.5 / 1 + 5 / 4), -7.5, -np.inf], rtol=1e-6)


def test_a_penalty_belongs_to_its_candidate():
    """Raising the spread of one candidate raises its own cost; the released order hands it to others, too."""
    rng = np.random.default_rng(0)
    nets, particles, candidates = 5, 2, 6
    zero = jnp.zeros((nets, particles, candidates))
    spread = jnp.array(rng.uniform(0, 1, (particles, candidates)), jnp.float32)
    aim = Aim(jnp.array([1.0]), jnp.array([1.0]))

    def costs(spread, compat):
        rollout = Rollout(zero, zero[..., None], jnp.zeros((candidates, 1)), spread, zero[..., None], zero, zero)
        return np.asarray(Penalised().build(SPEC, None, compat, steps=1000).judge(rollout, 0.0, aim, 1).cost[:, 0])

    more = spread.at[:, 2].add(1.0)
    changed = {compat: costs(more, compat) - costs(spread, compat) for compat in ("paper", "omnisafe")}
    np.testing.assert_allclose(changed["paper"], [0, 0, 1, 0, 0, 0], atol=1e-6)
    assert (changed["omnisafe"][[0, 1, 3, 4, 5]] > 0.05).any()
    # The released order by its definition: each entry repeated as often as there are nets, read in rows.
    flat = np.repeat(np.asarray(spread).ravel(), nets).reshape(nets, particles, candidates)
    np.testing.assert_allclose(costs(spread, "omnisafe"), flat.mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CEM(samples=10, elites=11), "elites must be at most samples"),
        (lambda: ARC(samples=10, enough=11), "enough must be at most samples"),
        (lambda: CEM(init_var=1e-4), "init_var must be above epsilon"),
        (lambda: CEM(sampling="clip"), "did you mean 'clipped'"),
        (lambda: Constrained(over="maximum"), "over"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()
