"""The classes behind `as_gymnasium`; importing this needs gymnasium."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space


def _spaces(engine) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Observation and action space; lidars lie in [0, 1] (those of Safexp's buttons in [-1, 1])."""
    spec = engine.spec
    low, high = np.full(spec.obs_dim, -np.inf), np.full(spec.obs_dim, np.inf)
    for name, (start, stop) in spec.obs_slices.items():
        if name.endswith("_lidar"):
            low[start:stop], high[start:stop] = -1.0 if spec.id.startswith("Safexp") else 0.0, 1.0
    actions = gymnasium.spaces.Box(np.array(spec.action_low), np.array(spec.action_high), dtype=np.float64)
    return gymnasium.spaces.Box(low, high, dtype=np.float64), actions


def _scalars(info: dict[str, np.ndarray], i: int) -> dict[str, float | bool]:
    """One environment's entries of a batched info."""
    return {name: values[i].item() for name, values in info.items()}


def _cost(cost: np.ndarray):
    """One environment's cost `[M]`: a number if M is 1."""
    return float(cost[0]) if len(cost) == 1 else cost.copy()


class Single(gymnasium.Env):
    """One environment."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, engine, safety: bool, render_mode: str | None):
        self.engine, self.safety, self.render_mode = engine, safety, render_mode
        self.observation_space, self.action_space = _spaces(engine)
        self._begun = None
        self._stepping = False

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """First observation and an empty info; without a seed the random stream goes on."""
        super().reset(seed=seed)
        if seed is not None or self._begun is None:
            self._begun = self.engine.reset(seed=seed)[0]  # or the engine began the episode as the last one ended
        self._stepping = True
        return self._begun.copy(), {}

    def step(self, action):
        """Five things, or six with `safety`."""
        if not self._stepping:
            raise RuntimeError("the episode is over: call reset() first")
        out = self.engine.step(np.asarray(action, float)[None])
        terminated, truncated = bool(out.terminated[0]), bool(out.truncated[0])
        self._stepping = not (terminated or truncated)
        self._begun = None if self._stepping else out.obs[0]
        cost, info = _cost(out.cost[0]), _scalars(out.info, 0)
        if self.safety:
            return out.final_obs[0], float(out.reward[0]), cost, terminated, truncated, info
        return out.final_obs[0], float(out.reward[0]), terminated, truncated, info | {"cost": cost}

    def render(self):
        """A picture, if made with `render_mode="rgb_array"`."""
        return self.engine.render() if self.render_mode == "rgb_array" else None

    def close(self):
        """Ends the engine."""
        self.engine.close()


class Vector(gymnasium.vector.VectorEnv):
    """A batch that starts new episodes in the same step."""

    def __init__(self, engine, safety: bool, render_mode: str | None):
        self.engine, self.safety, self.render_mode, self.num_envs = engine, safety, render_mode, engine.num_envs
        self.single_observation_space, self.single_action_space = _spaces(engine)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
        modes = getattr(gymnasium.vector, "AutoresetMode", None)
        if modes is not None:
            self.metadata["autoreset_mode"] = modes.SAME_STEP

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """First observations `[N, O]` and an empty info."""
        return self.engine.reset(seed=seed), {}

    def step(self, actions):
        """Five batched things, or six with `safety`."""
        out = self.engine.step(np.asarray(actions, float))
        cost = out.cost[:, 0] if out.cost.shape[1] == 1 else out.cost
        info = dict(out.info)
        done = out.terminated | out.truncated
        if done.any():
            info["final_obs" if not self.safety else "final_observation"] = out.final_obs
            info["_final_obs" if not self.safety else "_final_observation"] = done
        if self.safety:
            return out.obs, out.reward, cost, out.terminated, out.truncated, info
        return out.obs, out.reward, out.terminated, out.truncated, info | {"cost": cost}

    def render(self):
        """Pictures of all environments, if made with `render_mode="rgb_array"`."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.engine.render(i) for i in range(self.num_envs))

    def close_extras(self, **_):
        """Ends the engine."""
        self.engine.close()
