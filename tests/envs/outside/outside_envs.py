"""Small environments of the Gymnasium and Safety-Gymnasium kinds, some of which break."""

import os
import signal
import time

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
        if self.trouble == "hang" and action[0] > 0.9:
            time.sleep(1e6)
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


class Moody(Counter):
    """The action chooses what is wrong with the step."""

    MOODS = ("fine", "array_reward", "nan_reward", "none_reward", "two_rewards", "inf_obs", "big_obs", "short_obs",
             "nan_cost", "long_cost", "none_cost", "negative_cost", "no_cost")  # fmt: skip
    action_space = gymnasium.spaces.Discrete(len(MOODS), start=1)

    def step(self, action):
        self.t += 1
        mood, obs, reward, cost = self.MOODS[action - 1], self._obs(), 1.0, 0.5
        reward = {"array_reward": np.array([1.0]), "nan_reward": np.nan, "none_reward": None,
                  "two_rewards": np.ones(2)}.get(mood, reward)  # fmt: skip
        obs = {"inf_obs": obs + np.inf, "big_obs": obs + 1e30, "short_obs": obs[:2]}.get(mood, obs)
        cost = {"nan_cost": np.nan, "long_cost": np.ones(2), "none_cost": None, "negative_cost": -1.0}.get(mood, cost)
        return obs, reward, False, False, {} if mood == "no_cost" else {"cost": cost}


class Rich(gymnasium.Env):
    """Structured observations and actions; what it sees is what was done."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict({
        "picture": gymnasium.spaces.Box(0, 255, (4, 3, 1), np.uint8),
        "speed": gymnasium.spaces.Box(-1, 1, (2,)),
        "gear": gymnasium.spaces.Discrete(3, start=1),
        "inner": gymnasium.spaces.Tuple([gymnasium.spaces.MultiBinary(2), gymnasium.spaces.MultiDiscrete([2, 3])]),
    })  # fmt: skip
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def __init__(self, render_mode=None, cost_in="cost"):
        self.render_mode, self.cost_in, self.done = render_mode, cost_in, np.zeros(2, np.int64)

    def _obs(self):
        picture = np.full((4, 3, 1), 100 * self.done[0], np.uint8)
        inner = (np.array([1, 0], np.int8), self.done)
        return {"picture": picture, "speed": np.array([0.5, -0.5]), "gear": 1 + self.done[1], "inner": inner}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.done = np.zeros(2, np.int64)
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.done = action
        costs = {"wear": float(action[1]), "noise": 0.25}
        return self._obs(), 0.0, False, False, {self.cost_in: costs} if self.cost_in else {}

    def render(self):
        return np.full((8, 8, 3), 7, np.uint8) if self.render_mode == "rgb_array" else None


class Whole(Counter):
    """Actions are whole numbers, the reward."""

    action_space = gymnasium.spaces.Box(-2, 2, (1, 1), np.int64)

    def step(self, action):
        self.t += 1
        assert self.action_space.contains(action)
        return self._obs(), float(action[0, 0]), False, False, {"cost": 0.0}


class Mute(Counter):
    """Actions without bounds."""

    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
