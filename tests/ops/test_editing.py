import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.ops.editing import clip_row_gradient, edit_action, edit_distance


def test_edit_adds_twice_the_delta_and_clips():
    proposal, delta = jnp.array([0.5, -0.2, 1.0]), jnp.array([0.6, 0.1, -1.0])
    np.testing.assert_allclose(edit_action(proposal, delta), [1.0, 0.0, -1.0], atol=1e-6)
    np.testing.assert_allclose(edit_action(proposal, delta, "overwrite"), delta)
    soft = edit_action(proposal, delta, "soft")
    assert (jnp.abs(soft) <= 1).all()
    np.testing.assert_allclose(soft[1], 0.0, atol=1e-4)  # far from the corners the clip is the identity


def test_any_proposal_can_be_undone():
    proposal = jnp.linspace(-1, 1, 9)
    for wanted in (-1.0, 0.3, 1.0):
        np.testing.assert_allclose(edit_action(proposal, (wanted - proposal) / 2), wanted, atol=1e-6)


def test_distances_by_hand():
    p, a = jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 0.0]])
    better, worse = jnp.array([2.0]), jnp.array([1.5])
    np.testing.assert_allclose(edit_distance("hinge", p, a, better, worse), [0.5])
    np.testing.assert_allclose(edit_distance("hinge", p, a, worse, better), [0.0])
    np.testing.assert_allclose(edit_distance("l2", p, a, better, worse), [(0.25 + 1.0) / 2])
    np.testing.assert_allclose(edit_distance("none", p, a, better, worse), [-1.5])
    # The proposal's utility is a constant.
    assert jax.grad(lambda q: edit_distance("hinge", p, a, q, worse).sum())(better) == 0.0


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="unknown edit 'ad'"):
        edit_action(jnp.zeros(1), jnp.zeros(1), "ad")
    with pytest.raises(ValueError, match="unknown distance"):
        edit_distance("L3", jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros(1))


def test_row_clip_rescales_only_long_rows():
    x = jnp.ones((2, 2))
    seeds = jnp.array([[3.0, 4.0], [0.003, 0.004]])
    value, pull = jax.vjp(lambda x: clip_row_gradient(x, 0.01), x)
    np.testing.assert_array_equal(value, x)
    np.testing.assert_allclose(pull(seeds)[0], [[0.006, 0.008], [0.003, 0.004]], rtol=1e-5)
    np.testing.assert_array_equal(pull(jnp.zeros((2, 2)))[0], 0.0)
