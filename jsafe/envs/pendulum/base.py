"""What the pendulums share: a known start, a box of safe states, an end where it is left, pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec
from jsafe.envs.loading import mujoco
from jsafe.envs.toy.base import Moved, Toy
from jsafe.spaces import Box

ROOM = """
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.35 0.45 0.6" rgb2="0 0 0" width="64" height="64"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.859 0.843 0.765" rgb2="0.949 0.914 0.855"
      width="100" height="100"/>
    <material name="floor" texture="floor" texrepeat="40 40"/>
  </asset>
"""
"""MJCF of what is drawn around a pendulum, with `FLOOR` in its world body."""
FLOOR = """
    <light directional="true" diffuse="1 1 1" specular="0.1 0.1 0.1" pos="0 0 1.3" dir="0 0 -1.3" castshadow="false"/>
    <geom name="floor" type="plane" size="10 10 0.1" pos="0 0 -1.2" material="floor" contype="0" conaffinity="0"/>
"""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a pendulum is.

    Attributes:
      id: Name it was made by.
      names: Of the components of an observation.
      bound: Of the action, `[-bound, bound]`.
      start: Observation with which every episode begins.
      safe: `(lowest, highest)` by name of a component: outside of them a state is unsafe.
      dt: Seconds per step.
    """

    id: str
    names: tuple[str, ...]
    bound: float
    start: tuple[float, ...]
    safe: Mapping[str, tuple[float, float]]
    dt: float


class Pendulum(Toy):
    """N pendulums with the same-step autoreset.

    Every episode begins in the same state. A step into an unsafe state costs 1, loses `penalty` of reward and
    terminates the episode. `spec.safe` and `spec.start` tell a learner what is safe, and where it begins.

    Args:
      facts: What it is.
      num_envs: N.
      seed: As elsewhere; nothing here is random.
      state: Arrays `[N, ...]` besides `pose [N, O]`.
      horizon: Steps after which an episode is truncated.
      penalty: Taken from the reward of a step into an unsafe state.
      terminates: Such a step ends the episode; otherwise it only costs.

    Raises:
      ValueError: For a value that is not allowed.
    """

    def __init__(
        self,
        facts: Facts,
        num_envs: int,
        seed: int,
        state: dict[str, np.ndarray],
        *,
        horizon: int,
        penalty: float,
        terminates: bool,
    ):
        checks.integer("num_envs", num_envs)
        checks.integer("horizon", horizon)
        if checks.number("penalty", penalty) < 0:
            raise ValueError(f"penalty must be at least 0, got {penalty!r}")
        if not isinstance(terminates, bool):
            raise ValueError(f"terminates must be True or False, got {terminates!r}")
        self.facts, self.penalty, self.terminates = facts, float(penalty), terminates
        slices = {name: (i, i + 1) for i, name in enumerate(facts.names)}
        spec = Spec(
            id=facts.id,
            obs=Box((len(facts.names),)),
            action=Box((1,), -facts.bound, facts.bound),
            num_costs=1,
            horizon=horizon,
            cost_names=("cost_unsafe",),
            obs_slices=slices,
            dt=facts.dt,
            start=facts.start,
            safe=tuple((slices[name][0], low, high) for name, (low, high) in facts.safe.items()),
        )
        self._painter: Any = None
        self._drawn: Any = None
        self._last_cost = np.zeros(num_envs)
        super().__init__(spec, num_envs, seed, state, fresh_draws=0, step_draws=0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reward `[N]` but for the penalty, and the new state entries."""
        raise NotImplementedError

    def _seen(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Observations `[N, O]` of states."""
        raise NotImplementedError

    def _pose(self, i: int) -> tuple[str, np.ndarray]:
        """MJCF to draw environment i with, and its joint positions."""
        raise NotImplementedError

    def _move(self, actions: np.ndarray, draws: np.ndarray) -> Moved:
        reward, changes = self._advance(actions)
        where = self._judged(self._state | changes)
        unsafe = np.any([(where[:, i] < low) | (where[:, i] > high) for i, low, high in self.spec.safe], axis=0)
        self._last_cost = unsafe.astype(float)
        ends = unsafe if self.terminates else np.zeros(self.num_envs, bool)
        return Moved(reward - self.penalty * unsafe, self._last_cost[:, None].copy(), ends, changes)

    def _judged(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """What has to be within the bounds `[N, O]`."""
        return self._seen(state)

    def _observe(self) -> np.ndarray:
        return self._seen(self._state)

    def _success(self, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        return np.zeros(self.num_envs, bool)

    def render(
        self,
        i: int = 0,
        camera: str = "side",
        width: int = 256,
        height: int = 256,
        overlays: bool = True,
        caption: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """A picture of environment i, uint8 `[height, width, 3]`, with a red sphere where the last step was unsafe.

        Args:
          i: Which environment.
          camera: `side`, `track` or `free`.
          width, height: Pixels.
          overlays: Draw the sphere.
          caption: Names and values in the upper left corner.
        """
        from jsafe.envs.safety_gym.drawing.painter import Painter, Shape, model_of

        i = checks.index(i, self.num_envs)
        xml, joints = self._pose(i)
        if self._painter is None:
            self._painter = Painter(model_of(xml))
            self._drawn = mujoco.MjData(mujoco.MjModel.from_xml_string(xml))
        self._drawn.qpos[:] = joints
        alarm = [Shape("sphere", (0.2,), (joints[0] if len(joints) > 1 else 0.0, 0, 0), (0.5, 0, 0, 0.5))]
        return self._painter.paint(
            self._drawn,
            overlays=alarm if overlays and self._last_cost[i] else (),
            camera=camera,
            width=width,
            height=height,
            caption=caption,
        )

    def close(self) -> None:
        """Gives the GL context back."""
        if self._painter is not None:
            self._painter.close()
