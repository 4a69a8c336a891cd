import jax.numpy as jnp
import numpy as np

from jsafe.ops.td_lambda import td_lambda


def test_three_rows_by_hand():
    """gamma 0.5, lambda 0.5. A_1 = 4 + 0.5 * 8 - 2 = 6, G_1 = 8; A_0 = 2 + 0.5 * 2 - 1 + 0.25 * 6 = 3.5, G_0 = 4.5."""
    reward = jnp.array([100.0, 2.0, 4.0]).reshape(3, 1, 1)
    value = jnp.array([1.0, 2.0, 8.0]).reshape(3, 1, 1)
    discount, last = jnp.ones((3, 1)), jnp.zeros((3, 1), bool)
    np.testing.assert_allclose(td_lambda(reward, discount, value, last, 0.5, 0.5).ravel(), [4.5, 8.0])


def test_a_last_row_cuts_and_a_terminal_arrival_drops_the_value():
    """Row 1 ends its episode: G_1 = V_1, and row 0 bootstraps from V_1 (time limit) or nothing (terminal)."""
    reward = jnp.array([0.0, 2.0, 100.0]).reshape(3, 1, 1)
    value = jnp.array([1.0, 6.0, 50.0]).reshape(3, 1, 1)
    last = jnp.array([[False], [True], [False]])
    limit = td_lambda(reward, jnp.ones((3, 1)), value, last, 0.5, 0.9)
    np.testing.assert_allclose(limit.ravel(), [2 + 0.5 * 6, 6.0])
    terminal = td_lambda(reward, jnp.array([[1.0], [0.0], [1.0]]), value, last, 0.5, 0.9)
    np.testing.assert_allclose(terminal.ravel(), [2.0, 6.0])


def test_limits_of_lambda():
    """lambda 0: one-step targets; lambda 1: the discounted sum to the end of the window."""
    rng = np.random.default_rng(0)
    reward, value = rng.standard_normal((2, 6, 3, 2))
    discount, last = np.ones((6, 3)), np.zeros((6, 3), bool)
    one = td_lambda(*map(jnp.array, (reward, discount, value, last)), 0.9, 0.0)
    np.testing.assert_allclose(one, reward[1:] + 0.9 * value[1:], rtol=1e-5)
    full = td_lambda(*map(jnp.array, (reward, discount, value, last)), 0.9, 1.0)
    wanted = sum(0.9**i * reward[1 + i] for i in range(5)) + 0.9**5 * value[5]
    np.testing.assert_allclose(full[0], wanted, rtol=1e-5)
