"""The host's side of environments in the program: statistics, counters, and the state of a checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsafe.data.api import BadValueError
from jsafe.data.device.api import Report, collecting
from jsafe.data.device.replay import Kept
from jsafe.data.device.world import World
from jsafe.data.episodes import WINDOW, statistics
from jsafe.data.replay.store import ReplayStore
from jsafe.envs import checks
from jsafe.envs.device import DeviceEnv
from jsafe.feeds import Replay
from jsafe.types import Batch, Key, Learner, PolicyState


class Episodes:
    """Statistics of episodes from the sums of iterations: means over the newest iterations with 100 of them together.

    Args:
      num_envs: Number of environments N.
      num_costs: Number of cost signals M.
    """

    def __init__(self, num_envs: int, num_costs: int):
        self._num_envs, self._num_costs = num_envs, num_costs
        self._window: deque[np.ndarray] = deque()
        self._count, self._finished = 0.0, 0

    def add(self, report: Report) -> None:
        """Takes the report of one iteration (numpy)."""
        ended = np.asarray(report.ended, np.float64)
        self._count += ended[0]
        self._finished = int(report.finished)
        if ended[0]:
            self._window.append(ended)
        while len(self._window) > 1 and sum(each[0] for each in self._window) - self._window[0][0] >= WINDOW:
            self._window.popleft()

    def pop(self) -> dict[str, float]:
        """Episodes finished since the last call, and means; see `jsafe.data.episodes.statistics`."""
        count, self._count = self._count, 0.0
        total = sum(self._window, np.zeros(4 + self._num_costs))
        return statistics(int(total[0]), total[1:], count, self._finished, self._num_envs, 0)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as arrays."""
        window = np.array(self._window).reshape(-1, 4 + self._num_costs)
        return {"window": window, "count": self._count, "finished": self._finished}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._window = deque(np.array(state["window"], np.float64))
        self._count, self._finished = float(state["count"]), int(state["finished"])


class DeviceCollector:
    """A collector whose environments run in the program: for `jsafe.device.run`, and for any loop of one's own.

    `collect` is one call of a compiled program. `world` is all that changes; whoever runs the environments inside a
    larger program (`jsafe.device.run`) takes it from here, and puts it back with `took`.

    Args:
      env: One episode (`jsafe.device.make`).
      learner: Its `act`, `memory`, `spec` and `feed` are used.
      seed: Stream of environment 0; environment i has that of `seed + i`.
      mesh: Devices that share the environments, each with those of its own; the learner is then one that was built
        with the mesh's axis. The default device by default.

    Raises:
      ValueError: If the environment does not fit the learner, or devices cannot share the environments.
    """

    def __init__(self, env: DeviceEnv, learner: Learner, seed: int = 0, *, mesh: Mesh | None = None):
        self.num_envs, self.mesh = learner.feed.num_envs, mesh
        self._seeds = np.array(checks.seeds(checks.integer("seed", seed, 0), self.num_envs), np.uint32)
        self._axis = None if mesh is None else mesh.axis_names[0]
        share = learner if mesh is None else learner._replace(feed=learner.feed.divided(mesh.size))
        self.collecting = collecting(share, env, self._axis)
        """The pure functions, of the environments of one device."""
        self.spec, self.env_steps = env.spec, 0
        self.tracker = Episodes(self.num_envs, env.spec.num_costs)
        self._learner = learner
        self._world: Any = None
        self._store = self._new_store()
        self._init = jax.jit(self.mapped(self.collecting.init, (None, 0), 0))
        self._collect = jax.jit(self.collecting.collect, donate_argnums=0)

    @property
    def progress(self) -> int:
        """Environment steps."""
        return self.env_steps

    def mapped(self, function: Any, inputs: Any, outputs: Any) -> Any:
        """A function over the devices of the mesh; `inputs` and `outputs` say what counts environments (0) or not."""
        if self.mesh is None:
            return function
        specs = [
            jax.tree.map(lambda axis: PartitionSpec() if axis is None else PartitionSpec(self._axis), each,
                         is_leaf=lambda x: x is None)
            for each in (inputs, outputs)
        ]  # fmt: skip
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)

    def world(self, policy_state: PolicyState) -> World:
        """The environments as they stand; those of a policy at the start of their first episodes, if there are none."""
        if self._world is None:
            self._world = self._init(policy_state, self._seeds)
        return self._now()

    def _now(self) -> World:
        if callable(self._world):
            self._world = self._world()
        return self._world

    def took(self, world: World | Callable[[], World], report: Report) -> None:
        """Notes the world after an iteration (or what gives it, where it is looked at), and its report (numpy).

        Raises:
          BadValueError: If the environments have given what no learner can use.
        """
        self._world = world
        self.env_steps += self._learner.feed.steps_per_batch
        self.tracker.add(report)
        bad = np.asarray(report.bad)
        if bad.any():
            names = ["reward", *(f"cost {m} ({name})" for m, name in enumerate(self.spec.cost_names)), "observation"]
            found = [name for name, number in zip(names, bad) if number]
            what = found[-1] if found[-1] == "observation" else found[0]  # a policy that sees NaN spoils the rest
            raise _bad(what, int(bad.sum()))

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """One batch, on the device; `key` is the only source of randomness besides the environments' streams.

        Raises:
          BadValueError: For values that no learner can use.
          ValueError: With a mesh: a batch is then never whole.
        """
        if self.mesh is not None:
            raise ValueError("over several devices environments and update share a program: use jsafe.device.run")
        world, batch, report = self._collect(self.world(policy_state), policy_state, key)
        self.took(world, jax.device_get(report))
        return batch

    def episodes(self) -> dict[str, float]:
        """Statistics of finished episodes; see `Episodes.pop`."""
        return self.tracker.pop()

    def journal(self) -> dict[str, np.ndarray] | None:
        """The replay's rows since the last call; None without one."""
        return None if self._store is None or self._world is None else self._synced().journal()

    def journal_keep(self) -> int:
        """How many of the newest chunks `load_state_dict` needs."""
        return 0 if self._store is None else self._store.journal_keep()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""
        leaves = None if self._world is None else [np.array(leaf) for leaf in jax.tree.leaves(_small(self._now()))]
        kept = {} if self._store is None or self._world is None else {"replay": self._synced().state_dict()}
        return {"world": leaves, "tracker": self.tracker.state_dict(), "env_steps": self.env_steps, **kept}

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit.

        Raises:
          ValueError: If the state is of other environments.
        """
        shapes = jax.eval_shape(self._learner.init, jax.random.key(0))
        like = jax.eval_shape(self._init, jax.eval_shape(self._learner.policy, shapes), self._seeds)
        world = None
        if state["world"] is not None:
            wanted, structure = jax.tree.flatten(_small(like))
            leaves = [np.array(leaf) for leaf in state["world"]]
            if [(x.shape, x.dtype) for x in leaves] != [(x.shape, x.dtype) for x in wanted]:
                raise ValueError(f"the saved state is not one of {self.num_envs} environments of {self.spec.id!r}")
            world = jax.tree.unflatten(structure, leaves)
            self._store = self._new_store()
            if self._store is not None:
                self._store.load_state_dict(state["replay"], journal)
                obs, rows, total, age = self._store.arrays()
                kept = world.kept._replace(obs=obs, rows=rows, total=total.astype(np.int32), age=age)
                world = world._replace(kept=kept)
            world = jax.tree.map(self._placed, world)
        self._world = world
        self.tracker.load_state_dict(state["tracker"])
        self.env_steps = int(state["env_steps"])

    def close(self) -> None:
        """Lets go of the environments."""
        self._world = None

    def _placed(self, leaf: np.ndarray) -> jax.Array:
        copied = jnp.array(leaf, copy=True)  # a device array may share the memory of a numpy array
        if self.mesh is None:
            return copied
        return jax.device_put(copied, NamedSharding(self.mesh, PartitionSpec(self._axis)))

    def _new_store(self) -> ReplayStore | None:
        feed = self._learner.feed
        if not isinstance(feed, Replay):
            return None
        spec = self._learner.spec
        return ReplayStore(
            self.num_envs, feed.replay_rows, spec, frame_stack=feed.frame_stack, dtype=feed.dtype, jumps=feed.jumps
        )

    def _synced(self) -> ReplayStore:
        store, kept = cast(ReplayStore, self._store), cast(Kept, self._now().kept)
        store.adopt(kept.obs, kept.rows, kept.total, kept.age)
        return store


def _small(world: World) -> World:
    """The world without the rows of a replay, which are stored once (`journal`)."""
    nothing: Any = ()
    kept = world.kept
    return world._replace(kept=kept._replace(obs=nothing, rows=nothing)) if isinstance(kept, Kept) else world


def _bad(what: str, count: int) -> BadValueError:
    """Which one it was is not known on the host: the step stayed on the device."""
    error = BadValueError(what, 0, 0, float("nan"), "")
    error.args = (f"{what} in the program: {count} values are not finite, or larger than any learner can use",)
    return error
