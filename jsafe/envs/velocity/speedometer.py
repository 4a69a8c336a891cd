"""The sphere above a runner that shows how near its speed is to the limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jsafe.envs.safety_gym.drawing.painter import Shape


def speedometer(torso: Sequence[float], speed: float, threshold: float, cost: float) -> Shape:
    """A sphere 0.6 m above the torso: green that fades as the speed nears the threshold, dark red where it costs.

    Args:
      torso: Where the torso is `[3]`, metres.
      speed: What the threshold is compared with, m/s.
      threshold: Above it the speed costs, m/s.
      cost: Of the last step.
    """
    calm = np.array([0.2, 0.8, 0.2, 0.5]) * (1 - np.clip(speed / threshold, 0.0, 1.0))
    rgba = (0.5, 0.0, 0.0, 0.5) if cost > 0 else calm
    return Shape("sphere", (0.2,), np.add(torso, (0.0, 0.0, 0.6)), rgba)
