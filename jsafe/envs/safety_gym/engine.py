"""The batched environment: N episodes of one task, stepped together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec, Step
from jsafe.envs.safety_gym import state as states
from jsafe.envs.safety_gym.layout import LayoutError, Placement, resample, sample_layout
from jsafe.envs.safety_gym.objects import DRIVEN, FREE, STATIC
from jsafe.envs.safety_gym.observe import Observer, rotation
from jsafe.envs.safety_gym.physics import Physics
from jsafe.envs.safety_gym.rng import RandomStream
from jsafe.envs.safety_gym.robots import Robot
from jsafe.envs.safety_gym.tasks import Scene, Task
from jsafe.envs.safety_gym.world import build

DIVERGED_REWARD = -10.0
"""Reward of a step in which the simulation broke down, as the official exception path gives."""


class VectorEnv:
    """N environments of one task with the same-step autoreset, each with its own random stream.

    Environment i of seed s has the stream of the official environment with seed s + i, draw for draw; results depend
    neither on the number of environments nor on the number of threads. Use `jsafe.envs.make`.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
    """

    def __init__(
        self,
        id: str,
        robot: Robot,
        task: Task,
        num_envs: int = 1,
        seed: int = 0,
        num_threads: int | None = None,
        costs: str = "sum",
        sleep: bool = True,
    ):
        checks.integer("num_envs", num_envs)
        if num_threads is not None:
            checks.integer("num_threads", num_threads)
        if costs not in ("sum", "separate"):
            raise ValueError(f"costs must be 'sum' or 'separate', got {costs!r}")
        self.num_envs, self.robot, self.task = int(num_envs), robot, task
        self._world = world = build(robot, task, sleep)
        self._observer = Observer(world, robot.parts, task)
        self._scene_arrays(num_threads)
        self._placements()
        self._cost_groups = dict(task.cost_groups) if costs == "separate" and task.cost_groups else None
        box = world.model.actuator_ctrlrange
        self._low, self._high = box[:, 0].copy(), box[:, 1].copy()
        as_float32 = box.astype(np.float32).astype(float)  # the official action space is rounded, its clipping is not
        self.spec = Spec(
            id=id,
            obs_dim=self._observer.dim,
            act_dim=world.model.nu,
            num_costs=len(self._cost_groups) if self._cost_groups else 1,
            horizon=task.horizon,
            action_low=tuple(as_float32[:, 0].tolist()),
            action_high=tuple(as_float32[:, 1].tolist()),
            cost_names=tuple(self._cost_groups) if self._cost_groups else ("sum",),
            obs_slices=dict(self._observer.slices),
            dt=robot.timestep * robot.substeps,
        )
        self._steps = np.zeros(self.num_envs, int)
        self._ticks, self._drawn = 0, np.zeros(self.num_envs, int)  # steps; those that each stream has accounted for
        self._last_obs = np.zeros((self.num_envs, self._observer.dim))
        self._last_cost = np.zeros(self.num_envs)  # for pictures
        self._painter = None
        self._started = self._closed = False
        self._seed(seed)

    def _scene_arrays(self, num_threads: int | None) -> None:
        world, n = self._world, self.num_envs
        count = len(world.mocap)
        self._pos, self._quat = np.zeros((n, count, 3)), np.zeros((n, count, 4))
        self._quat[..., 0] = 1
        kinds = [kind for kind in world.groups for _ in range(kind.count)]
        self._names = [name for kind in world.groups for name in kind.names]
        self._free = next((i for i, kind in enumerate(kinds) if kind.motion in (FREE, DRIVEN)), count)
        self._driven = slice(next((i for i, kind in enumerate(kinds) if kind.motion == DRIVEN), count), count)
        self._static = np.array([i for i, kind in enumerate(kinds) if kind.motion == STATIC], int)
        natural = self.task.lidar.kind == "natural"
        self._turning = natural and any(kind.shape in ("box", "push_box") for kind in world.groups)
        self._physics = physics = Physics(
            world,
            self.robot.substeps,
            n,
            num_threads,
            pos=self._pos[:, self._free :],
            headings=self._turning,
            velocities=any(group != "agent" for group in self.task.moving),
        )
        sensors, where = physics.sensors, world.sensors
        axes = slice(where["agent x"].start, where["agent z"].stop)
        self._rot = np.zeros((n, count, 3, 3))
        pos, rot, vel, touch = {}, {}, {}, {}
        for kind in world.groups:
            rows = world.slices[kind.group]
            pos[kind.group], rot[kind.group] = self._pos[:, rows], self._rot[:, rows]
            if kind.group in self.task.moving:
                vel[kind.group] = physics.vel[:, rows.start - self._free : rows.stop - self._free]
            if kind.group in self.task.touching:
                first = where[f"touch {kind.names[0]}"].start
                touch[kind.group] = sensors[:, first : first + kind.count]
        if "agent" in self.task.moving:
            vel["agent"] = sensors[:, None, where["agent velocity"]]
        self._memory = {name: np.zeros(n) for name in self.task.memory}
        self._scene = Scene(
            agent_pos=sensors[:, where["agent position"]],
            agent_rot=sensors[:, axes].reshape(n, 3, 3).transpose(0, 2, 1),
            pos=pos,
            rot=rot,
            vel=vel,
            touch=touch,
            memory=self._memory,
        )

    def _placements(self) -> None:
        task, e = self.task, self.task.extent
        agent = Placement("agent", task.agent_keepout, task.agent_box or (-e, -e, e, e))
        places = [agent]
        for kind in self._world.groups:
            for i, name in enumerate(kind.names):
                box = (-e, -e, e, e)
                if kind.locations:
                    (x, y), half = kind.locations[i], kind.keepout + 1e-9
                    box = (x - half, y - half, x + half, y + half)
                places.append(Placement(name, kind.keepout, box))
        self._places = places
        self._keepouts = np.array([place.keepout for place in places])
        order = np.arange(len(places))
        if task.by_keepout:
            order = np.argsort(-self._keepouts, kind="stable")
        self._order = order
        self._in_order = [places[i] for i in order]
        self._spins = [
            None if kind.spin else (kind.yaws[i] if kind.yaws else 0.0)
            for kind in self._world.groups
            for i in range(kind.count)
        ]
        self._heights = np.array([kind.z for kind in self._world.groups for _ in range(kind.count)])

    def _seed(self, seed: int) -> None:
        seed = checks.integer("seed", seed, 0, 2**32 - self.num_envs)
        self._streams = [RandomStream(seed + i) for i in range(self.num_envs)]
        self._drawn[:] = self._ticks

    # ---- the interface -------------------------------------------------------------------------------------------

    def reset(self, seed: int | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts a new episode in every environment, or in some.

        Args:
          seed: Environment i continues as the official one seeded `seed + i`; None: its stream goes on.
          mask: `[N]` booleans, which environments to reset; the others stay where they are. None: all. Not with `seed`.

        Returns:
          Observations `[N, O]`, float64; where nothing was reset, those of the last step.

        Raises:
          ValueError: If the seed is not an integer in 0 ... 2**32 - N, or the mask does not fit.
          LayoutError: If no layout fits.
        """
        self._usable(started=mask is not None)
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed)
            self._begin(rows)
            self._last_obs[rows] = self._observer(self._scene.rows(rows), self._physics.sensors[rows])
            return self._last_obs.copy()
        if seed is not None:
            self._seed(seed)
        self._begin(np.arange(self.num_envs))
        self._started = True
        self._last_obs = self._observe()
        return self._last_obs.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]` in the action box of `spec`; numbers outside are clipped to it.

        Returns:
          A `Step`.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
        """
        self._usable()
        actions = checks.actions(actions, self.num_envs, self.spec.act_dim)
        np.minimum(np.maximum(actions, self._low), self._high, out=self._physics.ctrl)
        self._physics.step()
        self._ticks += 1  # the official package draws its number of substeps, which is always ten
        self._steps += 1
        task, scene, memory = self.task, self._scene, self._memory
        self._refresh()
        now = task.measure(scene)
        met = task.met(scene, now)
        reward = np.asarray(task.reward(scene, now, met), float)
        if task.reward_clip is not None:
            reward = np.minimum(np.maximum(reward, -task.reward_clip), task.reward_clip)
        cost, info = self._costs(task.costs(scene))
        for name, value in (task.tick(scene) | now).items():
            memory[name][:] = value
        terminated = np.zeros(self.num_envs, bool)
        if met.any():
            terminated = self._next_goals(np.flatnonzero(met))
        if self.robot.dead_below is not None:
            terminated |= scene.agent_pos[:, 2] <= self.robot.dead_below
        truncated = self._steps >= task.horizon
        if task.success_ends:
            truncated |= met
        obs = self._observe()
        info |= {"success": met, "diverged": np.zeros(self.num_envs, bool)}
        warnings = self._physics.warnings
        if not math.isfinite(obs.sum()) or warnings.any():
            lost = warnings.any(axis=1) | ~np.isfinite(obs).all(axis=1)
            info["diverged"] = lost
            info["success"] = met & ~lost
            reward[lost], cost[lost], terminated[lost], truncated[lost] = DIVERGED_REWARD, 0.0, False, True
            for name in info:
                if name.startswith("cost_"):
                    info[name][lost] = 0.0
            obs[lost] = self._last_obs[lost]
        final_obs = obs.copy()
        self._last_cost = cost.sum(axis=1)
        done = terminated | truncated
        if done.any():
            rows = np.flatnonzero(done)
            self._begin(rows)
            obs[rows] = self._observer(scene.rows(rows), self._physics.sensors[rows])
        self._last_obs = obs.copy()
        return Step(obs, reward, cost, terminated, truncated, final_obs, info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]` (after `set_state`, for instance)."""
        self._usable()
        return self._observe()

    def get_state(self, i: int) -> dict:
        """State of environment i by names: see `jsafe.envs.safety_gym.state.get_state`."""
        self._usable()
        return states.get_state(self, checks.index(i, self.num_envs))

    def set_state(self, i: int, state: dict) -> None:
        """Puts environment i into a state by names: see `jsafe.envs.safety_gym.state.set_state`."""
        self._usable()
        states.set_state(self, checks.index(i, self.num_envs), state)

    def state_dict(self) -> dict:
        """The whole engine, random streams included, as nested dictionaries of arrays and numbers."""
        self._usable()
        return states.state_dict(self)

    def load_state_dict(self, saved: dict) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        self._usable(started=False)
        states.load_state_dict(self, saved)

    def render(
        self,
        i: int = 0,
        camera: str = "track",
        width: int = 256,
        height: int = 256,
        overlays: bool = True,
        caption: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """A picture of environment i; the simulation stays as it is, bit for bit.

        Args:
          i: Which environment.
          camera: `track` (follows the robot from above), `vision` (on the robot), `fixednear`, `fixedfar`, `free`, or
            another camera of the robot.
          width, height: Pixels.
          overlays: Draw what the lidars see as rings above the robot, and a red sphere in steps that cost something.
          caption: Names and values in the upper left corner.

        Returns:
          uint8 `[height, width, 3]`.

        Raises:
          ValueError: If the index, the camera or a size is not allowed.
          jsafe.envs.safety_gym.drawing.render.RenderError: If no GL library is there.
        """
        self._usable()
        from jsafe.envs.safety_gym.drawing import render

        return render.render(self, checks.index(i, self.num_envs), camera, width, height, overlays, caption)

    def close(self) -> None:
        """Ends the threads; the environment cannot be used any more."""
        if self._painter is not None:
            self._painter.close()
        self._closed = True
        self._physics.close()

    def _usable(self, started: bool = True) -> None:
        if self._closed:
            raise RuntimeError("the environment is closed")
        if started and not self._started:
            raise RuntimeError("call reset() first")

    # ---- one step ------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Brings the scene up to date with the physics' arrays (nearly all of it are views of them)."""
        if self._turning and self._free < len(self._names):
            self._quat[:, self._free :] = self._physics.quat
            self._rot[:, self._free :] = rotation(self._physics.quat)

    def restore_scene(self) -> None:
        """Brings the scene up to date after the state was written from outside."""
        self._refresh()
        if self._turning:
            self._rot[:] = rotation(self._quat)

    def _costs(self, raw: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Cost columns and info from raw values by key."""
        info = {f"cost_{name}": value for name, value in raw.items()}
        total = sum(raw.values()) if raw else np.zeros(self.num_envs)
        info["cost_sum"] = total.copy() if len(raw) == 1 else total
        if self.task.indicator:
            info = {name: (value > 0).astype(float) for name, value in info.items()}
        if self._cost_groups is None:
            return info["cost_sum"][:, None].copy(), info
        combine = np.max if self.task.indicator else np.sum
        columns = [combine([info[f"cost_{key}"] for key in keys], axis=0) for keys in self._cost_groups.values()]
        return np.stack(columns, axis=1), info

    def _next_goals(self, rows: np.ndarray) -> np.ndarray:
        """New goals where one was reached; true where none was found (that ends the episode)."""
        failed = np.zeros(self.num_envs, bool)
        for i in rows:
            failed[i] = not self.task.next_goal(_Episode(self, i))
        self._remember(rows)
        return failed

    def _remember(self, rows: np.ndarray) -> None:
        for name, value in self.task.measure(self._scene.rows(rows)).items():
            self._memory[name][rows] = value

    def _observe(self) -> np.ndarray:
        return self._observer(self._scene, self._physics.sensors)

    # ---- one reset -----------------------------------------------------------------------------------------------

    def _stream(self, i: int) -> RandomStream:
        """Random stream of environment i, brought up to date."""
        self._streams[i].skip(self._ticks - int(self._drawn[i]))
        self._drawn[i] = self._ticks
        return self._streams[i]

    def _begin(self, rows: np.ndarray) -> None:
        """Starts new episodes in some environments."""
        for i in rows:
            self._begin_one(int(i))
        self._physics.read(rows)
        self._refresh()
        self._remember(rows)

    def _begin_one(self, i: int) -> None:
        task, robot, physics, stream = self.task, self.robot, self._physics, self._stream(i)
        layout = np.empty((len(self._places), 2))
        layout[self._order] = sample_layout(stream, self._in_order, task.margin, task.tries, task.layouts)
        yaw = stream.uniform(0, 2 * np.pi)
        drawn = stream.peek_random(len(self._spins)) * (2 * np.pi)
        stream.skip(len(self._spins))
        yaws = np.array([value if spin is None else spin for spin, value in zip(self._spins, drawn)])
        self._scene.agent_pos[i] = (*layout[0], robot.height)
        self._pos[i, :, :2], self._pos[i, :, 2] = layout[1:], self._heights
        self._quat[i] = turned(yaws)
        if self._turning:
            self._rot[i] = rotation(self._quat[i])
        physics.centre[i] = layout[1:][self._driven]
        self._steps[i] = 0
        self._last_cost[i] = 0.0
        for values in self._memory.values():
            values[i] = 0.0
        if not task.begin(_Episode(self, i)):
            raise LayoutError(f"no room for the first goal of {self.spec.id} in environment {i}")
        data, reference = physics.clear(i), physics.reference[i]
        frame = np.array([*layout[0], robot.height, *turned(yaw)])
        if robot.anchored:
            data.mocap_pos[self._world.anchor], data.mocap_quat[self._world.anchor] = frame[:3], frame[3:]
        else:
            reference[:7] = frame
        free = reference[self._world.free[0] :].reshape(-1, 7)
        free[:, :3], free[:, 3:] = self._pos[i, self._free :], self._quat[i, self._free :]
        data.qpos[:] = reference
        for joint, value in (robot.start(stream) if robot.start else {}).items():
            data.joint(joint).qpos[:] = value
        self.place_mocaps(i)
        physics.start(i)

    def place_mocaps(self, i: int) -> None:
        """Writes the poses of static objects, and the headings of driven ones, into the simulation."""
        data, mocap = self._physics.data[i], self._world.mocap
        for rows, whole in ((self._static, True), (np.arange(self._driven.start, self._driven.stop), False)):
            if len(rows):
                data.mocap_quat[mocap[rows]] = self._quat[i, rows]
                if whole:
                    data.mocap_pos[mocap[rows]] = self._pos[i, rows]


class _Episode:
    """One environment, as a task sees it where goals are set (`jsafe.envs.safety_gym.tasks.Episode`)."""

    def __init__(self, env: VectorEnv, i: int):
        self._env, self._i = env, int(i)
        self.stream = env._stream(self._i)
        self.memory = _Row(env._memory, self._i)

    def xy(self, group: str, index: int = 0) -> np.ndarray:
        return self._env._scene.pos[group][self._i, index, :2].copy()

    def move(self, group: str, xy: Sequence[float], index: int = 0) -> None:
        self._env._scene.pos[group][self._i, index, :2] = xy

    def resample(self, group: str, index: int = 0) -> bool:
        env, i = self._env, self._i
        at = 1 + env._world.slices[group].start + index
        standing = np.concatenate([env._scene.agent_pos[i : i + 1, :2], env._pos[i, :, :2]])
        standing[1:][env._driven] = env._physics.centre[i]
        others = np.arange(len(standing)) != at
        xy = resample(self.stream, env._places[at], standing[others], env._keepouts[others], env.task.margin)
        if xy is None:
            return False
        self.move(group, xy, index)
        return True


class _Row:
    """One environment's entries of the task's memory."""

    def __init__(self, memory: dict[str, np.ndarray], i: int):
        self._memory, self._i = memory, i

    def __getitem__(self, name: str) -> float:
        return float(self._memory[name][self._i])

    def __setitem__(self, name: str, value: float) -> None:
        self._memory[name][self._i] = value


def turned(yaw) -> np.ndarray:
    """Quaternions `[..., 4]` of turns about the vertical."""
    half = 0.5 * np.asarray(yaw)
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)
