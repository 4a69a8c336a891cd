"""N environments of one task as they stand: arrays, physics, random streams, and how episodes and goals begin.

The engine (`engine.py`) steps it, `state.py` reads and writes it, `drawing/` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jsafe.envs.safety_gym.coordinates import Coordinates
from jsafe.envs.safety_gym.layout import LayoutError, resample, sample_layout
from jsafe.envs.safety_gym.objects import DRIVEN, FREE, STATIC
from jsafe.envs.safety_gym.observe import Observer, rotation
from jsafe.envs.safety_gym.physics import Physics
from jsafe.envs.safety_gym.plan import plan_of
from jsafe.envs.safety_gym.rng import RandomStream
from jsafe.envs.safety_gym.robots import Robot
from jsafe.envs.safety_gym.tasks import Scene, Task
from jsafe.envs.safety_gym.world import build


class Simulation:
    """Attributes are the live arrays: whoever writes them calls `restore` afterwards.

    Attributes:
      id, num_envs, robot, task: What is simulated.
      world: The compiled model and its addresses.
      physics: Its N copies.
      observer: Makes observations of a scene.
      scene: What the task sees; nearly all of it are views of the arrays below and of the physics'.
      pos, quat, rot: Poses of all objects in scene order: `[N, K, 3]`, `[N, K, 4]`, `[N, K, 3, 3]`.
      memory: What the task remembers, `[N]` each.
      steps: Steps taken in the episode `[N]`.
      ticks: Steps of the whole batch.
      last_obs: The newest observations `[N, O]`.
      last_cost: Cost of the newest step, summed over its columns `[N]`.
      on_end: Called with the rows whose episodes have ended, while their last states still stand; or None.
      free, driven, static: Where the free and driven objects begin, where the driven ones are, indices of the static.
      fixed: As in the plan.
    """

    def __init__(
        self,
        id: str,
        robot: Robot,
        task: Task,
        num_envs: int,
        num_threads: int | None,
        sleep: bool,
        observation: str,
        parts: str,
    ):
        self.id, self.robot, self.task, self.num_envs = id, robot, task, num_envs
        self.world = build(robot, task, sleep)
        self.observer: Observer | Coordinates = (
            Observer(self.world.groups, self.world.sensors, robot.parts, task)
            if observation != "coordinates"
            else Coordinates(self.world, robot.parts, task, parts)
        )
        self._scene_arrays(num_threads)
        self._placements()
        self.steps = np.zeros(num_envs, int)
        self.ticks, self._drawn = 0, np.zeros(num_envs, int)  # steps; those that each stream has accounted for
        self.last_obs = np.zeros((num_envs, self.observer.dim))
        self.last_cost = np.zeros(num_envs)
        self.on_end: Callable[[np.ndarray], None] | None = None

    def _scene_arrays(self, num_threads: int | None) -> None:
        world, n = self.world, self.num_envs
        count = len(world.mocap)
        self.pos, self.quat = np.zeros((n, count, 3)), np.zeros((n, count, 4))
        self.quat[..., 0] = 1
        kinds = [kind for kind in world.groups for _ in range(kind.count)]
        self.free = next((i for i, kind in enumerate(kinds) if kind.motion in (FREE, DRIVEN)), count)
        self.driven = slice(next((i for i, kind in enumerate(kinds) if kind.motion == DRIVEN), count), count)
        self.static = np.array([i for i, kind in enumerate(kinds) if kind.motion == STATIC], int)
        natural = self.task.lidar.kind == "natural"
        self._turning = natural and any(kind.shape in ("box", "push_box") for kind in world.groups)
        self.physics = physics = Physics(
            world,
            self.robot.substeps,
            n,
            num_threads,
            pos=self.pos[:, self.free :],
            headings=self._turning,
            velocities=any(group != "agent" for group in self.task.moving),
        )
        self._movable = self.free < count
        sensors, where = physics.sensors, world.sensors
        axes = slice(where["agent x"].start, where["agent z"].stop)
        self.rot = np.zeros((n, count, 3, 3))
        pos, rot, vel, touch = {}, {}, {}, {}
        for kind in world.groups:
            rows = world.slices[kind.group]
            pos[kind.group], rot[kind.group] = self.pos[:, rows], self.rot[:, rows]
            if kind.group in self.task.moving:
                vel[kind.group] = physics.vel[:, rows.start - self.free : rows.stop - self.free]
            if kind.group in self.task.touching:
                first = where[f"touch {kind.names[0]}"].start
                touch[kind.group] = sensors[:, first : first + kind.count]
        if "agent" in self.task.moving:
            vel["agent"] = sensors[:, None, where["agent velocity"]]
        self.memory = {name: np.zeros(n) for name in self.task.memory}
        self.scene = Scene(
            agent_pos=sensors[:, where["agent position"]],
            agent_rot=sensors[:, axes].reshape(n, 3, 3).transpose(0, 2, 1),
            pos=pos,
            rot=rot,
            vel=vel,
            touch=touch,
            memory=self.memory,
        )

    def _placements(self) -> None:
        plan = plan_of(self.task)
        self.places, self.keepouts, self._order = plan.places, plan.keepouts, plan.order
        self._in_order = [plan.places[i] for i in plan.order]
        self._spins, self._heights, self.fixed = plan.yaws, plan.heights, plan.fixed

    # ---- random streams ------------------------------------------------------------------------------------------

    def seed(self, seeds: Sequence[int]) -> None:
        """Gives every environment a new random stream."""
        self.streams = [RandomStream(seed) for seed in seeds]
        self._drawn[:] = self.ticks

    def stream(self, i: int) -> RandomStream:
        """Random stream of environment i, brought up to date: the official package draws once a step."""
        self.streams[i].skip(self.ticks - int(self._drawn[i]))
        self._drawn[i] = self.ticks
        return self.streams[i]

    def settle_streams(self) -> None:
        """Says that the streams are up to date, after they were written."""
        self._drawn[:] = self.ticks

    def stand_still(self, rows: np.ndarray) -> None:
        """Takes a tick back that some environments did not take part in."""
        self._drawn[rows] += 1
        self.steps[rows] -= 1

    # ---- the scene -----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Brings the scene up to date with the physics' arrays (nearly all of it are views of them)."""
        if self._turning and self._movable:
            self.quat[:, self.free :] = self.physics.quat
            self.rot[:, self.free :] = rotation(self.physics.quat)

    def restore(self) -> None:
        """Brings the scene up to date after the state was written from outside."""
        self.refresh()
        if self._turning:
            self.rot[:] = rotation(self.quat)

    def observe(self) -> np.ndarray:
        """Observations `[N, O]`."""
        return self.observer(self.scene, self.physics.sensors)

    def observe_rows(self, rows: np.ndarray) -> np.ndarray:
        """Observations of some environments."""
        return self.observer(self.scene.rows(rows), self.physics.sensors[rows])

    # ---- goals and episodes --------------------------------------------------------------------------------------

    def next_goals(self, rows: np.ndarray) -> np.ndarray:
        """New goals where one was reached; true `[N]` where none was found (that ends the episode)."""
        failed = np.zeros(self.num_envs, bool)
        for i in rows:
            failed[i] = not self.task.next_goal(_Episode(self, i))
        self.remember(rows)
        return failed

    def remember(self, rows: np.ndarray) -> None:
        """Writes what the task measures into its memory."""
        for name, value in self.task.measure(self.scene.rows(rows)).items():
            self.memory[name][rows] = value

    def begin(self, rows: np.ndarray) -> None:
        """Starts new episodes in some environments.

        Raises:
          LayoutError: If no layout fits.
        """
        for i in rows:
            self._begin_one(int(i))
        self.physics.read(rows)
        self.refresh()
        self.remember(rows)

    def _begin_one(self, i: int) -> None:
        task, robot, physics, stream = self.task, self.robot, self.physics, self.stream(i)
        layout = np.empty((len(self.places), 2))
        layout[self._order] = sample_layout(stream, self._in_order, task.margin, task.tries, task.layouts)
        yaw = stream.uniform(0, 2 * np.pi)
        drawn = stream.peek_random(len(self._spins)) * (2 * np.pi)
        stream.skip(len(self._spins))
        yaws = np.array([value if spin is None else spin for spin, value in zip(self._spins, drawn)])
        self.scene.agent_pos[i] = (*layout[0], robot.height)
        self.pos[i, :, :2], self.pos[i, :, 2] = np.where(np.isnan(self.fixed), layout[1:], self.fixed), self._heights
        self.quat[i] = turned(yaws)
        if self._turning:
            self.rot[i] = rotation(self.quat[i])
        physics.centre[i] = layout[1:][self.driven]
        self.steps[i] = 0
        self.last_cost[i] = 0.0
        for values in self.memory.values():
            values[i] = 0.0
        if not task.begin(_Episode(self, i)):
            raise LayoutError(f"no room for the first goal of {self.id} in environment {i}")
        data, reference = physics.clear(i), physics.reference[i]
        frame = np.array([*layout[0], robot.height, *turned(yaw)])
        if robot.anchored:
            data.mocap_pos[self.world.anchor], data.mocap_quat[self.world.anchor] = frame[:3], frame[3:]
        else:
            reference[:7] = frame
        free = reference[self.world.free[0] :].reshape(-1, 7)
        free[:, :3], free[:, 3:] = self.pos[i, self.free :], self.quat[i, self.free :]
        data.qpos[:] = reference
        for joint, value in (robot.start(stream) if robot.start else {}).items():
            data.joint(joint).qpos[:] = value
        self.place_mocaps(i)
        physics.start(i)

    def place_mocaps(self, i: int) -> None:
        """Writes the poses of static objects, and the headings of driven ones, into the simulation."""
        data, mocap = self.physics.data[i], self.world.mocap
        for rows, whole in ((self.static, True), (np.arange(self.driven.start, self.driven.stop), False)):
            if len(rows):
                data.mocap_quat[mocap[rows]] = self.quat[i, rows]
                if whole:
                    data.mocap_pos[mocap[rows]] = self.pos[i, rows]

    def close(self) -> None:
        """Ends the threads."""
        self.physics.close()


class _Episode:
    """One environment, as a task sees it where goals are set (`jsafe.envs.safety_gym.tasks.Episode`)."""

    def __init__(self, simulation: Simulation, i: int):
        self._simulation, self._i = simulation, int(i)
        self.stream = simulation.stream(self._i)
        self.memory = _Row(simulation.memory, self._i)

    def xy(self, group: str, index: int = 0) -> np.ndarray:
        return self._simulation.scene.pos[group][self._i, index, :2].copy()

    def move(self, group: str, xy: Sequence[float] | np.ndarray, index: int = 0) -> None:
        self._simulation.scene.pos[group][self._i, index, :2] = xy

    def resample(self, group: str, index: int = 0) -> bool:
        sim, i = self._simulation, self._i
        at = 1 + sim.world.slices[group].start + index
        standing = np.concatenate([sim.scene.agent_pos[i : i + 1, :2], sim.pos[i, :, :2]])
        standing[1:][sim.driven] = sim.physics.centre[i]
        others = np.arange(len(standing)) != at
        xy = resample(self.stream, sim.places[at], standing[others], sim.keepouts[others], sim.task.margin)
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
