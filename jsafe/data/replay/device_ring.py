"""Observations of a replay in the device's memory, so that minibatches need not cross the bus."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data import ram


class DeviceRing:
    """A copy of the rows of a host array on the default device, brought up to date before each gather.

    Rows are sent once, when they are new; a minibatch then costs its indices, 4 bytes for each observation in it.

    Args:
      host: `[R, ...]`, the array of which this is a copy; the memory for all rows is taken at once.

    Raises:
      ValueError: If rows cannot be numbered in 32 bits, or the device lacks the memory.
    """

    def __init__(self, host: np.ndarray):
        if len(host) >= 1 << 31:
            raise ValueError(f"a replay on the device holds fewer than 2**31 rows, got {len(host)}")
        self._host = host
        try:
            self._ring = jnp.zeros(host.shape, host.dtype).block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            options = "replay_rows, or keep the replay on the host (replay_on_device=False)"
            raise ValueError(ram.refusal("the replay's copy on the device", host.nbytes, options, None)) from error
        self._stale: list[np.ndarray] = []

    def changed(self, at: np.ndarray) -> None:
        """Notes that these rows of the host array have been written."""
        if len(at):
            self._stale.append(at)

    def take(self, at: np.ndarray) -> jax.Array:
        """Rows `at [..., S]`, each S of them side by side (`side_by_side`); floats in float32."""
        if self._stale:
            rows = np.concatenate(self._stale)
            self._stale = []
            size = max(64, 1 << (len(rows) - 1).bit_length())  # few sizes, so that few programs are compiled
            rows = np.append(rows, np.full(size - len(rows), rows[-1])).astype(np.int32)
            self._ring = _write(self._ring, rows, self._host[rows])
        return _gather(self._ring, at.astype(np.int32))


def side_by_side(frames: Any, rank: int) -> Any:
    """`[..., S, *shape]` with frames joined along the last axis of `shape`, which has `rank` axes: oldest first.

    Numbers `[..., S, O]` become `[..., S * O]` and images `[..., S, H, W, C]` become `[..., H, W, S * C]`.
    """
    lead, shape = frames.shape[: frames.ndim - rank - 1], frames.shape[frames.ndim - rank :]
    stack = frames.shape[len(lead)]
    if rank > 1 and stack > 1:
        frames = (np if isinstance(frames, np.ndarray) else jnp).moveaxis(frames, len(lead), -2)
    return frames.reshape(*lead, *shape[:-1], stack * shape[-1]) if rank else frames.reshape(lead)


@partial(jax.jit, donate_argnums=0)
def _write(ring: jax.Array, at: jax.Array, rows: jax.Array) -> jax.Array:
    return ring.at[at].set(rows)  # a row that was written twice is there twice, with its newest value


@jax.jit
def _gather(ring: jax.Array, at: jax.Array) -> jax.Array:
    rows = ring[at]
    return side_by_side(rows.astype(jnp.float32) if jnp.issubdtype(ring.dtype, jnp.floating) else rows, ring.ndim - 1)
