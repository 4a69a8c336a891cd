"""Speed limits seen in a picture: where to move has to be read from its pixels."""

from __future__ import annotations

import numpy as np

from jsafe.envs.toy.speed_limit import ToyEnv
from jsafe.spaces import Box, Space

IMAGE = "Toy-Image-v0"
SIZE = 24
"""Height and width of the picture, pixels."""
_SQUARE = 6


class ToyImage(ToyEnv):
    """N speed-limit tasks, `Toy-Image-v0`, in which the direction is drawn instead of told.

    The observation is a grey picture, uint8 `[24, 24, 1]`: a bright square of 6 x 6 pixels, somewhere within one of the
    four quadrants, on a dark ground. Its quadrant is the direction of the next step: `g_0 = 1` to the right, `g_1 = 1`
    at the bottom. With the action u in `[-1, 1]^2`, the reward is `mean_k g_k u_k` and the cost
    `mean_k (g_k u_k)^2`, so that `ToyEnv`'s closed form holds: `optimum(d).reward` is `sqrt(d)` for a limit d per step.

    Args:
      num_envs: Number of environments N.
      seed: Stream of environment 0.
      horizon: Length of an episode, in steps.
    """

    _id = IMAGE

    def __init__(self, num_envs: int = 1, seed: int = 0, *, horizon: int = 20):
        super().__init__(num_envs, seed, act_dim=2, horizon=horizon)

    def _sight(self, act_dim: int, num_costs: int) -> tuple[Space, dict[str, tuple[int, int]]]:
        return Box((SIZE, SIZE, 1), 0, 255, "uint8"), {}

    def _observe(self) -> np.ndarray:
        # The square's place in its quadrant follows the drifting position, which lies in [-1, 1).
        half, free = SIZE // 2, SIZE // 2 - _SQUARE
        first = half * (self._state["direction"] > 0) + ((self._state["position"] + 1) / 2 * (free + 1)).astype(int)
        pixel = np.arange(SIZE)
        inside = (pixel >= first[..., None]) & (pixel < first[..., None] + _SQUARE)  # [N, 2, 24]
        bright = inside[:, 1, :, None] & inside[:, 0, None, :]
        return np.where(bright, 230, 25).astype(np.uint8)[..., None]
