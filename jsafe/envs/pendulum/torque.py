"""A pendulum with a weak motor, in closed form: hold it upright, or as far to the side as the motor can."""

from __future__ import annotations

import numpy as np

from jsafe.envs import checks
from jsafe.envs.pendulum.base import FLOOR, ROOM, Facts, Pendulum

TASKS = {"upright": 0.0, "tilt": -0.41151684}
"""The angle that each task asks for, radians; the second is the largest that the motor can hold, `asin(2/5)`."""
START, LARGEST, FASTEST, DT = (0.3, -0.9), 1.5, 8.0, 0.05

_XML = f"""
<mujoco model="pendulum">
  <compiler angle="radian"/>
  {ROOM}
  <worldbody>
    {FLOOR}
    <camera name="side" pos="0 -3.4 0.3" xyaxes="1 0 0 0 0.1 1"/>
    <geom name="axle" type="sphere" size="0.06" rgba="0.2 0.2 0.2 1"/>
    <body name="rod">
      <joint name="hinge" type="hinge" axis="0 1 0"/>
      <geom name="rod" type="capsule" fromto="0 0 0 0 0 1" size="0.05" rgba="0.8 0.3 0.3 1"/>
    </body>
  </worldbody>
</mujoco>
"""


class TorquePendulum(Pendulum):
    """`MyPendulumUpright-v0`, `MyPendulumTilt-v0`: observation `[theta, theta']`, theta wrapped to +-pi.

        w'     = w + (3 g / (2 l) sin(theta) + 3 u / (m l^2)) dt         g = 10, m = l = 1, dt = 0.05, |u| <= 2
        theta' = theta + w' dt,   then w' clipped to +-8
        reward = -(theta - goal)^2 of the state before the step

    Safe is |theta| <= 1.5. OmniSafe ends the episode outside, as this does; the authors' code only tells it
    (`terminates=False`).

    Source: Luo & Ma 2021 (arXiv 2108.01846), section 5, with the authors' environments (also OmniSafe's).
    """

    def __init__(
        self,
        id: str,
        num_envs: int = 1,
        seed: int = 0,
        *,
        task: str = "upright",
        horizon: int = 200,
        penalty: float = 0.0,
        terminates: bool = True,
    ):
        checks.one_of("task", task, TASKS)
        self.goal = TASKS[task]
        facts = Facts(id, ("theta", "theta_velocity"), 2.0, START, {"theta": (-LARGEST, LARGEST)}, DT)
        state = {"angle": np.full(num_envs, START[0]), "speed": np.full(num_envs, START[1])}
        super().__init__(facts, num_envs, seed, state, horizon=horizon, penalty=penalty, terminates=terminates)

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        return {"angle": np.full(self.num_envs, START[0]), "speed": np.full(self.num_envs, START[1])}

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        angle, speed = self._state["angle"], self._state["speed"]
        reward = -np.square(_wrapped(angle) - self.goal)
        speed = speed + (15.0 * np.sin(angle) + 3.0 * actions[:, 0]) * DT
        angle = angle + speed * DT
        return reward, {"angle": angle, "speed": np.clip(speed, -FASTEST, FASTEST)}

    def _judged(self, state: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack([state["angle"], state["speed"]], axis=1)

    def _seen(self, state: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack([_wrapped(state["angle"]), state["speed"]], axis=1)

    def _pose(self, i: int) -> tuple[str, np.ndarray]:
        return _XML, self._state["angle"][i : i + 1]


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi
