"""The batched environment: N episodes of one task, stepped together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import DIVERGED_REWARD, Spec, Step
from jsafe.envs.lifecycle import Simulated
from jsafe.envs.safety_gym import state as states
from jsafe.envs.safety_gym.drawing.overhead import OVERHEAD, overhead
from jsafe.envs.safety_gym.robots import Robot
from jsafe.envs.safety_gym.simulation import Simulation
from jsafe.envs.safety_gym.tasks import Task
from jsafe.envs.safety_gym.tasks.base import cost_columns
from jsafe.spaces import Box

OBSERVATIONS = ("sensors", "coordinates", "vision")
"""What is observed: sensors and lidars, or sensors and coordinates (`coordinates.py`). To an engine `vision` is the
same as `sensors`: the pictures are those of a `VisionEnv` around it (`vision.py`)."""
PARTS = ("all", "base")
"""Of the robot, beside coordinates: all, or those that every robot has."""


class SafetyGymEnv(Simulated):
    """N environments of one task with the same-step autoreset, each with its own random stream.

    Environment i of seed s has the stream of the official environment with seed s + i, draw for draw; results depend
    neither on the number of environments nor on the number of threads. Use `jsafe.envs.make`.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      simulation: The environments as they stand.
      task, physics: Of the simulation.
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
        observation: str = "sensors",
        parts: str = "all",
    ):
        checks.one_of("observation", observation, OBSERVATIONS)
        checks.one_of("choice of parts", parts, PARTS)
        checks.integer("num_envs", num_envs)
        if num_threads is not None:
            checks.integer("num_threads", num_threads)
        checks.costs(costs)
        self.num_envs, self.task = int(num_envs), task
        self.simulation = sim = Simulation(id, robot, task, self.num_envs, num_threads, sleep, observation, parts)
        self.physics = sim.physics
        self._cost_groups = dict(task.cost_groups) if costs == "separate" and task.cost_groups else None
        box = sim.world.model.actuator_ctrlrange
        self._low, self._high = box[:, 0].copy(), box[:, 1].copy()
        as_float32 = box.astype(np.float32).astype(float)  # the official action space is rounded, its clipping is not
        self.spec = Spec(
            id=id,
            obs=Box((sim.observer.dim,)),
            action=Box((sim.world.model.nu,), as_float32[:, 0], as_float32[:, 1]),
            num_costs=len(self._cost_groups) if self._cost_groups else 1,
            horizon=task.horizon,
            cost_names=tuple(self._cost_groups) if self._cost_groups else ("sum",),
            obs_slices=dict(sim.observer.slices),
            dt=robot.timestep * robot.substeps,
        )
        self._act_dim = self.spec.act_dim
        self._seed(checks.integer("seed", seed, 0, 2**32 - self.num_envs))

    _states = states

    def _seed(self, seed: int | Sequence[int]) -> None:
        self.simulation.seed(checks.seeds(seed, self.num_envs))

    # ---- the interface -------------------------------------------------------------------------------------------

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts a new episode in every environment, or in some.

        Args:
          seed: Environment i continues as the official one seeded `seed + i` (or with the i-th of N seeds); None: its
            stream goes on.
          mask: `[N]` booleans, which environments to reset; the others stay where they are. None: all. Not with `seed`.

        Returns:
          Observations `[N, O]`, float64; where nothing was reset, those of the last step.

        Raises:
          ValueError: If the seed is not an integer in 0 ... 2**32 - N, or the mask does not fit.
          LayoutError: If no layout fits.
        """
        self._usable(started=mask is not None)
        sim = self.simulation
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed)
            sim.begin(rows)
            sim.last_obs[rows] = sim.observe_rows(rows)
            return sim.last_obs.copy()
        if seed is not None:
            self._seed(seed)
        sim.begin(np.arange(self.num_envs))
        self._started = True
        sim.last_obs = sim.observe()
        return sim.last_obs.copy()

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]` in the action box of `spec`; numbers outside are clipped to it.
          mask: `[N]` booleans, which environments to step; the others stand still, without reward and cost. None: all.

        Returns:
          A `Step`.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
        """
        self._usable()
        actions = checks.actions(actions, self.num_envs, self._act_dim)
        rows = None if mask is None else checks.mask(mask, self.num_envs)
        sim, task = self.simulation, self.task
        scene, memory = sim.scene, sim.memory
        np.minimum(np.maximum(actions, self._low), self._high, out=self.physics.ctrl)
        self.physics.step(rows)
        sim.ticks += 1  # the official package draws its number of substeps, which is always ten
        sim.steps += 1
        sim.refresh()
        now = task.measure(scene)
        met = task.met(scene, now)
        reward = np.asarray(task.reward(scene, now, met), float)
        if task.reward_clip is not None:
            reward = np.minimum(np.maximum(reward, -task.reward_clip), task.reward_clip)
        cost, info = cost_columns(task.costs(scene), scene, task.indicator, self._cost_groups)
        updates = task.tick(scene) | now
        if rows is not None:
            met, reward, cost, info, updates = self._stand_still(rows, met, reward, cost, info, updates)
        for name, value in updates.items():
            memory[name][:] = value
        terminated = np.zeros(self.num_envs, bool)
        if met.any():
            terminated = sim.next_goals(np.flatnonzero(met))
        if sim.robot.dead_below is not None:
            terminated |= scene.agent_pos[:, 2] <= sim.robot.dead_below
        truncated = sim.steps >= task.horizon
        if task.success_ends:
            truncated |= met
        obs = sim.observe()
        info |= {"success": met, "diverged": np.zeros(self.num_envs, bool)}
        warnings = self.physics.warnings
        if not math.isfinite(obs.sum()) or warnings.any():
            lost = warnings.any(axis=1) | ~np.isfinite(obs).all(axis=1)
            info["diverged"] = lost
            info["success"] = met & ~lost
            reward[lost], cost[lost], terminated[lost], truncated[lost] = DIVERGED_REWARD, 0.0, False, True
            for name in info:
                if name.startswith("cost_"):
                    info[name][lost] = 0.0
            obs[lost] = sim.last_obs[lost]
        final_obs = obs.copy()
        sim.last_cost = cost.sum(axis=1)
        done = terminated | truncated
        if done.any():
            ended = np.flatnonzero(done)
            if sim.on_end is not None:
                sim.on_end(ended[~info["diverged"][ended]])
            sim.begin(ended)
            obs[ended] = sim.observe_rows(ended)
        sim.last_obs = obs.copy()
        return Step(obs, reward, cost, terminated, truncated, final_obs, info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]` (after `set_state`, for instance)."""
        self._usable()
        return self.simulation.observe()

    def render(
        self,
        i: int = 0,
        camera: str = "track",
        width: int = 256,
        height: int = 256,
        overlays: bool = True,
        caption: Mapping[str, object] | None = None,
        points: Sequence[Sequence[float]] | np.ndarray = (),
    ) -> np.ndarray:
        """A picture of environment i; the simulation stays as it is, bit for bit.

        Args:
          i: Which environment.
          camera: `track` (follows the robot from above), `vision` (on the robot), `vision_back`, `fixednear`,
            `fixedfar`, `free`, or another camera of the robot; `overhead` is a map from above that needs no GL
            library, and has neither overlays nor caption.
          width, height: Pixels.
          overlays: Draw what the lidars see as rings above the robot, and a red sphere in steps that cost something.
          caption: Names and values in the upper left corner.
          points: Places `[P, 2]` in the world to be marked in orange, metres.

        Returns:
          uint8 `[height, width, 3]`.

        Raises:
          ValueError: If the index, the camera, a size or the shape of the points is not allowed.
          jsafe.envs.api.RenderError: If no GL library is there, or another thread drew before.
        """
        self._usable()
        i, sim = checks.index(i, self.num_envs), self.simulation
        places = np.asarray(points, float) if len(points) else np.zeros((0, 2))
        if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
            raise ValueError(f"points must be finite and of shape [P, 2], got shape {places.shape}")
        if camera == OVERHEAD:
            return overhead(sim, i, checks.integer("width", width), checks.integer("height", height), places)
        from jsafe.envs.safety_gym.drawing import overlays as drawn
        from jsafe.envs.safety_gym.drawing.painter import Painter, model_of

        if self._painter is None:
            self._painter = Painter(model_of(sim.world.xml))
        return self._painter.paint(
            self.physics.data[i],
            drawn.passive(sim, i),
            lambda view: drawn.marks(places) + (drawn.halo(sim, i, view) + drawn.alarm(sim, i) if overlays else []),
            opacity=drawn.opacity(sim, i),
            camera=camera,
            target=sim.scene.agent_pos[i],
            width=width,
            height=height,
            caption=caption,
        )

    def _stand_still(self, rows, met, reward, cost, info, updates):
        """What a step has measured, with everything undone but in the rows that were stepped."""
        still = np.ones(self.num_envs, bool)
        still[rows] = False
        self.simulation.stand_still(still)
        reward = np.where(still, 0.0, reward)
        info = {name: np.where(still, 0.0, value) for name, value in info.items()}
        updates = {name: np.where(still, self.simulation.memory[name], value) for name, value in updates.items()}
        return met & ~still, reward, np.where(still[:, None], 0.0, cost), info, updates
