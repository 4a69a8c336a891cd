"""Barriers, certificates, the box around a level set, the guard; and the certificate's gradient on a known problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.components import barriers
from jsafe.components.certify import Certify
from jsafe.ops.barrier import EDGE, interval
from jsafe.types import EnvSpec

SPEC = EnvSpec(3, 1, start=(0.1, 0.0, 0.0), safe=((0, -1.0, 2.0), (2, -0.5, 0.5)))


def test_the_interval():
    x = jnp.array([0.0, 1.0, -1.0, 1.0 - 1e-6, 1.0 + 1e-6])
    np.testing.assert_allclose(interval(x), [0, 1, 1, 1, 1], atol=5e-4)
    slope = jax.vmap(jax.grad(interval))(jnp.array([1.5, -2.0]))
    np.testing.assert_allclose(slope, [2 / (EDGE * (2 + EDGE)), -2 / (EDGE * (2 + EDGE))], rtol=1e-6)
    inside = np.linspace(-0.99, 0.99, 199)
    want = -np.log((1 + inside + 0.01) * (1 - inside + 0.01) / 1.01**2) / -np.log(0.01 * 2.01 / 1.01**2)
    np.testing.assert_allclose(interval(jnp.float32(inside)), want, rtol=1e-4, atol=1e-6)
    assert (np.diff(interval(jnp.linspace(0, 3, 400))) > 0).all()


@pytest.mark.parametrize(("seed", "reach"), [(0, None), (1, 10.0)])
def test_whatever_the_network_is(seed, reach):
    barrier = barriers.Box(hidden=(16,), reach=reach).build(SPEC)
    params = jax.tree.map(lambda x: 5 * x, barrier.init(jax.random.key(seed)))
    scale = barriers.Scale(jnp.array([0.3, 0.1, -0.2]), jnp.array([0.5, 1.0, 0.1]))
    start = jnp.array(SPEC.start)
    np.testing.assert_allclose(
        barrier.value(params, scale, start), np.log(2) - 1 + interval(jnp.float32(-0.4 / 1.5)), rtol=1e-5
    )
    states = jax.random.uniform(jax.random.key(7), (2000, 3), minval=-3, maxval=3)
    h, outside = barrier.value(params, scale, states), barrier.outside(states)
    unsafe = (states[:, 0] < -1) | (states[:, 0] > 2) | (jnp.abs(states[:, 2]) > 0.5)
    np.testing.assert_array_equal(unsafe, outside > 1)
    assert (h[unsafe] >= 0).all()
    assert (h[~unsafe] < 0).any()
    beyond = barrier.value(params, scale, jnp.array([[0.1, 10.2, 0.0], [0.1, 0.2, 0.0]]))
    if reach is not None:
        assert beyond[0] >= 0 > beyond[1] - 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EnvSpec(3, 1), "needs an environment that says which states are safe"),
        (EnvSpec(3, 1, start=(0.0,), safe=((0, -1.0, 1.0),)), "3 numbers"),
        (EnvSpec(1, 1, start=(2.0,), safe=((0, -1.0, 1.0),)), "must begin in a safe state"),
        (EnvSpec(1, 1, start=(0.9,), safe=((0, -1.0, 1.0),)), "too near the edge"),
        (EnvSpec(1, 1, start=(0.0,), safe=((0, -1.0, np.inf),)), "finite intervals"),
    ],
)
def test_environments_that_say_too_little(spec, message):
    with pytest.raises(ValueError, match=message):
        barriers.Box().build(spec)


def test_the_box_around_a_level_set():
    def h(s):
        return ((s - jnp.array([1.0, 2.0])) / jnp.array([0.5, 3.0])) ** 2 @ jnp.ones(2) - 1.0

    box = barriers.level_box(h, jnp.array([1.1, 1.5]), jax.random.key(0), draws=4000)
    np.testing.assert_allclose(box.centre, [1.0, 2.0], atol=0.05)
    np.testing.assert_allclose(box.half, [0.5, 3.0], rtol=0.05)


def test_the_guard_takes_what_is_safe():
    obs = jnp.zeros((3, 1))
    proposal, fallback = jnp.array([[0.2], [1.0], [1.0]]), jnp.array([[0.0], [0.0], [0.9]])
    taken, asked = barriers.guard(lambda s, a: a[:, 0] - 0.5, obs, proposal, fallback)
    assert asked.tolist() == [True, False, False]
    assert taken[0, 0] == pytest.approx(0.2)
    assert 0.46 < taken[1, 0] <= 0.5  # candidates are 7 % apart
    assert taken[2, 0] == pytest.approx(0.9)  # nothing is safe


def test_the_gradient_of_a_known_maximum():
    """h(s) = s^2 - r on the line, u(s) = h(1.2 s) = 1.44 s^2 - r: the maximum over h < 0 is 0.44 r, at s^2 = r."""
    certify = Certify(margin=0.0)

    def value(r, s):
        return s[:, 0] ** 2 - r

    def objective(r, s):
        return 1.44 * s[:, 0] ** 2 - r

    r = jnp.float32(0.25)
    edge = jnp.array([[0.49999], [-0.49999]])
    np.testing.assert_allclose(certify.gradient(r, edge, value, objective), 0.44, rtol=1e-3)
    inside = jnp.array([[0.1], [0.2]])  # nothing fails there
    assert float(certify.gradient(r, inside, value, objective)) == 0.0
    wider = certify.gradient(r, inside, value, objective, lambda s: s[:, 0] ** 2 - 0.3)
    np.testing.assert_allclose(wider, -2 * certify.keep, rtol=1e-5)


def test_a_certificate_is_found_and_holds():
    """s' = A s with A stable but not contracting the box: h has to round the corners off."""
    spec = EnvSpec(2, 1, start=(0.0, 0.0), safe=((0, -1.0, 1.0),))
    dynamics = jnp.array([[1.0, 0.1], [-0.3, 0.75]])
    barrier = barriers.Box(hidden=(24, 24), reach=8.0).build(spec)
    scale = barriers.Scale(jnp.zeros(2), jnp.ones(2))
    certify = Certify(chains=200, margin=0.02, learning_rate=3e-3, max_steps=4000, renew=50, clean=200, draws=1000)

    def value(params, s):
        return barrier.value(params, scale, s)

    def objective(params, s):
        return value(params, s @ dynamics.T) + certify.margin

    def find(key):
        params, start = barrier.init(key), jnp.zeros(2)
        search = certify.begin(lambda s: value(params, s), lambda s: objective(params, s), start, key)
        return certify.train(params, certify.optimizer().init(params), search, start, value, objective, key)

    done = jax.jit(find)(jax.random.key(0))
    assert int(done.clean) >= certify.clean
    assert int(done.steps) > certify.clean  # it had to learn something
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(-1, 1, 201), jnp.linspace(-8, 8, 401)), -1).reshape(-1, 2)
    h, after = value(done.params, grid), value(done.params, grid @ dynamics.T)
    assert (h < 0).sum() > 500
    assert not ((h < 0) & (after > 0)).any()


def test_chains_begin_by_their_density():
    """`exp(3 s0)` in the unit disc, whose mean of s0 is I2(3) / I1(3) = 0.568; none begins in a corner of the box."""
    certify = Certify(chains=500, draws=40_000, temperature=0.1)

    def value(s):
        return jnp.square(s).sum(-1) - 1.0

    search = jax.jit(lambda key: certify.begin(value, lambda s: 0.3 * s[:, 0], jnp.zeros(2), key))(jax.random.key(0))
    assert (value(search.states) < 0.0).all()
    np.testing.assert_allclose(search.states.mean(0), [0.568, 0.0], atol=0.07)


def test_a_certificate_that_holds_is_left_alone():
    """Neither Adam's momentum nor the penalty of the weights moves it while chains look for a failure."""
    certify = Certify(chains=20, learning_rate=0.1, max_steps=30, renew=10, clean=20, draws=50)

    def value(params, s):
        return params * jnp.square(s).sum(-1) - 1.0

    def objective(params, s):
        return jnp.full(s.shape[:1], -0.5)

    def find(params, key):
        start, adam = jnp.zeros(2), certify.optimizer()
        _, moving = adam.update(jnp.float32(1.0), adam.init(params), params)
        search = certify.begin(lambda s: value(params, s), lambda s: objective(params, s), start, key)
        return certify.train(params, moving, search, start, value, objective, key)

    done = jax.jit(find)(jnp.float32(1.0), jax.random.key(0))
    assert (int(done.steps), int(done.clean), float(done.params)) == (20, 20, 1.0)
