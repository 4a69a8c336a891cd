"""The ensemble against plain numpy, what it learns, and what is propagated through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.components.dynamics import Dynamics, Ensemble, Heads, Model, Prediction, Transitions, transitions
from jsafe.components.dynamics.propagation import expected, imagined, simulator
from jsafe.components.known import Auto, Known, KnownRewardAndCost, goal_geometry
from jsafe.types import Steps

SPEC = jsafe.EnvSpec(3, 2)


def rows(rng, nets=2, count=6, width=5):
    shape = (nets, count)
    weight = (rng.random(shape) < 0.7).astype(np.float32)
    return Transitions(*(rng.standard_normal((*shape, n)).astype(np.float32) for n in (3, 2, width)), weight)


def plain_loss(params, known, batch, decays, released=False):
    """The loss in float64, net by net."""
    total = 0.0
    nets = jax.tree.map(lambda x: np.asarray(x, np.float64), params["nets"])
    high, low = (np.asarray(params[name], np.float64) for name in ("high", "low"))
    for e in range(batch.obs.shape[0]):
        x = np.concatenate([batch.obs[e], batch.action[e]], -1).astype(np.float64)
        x = (x - known.centre) / known.scale
        kernels = [(nets["kernel_0"][e], nets["bias_0"][e])]
        kernels += [(nets[f"dense_{i}"]["kernel"][e], nets[f"dense_{i}"]["bias"][e]) for i in (1, 2)]
        for i, (w, b) in enumerate(kernels):
            x = x @ w + b
            x = x / (1 + np.exp(-x)) if i < 2 else x
            total += 0.5 * decays[i] * (w**2).sum()
        mean, raw = np.split(x, 2, -1)
        log_var = high - np.logaddexp(0, high - raw)
        log_var = low + np.logaddexp(0, log_var - low)
        nll = ((mean - batch.target[e]) ** 2 * np.exp(-log_var) + log_var).mean(-1)
        total += (batch.weight[e] * nll).sum() / batch.weight[e].sum()
    return total if released else total + 0.01 * (high.sum() - low.sum())


@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_the_loss_against_numpy(compat):
    dynamics = Ensemble(size=2, hidden=(4, 4), decay=0.1).build(SPEC, None, compat)
    rng = np.random.default_rng(0)
    batch = rows(rng)
    state = jax.jit(lambda key: dynamics.observe(dynamics.init(key), batch))(jax.random.key(0))
    x = np.concatenate([batch.obs, batch.action], -1)[batch.weight > 0]
    known = dynamics.model(state)
    np.testing.assert_allclose(known.centre, x.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(known.scale, x.std(0, ddof=1), rtol=1e-4)

    def loss(params):
        return dynamics.loss(params, known, batch, batch.weight.sum(-1), 1.0)

    (found, _), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params)
    expected = plain_loss(state.params, known, batch, (0.025, 0.05, 0.1), compat == "omnisafe")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (np.abs(grads["high"]).max() > 0) == (compat == "paper")  # fixed bounds as released


def test_nets_do_not_see_each_other():
    """Two nets in one batch equal each of them by itself."""
    rng = np.random.default_rng(1)
    batch = rows(rng)
    both = Ensemble(size=2, hidden=(4, 4)).build(SPEC)
    one = Ensemble(size=1, hidden=(4, 4)).build(SPEC)
    state = jax.jit(lambda key: both.observe(both.init(key), batch))(jax.random.key(0))

    def gradient(dynamics, params, batch):
        known, count = both.model(state), batch.weight.sum(-1)
        return jax.jit(jax.grad(lambda p: dynamics.loss(p, known, batch, count, 1.0)[0]))(params)["nets"]

    whole = gradient(both, state.params, batch)
    for e in range(2):
        params = {**state.params, "nets": jax.tree.map(lambda x, e=e: x[e : e + 1], state.params["nets"])}
        alone = gradient(one, params, jax.tree.map(lambda x, e=e: x[e : e + 1], batch))
        jax.tree.map(lambda a, b, e=e: np.testing.assert_allclose(a[e], b[0], atol=1e-6), whole, alone)


def window(rng, count=8):
    """Two rows each, with a reward, a cost and a jump to look at."""
    steps = Steps(
        obs=rng.standard_normal((2, count, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (2, count, 2)).astype(np.float32),
        reward=rng.standard_normal((2, count)).astype(np.float32),
        cost=rng.random((2, count, 1)).astype(np.float32),
        terminated=np.zeros((2, count), bool),
        truncated=np.zeros((2, count), bool),
        next_obs=None,
        weight=np.ones((2, count), np.float32),
        extras={"jump": np.zeros((2, count), bool)},
    )
    steps.extras["jump"][0, 1] = True
    steps.weight[0, 4] = 0  # the window starts with a final observation: the next row is another episode's
    return steps


def test_what_teaches_and_what_does_not():
    rng = np.random.default_rng(2)
    dynamics = Ensemble(size=2, hidden=(4,)).build(SPEC)
    steps = window(rng)
    seen = transitions(dynamics, steps)
    assert seen.obs.shape == (2, 4, 3)
    np.testing.assert_array_equal(seen.weight, [[1, 1, 0, 1], [0, 1, 1, 1]])
    np.testing.assert_array_equal(seen.obs[1], steps.obs[0, 1::2])
    change = steps.obs[1] - steps.obs[0]
    expected = np.concatenate([steps.reward[0, 0::2, None], steps.cost[0, 0::2], change[0::2]], -1)
    np.testing.assert_allclose(seen.target[0], expected * np.array([1, 1, 0, 1])[:, None], rtol=1e-6)

    @jax.jit
    def moved(steps):
        state = dynamics.observe(dynamics.init(jax.random.key(0)), transitions(dynamics, steps))
        return dynamics.update(state, transitions(dynamics, steps))[0].params

    before = moved(steps)
    for count, changes in ((1, False), (4, False), (2, True)):
        other = window(np.random.default_rng(2))
        other.obs[1, count] += 7.0
        other.reward[0, count] -= 5.0
        after = moved(other)
        same = all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)))
        assert same != changes


def test_it_recovers_a_mean_and_a_spread():
    """`change = A x + heteroscedastic noise`, and an input and an output that never vary."""
    spec = jsafe.EnvSpec(3, 1)
    dynamics = Ensemble(size=2, hidden=(32, 32), learning_rate=3e-3).build(spec, heads=Heads(False, 0))
    weights = jnp.array([[-0.5, 0.3], [0.2, 0.4], [0.0, 0.0]])

    def draw(key, count):
        keys = jax.random.split(key, 3)
        obs = jax.random.normal(keys[0], (2, count, 3)).at[..., 2].set(0.7)
        action = jax.random.uniform(keys[1], (2, count, 1), minval=-1.0)
        mean = jnp.concatenate([obs[..., :1], action], -1) @ weights.T
        std = jnp.stack([0.1 + 0.1 * (obs[..., 1] > 0), jnp.full((2, count), 0.2), jnp.zeros((2, count))], -1)
        noise = std * jax.random.normal(keys[2], std.shape)
        return Transitions(obs, action, mean + noise, jnp.ones((2, count))), mean, std

    def step(state, key):
        batch, _, _ = draw(key, 256)
        return dynamics.update(dynamics.observe(state, batch), batch)[0], None

    keys = jax.random.split(jax.random.key(1), 1000)
    state, _ = jax.jit(lambda key: jax.lax.scan(step, dynamics.init(key), keys))(jax.random.key(0))
    batch, mean, std = jax.jit(draw, static_argnums=1)(jax.random.key(2), 2000)
    found = jax.jit(lambda s: dynamics.predict(dynamics.model(s), batch.obs, batch.action))(state)
    clear = np.abs(batch.obs[..., 1]) > 0.3  # away from the step
    assert np.abs(found.mean - mean)[..., :2].mean() < 0.02
    for column in (0, 1):
        ratio = (found.std / std)[..., column][clear]
        assert abs(np.median(ratio) - 1) < 0.05
    assert float(found.std[..., 2].max()) < 0.05
    # The constant has some spread when it is predicted; over a plan that neither grows nor drowns the rest.
    simulate = simulator(dynamics, Known(lambda o, a, n: n[..., 0], lambda o, a, n: n[..., :1]), 1, 3)
    out = jax.jit(simulate)(dynamics.model(state), jnp.array([0.0, 0.0, 0.7]), jnp.zeros((16, 8, 1)), jax.random.key(3))
    assert float(jnp.abs(out.final).max()) < 20.0
    assert float(jnp.abs(out.final[..., 2] - 0.7).max()) < 1.0


def test_scaled_changes():
    """It learns as on changes divided by their deviations, and predicts them multiplied; rewards and costs stay."""
    rng = np.random.default_rng(3)
    units = np.array([1, 1, 1e-3, 1, 1e2], np.float32)
    batch = rows(rng)._replace(weight=np.ones((2, 6), np.float32))
    batch = batch._replace(target=batch.target * units)
    found = units.copy()
    found[2:] = batch.target[..., 2:].reshape(-1, 3).std(0, ddof=1)

    def learned(scaled, batch):
        dynamics = Ensemble(size=2, hidden=(4, 4), scaled=scaled).build(SPEC)

        def run(key):
            state, metrics = dynamics.update(dynamics.observe(dynamics.init(key), batch), batch)
            return dynamics.predict(dynamics.model(state), batch.obs, batch.action), metrics

        return jax.jit(run)(jax.random.key(0))

    (scaled, metrics), (plain, _) = learned(True, batch), learned(False, batch._replace(target=batch.target / found))
    np.testing.assert_allclose(scaled.mean, plain.mean * found, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(scaled.std, plain.std * found, rtol=1e-3)
    assert float(metrics["model/squared_error"]) > 100  # in the units of the targets


def test_a_constant_input_under_either_scale():
    """The released floor divides the slightest spread by 1e-12; ours leaves a constant as it is."""
    spec = jsafe.EnvSpec(2, 1)
    obs = np.zeros((5, 200, 2), np.float32)
    obs[..., 0] = np.random.default_rng(0).standard_normal((5, 200))
    batch = Transitions(obs, np.zeros((5, 200, 1), np.float32), np.zeros((5, 200, 4), np.float32), np.ones((5, 200)))
    ends = {}
    for compat in ("paper", "omnisafe"):
        dynamics = Ensemble(hidden=(16, 16)).build(spec, None, compat)
        model = jax.jit(lambda key, d=dynamics: d.model(d.observe(d.init(key), batch)))(jax.random.key(0))
        simulate = jax.jit(simulator(dynamics, Known(), 1, 2))
        ends[compat] = simulate(model, jnp.zeros(2), jnp.zeros((16, 10, 1)), jax.random.key(1))
    assert float(jnp.abs(ends["paper"].final).max()) < 60
    assert float((jnp.abs(ends["omnisafe"].final) == 100).mean()) > 0.5
    assert all(bool(jnp.isfinite(end.reward).all()) for end in ends.values())


def test_costs_as_probabilities():
    dynamics = Ensemble(size=1, hidden=(16,), cost_head="bernoulli", learning_rate=1e-2).build(jsafe.EnvSpec(1, 1))
    rng = np.random.default_rng(0)
    obs = rng.choice([-1.0, 1.0], (1, 400, 1)).astype(np.float32)
    cost = (rng.random((1, 400, 1)) < np.where(obs > 0, 0.9, 0.2)).astype(np.float32)
    target = np.concatenate([np.zeros_like(obs), cost, np.zeros_like(obs)], -1)
    batch = Transitions(obs, np.zeros_like(obs), target, np.ones((1, 400), np.float32))

    @jax.jit
    def fit(key):
        state = dynamics.observe(dynamics.init(key), batch)
        return jax.lax.scan(lambda s, _: dynamics.update(s, batch), state, length=400)[0]

    state = fit(jax.random.key(0))
    found = jax.jit(lambda s: dynamics.predict(dynamics.model(s), batch.obs, batch.action))(state)
    for side in (-1, 1):
        share = cost[obs == side].mean()
        np.testing.assert_allclose(found.mean[..., 1][obs[..., 0] == side], share, atol=0.02)
    np.testing.assert_array_equal(found.std[..., 1], 0)


# ---- propagation -----------------------------------------------------------------------------------------------------


def linear(matrices, noise):
    """Nets that know `s' = A_e s + (a, a)` with spread; they learn reward 0 and no cost."""
    matrices = jnp.asarray(matrices)

    def predict(model, obs, action):
        following = jnp.einsum("eij,erj->eri", matrices, obs) + action
        mean = jnp.concatenate([following.sum(-1, keepdims=True), following[..., :1], following - obs], -1)
        return Prediction(mean, jnp.broadcast_to(jnp.array([0.0, 0.0, noise, noise]), mean.shape))

    nothing = Model((), jnp.zeros(3), jnp.ones(3))
    parts = (lambda *x: None,) * 4
    return Dynamics(len(matrices), Heads(True, 1), *parts, lambda state: nothing, predict)


MATRICES = np.array([[[0.9, 0.1], [0.0, 0.8]], [[0.7, 0.0], [0.2, 0.5]]])


@pytest.mark.parametrize("common", [False, True])
def test_particles_stay_with_their_nets(common):
    dynamics = linear(MATRICES, 0.0)
    simulate = jax.jit(simulator(dynamics, Known(), 1, 3, noise="common" if common else "independent"))
    actions = jnp.array(np.random.default_rng(0).uniform(-1, 1, (4, 5, 1)))
    out = simulate((), jnp.array([1.0, -0.5]), actions, jax.random.key(0))
    for e in range(2):
        state = np.tile([1.0, -0.5], (5, 1))
        total = np.zeros(5)
        cost = np.zeros(5)
        for t in range(4):
            state = state @ MATRICES[e].T + np.asarray(actions[t])
            total, cost = total + state.sum(-1), cost + state[:, 0]
        for k in range(3):
            np.testing.assert_allclose(out.final[e, k], state, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(out.reward[e, k], total, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(out.cost[e, k, :, 0], cost, rtol=1e-4, atol=1e-5)
    assert float(out.spread.max()) == 0.0


def test_the_variance_of_particles_grows_as_it_should():
    """`s' = A s + xi`: covariance `sum_t A^t (A^t)' sd^2`; and the spread is `H sd sqrt(O)`."""
    dynamics, sd, steps = linear(MATRICES, 0.3), 0.3, 3
    for noise in ("independent", "common"):
        simulate = jax.jit(simulator(dynamics, Known(), 1, 4000, noise=noise))
        out = simulate((), jnp.zeros(2), jnp.zeros((steps, 2, 1)), jax.random.key(0))
        for e in range(2):
            powers = [np.linalg.matrix_power(MATRICES[e], t) for t in range(steps)]
            expected = sd**2 * sum(a @ a.T for a in powers)
            for s in range(2):
                np.testing.assert_allclose(np.cov(out.final[e, :, s].T), expected, rtol=0.1, atol=0.006)
        same = np.array_equal(out.final[:, :, 0], out.final[:, :, 1])
        assert same == (noise == "common")  # two candidates with the same actions
        np.testing.assert_allclose(out.spread, steps * sd * np.sqrt(2), rtol=1e-5)


def test_the_worst_particle_counts_step_by_step():
    dynamics = linear(MATRICES, 0.5)
    seen = []

    def cost(obs, action, following):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), following[..., 0])
        return following[..., :1]

    simulate = jax.jit(simulator(dynamics, Known(cost=cost), 1, 3))
    out = simulate((), jnp.zeros(2), jnp.zeros((4, 2, 1)), jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_allclose(out.worst[:, 0], sum(x.max(axis=(0, 1)) for x in seen), rtol=1e-5)
    np.testing.assert_allclose(out.cost[..., 0], sum(seen), rtol=1e-5, atol=1e-6)
    assert (out.worst[:, 0] > out.cost.max(axis=(0, 1))[:, 0]).all()


def test_imagined_trajectories_follow_a_policy():
    dynamics = linear(MATRICES, 0.0)

    def policy(obs, key, t):
        return 0.1 * obs[:, :1]

    nets = jnp.array([0, 1])
    obs, actions, signals = imagined(dynamics, (), jnp.ones((2, 2)), 3, policy, jax.random.key(0), nets=nets)
    for r in range(2):
        state = np.ones(2)
        for t in range(3):
            np.testing.assert_allclose(obs[t, r], state, rtol=1e-5)
            np.testing.assert_allclose(actions[t, r], 0.1 * state[:1], rtol=1e-5)
            state = MATRICES[r] @ state + 0.1 * state[0]
            np.testing.assert_allclose(signals[t, r], [state.sum(), state[0]], rtol=1e-5)


def test_what_the_nets_expect_is_their_means_noise_or_not():
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 1)).astype(np.float32)
    path = expected(linear(MATRICES, 0.7), (), jnp.array([1.0, -0.5]), jnp.asarray(actions))
    assert path.shape == (2, 4, 2)
    for e in range(2):
        state = np.array([1.0, -0.5])
        for t in range(4):
            state = MATRICES[e] @ state + actions[t]
            np.testing.assert_allclose(path[e, t], state, rtol=1e-5, atol=1e-6)


# ---- what is known ---------------------------------------------------------------------------------------------------

LAYOUT = (("speed", 0, 1), ("goal", 1, 3), ("hazards", 3, 7))


def test_geometry_by_hand():
    spec = jsafe.EnvSpec(7, 2, layout=LAYOUT, action_repeat=5)
    known = goal_geometry(spec, radius=0.2, margin=0.05, goal=0.3)
    before = jnp.array([0, 3.0, 4.0, 1, 1, 2, 2])
    after = jnp.array([[0, 0.0, 0.25, 0.15, 0.2, 5, 5], [0, 3.0, 0.0, 1, 1, 0.2, -0.2]])
    np.testing.assert_array_equal(known.cost(before, None, after), [[5.0], [0.0]])
    np.testing.assert_allclose(known.reward(before, None, after), [5 - 0.25 + 1, 5 - 3])
    np.testing.assert_array_equal(known.arrived(after), [True, False])


def test_no_reward_after_arrival():
    """A particle that has met its goal earns no more: its next goal is unknown. It still pays."""
    known = Known(*goal_geometry(jsafe.EnvSpec(4, 2, layout=(("goal", 0, 2), ("hazards", 2, 4))), goal=0.3))
    known = Known(known.reward, lambda o, a, n: jnp.ones((*n.shape[:-1], 1)), known.arrived)
    dynamics = linear(np.eye(2)[None], 0.0)._replace(heads=Heads(False, 0))

    def predict(model, obs, action):
        change = jnp.broadcast_to(jnp.array([-1.0, 0.0]), obs.shape)
        return Prediction(change, jnp.zeros_like(change))

    for discount, worth in ((1.0, 2.0 + 1.0), (0.5, 1.0 + 0.5 * (1.0 + 1.0))):
        simulate = simulator(dynamics._replace(predict=predict), known, 1, 1, discount=discount)
        out = simulate((), jnp.array([2.0, 0.0]), jnp.zeros((5, 1, 1)), jax.random.key(0))
        np.testing.assert_allclose(out.reward, worth)  # two metres and the bonus, not the way away from it
        np.testing.assert_allclose(out.cost, 5.0)  # costs are not discounted
        assert (out.left == 0).all()  # its end is no longer the plan's: another problem began after two steps
        np.testing.assert_allclose(out.afresh, discount**2)
        short = simulate((), jnp.array([2.0, 0.0]), jnp.zeros((1, 1, 1)), jax.random.key(0))
        np.testing.assert_allclose([float(short.left[0, 0, 0]), float(short.afresh[0, 0, 0])], [discount, 0])


@pytest.mark.parametrize("touch", [None, 0.3])
def test_what_drifts_may_be_anywhere_around_by_then(touch):
    """Half a metre away, moving by up to a decimetre a step: it may touch from the second step on."""
    spec = jsafe.EnvSpec(4, 2, layout=(("hazards", 0, 2), ("gremlins", 2, 4)))
    if touch is None:
        for told in ({"column": 0}, {}):
            with pytest.raises(ValueError, match=r"drift=0.1 is of gremlins whose contacts are known"):
                Auto(drift=0.1, **told).build(spec)
        return
    for drift, told in ((0.0, 0), (0.1, 3)):
        known = Auto(touch=touch, drift=drift).build(spec)
        dynamics = linear(np.eye(4)[None], 0.0)._replace(heads=Heads.beside(known, 1))

        def predict(model, obs, action):
            nothing = jnp.zeros((*obs.shape[:-1], 5))  # a reward, and the change of four columns
            return Prediction(nothing, nothing)

        simulate = simulator(dynamics._replace(predict=predict), known, 1, 1)
        out = simulate((), jnp.array([5.0, 5.0, 0.495, 0.0]), jnp.zeros((4, 1, 2)), jax.random.key(0))
        np.testing.assert_array_equal(out.cost, np.full((1, 1, 1, 1), told))
        # Policies imagine many trajectories at once, [H, R, O], and a row of `ahead` is of one step of all of them.
        path = jnp.broadcast_to(jnp.array([5.0, 5.0, 0.495, 0.0]), (4, 3, 4))
        cost = known.costs(jnp.zeros((4, 3, 0)), path, path, path, jnp.arange(1, 5)[:, None])
        np.testing.assert_array_equal(cost[..., 0].sum(axis=0), np.full(3, told))


def test_a_cost_that_is_known_among_learnt_ones():
    """The geometry's column stands where it belongs, in predictions and out of the targets."""
    spec = jsafe.EnvSpec(2, 2, 3, layout=(("hazards", 0, 2),))
    known = Auto(column=1).build(spec)
    heads = Heads.beside(known, 3)
    assert heads[:3] == (True, 2, (0, 2))
    steps = window(np.random.default_rng(0), 5)
    steps = steps._replace(cost=steps.cost * np.array([1.0, 2.0, 3.0], np.float32), extras={})
    learnt = transitions(linear(np.eye(2)[None], 0.0)._replace(heads=heads), steps).target[0, :, 1:3]
    counts = steps.weight[0] > 0
    np.testing.assert_array_equal(learnt[counts], steps.cost[0][counts][:, [0, 2]])

    there = jnp.array([[0.1, -0.1], [0.3, 0.0]])
    found = known.costs(jnp.array([[7.0, 9.0], [5.0, 6.0]]), there, there, there)
    np.testing.assert_array_equal(found, [[7.0, 1.0, 9.0], [5.0, 0.0, 6.0]])
    with pytest.raises(ValueError, match="below the number of costs, 3, got 3"):
        Auto(column=3).build(spec)


@pytest.mark.parametrize(
    ("part", "spec", "message"),
    [
        (KnownRewardAndCost(), jsafe.EnvSpec(7, 2), "no named parts"),
        (KnownRewardAndCost(), jsafe.EnvSpec(7, 2, layout=LAYOUT[1:2]), "has goal"),
        (KnownRewardAndCost(), jsafe.EnvSpec(7, 2, 2, layout=LAYOUT), "the environment has 2"),
        (KnownRewardAndCost(), jsafe.EnvSpec(9, 2, layout=(*LAYOUT, ("push_box", 7, 9))), "not that of coming near"),
        (KnownRewardAndCost(), jsafe.EnvSpec(9, 2, layout=(*LAYOUT, ("buttons", 7, 9))), "not that of coming near"),
        (Auto(column=0), jsafe.EnvSpec(7, 2, 2), "known.column=0 says .* no named parts"),
        (Auto(column=1), jsafe.EnvSpec(7, 2, layout=LAYOUT), "below the number of costs, 1, got 1"),
    ],
)
def test_what_is_not_known(part, spec, message):
    with pytest.raises(ValueError, match=message):
        part.build(spec)


def test_a_pressed_button_is_a_goal_where_touches_are_known():
    spec = jsafe.EnvSpec(9, 2, layout=(*LAYOUT, ("buttons", 7, 9)))
    known = KnownRewardAndCost(touch=0.3, goal=0.2).build(spec)
    near = jnp.array([0, 0.1, 0.0, 5, 5, 5, 5, 0.1, 0.0])
    assert known.arrived is not None
    assert known.arrived(near)
    assert known.cost is not None
    assert not known.cost(near, None, near).any()  # it is the one to press
