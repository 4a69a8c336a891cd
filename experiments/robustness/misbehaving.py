"""Gymnasium environments that misbehave, one way each: `gymnasium:misbehaving:Robust-MODE-v0`.

A point moves on a line; the cost is 1 beyond 0.5; episodes have 40 steps. With four environments and consecutive seeds
exactly one of them misbehaves, in its step `K`, and only once: the file named by the variable ROBUSTNESS_MARK is made
then, and while it exists all is well (without the variable: in every step from `K` on). Modes of `ALWAYS` and `SPACES`
behave their way from the first step on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple

K = 110
LENGTH = 40
NAN, INF = float("nan"), float("inf")


class Unprintable(Exception):
    """An exception that cannot even be shown."""

    def __str__(self):
        raise RuntimeError("no text either")


def _raise(error):
    raise error


def _deep(n=0):
    return _deep(n + 1) + 1


def _close_everything():
    os.closerange(3, 4096)
    raise OSError("all descriptors are closed")


def _busy():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def _thread():
    threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()


ONCE = {
    "obs": {
        "nan": lambda x: x * NAN,
        "one_nan": lambda x: np.array([x[0], NAN, x[2]]),
        "inf": lambda x: x + INF,
        "minus_inf": lambda x: np.array([x[0], -INF, x[2]]),
        "huge": lambda x: x + 1e300,
        "big": lambda x: x + 1e30,
        "short": lambda x: x[:2],
        "long": lambda x: np.zeros(7),
        "matrix": lambda x: np.zeros((3, 2)),
        "number": lambda x: 1.0,
        "none": lambda x: None,
        "empty": lambda x: np.zeros(0),
        "text": lambda x: "abc",
        "texts": lambda x: ["a", "b", "c"],
        "dict": lambda x: {"a": x},
        "complex": lambda x: x + 1j,
        "objects": lambda x: np.array([1.0, None, 2.0], object),
    },
    "reward": {
        "nan": lambda x: NAN,
        "inf": lambda x: INF,
        "minus_inf": lambda x: -INF,
        "huge": lambda x: 1e300,
        "big": lambda x: 1e30,
        "none": lambda x: None,
        "text": lambda x: "abc",
        "two": lambda x: np.array([1.0, 2.0]),
        "empty": lambda x: np.zeros(0),
        "complex": lambda x: 1 + 1j,
        "nan_array": lambda x: np.array([NAN]),
    },
    "cost": {
        "nan": lambda x: NAN,
        "inf": lambda x: INF,
        "huge": lambda x: 1e300,
        "big": lambda x: 1e30,
        "none": lambda x: None,
        "text": lambda x: "abc",
        "nested": lambda x: [[1.0, [2.0]]],
        "empty": lambda x: np.zeros(0),
        "matrix": lambda x: np.ones((2, 2)),
    },
    "info": {
        "none": lambda x: None,
        "list": lambda x: [x],
        "missing_cost": lambda x: {},
    },
    "flag": {
        "none": lambda x: None,
        "text": lambda x: "no",
        "two": lambda x: np.array([True, False]),
        "nan": lambda x: NAN,
    },
    "result": {
        "four": lambda x: (x[0], x[1], x[2] or x[3], x[4]),
        "three": lambda x: x[:3],
        "none": lambda x: None,
        "seven": lambda x: (*x, 1, 2),
        "generator": lambda x: iter(x),
    },
    "reset": {
        "nan": lambda x: (x[0] * NAN, x[1]),
        "short": lambda x: (x[0][:2], x[1]),
        "none": lambda x: None,
        "obs_none": lambda x: (None, x[1]),
        "raises": lambda x: _raise(ValueError("no reset today")),
        "hangs": lambda x: time.sleep(1e6),
        "exits": lambda x: os._exit(4),
    },
    "step": {
        "raises": lambda x: _raise(ValueError("boom")),
        "raises_unprintable": lambda x: _raise(Unprintable()),
        "raises_long": lambda x: _raise(ValueError("x" * 2_000_000)),
        "raises_markup": lambda x: _raise(ValueError("[red]boom[/nothing]")),
        "raises_bytes": lambda x: _raise(ValueError("b\udcff\x00\x1b[2J")),
        "keyboard": lambda x: _raise(KeyboardInterrupt()),
        "system_exit": lambda x: sys.exit(5),
        "stop_iteration": lambda x: next(iter(())),
        "recursion": lambda x: _deep(),
        "memory": lambda x: _raise(MemoryError()),
        "allocates": lambda x: np.ones(1 << 42),
        "exit_3": lambda x: os._exit(3),
        "exit_0": lambda x: os._exit(0),
        "segfault": lambda x: ctypes.string_at(0),
        "abort": lambda x: os.abort(),
        "killed": lambda x: os.kill(os.getpid(), signal.SIGKILL),
        "closes_all": lambda x: _close_everything(),
        "thread": lambda x: _thread(),
        "chdir": lambda x: os.chdir("/"),
        "hangs": lambda x: time.sleep(1e6),
        "hangs_busy": lambda x: _busy(),
        "hangs_stopped": lambda x: os.kill(os.getpid(), signal.SIGSTOP),
        "slow": lambda x: time.sleep(2.0),
        "prints_much": lambda x: [sys.stderr.write("y" * 1000 + "\n") for _ in range(20_000)],
    },
}
"""What is done to one result of one step, or in it."""

ALWAYS = {
    "reward_array": lambda obs, reward, info: (obs, np.array([reward]), info),
    "reward_scalar_array": lambda obs, reward, info: (obs, np.array(reward), info),
    "reward_float32": lambda obs, reward, info: (obs, np.float32(reward), info),
    "reward_bool": lambda obs, reward, info: (obs, bool(reward > 0), info),
    "obs_float16": lambda obs, reward, info: (obs.astype(np.float16), reward, info),
    "obs_list": lambda obs, reward, info: (obs.tolist(), reward, info),
    "obs_int": lambda obs, reward, info: (obs.astype(int), reward, info),
    "obs_large": lambda obs, reward, info: (obs * 1e5, reward, info),
    "cost_array": lambda obs, reward, info: (obs, reward, {"cost": np.array([info["cost"]])}),
    "cost_bool": lambda obs, reward, info: (obs, reward, {"cost": info["cost"] > 0}),
    "cost_negative": lambda obs, reward, info: (obs, reward, {"cost": -1.0}),
    "cost_dict": lambda obs, reward, info: (obs, reward, {"cost": {"wall": info["cost"], "speed": 0.0}}),
    "cost_missing": lambda obs, reward, info: (obs, reward, {}),
    "cost_key_costs": lambda obs, reward, info: (obs, reward, {"costs": info["cost"]}),
    "cost_key_constraint": lambda obs, reward, info: (obs, reward, {"constraint_costs": [info["cost"]]}),
    "prints": lambda obs, reward, info: (print("a line of the environment"), (obs, reward, info))[1],
    "warns": lambda obs, reward, info: (warnings.warn("w" * 500, stacklevel=1), (obs, reward, info))[1],
}
"""What is done to every step."""

SPACES = {
    "space_action_discrete": {"action_space": Discrete(3)},
    "space_action_binary": {"action_space": MultiBinary(2)},
    "space_action_unbounded": {"action_space": Box(-INF, INF, (2,))},
    "space_action_half_bounded": {"action_space": Box(np.array([-1.0, -1.0]), np.array([1.0, INF]), dtype=np.float64)},
    "space_action_empty": {"action_space": Box(-1.0, 1.0, (0,))},
    "space_action_flat": {"action_space": Box(np.zeros(2), np.zeros(2), dtype=np.float64)},
    "space_action_none": {"action_space": None},
    "space_obs_none": {"observation_space": None},
    "space_obs_empty": {"observation_space": Box(-1.0, 1.0, (0,))},
    "space_obs_text": {"observation_space": Text(8)},
    "space_obs_dict": {"observation_space": Dict({"b": Box(-INF, INF, (2,)), "a": Box(-INF, INF, (1,))})},
    "space_obs_tuple": {"observation_space": Tuple((Box(-INF, INF, (2,)), Box(-INF, INF, (1,))))},
    "space_obs_image": {"observation_space": Box(0, 255, (8, 8, 3), np.uint8)},
}
"""Spaces of other kinds, with observations to match."""

OTHER = (
    *("ok", "init_raises", "init_exits", "init_hangs", "init_raises_later", "first_reset_raises", "reset_without_info"),
    *("reset_raises_always", "step_raises_first", "step_raises_always", "step_raises_everywhere", "exits_again"),
    *("cost_length", "six_results", "zero_length", "zero_length_truncated", "same_array", "changes_action"),
    *("close_raises", "close_hangs", "leaks"),
)

MODES = (
    *OTHER,
    *ALWAYS,
    *SPACES,
    *(f"{place}_{name}" for place, kinds in ONCE.items() for name in kinds),
    *("no_horizon", "horizon_0"),
)


class Robust(gymnasium.Env):
    """The point on a line, with a mode."""

    def __init__(self, mode: str = "ok"):
        self.mode, self.n, self.mine, self._x, self._t = mode, 0, False, 0.0, 0
        self._array, self._ballast = np.zeros(3), []
        self.observation_space, self.action_space = Box(-INF, INF, (3,)), Box(-1.0, 1.0, (2,))
        for name, space in SPACES.get(mode, {}).items():
            setattr(self, name, space)
        self._once = _once(mode)
        if mode == "init_raises" or (mode == "init_raises_later" and _marked()):
            raise RuntimeError("this environment cannot be made")
        if mode == "init_exits":
            os._exit(7)
        if mode == "init_hangs":
            time.sleep(1e6)

    def _obs(self):
        space = self.observation_space
        plain = np.array([self._t / LENGTH, self._x, 1.0])
        if isinstance(space, Dict):
            return {"a": plain[:1].astype(np.float32), "b": plain[1:].astype(np.float32)}
        if isinstance(space, Tuple):
            return plain[:2].astype(np.float32), plain[2:].astype(np.float32)
        if isinstance(space, Text):
            return "abc"
        if space is not None and space.shape != (3,):
            return np.full(space.shape, int(100 * self._t / LENGTH), space.dtype)
        if self.mode == "same_array":
            self._array[:] = plain
            return self._array
        return plain

    def _due(self) -> bool:
        return self.mine and self.n >= K and not _marked()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.mine = seed % 4 == 1
        self._t, self._x = 0, float(self.np_random.uniform(-0.3, 0.3))
        if self.mode == "first_reset_raises":
            raise RuntimeError("no reset at all")
        if self.mode == "reset_raises_always" and (_marked() or self._due()):
            _mark()
            raise RuntimeError("no reset any more")
        if self.mode == "reset_without_info":
            return self._obs()
        result = (self._obs(), {})
        if self._once[0] == "reset" and self._due():
            _mark()
            return self._once[1](result)
        return result

    def step(self, action):
        self.n, self._t, mode = self.n + 1, self._t + 1, self.mode
        if isinstance(self.action_space, Box) and self.action_space.shape == (2,):
            self._x = float(np.clip(self._x + 0.1 * action[0], -2, 2))
        if mode == "changes_action":
            action[:] = 1e9
        if mode == "step_raises_first":
            raise ArithmeticError("no step at all")
        if mode == "leaks":
            self._ballast.append(np.ones(10_000))
        if (mode == "step_raises_always" and (_marked() or self._due())) or (
            mode == "step_raises_everywhere" and self.n == K
        ):
            _mark()
            raise ArithmeticError("boom, again")
        if mode in ("exits_again", "init_raises_later") and self.mine and self.n == K:
            _mark()
            os._exit(3)
        obs, reward, info = self._obs(), 0.1 - abs(self._x), {"cost": float(self._x > 0.5)}
        if mode in ALWAYS:
            obs, reward, info = ALWAYS[mode](obs, reward, info)
        if mode == "cost_length":
            info["cost"] = np.ones(3 if self.mine and self.n >= K else 2)
        values = {"obs": obs, "reward": reward, "flag": mode == "zero_length"}
        truncated = self._t >= LENGTH or mode == "zero_length_truncated"
        place, change = self._once
        due = place not in ("", "reset") and self._due()
        if due:
            _mark()
        if due and place == "cost":
            info["cost"] = change(info["cost"])
        if due and place == "info":
            info = change(info)
        if due and place == "step":
            change(None)
        if due and place in values:
            values[place] = change(values[place])
        result = (values["obs"], values["reward"], values["flag"], truncated, info)
        if mode == "six_results":
            result = (*result[:2], 1.0, *result[2:])
        return change(result) if due and place == "result" else result

    def close(self):
        if self.mode == "close_raises":
            raise RuntimeError("cannot be closed")
        if self.mode == "close_hangs":
            time.sleep(1e6)


def _once(mode: str):
    """(place, change) of a mode of `ONCE`."""
    for place, kinds in ONCE.items():
        for name, change in kinds.items():
            if mode == f"{place}_{name}":
                return place, change
    return "", None


def _marked() -> bool:
    path = os.environ.get("ROBUSTNESS_MARK")
    return path is not None and Path(path).exists()


def _mark() -> None:
    if path := os.environ.get("ROBUSTNESS_MARK"):
        Path(path).touch()


for _mode in MODES:
    _limit = {"no_horizon": None, "horizon_0": 0}.get(_mode, LENGTH)
    gymnasium.register(
        f"Robust-{_mode}-v0", Robust, kwargs={"mode": _mode}, max_episode_steps=_limit, disable_env_checker=True,
        order_enforce=False,
    )  # fmt: skip
