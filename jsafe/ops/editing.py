"""SEditor's action editing, its distance terms, and the row clip of concentration gradients."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array

EDITS = ("add", "overwrite", "soft")
DISTANCES = ("hinge", "l2", "none")


def edit_action(proposal: Array, delta: Array, mode: str = "add", softness: float = 0.1) -> Array:
    """Applies the safety editor's output to a proposed action.

    `add`: `clip(proposal + 2 delta, -1, 1)`, which can undo any proposal; `soft`: the same with a smooth clip;
    `overwrite`: `delta` alone (the ablation SEditor-overwrite).

    Args:
      proposal: `[..., A]` in [-1, 1].
      delta: `[..., A]` in [-1, 1].
      mode: One of `EDITS`.
      softness: Width of the smooth clip's corners.

    Returns:
      `[..., A]` in [-1, 1].

    Raises:
      ValueError: For an unknown mode.

    Source: Yu et al. (2022), SEditor, the editing function h; the ablations as in the authors' 2022 release.
    """
    chex.assert_equal_shape([proposal, delta])
    if mode == "overwrite":
        return delta
    total = proposal + 2.0 * delta
    if mode == "add":
        return jnp.clip(total, -1.0, 1.0)
    if mode == "soft":
        low, high = jax.nn.softplus((-1.0 - total) / softness), jax.nn.softplus((total - 1.0) / softness)
        return total + softness * (low - high)
    raise ValueError(f"unknown edit {mode!r}; allowed: {', '.join(EDITS)}")


def edit_distance(kind: str, proposal: Array, action: Array, q_proposal: Array, q_action: Array) -> Array:
    """What the editor pays for an edit.

    `hinge`: `relu(Q_u(s, proposal) - Q_u(s, action))`, zero where the edit does not lower the utility (Eq. 8);
    `l2`: the mean squared difference of the actions; `none`: `-Q_u(s, action)` (the editor maximises the mixture).

    Args:
      kind: One of `DISTANCES`.
      proposal: `[..., A]`.
      action: `[..., A]`, the edited action.
      q_proposal: `[...]` utility of the proposal (a constant).
      q_action: `[...]` utility of the edited action.

    Returns:
      `[...]`.

    Raises:
      ValueError: For an unknown kind.
    """
    chex.assert_equal_shape([proposal, action])
    chex.assert_equal_shape([q_proposal, q_action])
    if kind == "hinge":
        return jax.nn.relu(jax.lax.stop_gradient(q_proposal) - q_action)
    if kind == "l2":
        return jnp.mean(jnp.square(action - jax.lax.stop_gradient(proposal)), axis=-1)
    if kind == "none":
        return -q_action
    raise ValueError(f"unknown distance {kind!r}; allowed: {', '.join(DISTANCES)}")


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def clip_row_gradient(x: Array, max_norm: float) -> Array:
    """Identity whose gradient is scaled down, row by row, to an L2 norm of at most `max_norm`.

    Args:
      x: `[..., D]`.
      max_norm: Largest norm of the gradient of one row.

    Returns:
      `x`.

    Source: SEditor's released code rescales the gradients that arrive at the Beta concentrations in this way
    (0.01). With a loss averaged over the batch it hardly ever acts; it damps `dQ/d proposal` through the editor.
    """
    del max_norm
    return x


def _clip_forward(x, max_norm):
    del max_norm
    return x, None


def _clip_backward(max_norm, _, grad):
    norm = jnp.linalg.norm(grad, axis=-1, keepdims=True)
    return (grad * jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-30)),)


clip_row_gradient.defvjp(_clip_forward, _clip_backward)
