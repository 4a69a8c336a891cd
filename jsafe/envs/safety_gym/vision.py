"""Navigation tasks that are seen: the robot's camera beside its sensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jsafe.envs import checks, threads
from jsafe.envs.api import Step
from jsafe.envs.safety_gym.drawing.eyes import Eyes
from jsafe.envs.safety_gym.drawing.painter import BACK, CAMERAS, MAX_SIZE
from jsafe.spaces import Box, Tree

VISION = "vision"
"""Key of the picture in an observation."""
_FIXED = tuple(camera for camera in CAMERAS if camera != "free")


class VisionEnv:
    """N environments with the robots' pictures in their observations; everything else is the environment's inside.

    An observation is a dictionary: `vision`, uint8 `[N, size, size, 3]`, and every part of the flat observation by its
    name (`accelerometer`, ..., `goal_lidar`, ...), officially shaped. The picture shows the state as it stands after
    the step, lidar rings included, but not the red sphere of a cost. It is drawn once per step, however often an
    action is repeated; the last one of an episode is drawn in between.

    Args:
      env: Our engine, or a `RepeatedEnv` around it.
      size: Width and height of a picture, pixels.
      cameras: One or several of `vision` (ahead), `vision_back`, `track`, `fixednear`, `fixedfar`, whose pictures stand
        side by side: `[N, size, size * cameras, 3]`.
      detail: `full`, or `low`: three to four times as many pictures in a second, without reflections on the floor and
        with rough edges.
      lidars: Whether lidars are observed, too. Officially they are; without them there is only the picture to see by.
      num_threads: Threads that draw; None: one for each available processor.

    Raises:
      ValueError: If a value is not allowed.
      jsafe.envs.api.RenderError: If nothing can be drawn here; it says what to install.

    Source: safety-gymnasium 1.0.0, its `...Vision-v0` ids. Two cameras are SafeDreamer's (Huang et al. 2023, arXiv
    2307.07176), which keeps their pictures apart.
    """

    def __init__(
        self,
        env: Any,
        size: int = 256,
        cameras: str | Sequence[str] = "vision",
        detail: str = "full",
        lidars: bool = True,
        num_threads: int | None = None,
    ):
        size = checks.integer("size", size, 1, MAX_SIZE)
        names = [cameras] if isinstance(cameras, str) else list(cameras)
        if not names:
            raise ValueError("cameras must name one or more")
        for name in names:
            checks.one_of("camera", name, (*_FIXED, BACK))
        checks.one_of("detail", detail, ("full", "low"))
        if not isinstance(lidars, bool):
            raise ValueError(f"lidars must be True or False, got {lidars!r}")
        self.env, self.num_envs = env, env.num_envs
        sim = env.simulation
        keys = {kind.lidar_key for kind in sim.world.groups}
        slices = {name: ends for name, ends in env.spec.obs_slices.items() if lidars or name not in keys}
        turned = {part.name for part in sim.robot.parts if part.form == "rotation"}
        shapes = {name: (3, 3) if name in turned else (stop - start,) for name, (start, stop) in slices.items()}
        self._parts = {name: (slice(*slices[name]), shape) for name, shape in shapes.items()}
        self._shape = (size, size * len(names), 3)
        low = 0.0 if sim.task.lidar.kind == "pseudo" else -1.0  # Safexp's hidden buttons are negative
        tree = {
            name: Box(shape, low, 1.0) if name in keys else Box(shape, dtype="float64" if name in turned else "float32")
            for name, shape in shapes.items()
        }
        self.spec = dataclasses.replace(
            env.spec, obs=Tree(tree | {VISION: Box(self._shape, 0, 255, "uint8")}), obs_slices={}
        )
        self._pictures = np.zeros((self.num_envs, *self._shape), np.uint8)
        self._last: dict[int, np.ndarray] = {}  # pictures of the states in which episodes ended
        if num_threads is not None:
            checks.integer("num_threads", num_threads)
        self._eyes = Eyes(sim, names, size, detail, num_threads or threads.processors())
        sim.on_end = self._remember

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> dict[str, Any]:
        """Starts new episodes: see `jsafe.envs.VectorEnv.reset`."""
        flat = self.env.reset(seed, mask=mask)
        self._look(range(self.num_envs) if mask is None else np.flatnonzero(mask))
        return self._observation(flat, self._pictures.copy())

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by one step: see `jsafe.envs.VectorEnv.step`.

        Args:
          actions: `[N, A]` in the action box of `spec`.
          mask: `[N]` booleans, which environments to step; the others stand still, without reward and cost. None: all.

        Returns:
          A `Step` whose `obs` and `final_obs` are dictionaries.
        """
        self._last.clear()
        out = self.env.step(actions) if mask is None else self.env.step(actions, mask=mask)
        before = self._pictures.copy()
        self._look(range(self.num_envs) if mask is None else np.flatnonzero(mask))
        final = self._pictures.copy()
        ended = out.terminated | out.truncated
        final[ended] = before[ended]  # where a simulation broke down: the last thing that was seen
        for i, picture in self._last.items():
            final[i] = picture
        obs = self._observation(out.obs, self._pictures.copy())
        return out._replace(obs=obs, final_obs=self._observation(out.final_obs, final))

    def observe(self) -> dict[str, Any]:
        """The current observations (after `set_state`, for instance)."""
        flat = self.env.observe()
        self._look(range(self.num_envs))
        return self._observation(flat, self._pictures.copy())

    def set_state(self, i: int, state: dict) -> None:
        """Puts environment i into a state by names: see `SafetyGymEnv.set_state`."""
        self.env.set_state(i, state)
        self._look([i])

    def state_dict(self) -> dict[str, Any]:
        """That of the environment inside, and the newest pictures: another driver may draw other ones."""
        return {"env": self.env.state_dict(), VISION: self._pictures.copy()}

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        if not isinstance(saved, dict) or not {"env", VISION} <= set(saved):
            raise ValueError("the saved state must hold env and vision")
        pictures = np.asarray(saved[VISION])
        if pictures.shape != self._pictures.shape or pictures.dtype != np.uint8:
            raise ValueError(
                f"vision of the saved state must be uint8 of shape {self._pictures.shape}, "
                f"got {pictures.dtype} of shape {pictures.shape}"
            )
        self.env.load_state_dict(saved["env"])
        self._pictures[:] = pictures

    def close(self) -> None:
        """Ends the threads and closes the environment inside."""
        self._eyes.close()
        self.env.close()

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.env, name)

    def _look(self, rows: Sequence[int] | np.ndarray) -> None:
        self._pictures[rows] = self._eyes.look(rows)

    def _remember(self, rows: np.ndarray) -> None:
        self._last |= dict(zip(rows.tolist(), self._eyes.look(rows)))

    def _observation(self, flat: np.ndarray, pictures: np.ndarray) -> dict[str, Any]:
        parts = {name: flat[:, where].reshape(-1, *shape) for name, (where, shape) in self._parts.items()}
        return parts | {VISION: pictures}
