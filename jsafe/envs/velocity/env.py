"""Batched velocity tasks, with the interface of `jsafe.envs.VectorEnv`."""

from __future__ import annotations

import os
from collections.abc import Mapping

import mujoco
import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec, Step
from jsafe.envs.safety_gym.engine import DIVERGED_REWARD
from jsafe.envs.safety_gym.physics import Workers, _on_warning
from jsafe.envs.velocity.state import load_state_dict, set_state, state_dict
from jsafe.envs.velocity.tasks import Runner

HORIZON = 1000
_CHUNKS_PER_THREAD = 8
_BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
"""MuJoCo's counters of bad positions, velocities, accelerations and controls."""


class VelocityEnv:
    """N environments of one velocity task with the same-step autoreset.

    Environment i of seed s draws its starts from the generator that Gymnasium seeds with s + i. Positions behind the
    forward velocity are those that the last substep left behind, as officially; right after `set_state` without them
    (task entries `x_position`, `y_position`) they are computed from the state.

    Actions are not clipped: what lies outside the box costs as much control as officially, and MuJoCo clips the force.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
    """

    def __init__(
        self,
        id: str,
        runner: Runner,
        version: int,
        num_envs: int = 1,
        seed: int = 0,
        num_threads: int | None = None,
        costs: str = "sum",
    ):
        if costs not in ("sum", "separate"):
            raise ValueError(f"costs must be 'sum' or 'separate', got {costs!r}")
        self.num_envs = n = checks.integer("num_envs", num_envs)
        self.num_threads = min(n, checks.integer("num_threads", num_threads) if num_threads is not None else _cpus())
        self.runner, self._limit, self._plane = runner, runner.limits[version], runner.speed[version] == "xy"
        if mujoco.get_mju_user_warning() is None:  # the default writes a file into the working directory
            mujoco.set_mju_user_warning(_on_warning)
        self.model = model = mujoco.MjModel.from_xml_string(runner.xml())
        self.data = [mujoco.MjData(model) for _ in range(n)]
        self._counters = [data.warning.number[_BAD] for data in self.data]
        self._workers = Workers(self.num_threads)
        size = max(1, n // (_CHUNKS_PER_THREAD * self.num_threads))
        self._chunks = [range(start, min(start + size, n)) for start in range(0, n, size)]
        self._ctrl, self._place = np.zeros((n, model.nu)), np.zeros((n, 2))
        self._bad = np.zeros((n, _BAD.stop - _BAD.start), np.int32)  # counts since the episode began
        self._qpos, self._qvel = np.zeros((n, model.nq)), np.zeros((n, model.nv))
        self._forces = np.zeros((n, 0))
        if runner.forces:
            self._forces = np.zeros((n, 10 * model.nbody + 6 * model.nbody + model.nv + 6 * model.nbody))
        self._free = model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
        parts = {"qpos": model.nq - runner.hidden, "qvel": model.nv}
        if runner.forces:
            parts |= {"cinert": 10 * model.nbody, "cvel": 6 * model.nbody, "qfrc_actuator": model.nv,
                      "cfrc_ext": 6 * model.nbody}  # fmt: skip
        slices, at = {}, 0
        for name, width in parts.items():
            slices[name] = (at, at + width)
            at += width
        box = model.actuator_ctrlrange.astype(np.float32).astype(float)  # the official action space is float32
        self.dt = model.opt.timestep * runner.substeps
        self.spec = Spec(
            id=id,
            obs_dim=at,
            act_dim=model.nu,
            num_costs=1,
            horizon=HORIZON,
            action_low=tuple(box[:, 0].tolist()),
            action_high=tuple(box[:, 1].tolist()),
            cost_names=("sum",) if costs == "sum" else ("velocity",),
            obs_slices=slices,
            dt=float(self.dt),
        )
        self._steps = np.zeros(n, int)
        self._last_obs, self._last_cost, self._last_speed = np.zeros((n, at)), np.zeros(n), np.zeros(n)
        self._painter = None
        self._started = self._closed = False
        self._seed(seed)

    def _seed(self, seed: int) -> None:
        seed = checks.integer("seed", seed, 0, 2**32 - self.num_envs)
        self.streams = [
            np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed + i))) for i in range(self.num_envs)
        ]

    def reset(self, seed: int | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts a new episode in every environment, or in those of `mask`: see `VectorEnv.reset`."""
        self._usable(started=mask is not None)
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed)
        else:
            if seed is not None:
                self._seed(seed)
            rows = np.arange(self.num_envs)
        for i in rows:
            self._begin(int(i))
        self._started = True
        self._last_obs[rows] = self._observation(rows)
        self._last_cost[rows] = self._last_speed[rows] = 0.0
        return self._last_obs.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]`, not clipped: see above.

        Returns:
          A `Step`; `info` holds `x_position`, `x_velocity` (and y) in SI units, `cost_velocity` and `cost_sum`.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
        """
        self._usable()
        runner = self.runner
        self._ctrl[:] = checks.actions(actions, self.num_envs, self.spec.act_dim)
        before = self._place.copy()
        self._workers.run(self._run, self._chunks)
        self._steps += 1
        velocity = (self._place - before) / self.dt
        reward = runner.forward * velocity[:, 0] + runner.alive - runner.control * np.square(self._ctrl).sum(axis=1)
        speed = np.sqrt(np.square(velocity).sum(axis=1)) if self._plane else velocity[:, 0]
        over = (speed > self._limit).astype(float)
        terminated = np.zeros(self.num_envs, bool)
        if runner.healthy is not None:
            terminated = ~runner.healthy(self._qpos, self._qvel)
        truncated = self._steps >= HORIZON
        obs = self._observation(slice(None))
        lost = self._bad.any(axis=1) | ~np.isfinite(obs).all(axis=1)  # MuJoCo starts anew what breaks down, and counts
        if lost.any():
            reward[lost], over[lost], terminated[lost], truncated[lost] = DIVERGED_REWARD, 0.0, False, True
            obs[lost], velocity[lost] = self._last_obs[lost], 0.0
        info = {"success": np.zeros(self.num_envs, bool), "diverged": lost, "cost_velocity": over,
                "cost_sum": over.copy()}  # fmt: skip
        for k, axis in enumerate("xy"[: runner.planar]):
            info |= {f"{axis}_position": self._place[:, k].copy(), f"{axis}_velocity": velocity[:, k].copy()}
        final_obs = obs.copy()
        rows = np.flatnonzero(terminated | truncated)
        for i in rows:
            self._begin(int(i))
        obs[rows] = self._observation(rows)
        self._last_obs, self._last_cost, self._last_speed = obs.copy(), over.copy(), speed
        return Step(obs, reward, over[:, None].copy(), terminated, truncated, final_obs, info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]` (after `set_state`, for instance)."""
        self._usable()
        return self._last_obs.copy()

    def get_state(self, i: int) -> dict:
        """State of environment i by names, in the form of `VectorEnv.get_state`: `time`, `step`, `joints`, `task`."""
        self._usable()
        i = checks.index(i, self.num_envs)
        data, joints = self.data[i], {}
        for name, qpos, qvel in self.joints():
            joints[name] = (data.qpos[qpos].copy(), data.qvel[qvel].copy(), data.qacc_warmstart[qvel].copy())
        task = {f"{axis}_position": float(self._place[i, k]) for k, axis in enumerate("xy"[: self.runner.planar])}
        return {"time": float(data.time), "step": int(self._steps[i]), "joints": joints, "bodies": {}, "task": task}

    def set_state(self, i: int, state: dict) -> None:
        """Puts environment i into a state; whatever it leaves out keeps its value. See `VectorEnv.set_state`."""
        self._usable()
        set_state(self, checks.index(i, self.num_envs), state)

    def state_dict(self) -> dict:
        """The whole engine, random streams included, as nested dictionaries of arrays and numbers."""
        self._usable()
        return state_dict(self)

    def load_state_dict(self, saved: dict) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        self._usable(started=False)
        load_state_dict(self, saved)
        self._started = True

    def render(
        self,
        i: int = 0,
        camera: str = "track",
        width: int = 256,
        height: int = 256,
        overlays: bool = True,
        caption: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """A picture of environment i, uint8 `[height, width, 3]`; see `VectorEnv.render`. `track` follows the body.

        The sphere above the body is green, fades as the speed nears the limit, and is dark red in steps that exceed it.
        """
        self._usable()
        from jsafe.envs.safety_gym.drawing.render import Painter, model_of, speedometer

        i = checks.index(i, self.num_envs)
        if self._painter is None:
            self._painter = Painter(model_of(self.runner.xml()))
        torso = self.data[i].xpos[1].copy()
        markers = [speedometer(torso, self._last_speed[i], self._limit, self._last_cost[i])] if overlays else []
        return self._painter.paint(
            self.data[i], (), markers, camera=camera, target=torso, width=width, height=height, caption=caption
        )

    def close(self) -> None:
        """Ends the threads; the environments cannot be used any more."""
        if self._painter is not None:
            self._painter.close()
        self._closed = True
        self._workers.close()

    def joints(self):
        """(name, qpos slice, dof slice) of every joint."""
        model, sizes, dofs = self.model, (7, 4, 1, 1), (6, 3, 1, 1)
        for j in range(model.njnt):
            q, v, kind = int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]), int(model.jnt_type[j])
            yield model.joint(j).name, slice(q, q + sizes[kind]), slice(v, v + dofs[kind])

    def _usable(self, started: bool = True) -> None:
        if self._closed:
            raise RuntimeError("the environment is closed")
        if started and not self._started:
            raise RuntimeError("call reset() first")

    def _run(self, thread: int, rows: range) -> None:
        model, substeps, forces = self.model, self.runner.substeps, self.runner.forces
        for i in rows:
            data = self.data[i]
            data.ctrl[:] = self._ctrl[i]
            mujoco.mj_step(model, data, substeps)
            if forces:
                mujoco.mj_rnePostConstraint(model, data)
            self.read(i)

    def read(self, i: int) -> None:
        """Copies what rewards and observations need out of simulation i."""
        data, kind = self.data[i], self.runner.place
        self._qpos[i], self._qvel[i], self._bad[i] = data.qpos, data.qvel, self._counters[i]
        if kind == "root":
            self._place[i, : self.runner.planar] = data.qpos[: self.runner.planar]
        elif kind == "torso":
            self._place[i] = data.xpos[1, :2]
        else:
            mass = self.model.body_mass
            self._place[i] = (mass[:, None] * data.xipos).sum(axis=0)[:2] / mass.sum()
        if self.runner.forces:
            parts = (data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext)
            np.concatenate([part.reshape(-1) for part in parts], out=self._forces[i])

    def _observation(self, rows) -> np.ndarray:
        velocity = np.clip(self._qvel[rows], -self.runner.clip, self.runner.clip)
        return np.concatenate([self._qpos[rows, self.runner.hidden :], velocity, self._forces[rows]], axis=1)

    def _begin(self, i: int) -> None:
        model, data, stream, r = self.model, self.data[i], self.streams[i], self.runner.noise
        mujoco.mj_resetData(model, data)
        data.qpos[:] = model.qpos0 + stream.uniform(-r, r, model.nq)
        noise = r * stream.standard_normal(model.nv) if self.runner.gaussian else stream.uniform(-r, r, model.nv)
        data.qvel[:] = noise
        if self._free:  # as the pinned MuJoCo does by itself
            data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
        mujoco.mj_forward(model, data)
        self._steps[i] = 0
        self.read(i)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
