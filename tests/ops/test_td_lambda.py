import jax.numpy as jnp
import numpy as np

from jsafe.ops.td_lambda import td_lambda


def column(*values):
    return jnp.array(values).reshape(-1, 1, 1)


def test_three_rows_by_hand():
    """gamma 0.5, lambda 0.5: G_1 = 4 + 0.5 * 8 = 8; G_0 = 2 + 0.5 * (2 + 0.5 * (8 - 2)) = 4.5."""
    none, all_go_on = jnp.zeros((2, 1), bool), jnp.ones((2, 1))
    got = td_lambda(column(2.0, 4.0), none, column(2.0, 8.0), all_go_on, 0.5, 0.5)
    np.testing.assert_allclose(got.ravel(), [4.5, 8.0])


def test_a_final_observation_cuts_and_a_terminal_step_drops_the_value():
    """Row 1 is the final observation of an episode: row 0 bootstraps from V_1 (time limit) or from nothing."""
    signal, following, goes_on = column(2.0, 100.0), column(6.0, 50.0), jnp.array([[0.0], [1.0]])
    limit = td_lambda(signal, jnp.zeros((2, 1), bool), following, goes_on, 0.5, 0.9)
    np.testing.assert_allclose(limit[0].ravel(), [2 + 0.5 * 6])
    terminal = td_lambda(signal, jnp.array([[True], [False]]), following, goes_on, 0.5, 0.9)
    np.testing.assert_allclose(terminal[0].ravel(), [2.0])


def test_limits_of_lambda():
    """lambda 0: one-step targets; lambda 1: the discounted sum to the end of the window."""
    signal, following = np.random.default_rng(0).standard_normal((2, 5, 3, 2))
    inputs = jnp.array(signal), jnp.zeros((5, 3), bool), jnp.array(following), jnp.ones((5, 3))
    np.testing.assert_allclose(td_lambda(*inputs, 0.9, 0.0), signal + 0.9 * following, rtol=1e-5)
    wanted = sum(0.9**i * signal[i] for i in range(5)) + 0.9**5 * following[4]
    np.testing.assert_allclose(td_lambda(*inputs, 0.9, 1.0)[0], wanted, rtol=1e-5)
