"""An outside environment that can be drawn: the frame's brightness is the elapsed time."""

import gymnasium
import numpy as np


class Drawable(gymnasium.Env):
    """Ten steps towards nothing, with two costs."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, level=10, render_mode=None):
        self.level, self.render_mode, self.steps = level, render_mode, 0

    def reset(self, *, seed=None, options=None):
        """Starts again."""
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        """One step."""
        self.steps += 1
        return np.zeros(3, np.float32), 1.0, False, self.steps == 10, {"cost": 0.5}

    def render(self):
        """A grey picture."""
        return np.full((48, 64, 3), self.level * self.steps, np.uint8)
