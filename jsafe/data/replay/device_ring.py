"""Observations of a replay in the device's memory, so that minibatches need not cross the bus."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


class DeviceRing:
    """A copy of the rows of a host array on the default device, brought up to date before each gather.

    Rows are sent once, when they are new; a minibatch then costs its indices, 4 bytes for each observation in it.

    Args:
      host: `[R, O]`, the array of which this is a copy; the memory for all rows is taken at once.

    Raises:
      ValueError: If rows cannot be numbered in 32 bits.
    """

    def __init__(self, host: np.ndarray):
        if len(host) >= 1 << 31:
            raise ValueError(f"a replay on the device holds fewer than 2**31 rows, got {len(host)}")
        self._host = host
        self._ring = jnp.zeros(host.shape, host.dtype)
        self._stale: list[np.ndarray] = []

    def changed(self, at: np.ndarray) -> None:
        """Notes that these rows of the host array have been written."""
        if len(at):
            self._stale.append(at)

    def take(self, at: np.ndarray) -> jax.Array:
        """Rows `at [..., S]`, each S of them side by side: `[..., S * O]` float32."""
        if self._stale:
            rows = np.concatenate(self._stale)
            self._stale = []
            size = max(64, 1 << (len(rows) - 1).bit_length())  # few sizes, so that few programs are compiled
            rows = np.append(rows, np.full(size - len(rows), rows[-1])).astype(np.int32)
            self._ring = _write(self._ring, rows, self._host[rows])
        return _gather(self._ring, at.astype(np.int32))


@partial(jax.jit, donate_argnums=0)
def _write(ring: jax.Array, at: jax.Array, rows: jax.Array) -> jax.Array:
    return ring.at[at].set(rows)  # a row that was written twice is there twice, with its newest value


@jax.jit
def _gather(ring: jax.Array, at: jax.Array) -> jax.Array:
    return ring[at].astype(jnp.float32).reshape(*at.shape[:-1], -1)
