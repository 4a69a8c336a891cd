"""N copies of a runner as they stand: arrays, physics, random streams, and how episodes begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jsafe.envs import models, threads
from jsafe.envs.loading import mujoco
from jsafe.envs.velocity.tasks import Runner


class Simulation:
    """Attributes are the live arrays.

    Attributes:
      id, runner, num_envs: What is simulated.
      model, data: The MuJoCo model and its N states.
      dt: Seconds per environment step.
      ctrl: The last actions `[N, A]`.
      place: Positions behind the forward velocity, as the last substep left them `[N, 2]`, metres.
      qpos, qvel: `[N, nq]` and `[N, nv]`.
      bad: Counts of what broke down since the episode began `[N, ...]`.
      steps: Steps taken in the episode `[N]`.
      last_obs, last_cost, last_speed: Of the newest step: `[N, O]`, `[N]`, `[N]` (m/s).
      streams: A generator for each environment.
      parts: Width of each part of the observation, in order.
      workers, chunks: The threads, and the rows that they share.
    """

    def __init__(self, id: str, runner: Runner, num_envs: int, num_threads: int | None):
        self.id, self.runner, self.num_envs = id, runner, num_envs
        models.log_warnings()
        self.model = model = mujoco.MjModel.from_xml_string(runner.xml())
        self.data = [mujoco.MjData(model) for _ in range(num_envs)]
        self.num_threads = min(num_envs, num_threads or threads.processors())
        self.workers = threads.Workers(self.num_threads)
        self.chunks = threads.split(num_envs, self.num_threads)
        self.dt = float(model.opt.timestep * runner.substeps)
        self.ctrl, self.place = np.zeros((num_envs, model.nu)), np.zeros((num_envs, 2))
        self._counters = [data.warning.number[models.BAD] for data in self.data]
        self.bad = np.zeros((num_envs, models.BAD.stop - models.BAD.start), np.int32)
        self.qpos, self.qvel = np.zeros((num_envs, model.nq)), np.zeros((num_envs, model.nv))
        self.parts = {"qpos": model.nq - runner.hidden, "qvel": model.nv}
        forces = {"cinert": 10 * model.nbody, "cvel": 6 * model.nbody, "qfrc_actuator": model.nv,
                  "cfrc_ext": 6 * model.nbody} if runner.forces else {}  # fmt: skip
        self.parts |= forces
        self._forces = np.zeros((num_envs, sum(forces.values())))
        self._free = model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
        self.steps = np.zeros(num_envs, int)
        self.last_obs = np.zeros((num_envs, sum(self.parts.values())))
        self.last_cost, self.last_speed = np.zeros(num_envs), np.zeros(num_envs)

    def seed(self, seeds: Sequence[int]) -> None:
        """Gives every environment the generator that Gymnasium makes of its seed."""
        self.streams = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))) for seed in seeds]

    def step(self, rows: np.ndarray | None = None) -> None:
        """Advances all environments, or some, with `ctrl`."""
        chunks = self.chunks
        if rows is not None:
            chosen = set(rows.tolist())
            chunks = [[i for i in chunk if i in chosen] for chunk in chunks]
        self.workers.run(self._run, chunks)

    def _run(self, thread: int, rows: Sequence[int]) -> None:
        model, substeps, forces = self.model, self.runner.substeps, self.runner.forces
        for i in rows:
            data = self.data[i]
            data.ctrl[:] = self.ctrl[i]
            mujoco.mj_step(model, data, substeps)
            if forces:
                mujoco.mj_rnePostConstraint(model, data)
            self.read(i)

    def read(self, i: int) -> None:
        """Copies what rewards and observations need out of environment i."""
        data, kind = self.data[i], self.runner.place
        self.qpos[i], self.qvel[i], self.bad[i] = data.qpos, data.qvel, self._counters[i]
        if kind == "root":
            self.place[i, : self.runner.planar] = data.qpos[: self.runner.planar]
        elif kind == "torso":
            self.place[i] = data.xpos[1, :2]
        else:
            mass = self.model.body_mass
            self.place[i] = (mass[:, None] * data.xipos).sum(axis=0)[:2] / mass.sum()
        if self.runner.forces:
            parts = (data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext)
            np.concatenate([part.reshape(-1) for part in parts], out=self._forces[i])

    def observe(self, rows=slice(None)) -> np.ndarray:
        """Observations of all environments, or of some."""
        velocity = np.clip(self.qvel[rows], -self.runner.clip, self.runner.clip)
        return np.concatenate([self.qpos[rows, self.runner.hidden :], velocity, self._forces[rows]], axis=1)

    def begin(self, rows: np.ndarray) -> None:
        """Starts new episodes in some environments."""
        for i in rows:
            self._begin_one(int(i))

    def _begin_one(self, i: int) -> None:
        model, data, stream, r = self.model, self.data[i], self.streams[i], self.runner.noise
        mujoco.mj_resetData(model, data)
        data.qpos[:] = model.qpos0 + stream.uniform(-r, r, model.nq)
        noise = r * stream.standard_normal(model.nv) if self.runner.gaussian else stream.uniform(-r, r, model.nv)
        data.qvel[:] = noise
        if self._free:  # as the pinned MuJoCo does by itself
            data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
        mujoco.mj_forward(model, data)
        self.steps[i] = 0
        self.read(i)

    def close(self) -> None:
        """Ends the threads."""
        self.workers.close()
