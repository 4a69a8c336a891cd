"""SafeRacing: drive along a random road and stay on it, or keep off its obstacles."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec, Step
from jsafe.envs.device.api import DeviceEnv
from jsafe.envs.device.catalogue import ALIASES, IDS, Task
from jsafe.envs.device.racing import observe, picture, world
from jsafe.envs.device.racing.car import DT
from jsafe.envs.device.racing.pool import Pool, pool
from jsafe.spaces import Box, Tree


def make(id: str, **options) -> DeviceEnv:
    """A racing task by name.

    Args:
      id: A key of `IDS` or `ALIASES`.
      **options: Fields of `Task` to be changed.

    Raises:
      ValueError: For an unknown id or option, or a value out of its range.
    """
    id = ALIASES.get(id, id)
    checks.one_of("racing task", id, IDS)
    for name in options:
        checks.one_of("option", name, [field.name for field in dataclasses.fields(Task)])
    return _racing(dataclasses.replace(IDS[id], **options), id)


@functools.lru_cache(maxsize=8)
def _racing(task: Task, id: str) -> DeviceEnv:
    """The same functions for the same task, so that programs made of them are compiled once."""
    return racing(task, id)


def racing(task: Task, id: str = "SafeRacing", roads: Pool | None = None) -> DeviceEnv:
    """The environment of a task.

    The car is steered, speeded and braked by an action in [-1, 1]^3: steering (positive is right), gas and brake
    (`(a + 1) / 2`). Each tile of the road pays `1000 / N` when a wheel first touches it, N their number; the episode
    terminates, a success, when all have been. A cost of 1 is due in a step in which the last wheel leaves the road
    (without obstacles), or in which a wheel touches an obstacle that none touched in the step before (with them).

    The roads are constants of the compiled program (23 MB for 512 of them);
    `jax.config.update("jax_use_simplified_jaxpr_constants", True)` makes them arguments instead.

    Args:
      task: Options.
      id: Name in the spec.
      roads: Roads to drive on instead of the task's.

    Source: the authors' `SafeCarRacing` (Yu, Xu, Zhang, "Towards Safe Reinforcement Learning with a Safety Editor
    Policy", 2022), on Box2D there; `car.drive` says what the car leaves out. Their observation is float and channel
    first; `car` is theirs.
    """
    host = pool(task.tracks, task.track_seed) if roads is None else roads
    obstacles = (task.obstacle_ratio * np.asarray(host.count)).astype(np.int32)
    with jax.ensure_compile_time_eval():  # also where a program that is being traced makes the environment
        roads = jax.tree.map(jnp.asarray, host)
    name = "obstacle" if task.obstacle_ratio else "road"
    see = functools.partial(observe.pixels, size=task.size) if task.observation == "pixels" else observe.flat

    def reset(key: jax.Array):
        state = world.begin(roads, obstacles, key)
        return state, see(roads, state)

    def step(state: world.World, action: jax.Array, key: jax.Array):
        state, events = world.advance(roads, state, action)
        obs = see(roads, state)
        cost = (events.hit if task.obstacle_ratio else events.left_road).astype(jnp.float32)
        terminated = state.left == 0
        return state, Step(
            obs=obs,
            reward=1000.0 / roads.count[state.road].astype(jnp.float32) * events.new_tiles.astype(jnp.float32),
            cost=cost[None],
            terminated=terminated,
            truncated=state.steps >= task.horizon,
            final_obs=obs,
            info={
                "success": terminated,
                "diverged": jnp.zeros_like(terminated),
                f"cost_{name}": cost,
                "cost_sum": cost,
            },
        )

    def paint(state: world.World, height: int, width: int):
        return jnp.asarray(picture.palette(grey=False))[observe.surfaces(roads, state, height, width)]

    slices = observe.flat_slices(bool(task.obstacle_ratio)) if task.observation == "state" else {}
    shape = jax.eval_shape(reset, jax.random.key(0))[1]
    flat = Box(shape.shape) if task.observation == "state" else None
    pictures = Tree({"picture": Box((task.size, task.size, 1), 0, 255, "uint8"), "car": Box(11)})
    spec = Spec(
        id=id,
        obs=flat or pictures,
        action=Box(3, -1.0, 1.0),
        num_costs=1,
        horizon=task.horizon,
        cost_names=(name,),
        action_names=("steer", "gas", "brake"),
        obs_slices=slices,
        dt=DT,
    )
    return DeviceEnv(spec, reset, step, paint)
