"""What a causal transformer may look at: what came before, and nothing that is not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.nets.transformer import transformer

NET = transformer(3, 2, 1, 20, width=8, blocks=2, heads=2, dropout=0.5)


@pytest.fixture(scope="module")
def outputs():
    """Of two windows of four steps with one thing changed, in the places of the second window."""
    rng = np.random.default_rng(0)
    given = {
        "told": rng.normal(size=(2, 4, 2)),
        "obs": rng.normal(size=(2, 4, 3)),
        "action": rng.normal(size=(2, 4, 2)),
        "step": np.arange(8).reshape(2, 4),
        "real": np.ones((2, 4), bool),
    }
    params = NET.init(jax.random.key(0))
    apply = jax.jit(lambda given: NET.apply(params, **given, key=None))

    def run(**changes):
        new = {name: value.copy() for name, value in given.items()}
        for name, (place, value) in changes.items():
            new[name][1, place] = value
        out = apply(new)
        return np.concatenate([out.action, out.cost], axis=-1)[1]

    return run


@pytest.mark.parametrize(
    ("changed", "place", "first_action", "first_cost"),
    [("told", 2, 2, 2), ("obs", 2, 2, 2), ("step", 1, 1, 1), ("action", 2, 3, 2), ("action", 0, 1, 0)],
)
def test_only_what_came_before_counts(outputs, changed, place, first_action, first_cost):
    """An action is chosen without itself; what it costs is told with it."""
    before, after = outputs(), outputs(**{changed: (place, 9)})
    moved = np.abs(after - before) > 1e-6
    assert moved[:, :4].any(axis=1).tolist() == [t >= first_action for t in range(4)]
    assert moved[:, 4:].any(axis=1).tolist() == [t >= first_cost for t in range(4)]


def test_rows_that_are_not_there_do_not_count(outputs):
    """Whatever is in them, and nothing becomes infinite where there is nothing to see."""
    away = {"real": (slice(0, 2), False)}
    before, after = outputs(**away), outputs(**away, obs=(slice(0, 2), 9))
    np.testing.assert_allclose(after[2:], before[2:], atol=1e-6)
    assert np.isfinite(after).all()
    assert np.abs(outputs()[2:] - before[2:]).max() > 1e-4


def test_units_are_dropped_with_a_key_alone():
    params = NET.init(jax.random.key(0))
    rows = (
        jnp.ones((1, 2, 2)),
        jnp.ones((1, 2, 3)),
        jnp.ones((1, 2, 2)),
        jnp.ones((1, 2), jnp.int32),
        jnp.ones((1, 2), bool),
    )
    plain, one, two = (NET.apply(params, *rows, key).action for key in (None, jax.random.key(1), jax.random.key(2)))
    assert not np.allclose(one, two)
    assert not np.allclose(plain, one)
