"""Windows of replayed rows in the program: for `Replay`, with the rows in the device's memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.data.coroutine import has_memory, received_dtype
from jsafe.data.device.api import Collecting, collects
from jsafe.data.device.world import Environments, World, measured, report
from jsafe.data.replay.device_ring import side_by_side
from jsafe.data.replay.store import FIRST, JUMP, LAST, LAST_JUMP, MID
from jsafe.envs.device import DeviceEnv
from jsafe.feeds import Replay
from jsafe.types import Array, Batch, EnvSpec, Key, Learner, Obs, Steps


class Kept(NamedTuple):
    """The replay of N environments with C rows each, and how their observations were arrived at.

    Attributes:
      obs: List of the leaves of observations, `[N C, ...]`: environment e has the rows from `e C` on.
      rows: float32 `[N C, A + M + 4]`: action, reward, costs, discount, kind, frames back to the FIRST row, as in
        `jsafe.data.ReplayStore`.
      total: int32 `[N]`, rows ever appended.
      age: float32 `[N]`, of the newest row: `min(rows since FIRST, S - 1)`.
      arrival: float32 `[N, 3 + M]`: reward, discount, kind and costs that came with the current observation.
    """

    obs: Any
    rows: Array
    total: Array
    age: Array
    arrival: Array


class Ring:
    """The functions of a `Kept`; nothing here changes."""

    def __init__(self, feed: Replay, spec: EnvSpec):
        self.feed, self.spec, self.capacity, self.stack = feed, spec, feed.replay_rows, feed.frame_stack
        self.discrete = isinstance(spec.action, spaces.Discrete)
        self.act_shape = spec.action.shape if isinstance(spec.action, spaces.Discrete) else (spec.act_dim,)
        self.width = math.prod(self.act_shape)

    def init(self, n: int) -> Kept:
        """An empty replay."""
        leaves = jax.tree.leaves(spaces.tree_map(lambda leaf: leaf, self.spec.obs))
        half = jnp.dtype(self.feed.dtype)
        kinds = [(leaf.shape, half if leaf.dtype.startswith("float") else received_dtype(leaf)) for leaf in leaves]
        m, size = self.spec.num_costs, n * self.capacity
        return Kept(
            obs=[jnp.zeros((size, *shape), kind) for shape, kind in kinds],
            rows=jnp.zeros((size, self.width + m + 4), jnp.float32),
            total=jnp.zeros(n, jnp.int32),
            age=jnp.zeros(n, jnp.float32),
            arrival=self.first(n),
        )

    def first(self, n: int) -> Array:
        """The arrival at the first observation of an episode."""
        return jnp.zeros((n, 3 + self.spec.num_costs), jnp.float32).at[:, 1:3].set(jnp.array([1.0, FIRST]))

    def append(self, kept: Kept, obs: Obs, action: Array, arrival: Array, where: Array | None = None) -> Kept:
        """One more row for each environment (in `where [N]`)."""
        n = len(kept.total)
        kind = arrival[:, 2]
        age = jnp.where(kind == FIRST, 0.0, jnp.minimum(kept.age + 1, self.stack - 1))
        at = jnp.arange(n) * self.capacity + kept.total % self.capacity
        added = jnp.ones(n, bool) if where is None else where
        at = jnp.where(added, at, n * self.capacity)  # which is dropped
        flat = action.reshape(n, -1).astype(jnp.float32)
        row = jnp.concatenate([flat, arrival[:, :1], arrival[:, 3:], arrival[:, 1:3], age[:, None]], axis=1)
        return kept._replace(
            obs=[
                ring.at[at].set(leaf.astype(ring.dtype), mode="drop")
                for ring, leaf in zip(kept.obs, jax.tree.leaves(obs), strict=True)
            ],
            rows=kept.rows.at[at].set(row, mode="drop"),
            total=kept.total + added,
            age=jnp.where(added, age, kept.age),
        )

    def ends(self, kind: Array) -> Array:
        """Which kinds of rows are final observations."""
        return (kind == LAST) | (kind == LAST_JUMP)

    def starts(self, kept: Kept) -> Array:
        """Starts of windows in each environment, `[N]`."""
        return jnp.minimum(kept.total, self.capacity) - (self.stack - 1) - (self.feed.sequence_length - 1)

    def sample(self, kept: Kept, key: Key) -> Steps:
        """A batch; see `jsafe.data.ReplayStore.sample`."""
        if self.feed.updates == 1:
            return self._minibatch(kept, key)
        return jax.vmap(lambda key: self._minibatch(kept, key))(jax.random.split(key, self.feed.updates))

    def _minibatch(self, kept: Kept, key: Key) -> Steps:
        feed, n, m = self.feed, len(kept.total), self.spec.num_costs
        windows, length = feed.sequences, feed.sequence_length
        each, more = divmod(windows, n)
        chosen, place = jax.random.split(key)
        lucky = jax.random.permutation(chosen, n)[:more]
        env = jnp.concatenate([jnp.repeat(jnp.arange(n), each), lucky])
        per_env = jnp.full(n, each).at[lucky].add(1)
        stratum = jnp.concatenate([jnp.tile(jnp.arange(each), n), jnp.full(more, each)])
        starts = self.starts(kept)[env]
        share = (stratum + jax.random.uniform(place, (windows,))) / per_env[env]
        start = jnp.clip(jnp.floor(share * starts).astype(jnp.int32), 0, jnp.maximum(starts - 1, 0))
        begin = (kept.total - jnp.minimum(kept.total, self.capacity))[env] + start  # number of the oldest frame
        number = begin + self.stack - 1 + jnp.arange(length)[:, None]  # [T, B]
        rows = kept.rows[env * self.capacity + number % self.capacity]
        a = self.width
        kind, age = rows[..., a + m + 2], rows[..., a + m + 3]
        # What followed a row was stored with the next one.
        followed = jnp.concatenate([rows[1:, :, a:-1], jnp.zeros_like(rows[:1, :, a:-1])])
        ended = self.ends(followed[..., -1])
        terminated = ended & (followed[..., -2] == 0)
        action = rows[..., :a]
        if self.discrete:
            action = action.astype(jnp.int32).reshape(*action.shape[:-1], *self.act_shape)
        back = jnp.minimum(jnp.arange(self.stack - 1, -1, -1), age.astype(jnp.int32)[..., None])
        at = env[:, None] * self.capacity + (number[..., None] - back) % self.capacity  # [T, B, S]

        def gathered(ring):
            frames = ring[at]
            frames = frames.astype(jnp.float32) if jnp.issubdtype(ring.dtype, jnp.floating) else frames
            return side_by_side(frames, ring.ndim - 1)

        structure = jax.tree.structure(spaces.tree_map(lambda leaf: 0, self.spec.obs))
        return Steps(
            obs=jax.tree.unflatten(structure, [gathered(ring) for ring in kept.obs]),
            action=action,
            reward=followed[..., 0],
            cost=followed[..., 1:-2],
            terminated=terminated,
            truncated=ended & ~terminated,
            next_obs=None,
            weight=(~self.ends(kind)).astype(jnp.float32),
            extras={"jump": followed[..., -1] >= JUMP} if feed.jumps else {},
        )


@collects(Replay)
def replay(learner: Learner, env: DeviceEnv, axis_name: str | None = None) -> Collecting:
    """As `jsafe.data.ReplayCollector` on `jsafe.envs.device.hosted(env)`: the same rows, windows from JAX's generator.

    Collectives: `pmin` of whether the replay is ready, `psum` of the rows that it holds.
    """
    feed = cast(Replay, learner.feed)
    remembers = has_memory(learner)
    if feed.frame_stack > 1 and not remembers:
        raise ValueError(f"frame_stack is {feed.frame_stack}, but the policy has no memory that stacks frames")
    environments, ring = Environments(learner, env), Ring(feed, learner.spec)
    at_random = -(-feed.random_steps // feed.num_envs)  # steps of each environment

    def init(policy_state, seeds):
        del policy_state
        return environments.begin(seeds, (), ring.init(seeds.shape[0]))

    def uniform(key, n):
        if not isinstance(environments.space, spaces.Discrete):
            return jax.random.uniform(key, (n, ring.width), minval=-1.0, maxval=1.0)
        sizes = jnp.asarray(environments.space.sizes).reshape(ring.act_shape)
        return jax.random.randint(key, (n, *ring.act_shape), 0, sizes, jnp.int32)

    def collect(world, policy_state, key):
        sample_key, random_key = jax.random.split(jax.random.fold_in(key, feed.unroll))

        def step(carry: tuple[World, Any], t):
            world, total = carry
            kept, obs = world.kept, world.obs
            out = environments.act(world, policy_state, obs, key, t)
            action = out.action
            if at_random:
                drawn = uniform(jax.random.fold_in(random_key, t), len(action)).astype(action.dtype)
                early = (world.counts - 1 < at_random).reshape(-1, *[1] * (action.ndim - 1))
                action = jnp.where(early, drawn, action)
            if isinstance(environments.space, spaces.Box):
                action = jnp.clip(action, -1.0, 1.0)
            kept = ring.append(kept, obs, action, kept.arrival)
            world, result = environments.step(world._replace(memory=out.memory), action)
            ended = result.terminated | result.truncated
            jumped = jnp.zeros_like(ended)
            if feed.jumps and "success" in result.info:
                jumped = result.info["success"] & ~result.terminated
            kind = jnp.where(jumped, jnp.where(ended, LAST_JUMP, JUMP), jnp.where(ended, LAST, MID))
            arrival = jnp.stack([result.reward, ~result.terminated, kind], axis=1)
            arrival = jnp.concatenate([arrival, result.cost], axis=1)
            kept = ring.append(kept, result.final_obs, jnp.zeros_like(action), arrival, ended)
            kept = kept._replace(arrival=jnp.where(ended[:, None], ring.first(len(ended)), arrival))
            world, sums = environments.track(world._replace(kept=kept), result, ended)
            return (world, total + sums), (result.reward, result.cost, result.final_obs)

        nothing = jnp.zeros(4 + env.spec.num_costs, jnp.float32)
        (world, ended), (reward, cost, seen) = jax.lax.scan(step, (world, nothing), jnp.arange(feed.unroll))
        rows, ready = jnp.minimum(world.kept.total, ring.capacity).sum(), (ring.starts(world.kept) > 0).all()
        initial = feed.initial_rows
        if axis_name is not None:
            ready, rows = jax.lax.pmin(ready.astype(jnp.int32), axis_name) > 0, jax.lax.psum(rows, axis_name)
            initial = initial * jax.lax.axis_size(axis_name)
        ready &= rows >= initial
        steps = jax.lax.cond(
            ready,
            lambda kept: ring.sample(kept, sample_key),
            lambda kept: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(ring.sample, kept, key)),
            world.kept,
        )
        told = report(world, ended, reward, cost, seen, world.obs)
        return world, Batch(steps, measured(cost, reward.size, ended), ready), told

    return Collecting(init, collect)
