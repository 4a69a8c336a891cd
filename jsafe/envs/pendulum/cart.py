"""A pole on a cart, stepped by MuJoCo: balance it, swing it, or move the cart as far as possible."""

from __future__ import annotations

import numpy as np

from jsafe.envs import checks, models
from jsafe.envs.loading import mujoco
from jsafe.envs.pendulum.base import FLOOR, ROOM, Facts, Pendulum

TASKS = {"upright": 0.2, "swing": 1.5, "move": 0.2}
"""The largest safe angle of each task, radians."""
REACH = 0.9
"""The largest safe distance of the cart from the middle, metres."""
SUBSTEPS = 2

_ALONG = 'quat="0.707106781186547 0 0.707106781186548 0"'
XML = f"""
<mujoco model="cart and pole">
  <compiler inertiafromgeom="true" angle="radian"/>
  <option gravity="0 0 -9.81" integrator="RK4" timestep="0.02"/>
  <default>
    <joint armature="0" damping="1" limited="true"/>
    <geom contype="0" conaffinity="0" friction="1 0.1 0.1" rgba="0.7 0.7 0 1"/>
  </default>
  {ROOM}
  <worldbody>
    {FLOOR}
    <camera name="side" pos="0 -2.6 0.4" xyaxes="1 0 0 0 0.1 1"/>
    <geom name="rail" type="capsule" size="0.02 1" {_ALONG} rgba="0.3 0.3 0.7 1"/>
    <body name="cart">
      <joint name="slider" type="slide" axis="1 0 0" range="-1 1"/>
      <geom name="cart" type="capsule" size="0.1 0.1" {_ALONG}/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" range="{-np.pi / 2!r} {np.pi / 2!r}"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0.001 0 0.6" size="0.049" rgba="0 0.7 0.7 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="slide" joint="slider" gear="100" ctrllimited="true" ctrlrange="-3 3"/></actuator>
</mujoco>
"""
"""The cart and pole of Gymnasium's MuJoCo tasks, written from its numbers: 10.47 kg and 5.02 kg."""


class CartPole(Pendulum):
    """`SafeInvertedPendulum*-v2`: observation `[x, theta, x', theta']`, 0.04 s a step.

        upright  reward -theta^2, safe |theta| <= 0.2
        swing    reward  theta^2, safe |theta| <= 1.5
        move     reward  x^2,     safe |theta| <= 0.2        (all: |x| <= 0.9)

    both of the state after the step. The action box is +-3, but the step clips the control to +-1, as the published
    environments do: a policy's action saturates at a third of its range.

    Source: Luo & Ma 2021 (arXiv 2108.01846), section 5, with the authors' environments (also OmniSafe's).
    """

    def __init__(
        self,
        id: str,
        num_envs: int = 1,
        seed: int = 0,
        *,
        task: str = "upright",
        horizon: int = 1000,
        penalty: float = 10.0,
        terminates: bool = True,
    ):
        checks.one_of("task", task, TASKS)
        self.task = task
        models.log_warnings()
        self._model = mujoco.MjModel.from_xml_string(XML)
        self._data = mujoco.MjData(self._model)
        safe = {"x": (-REACH, REACH), "theta": (-TASKS[task], TASKS[task])}
        facts = Facts(id, ("x", "theta", "x_velocity", "theta_velocity"), 3.0, (0.0,) * 4, safe, 0.02 * SUBSTEPS)
        state = {"qpos": np.zeros((num_envs, 2)), "qvel": np.zeros((num_envs, 2)), "warm": np.zeros((num_envs, 2))}
        super().__init__(facts, num_envs, seed, state, horizon=horizon, penalty=penalty, terminates=terminates)

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        model, data, state = self._model, self._data, self._state
        qpos, qvel, warm = (state[name].copy() for name in ("qpos", "qvel", "warm"))
        for i, control in enumerate(np.clip(actions[:, 0], -1.0, 1.0)):
            data.qpos[:], data.qvel[:], data.qacc_warmstart[:], data.ctrl[0] = qpos[i], qvel[i], warm[i], control
            mujoco.mj_step(model, data, SUBSTEPS)
            qpos[i], qvel[i], warm[i] = data.qpos, data.qvel, data.qacc_warmstart
        square = np.square(qpos[:, 0 if self.task == "move" else 1])
        return -square if self.task == "upright" else square, {"qpos": qpos, "qvel": qvel, "warm": warm}

    def _seen(self, state: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([state["qpos"], state["qvel"]], axis=1)

    def _pose(self, i: int) -> tuple[str, np.ndarray]:
        return XML, self._state["qpos"][i]
