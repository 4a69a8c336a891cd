"""Networks, targets and gradients in plain numpy (float64), to hold the library's losses against."""

import jax
import numpy as np


def forward(params, *inputs):
    """A tanh perceptron on concatenated inputs."""
    x = np.concatenate(inputs, axis=-1) @ params["kernel_0"] + params["bias_0"]
    for i in range(1, 1 + sum(name.startswith("dense") for name in params)):
        layer = params[f"dense_{i}"]
        x = np.tanh(x) @ layer["kernel"] + layer["bias"]
    return x


def critic_values(critic, obs, action):
    """`[replicas, R, K]`."""
    leaves, tree = jax.tree.flatten(critic)
    replicas, rewards = leaves[0].shape[:2]
    return np.stack(
        [
            np.concatenate(
                [forward(jax.tree.unflatten(tree, [x[j, k] for x in leaves]), obs, action) for k in range(rewards)], -1
            )
            for j in range(replicas)
        ]
    )


def group_values(critic, obs, action):
    """`reward [replicas, R, 1]` and `cost [replicas, R, M]` of a learner's critics."""
    if "reward" not in critic:  # as many of the costs as of the reward: one batch of networks
        values = critic_values(critic, obs, action)
        return {"reward": values[..., :1], "cost": values[..., 1:]}
    return {name: critic_values(critic[name], obs, action) for name in critic}


def lambda_targets(signal, terminated, following, goes_on, gamma=0.99, lam=0.95):
    """The recursion of the definition, row by row, backwards: `[T - 1, B, K]`, `following` of the rows 1 to T - 1."""
    length, width, _ = signal.shape
    goal = np.zeros_like(following)
    for t in reversed(range(length)):
        for b in range(width):
            later = following[t, b]
            if t + 1 < length and goes_on[t, b]:
                later = (1 - lam) * following[t, b] + lam * goal[t + 1, b]
            goal[t, b] = signal[t, b] + gamma * (not terminated[t, b]) * later
    return goal


def numeric_gradient(function, tree, step=1e-5):
    """Central differences of a scalar function of a tree, leaf by leaf."""
    leaves, structure = jax.tree.flatten(tree)
    result = []
    for i, leaf in enumerate(leaves):
        grad = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            ends = []
            for sign in (1, -1):
                moved = leaf.copy()
                moved[index] += sign * step
                ends.append(function(jax.tree.unflatten(structure, [*leaves[:i], moved, *leaves[i + 1 :]])))
            grad[index] = (ends[0] - ends[1]) / (2 * step)
        result.append(grad)
    return jax.tree.unflatten(structure, result)


def assert_close(actual, expected):
    for (path, a), e in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)):
        scale = max(np.abs(e).max(), 1e-4)
        assert np.isfinite(e).all()
        np.testing.assert_allclose(np.asarray(a) / scale, e / scale, atol=3e-3, err_msg=jax.tree_util.keystr(path))


def average(rows, keep):
    """Rows that are no steps count as zero, but in the denominator."""
    return (rows.reshape(keep.shape) * keep).sum() / keep.size


def first_gradients(state):
    """From Adam's first moments after one step."""
    moments = {name: state.opt_state[name].mu for name in ("actor", "critic", "log_alpha")}
    return jax.tree.map(lambda m: np.asarray(m, np.float64) / 0.1, moments)
