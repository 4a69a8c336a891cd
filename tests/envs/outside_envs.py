"""Small environments of the Gymnasium and Safety-Gymnasium kinds, some of which break."""

import os
import signal

import gymnasium
import numpy as np


class Counter(gymnasium.Env):
    """Observation: seed, episode, step, and a number of the seeded generator. Ends at `length` steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,))
    action_space = gymnasium.spaces.Box(np.array([-1.0, -2.0]), np.array([1.0, 2.0]), dtype=np.float64)

    def __init__(self, length=4, results=5, costs=1, trouble=None):
        self.length, self.results, self.costs, self.trouble = length, results, costs, trouble
        self.first, self.episode = -1, 0

    def _obs(self):
        return np.array([self.first, self.episode, self.t, self.np_random.uniform()], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.first, self.episode = seed, 0
        self.t = 0
        self.episode += 1
        if self.trouble == "reset":
            raise KeyError("no reset today")
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        if self.trouble == "raise" and action[0] > 0.9:
            raise ArithmeticError("too much for me")
        if self.trouble == "die" and action[0] > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "exit" and action[0] > 0.9:
            os._exit(3)
        cost = float(action[1]) if self.costs == 1 else np.arange(self.costs) + action[1]
        info = {"is_success": self.t == 2}
        reward, terminated = float(action[0]), self.t >= self.length
        if self.results == 6:
            return self._obs(), reward, cost, terminated, False, info
        return self._obs(), reward, terminated, False, info | ({"cost": cost} if self.costs else {})


class Nested(Counter):
    """The observation is a dictionary, with a discrete part."""

    observation_space = gymnasium.spaces.Dict(
        {"b": gymnasium.spaces.Box(-1, 1, (2, 2)), "a": gymnasium.spaces.Discrete(3)}
    )

    def _obs(self):
        return {"a": self.t % 3, "b": np.full((2, 2), 0.5, np.float32)}


class Switch(Counter):
    """Its actions are not continuous."""

    action_space = gymnasium.spaces.Discrete(2)
