"""Many copies of one MuJoCo model, stepped on threads. Everything that touches MuJoCo's data is here."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jsafe.envs import models, threads
from jsafe.envs.loading import mujoco
from jsafe.envs.safety_gym.objects import DRIVEN
from jsafe.envs.safety_gym.world import World

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_CONSTANTS = ("body_invweight0", "dof_invweight0", "dof_M0")
"""Model constants that MuJoCo computes from the reference pose, and that enter the dynamics."""
_STALE = ("M", "qLD", "qLDiagInv", "qacc", "qacc_smooth", "qfrc_smooth")
"""Derived arrays in which a sleeping object keeps old values, and finds them when something wakes it."""


class Physics:
    """N simulations of a world, and the arrays that the rest of the engine reads.

    There is one model for each thread, not for each simulation: layouts lie in the data. Only a few constants that the
    official package compiles anew for each layout (inverse weights, equal up to rounding) are written into the thread's
    model before it steps a simulation, because pushing a light box multiplies rounding by 1e12 in one step.

    A step is: the first substep from the forward pass that ended the last step (`mj_step2`, which saves one collision
    pass and changes no bit), the other substeps without sensors, one forward pass with them. Driven objects move
    before every substep, and Runge-Kutta has no second half, so these take full substeps.

    Attributes:
      ctrl: `[N, A]`, read by `step`.
      sensors: `[N, S]`, sensor values after the last `step` or `read`.
      warnings: `[N, ...]`, counts of bad positions, velocities, accelerations and controls since the episode began;
        MuJoCo restarts a simulation where one rises.
      pos, quat, vel: `[N, F, 3 or 4]`, positions, headings and linear velocities of the free and driven objects, the
        same (quat and vel only if asked for).
      centre: `[N, D, 2]`, centres of the driven objects' circles.
      reference: `[N, nq]`, the pose that a model of the episode's layout would be compiled at.
      data: One MjData for each simulation.
      workers, chunks, work: The threads, the rows that they share, and what steps them: `work(thread, rows)`.
      flags, options: Flags of a substep and of the last forward pass; each thread's model options, which take them.
      drives: Of each simulation, mocap positions of the driven objects and their targets in every substep.
    """

    def __init__(
        self,
        world: World,
        substeps: int,
        num_envs: int,
        num_threads: int | None,
        pos: np.ndarray,
        headings: bool = False,
        velocities: bool = False,
    ):
        models.log_warnings()
        self.world, self.num_envs, self.substeps = world, num_envs, substeps
        model = world.model
        self.data = [mujoco.MjData(model) for _ in range(num_envs)]
        self.num_threads = min(num_threads or threads.processors(), num_envs)
        self.workers = threads.Workers(self.num_threads)
        self.chunks = threads.split(num_envs, self.num_threads)

        self.ctrl = np.zeros((num_envs, model.nu))
        self.sensors = np.zeros((num_envs, model.nsensordata))
        self.warnings = np.zeros((num_envs, models.BAD.stop - models.BAD.start), np.int32)
        self._models = [copy.copy(model) for _ in range(self.num_threads)]
        self.options = [model.opt for model in self._models]
        self._fields = [[getattr(model, name) for name in _CONSTANTS] for model in self._models]
        self.flags = (model.opt.disableflags | mujoco.mjtDisableBit.mjDSBL_SENSOR, model.opt.disableflags)
        self.reference = np.tile(model.qpos0, (num_envs, 1))
        self._scratch = copy.copy(model)
        self._scratch_data = mujoco.MjData(model)
        self._constants: list[list[np.ndarray]] = [[field.copy() for field in self._fields[0]]] * num_envs
        self._loaded = [self._constants[0]] * self.num_threads

        free = world.model.nq - world.free[0] > 0
        self.pos, self.quat, self.vel = pos, np.zeros((*pos.shape[:2], 4)), np.zeros(pos.shape)
        self._lanes = []  # of each simulation: data, ctrl, its row, what to copy out
        for i, data in enumerate(self.data):
            copies = [(self.sensors[i], data.sensordata), (self.warnings[i], data.warning.number[models.BAD])]
            poses, velocities_ = data.qpos[world.free[0] :].reshape(-1, 7), data.qvel[world.free[1] :].reshape(-1, 6)
            copies += [(self.pos[i], poses[:, :3])] * free
            copies += [(self.quat[i], poses[:, 3:])] * (free and headings)
            copies += [(self.vel[i], velocities_[:, :3])] * (free and velocities)
            self._lanes.append((data, data.ctrl, self.ctrl[i], copies))

        driven = [kind for kind in world.groups if kind.motion == DRIVEN]
        objects = np.concatenate([np.arange(world.slices[k.group].start, world.slices[k.group].stop) for k in driven]
                                 or [np.zeros(0, int)])  # fmt: skip
        first = int(world.mocap[objects].min()) if len(objects) else 0
        self._driven = slice(first, first + len(objects))
        self.centre = np.zeros((num_envs, len(objects), 2))
        self._travel = np.array([kind.travel for kind in driven for _ in range(kind.count)])
        self._target = np.zeros((num_envs, substeps, len(objects), 3))
        self._target[..., 2] = [kind.z + kind.lift for kind in driven for _ in range(kind.count)]
        self.drives = [(data.mocap_pos[self._driven], list(rows)) for data, rows in zip(self.data, self._target)]
        self._clock = world.sensors["clock"].start
        self._split = not len(objects) and model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4
        self.work = self._run_driven if len(objects) else self._run

    def step(self, rows: np.ndarray | None = None) -> None:
        """Advances all simulations, or some, by one environment step with `ctrl` and refreshes the arrays."""
        if len(self._travel):
            times = np.full((self.num_envs, self.substeps), self.world.model.opt.timestep)
            times[:, 0] = self.sensors[:, self._clock]
            np.add.accumulate(times, axis=1, out=times)  # adds up as MuJoCo's clock does
            self.aim(times)
        chunks = self.chunks
        if rows is not None:
            chosen = set(rows.tolist())
            chunks = [[i for i in chunk if i in chosen] for chunk in chunks]
        self.workers.run(self.work, chunks)

    def aim(self, times: np.ndarray) -> None:
        """Targets of the driven objects at times `[N, substeps]`: a clockwise circle around their centres."""
        circle = self._travel * np.stack([np.sin(times), np.cos(times)])[..., None]
        self._target[..., 0] = self.centre[:, None, :, 0] + circle[0]
        self._target[..., 1] = self.centre[:, None, :, 1] + circle[1]

    def model(self, thread: int, i: int) -> mujoco.MjModel:
        """The thread's model with the constants of simulation i."""
        constants = self._constants[i]
        if constants is not self._loaded[thread]:
            for field, value in zip(self._fields[thread], constants):
                field[...] = value
            self._loaded[thread] = constants
        return self._models[thread]

    def _run(self, thread: int, rows: Sequence[int]) -> None:
        step, begin, forward = mujoco.mj_step, mujoco.mj_step2, mujoco.mj_forward
        options, (quiet, sensing), substeps = self.options[thread], self.flags, self.substeps
        for i in rows:
            model, (data, ctrl, row, copies) = self.model(thread, i), self._lanes[i]
            ctrl[...] = row
            options.disableflags = quiet
            if self._split:
                begin(model, data)
                if substeps > 1:
                    step(model, data, substeps - 1)
            else:
                step(model, data, substeps)
            options.disableflags = sensing
            forward(model, data)
            for target, source in copies:  # here, while it is in the cache
                target[...] = source

    def _run_driven(self, thread: int, rows: Sequence[int]) -> None:
        step, forward = mujoco.mj_step, mujoco.mj_forward
        options, (quiet, sensing) = self.options[thread], self.flags
        for i in rows:
            model, (data, ctrl, row, copies) = self.model(thread, i), self._lanes[i]
            mocap, targets = self.drives[i]
            ctrl[...] = row
            options.disableflags = quiet
            for target in targets:
                mocap[...] = target
                step(model, data)
            options.disableflags = sensing
            forward(model, data)
            for target, source in copies:
                target[...] = source

    def read(self, rows: Iterable[int]) -> None:
        """Copies what the engine reads out of some simulations."""
        for i in rows:
            for target, source in self._lanes[i][3]:
                target[...] = source

    def clear(self, i: int) -> mujoco.MjData:
        """Puts simulation i at the model's start, awake, for the caller to fill in; `start` must follow."""
        mujoco.mj_resetData(self.world.model, self.data[i])
        # Nothing falls asleep in the first step: one step from a given state is the awake one, bit for bit.
        self.data[i].tree_asleep -= self.substeps
        return self.data[i]

    def start(self, i: int) -> None:
        """Computes everything that depends on the state and the reference pose of simulation i."""
        self._weigh(i)
        if len(self._travel) and self.data[i].time == 0:
            self.data[i].mocap_pos[self._driven, :2] = self.centre[i]  # at rest in the centre until the first substep
        mujoco.mj_forward(self.model(0, i), self.data[i])

    def _weigh(self, i: int) -> None:
        self._scratch.qpos0[:] = self.reference[i]
        mujoco.mj_setConst(self._scratch, self._scratch_data)
        constants = [getattr(self._scratch, name) for name in _CONSTANTS]
        first = self._constants[0]
        if all(np.array_equal(a, b) for a, b in zip(constants, first)):
            self._constants[i] = first
        else:
            self._constants[i] = [value.copy() for value in constants]

    def state(self) -> dict[str, Any]:
        """Everything that decides the future of the simulations, one row each."""
        model = self.world.model
        state = np.empty((self.num_envs, mujoco.mj_stateSize(model, _STATE)))
        for row, data in zip(state, self.data):
            mujoco.mj_getState(model, data, row, _STATE)
        asleep = np.array([data.tree_asleep for data in self.data]).reshape(self.num_envs, -1)
        return {
            "state": state,
            "asleep": asleep,
            "stale": {name: np.stack([getattr(data, name).ravel() for data in self.data]) for name in _STALE},
            "centre": self.centre.copy(),
            "reference": self.reference.copy(),
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Restores what `state` returned, bit for bit."""
        model = self.world.model
        self.centre[:], self.reference[:] = saved["centre"], saved["reference"]
        # MuJoCo puts trees to sleep only by itself, or where a model says that they start asleep and nothing awake
        # touches them. In that model the robot stands where its joints are at zero, so nothing may touch anything.
        scratch = copy.copy(model)
        policy = scratch.tree_sleep_policy.copy()
        scratch.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        for i, (data, row, asleep) in enumerate(zip(self.data, saved["state"], saved["asleep"])):
            self._weigh(i)
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, row, _STATE)
            if (asleep >= 0).any():
                scratch.qpos0[:] = data.qpos
                scratch.tree_sleep_policy[:] = np.where(asleep >= 0, mujoco.mjtSleepPolicy.mjSLEEP_INIT, policy)
                mujoco.mj_resetData(scratch, data)
                mujoco.mj_setState(model, data, row, _STATE)
            data.tree_asleep[:] = asleep
            mujoco.mj_forward(self.model(0, i), data)
            for name, values in saved["stale"].items():
                getattr(data, name)[...] = values[i].reshape(getattr(data, name).shape)
        self.read(range(self.num_envs))

    def close(self) -> None:
        """Ends the threads."""
        self.workers.close()
