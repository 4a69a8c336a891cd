"""What a camera can see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Frustum:
    """Four planes of a camera's view, and what the floor mirrors into it.

    Args:
      eyes: The two cameras of a MuJoCo scene, between which a picture is taken.
      aspect: Width of the picture over its height.

    Attributes:
      pos, forward, up, right: Place and directions of the camera `[3]`.
      slopes: Tangents of the angles at which the view ends: right, left, up, down `[4]`.
    """

    def __init__(self, eyes: Sequence[Any], aspect: float):
        self.pos, self.forward, self.up = (
            np.mean([getattr(eye, name) for eye in eyes], axis=0, dtype=float) for name in ("pos", "forward", "up")
        )
        self.right = np.cross(self.forward, self.up)
        centre, top, bottom, near = (
            float(np.mean([getattr(eye, f"frustum_{name}") for eye in eyes]))
            for name in ("center", "top", "bottom", "near")
        )
        half = eyes[0].frustum_width or 0.5 * (top - bottom) * aspect
        self.slopes = np.array([centre + half, half - centre, top, -bottom]) / near

    def sees(self, points: Any, radius: Any = 0.0) -> np.ndarray:
        """Whether balls may be in the picture, themselves or as the floor at height 0 mirrors them.

        Args:
          points: Centres `[..., 3]`, metres.
          radius: Theirs, metres; a number, or `[...]`.

        Returns:
          Booleans `[...]`: false only for what leaves no trace in the picture.
        """
        points = np.asarray(points, float)
        return self._inside(points, radius) | self._inside(points * (1.0, 1.0, -1.0), radius)

    def project(self, points: Any) -> np.ndarray:
        """Where points in front of the camera appear `[..., 2]`: 0 ... 1 from left to right and from top to bottom."""
        along, right, up = self._axes(np.asarray(points, float))
        a, b, c, d = self.slopes
        return np.stack([(right / along + b) / (a + b), (c - up / along) / (c + d)], axis=-1)

    def _axes(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ahead = points - self.pos
        return ahead @ self.forward, ahead @ self.right, ahead @ self.up

    def _inside(self, points: np.ndarray, radius: Any) -> np.ndarray:
        along, right, up = self._axes(points)
        inside = along > -np.asarray(radius)
        for slope, across in zip(self.slopes, (right, -right, up, -up)):
            inside &= across <= slope * along + radius * np.sqrt(1 + slope * slope)
        return inside
