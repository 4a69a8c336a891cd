"""Batched velocity tasks, with the interface of `jsafe.envs.VectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import DIVERGED_REWARD, Spec, Step
from jsafe.envs.lifecycle import Simulated
from jsafe.envs.velocity import state as states
from jsafe.envs.velocity.simulation import Simulation
from jsafe.envs.velocity.tasks import Runner
from jsafe.spaces import Box

HORIZON = 1000


class VelocityEnv(Simulated):
    """N environments of one velocity task with the same-step autoreset.

    Environment i of seed s draws its starts from the generator that Gymnasium seeds with s + i. Positions behind the
    forward velocity are those that the last substep left behind, as officially; right after `set_state` without them
    (task entries `x_position`, `y_position`) they are computed from the state.

    Actions are not clipped: what lies outside the box costs as much control as officially, and MuJoCo clips the force.

    Attributes:
      spec: Sizes, names and bounds.
      num_envs: N.
      simulation: The environments as they stand.
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
        checks.costs(costs)
        self.num_envs = checks.integer("num_envs", num_envs)
        if num_threads is not None:
            checks.integer("num_threads", num_threads)
        self.runner, self._limit, self._plane = runner, runner.limits[version], runner.speed[version] == "xy"
        self.simulation = sim = Simulation(id, runner, self.num_envs, num_threads)
        stops = np.cumsum(list(sim.parts.values())).tolist()
        box = sim.model.actuator_ctrlrange.astype(np.float32).astype(float)  # the official action space is float32
        self.spec = Spec(
            id=id,
            obs=Box((stops[-1],)),
            action=Box((sim.model.nu,), box[:, 0], box[:, 1]),
            num_costs=1,
            horizon=HORIZON,
            cost_names=("sum",) if costs == "sum" else ("velocity",),
            obs_slices=dict(zip(sim.parts, zip([0, *stops], stops))),
            dt=sim.dt,
        )
        self._seed(checks.integer("seed", seed, 0, 2**32 - self.num_envs))

    _states = states

    def _seed(self, seed: int | Sequence[int]) -> None:
        self.simulation.seed(checks.seeds(seed, self.num_envs))

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts a new episode in every environment, or in those of `mask`: see `jsafe.envs.VectorEnv.reset`."""
        self._usable(started=mask is not None)
        sim = self.simulation
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed)
        else:
            if seed is not None:
                self._seed(seed)
            rows = np.arange(self.num_envs)
        sim.begin(rows)
        self._started = True
        sim.last_obs[rows] = sim.observe(rows)
        sim.last_cost[rows] = sim.last_speed[rows] = 0.0
        return sim.last_obs.copy()

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by one step; episodes that end start anew in the same step.

        Args:
          actions: `[N, A]`, not clipped: see above.
          mask: `[N]` booleans, which environments to step; the others stand still, without reward and cost. None: all.

        Returns:
          A `Step`; `info` holds `x_position`, `x_velocity` (and y) in SI units, `cost_velocity` and `cost_sum`.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
        """
        self._usable()
        runner, sim = self.runner, self.simulation
        sim.ctrl[:] = checks.actions(actions, self.num_envs, sim.model.nu)
        rows = None if mask is None else checks.mask(mask, self.num_envs)
        before = sim.place.copy()
        sim.step(rows)
        sim.steps += 1
        velocity = (sim.place - before) / sim.dt
        reward = runner.forward * velocity[:, 0] + runner.alive - runner.control * np.square(sim.ctrl).sum(axis=1)
        speed = np.sqrt(np.square(velocity).sum(axis=1)) if self._plane else velocity[:, 0]
        over = (speed > self._limit).astype(float)
        terminated = np.zeros(self.num_envs, bool)
        if runner.healthy is not None:
            terminated = ~runner.healthy(sim.qpos, sim.qvel)
        if rows is not None:
            still = np.ones(self.num_envs, bool)
            still[rows] = False
            sim.steps[still] -= 1
            reward[still], over[still], terminated[still] = 0.0, 0.0, False
        truncated = sim.steps >= HORIZON
        obs = sim.observe()
        lost = sim.bad.any(axis=1) | ~np.isfinite(obs).all(axis=1)  # MuJoCo starts anew what breaks down, and counts
        if lost.any():
            reward[lost], over[lost], terminated[lost], truncated[lost] = DIVERGED_REWARD, 0.0, False, True
            obs[lost], velocity[lost] = sim.last_obs[lost], 0.0
        info = {"success": np.zeros(self.num_envs, bool), "diverged": lost, "cost_velocity": over,
                "cost_sum": over.copy()}  # fmt: skip
        for k, axis in enumerate("xy"[: runner.planar]):
            info |= {f"{axis}_position": sim.place[:, k].copy(), f"{axis}_velocity": velocity[:, k].copy()}
        final_obs = obs.copy()
        ended = np.flatnonzero(terminated | truncated)
        sim.begin(ended)
        obs[ended] = sim.observe(ended)
        sim.last_obs, sim.last_cost, sim.last_speed = obs.copy(), over.copy(), speed
        return Step(obs, reward, over[:, None].copy(), terminated, truncated, final_obs, info)

    def observe(self) -> np.ndarray:
        """The current observations `[N, O]` (after `set_state`, for instance)."""
        self._usable()
        return self.simulation.last_obs.copy()

    def render(
        self,
        i: int = 0,
        camera: str = "track",
        width: int = 256,
        height: int = 256,
        overlays: bool = True,
        caption: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """A picture of environment i, uint8 `[height, width, 3]`; see `SafetyGymEnv.render`. `track` follows the body.

        The sphere above the body is green, fades as the speed nears the limit, and is dark red in steps that exceed it.
        """
        self._usable()
        from jsafe.envs.safety_gym.drawing.painter import Painter, model_of
        from jsafe.envs.velocity.speedometer import speedometer

        i, sim = checks.index(i, self.num_envs), self.simulation
        if self._painter is None:
            self._painter = Painter(model_of(self.runner.xml()))
        torso = sim.data[i].xpos[1].copy()
        markers = [speedometer(torso, sim.last_speed[i], self._limit, sim.last_cost[i])] if overlays else []
        return self._painter.paint(
            sim.data[i], (), markers, camera=camera, target=torso, width=width, height=height, caption=caption
        )
