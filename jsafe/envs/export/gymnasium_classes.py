"""The classes behind `as_gymnasium`; importing this needs gymnasium."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from jsafe import spaces
from jsafe.envs import checks
from jsafe.envs.api import Obs, Spec
from jsafe.envs.registry import make

_MODES = getattr(gymnasium.vector, "AutoresetMode", None)


def to_gymnasium(space: spaces.Space) -> gymnasium.Space:
    """A space as Gymnasium has it; vectors of numbers are float64."""
    if isinstance(space, spaces.Tree):
        return gymnasium.spaces.Dict({name: to_gymnasium(inner) for name, inner in space.items})
    if isinstance(space, spaces.Discrete):
        if isinstance(space.n, int):
            return gymnasium.spaces.Discrete(space.n)
        return gymnasium.spaces.MultiDiscrete(list(space.n))
    dtype = np.dtype("float64" if space.flat else space.dtype)
    ends = (
        np.broadcast_to(np.reshape(b, space.shape if np.ndim(b) else ()), space.shape) for b in spaces.bounds(space)
    )
    low, high = (end.astype(dtype) for end in ends)
    return gymnasium.spaces.Box(low, high, dtype=dtype)


def _observations(spec: Spec) -> gymnasium.Space:
    """The observation space; lidars lie in [0, 1] (those of Safexp's buttons in [-1, 1])."""
    space: Any = to_gymnasium(spec.obs)
    for name, (start, stop) in spec.obs_slices.items():
        if name.endswith("_lidar"):
            space.low[start:stop], space.high[start:stop] = -1.0 if spec.id.startswith("Safexp") else 0.0, 1.0
    return gymnasium.spaces.Box(space.low, space.high, dtype=np.float64) if spec.obs_slices else space


def _rows(obs: Obs, index: Any) -> Obs:
    """Copies of some rows of observations."""
    if isinstance(obs, dict):
        return {name: _rows(inner, index) for name, inner in obs.items()}
    return np.array(obs[index])


def _put(obs: Obs, rows: np.ndarray, other: Obs) -> None:
    if isinstance(obs, dict):
        for name, inner in obs.items():
            _put(inner, rows, other[name])
    else:
        obs[rows] = other[rows]


class _Exported:
    """What a single environment and a batch share."""

    _own: tuple[str, ...]

    def _build(self, id: str | Callable[..., Any], options: dict, safety: bool, render_mode: str | None, **shape: Any):
        number = shape.get("num_envs", 1)
        self.engine: Any = make(id, num_envs=number, render_mode=render_mode, **options)
        self.safety, self.render_mode = safety, render_mode
        self.recipe = id, options, safety, render_mode
        """What it was made from."""
        self._made = functools.partial(_remake, type(self), id, options, safety, render_mode, *shape.values())
        spec = self.engine.spec
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": max(1, round(1 / spec.dt))}
        return _observations(spec), to_gymnasium(spec.action)

    def _actions(self, actions: Any) -> np.ndarray:
        discrete = isinstance(self.engine.spec.action, spaces.Discrete)
        return np.asarray(actions) if discrete else np.asarray(actions, float)

    def __reduce__(self):
        try:
            engine = self.engine.state_dict()
        except RuntimeError:  # there is no episode yet
            engine = None
        return self._made, (), {"engine": engine, "own": {name: getattr(self, name) for name in self._own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["engine"] is not None:
            self.engine.load_state_dict(state["engine"])
        for name, value in state["own"].items():
            setattr(self, name, value)


def _remake(kind: type, *arguments: Any) -> Any:
    return kind(*arguments)


class Single(_Exported, gymnasium.Env):
    """One environment."""

    _own = ("_begun", "_stepping")

    def __init__(self, id: str | Callable[..., Any], options: dict, safety: bool, render_mode: str | None):
        self.observation_space, self.action_space = self._build(id, options, safety, render_mode)
        self._begun: Obs | None = None
        self._stepping = False

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """First observation and an empty info; without a seed the random stream goes on."""
        super().reset(seed=seed)
        if seed is not None or self._begun is None:
            self._begun = _rows(self.engine.reset(seed=seed), 0)  # or the engine began as the last episode ended
        self._stepping = True
        return _rows(self._begun, ...), {}

    def step(self, action: Any):
        """Five things, or six with `safety`."""
        if not self._stepping:
            raise RuntimeError("the episode is over: call reset() first")
        out = self.engine.step(self._actions(action)[None])
        terminated, truncated = bool(out.terminated[0]), bool(out.truncated[0])
        self._stepping = not (terminated or truncated)
        self._begun = None if self._stepping else _rows(out.obs, 0)
        cost = float(out.cost[0, 0]) if out.cost.shape[1] == 1 else out.cost[0].copy()
        info = {name: values[0].item() for name, values in out.info.items()}
        obs, reward = _rows(out.final_obs, 0), float(out.reward[0])
        if self.safety:
            return obs, reward, cost, terminated, truncated, info
        return obs, reward, terminated, truncated, info | {"cost": cost}

    def render(self):
        """A picture, if made with `render_mode="rgb_array"`."""
        return self.engine.render() if self.render_mode == "rgb_array" else None

    def close(self):
        """Ends the engine."""
        self.engine.close()


class Vector(_Exported, gymnasium.vector.VectorEnv):
    """A batch."""

    _own = ("_obs", "_over")

    def __init__(
        self,
        id: str | Callable[..., Any],
        options: dict,
        safety: bool,
        render_mode: str | None,
        num_envs: int,
        autoreset: str,
    ):
        shape = {"num_envs": num_envs, "autoreset": autoreset}
        self.single_observation_space, self.single_action_space = self._build(id, options, safety, render_mode, **shape)
        self.num_envs, self.autoreset = num_envs, autoreset
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        if _MODES is not None:
            self.metadata["autoreset_mode"] = _MODES[autoreset.upper()]
        self._obs: Obs = None  # as the engine has them: new episodes have begun
        self._over = np.zeros(num_envs, bool)  # whose new episode nobody has seen yet

    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict | None = None):
        """Observations `[N, ...]` and an empty info.

        Args:
          seed: One for the first environment (the i-th gets `seed + i`), or one for each.
          options: `{"reset_mask": [N] booleans}`: which environments to reset; the others stay where they are.
        """
        mask = (options or {}).get("reset_mask")
        if mask is None:
            self._obs = self.engine.reset(seed=seed)
            self._over[:] = False
            return _rows(self._obs, ...), {}
        chosen = np.zeros(self.num_envs, bool)
        chosen[checks.mask(mask, self.num_envs, seed)] = True
        again = chosen & ~self._over  # the engine has begun the others already
        if again.any():
            _put(self._obs, again, self.engine.reset(mask=again))
        self._over &= ~chosen
        return _rows(self._obs, ...), {}

    def step(self, actions: Any):
        """Five batched things, or six with `safety`."""
        over = self._over
        if self.autoreset == "disabled" and over.any():
            ended = np.flatnonzero(over).tolist()
            raise RuntimeError(f"episodes of environments {ended} are over: reset(options={{'reset_mask': ...}}) first")
        held = {"mask": ~over} if over.any() else {}  # the step in which a new episode is only looked at
        out = self.engine.step(self._actions(actions), **held)
        cost = out.cost[:, 0] if out.cost.shape[1] == 1 else out.cost
        info, done = dict(out.info), out.terminated | out.truncated
        if not self.safety:
            info["cost"] = cost
        self._obs = out.obs
        if self.autoreset == "same_step":
            obs = _rows(out.obs, ...)
            if done.any():
                info |= self._final(out.final_obs, dict(info), done)
        else:
            obs, self._over = out.final_obs, done
        if self.safety:
            return obs, out.reward, cost, out.terminated, out.truncated, info
        return obs, out.reward, out.terminated, out.truncated, info

    def _final(self, final_obs: Obs, info: dict[str, np.ndarray], done: np.ndarray) -> dict[str, Any]:
        """The last observations and infos of episodes that ended, as Gymnasium hands them over."""
        last: dict[str, Any] = {name: np.where(_column(done, value), value, 0) for name, value in info.items()}
        last |= {f"_{name}": done for name in info}
        name = "final_observation" if self.safety else "final_obs"
        return {name: final_obs, f"_{name}": done, "final_info": last, "_final_info": done}

    def render(self):
        """Pictures of all environments, if made with `render_mode="rgb_array"`."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.engine.render(i) for i in range(self.num_envs))

    def close_extras(self, **_: Any):
        """Ends the engine."""
        self.engine.close()


def _column(mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    return mask.reshape((-1,) + (1,) * (value.ndim - 1))
