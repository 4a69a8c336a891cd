"""Replay of whole windows: one ring of rows per environment, on the host, each observation stored once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jsafe import spaces
from jsafe.data import ram
from jsafe.data.replay.device_ring import DeviceRing, side_by_side
from jsafe.types import EnvSpec, Obs, Steps

FIRST, MID, LAST, JUMP, LAST_JUMP = 0, 1, 2, 3, 4
"""Kinds of rows: the start of an episode, a step in it, its end; a step and an end that show another problem than the
row before."""


class ReplayStore:
    """The newest rows of N environments, from which windows of consecutive rows are drawn.

    A stored row holds an observation, the reward, cost and discount that were received on arriving there, the kind of
    row and the action taken from it. An episode is a FIRST row, MID rows and a LAST row; the next row is the FIRST one
    of the next episode. So the environments have different numbers of rows after the same number of steps. A window
    (`sample`) shows the rows in the convention of `jsafe.types.Steps`: with what followed.

    Memory is reserved at once but taken from the system only as rows are written.

    Args:
      num_envs: Number of environments N.
      capacity: Rows kept per environment.
      spec: Observations (each leaf has a ring of its own), actions and number of costs.
      frame_stack: Observations S that are concatenated at sampling along their last axis, oldest first.
      dtype: Storage type of floating-point observations, `"float32"` or `"float16"`; sampled ones are float32. Whole
        numbers (images) are stored and sampled as they are.
      on_device: Keep a copy of the observations in the device's memory, and gather them there. Samples are the same.
      jumps: Samples say which rows are followed by a JUMP.

    Raises:
      ValueError: If a number is less than one, the storage type is another, observations cannot be stacked, or there
        is not enough memory.

    Source: the replay of SEditor (Yu et al. 2022, arXiv 2201.12427) as ALF implements it. Ours keeps each ring dense
    and clamps frames by the stored distance to the FIRST row; the distribution of samples is the same.
    """

    def __init__(
        self,
        num_envs: int,
        capacity: int,
        spec: EnvSpec,
        *,
        frame_stack: int = 1,
        dtype: str = "float32",
        on_device: bool = False,
        jumps: bool = False,
    ):
        self._jumps = jumps
        for name, value in {"num_envs": num_envs, "capacity": capacity, "frame_stack": frame_stack}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}")
        made = spaces.tree_map(lambda leaf: leaf, spec.obs)
        leaves, self._structure = jax.tree.flatten(made)
        if frame_stack > 1 and any(not leaf.shape for leaf in leaves):
            raise ValueError(f"frame_stack must be 1 for observations without an axis, got {frame_stack}")
        self.num_envs, self.capacity, self.frame_stack = num_envs, capacity, frame_stack
        self._discrete = isinstance(spec.action, spaces.Discrete)
        if isinstance(spec.action, spaces.Discrete) and max(spec.action.sizes) > 1 << 24:
            raise ValueError(f"a replay holds fewer than 2**24 choices, got {spec.action}")
        self._act_shape = spec.action.shape if isinstance(spec.action, spaces.Discrete) else (spec.act_dim,)
        width = math.prod(self._act_shape)
        # Columns: action, reward, costs, discount, kind, frames back to the FIRST row.
        self._columns = width, spec.num_costs
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(made)]
        self._names = [".".join(["obs", *(str(each.key) for each in path)]) for path in paths]  # in the journal
        rows = num_envs * capacity
        kinds = [(leaf.shape, np.dtype(dtype) if leaf.dtype.startswith("float") else leaf.dtype) for leaf in leaves]
        kinds.append(((width + spec.num_costs + 4,), np.float32))
        try:
            *self._obs, self._rows = [np.zeros((rows, *shape), kind) for shape, kind in kinds]
        except MemoryError:
            need = rows * sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in kinds)
            raise ValueError(ram.refusal("the replay", need, f"replay_rows ({capacity} per environment)")) from None
        self._rings = [DeviceRing(leaf) for leaf in self._obs] if on_device else []
        self._total = np.zeros(num_envs, np.int64)  # rows ever appended
        self._age = np.zeros(num_envs, np.float32)  # of the newest row: min(rows since FIRST, S - 1)
        self._journaled = np.zeros(num_envs, np.int64)
        self._chunk_ends: list[np.ndarray] = []  # `_total` at each journal call that is still needed

    @property
    def sizes(self) -> np.ndarray:
        """Rows held per environment, `[N]`."""
        return np.minimum(self._total, self.capacity)

    @property
    def rows(self) -> int:
        """Rows held in total."""
        return int(self.sizes.sum())

    @property
    def total_rows(self) -> int:
        """Rows ever appended, the overwritten ones included."""
        return int(self._total.sum())

    def append(
        self,
        obs: Obs,
        action: np.ndarray,
        reward: np.ndarray,
        cost: np.ndarray,
        discount: np.ndarray,
        kind: np.ndarray,
        envs: np.ndarray | None = None,
    ) -> None:
        """Appends one row to each environment in `envs` (distinct indices; all by default).

        Args:
          obs: `[n, ...]`, a tree for structured observations.
          action: `[n, A]` or choices; any finite numbers in LAST rows.
          reward: `[n]`, received on arriving at `obs`; zero in FIRST rows.
          cost: `[n, M]`, likewise.
          discount: `[n]`: 0 if the episode terminated here, else 1.
          kind: `[n]`: FIRST, MID, LAST, JUMP or LAST_JUMP.
          envs: `[n]` integers.
        """
        envs = np.arange(self.num_envs) if envs is None else envs
        age = np.where(kind == FIRST, 0, np.minimum(self._age[envs] + 1, self.frame_stack - 1))
        at = envs * self.capacity + self._total[envs] % self.capacity
        for ring, leaf in zip(self._obs, jax.tree.leaves(obs), strict=True):
            ring[at] = leaf
        for copy in self._rings:
            copy.changed(at)
        self._rows[at] = np.column_stack([action, reward, cost, discount, kind, age])
        self._age[envs] = age
        self._total[envs] += 1

    def can_sample(self, length: int) -> bool:
        """Whether every environment has a start for a window of that many rows."""
        return bool((self._starts(length) > 0).all())

    def sample(self, rng: np.random.Generator, windows: int, length: int, minibatches: int | None = None) -> Steps:
        """Draws windows of consecutive rows, stratified over environments and over the age of rows.

        Environment e has `n_e = size_e - (S - 1) - (T - 1)` starts: its oldest S - 1 rows only serve as frames. Of its
        k windows, the i-th starts at position `floor((i + U) / k * n_e)`. Each environment has `k = B / N` of them;
        if N does not divide B, a random choice of environments has one more.

        Args:
          rng: Numpy generator; the only source of randomness.
          windows: Windows B per minibatch.
          length: Rows T per window.
          minibatches: Number K of minibatches, drawn independently; adds a leading axis. None for no such axis.

        Returns:
          `Steps` of fresh arrays, `[T, B, ...]` or `[K, T, B, ...]`, as `jsafe.feeds.Replay` describes them, with
          observations of width `S * O` (before an episode's start, its first observation); `jax.Array`s where the
          replay has a copy on the device.

        Raises:
          ValueError: If an environment has too few rows.
        """
        starts = self._starts(length)
        if not (starts > 0).all():
            need = length + self.frame_stack - 1
            raise ValueError(f"sampling needs {need} rows in each environment, got {self.sizes.min()} in one")
        draws = [self._draw(rng, windows, starts) for _ in range(1 if minibatches is None else minibatches)]
        env, start = (np.stack(part) for part in zip(*draws))  # [K, B]
        if minibatches is None:
            env, start = env[0], start[0]
        begin = (self._total - self.sizes)[env] + start  # number of the oldest frame of each window
        number = (begin + self.frame_stack - 1)[..., None, :] + np.arange(length)[:, None]  # [..., T, B]
        at = (env * self.capacity)[..., None, :] + number % self.capacity
        rows = self._rows.take(at, axis=0, mode="clip")
        act, m = self._columns
        kind, age = rows[..., act + m + 2], rows[..., act + m + 3]
        # What followed a row was stored with the next one: [reward, costs, discount, kind], a copy for each window.
        followed = np.empty((m + 3, *at.shape), np.float32)
        followed[..., -1, :] = 0
        followed[..., :-1, :] = rows[..., 1:, :, act:-1].transpose(at.ndim, *range(at.ndim))
        terminated = (followed[-2] == 0) & (ended := self._ends(followed[-1]))
        return Steps(
            obs=self._stacked(env, begin, age.astype(np.int64)),
            action=self._acted(rows[..., :act]),
            reward=followed[0],
            cost=np.ascontiguousarray(followed[1:-2].transpose(*range(1, at.ndim + 1), 0)),
            terminated=terminated,
            truncated=ended ^ terminated,
            next_obs=None,
            weight=(~self._ends(kind)).astype(np.float32),
            extras={"jump": followed[-1] >= JUMP} if self._jumps else {},
        )

    def journal(self) -> dict[str, np.ndarray] | None:
        """The rows appended since the last call, as an append-only chunk; None if there are none.

        Environment e's `count[e]` rows are consecutive in `rows` and in `obs` (`obs.NAME` for each leaf of structured
        observations), starting with its `start[e]`-th ever.
        """
        if (self._journaled == self._total).all():
            return None
        chunk = self._chunk(np.maximum(self._journaled, self._total - self.capacity))
        self._journaled = self._total.copy()
        self._chunk_ends.append(self._journaled)
        return chunk

    def journal_keep(self) -> int:
        """How many of the newest chunks hold rows that have not been overwritten."""
        oldest = self._total - self.sizes
        self._chunk_ends = [end for end in self._chunk_ends if (end > oldest).any()]
        return len(self._chunk_ends)

    def state_dict(self) -> dict[str, Any]:
        """Counters, and those rows that no `journal` call has returned yet (with no such call: all rows)."""
        self.journal_keep()
        ends = np.array(self._chunk_ends, np.int64).reshape(-1, self.num_envs)
        tail = self._chunk(np.maximum(self._journaled, self._total - self.capacity))
        counters = {"total": self._total.copy(), "age": self._age.copy(), "journaled": self._journaled.copy()}
        return {**counters, "chunk_ends": ends, "tail": tail}

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Rebuilds the replay bit for bit.

        Args:
          state: What `state_dict` returned.
          journal: The newest `journal_keep()` chunks at that time, oldest first; more do no harm.

        Raises:
          ValueError: If the state is of another size, or rows are missing.
        """
        total = np.array(state["total"], np.int64)
        if total.shape != (self.num_envs,):
            raise ValueError(f"the state is of {total.size} environments, this replay has {self.num_envs}")
        self._total = total
        self._age = np.array(state["age"], np.float32)
        self._journaled = np.array(state["journaled"], np.int64)
        self._chunk_ends = [np.array(end, np.int64) for end in state["chunk_ends"]]
        covered = total - self.sizes  # rows before this one are there, or not needed
        for chunk in (*journal, state["tail"]):
            covered = self._write(chunk, covered)
        if (covered < total).any():
            env = int(np.argmax(covered < total))
            raise ValueError(f"rows {covered[env]} to {total[env]} of environment {env} are missing in the journal")

    def adopt(self, obs: list[Any], rows: Any, total: Any, age: Any) -> None:
        """Lets `journal` and `state_dict` read a replay that lives on the device: arrays as this one keeps them.

        Rows are fetched as they are needed. `arrays` is the way back.
        """
        self._obs, self._rows = obs, rows
        self._total, self._age = np.asarray(total, np.int64), np.asarray(age, np.float32)

    def arrays(self) -> tuple[list[Any], Any, np.ndarray, np.ndarray]:
        """Leaves of observations, the other columns, rows ever appended, and ages: what `adopt` takes."""
        return self._obs, self._rows, self._total, self._age

    def _ends(self, kind: np.ndarray) -> np.ndarray:
        """Which kinds of rows are final observations."""
        return (kind == LAST) | (kind == LAST_JUMP) if self._jumps else kind == LAST

    def _starts(self, length: int) -> np.ndarray:
        return self.sizes - (self.frame_stack - 1) - (length - 1)

    def _draw(self, rng: np.random.Generator, sequences: int, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Environment and start position of each sequence, `[B]`, ordered by environment."""
        per_env = np.full(self.num_envs, sequences // self.num_envs)
        if sequences % self.num_envs:
            per_env[rng.permutation(self.num_envs)[: sequences % self.num_envs]] += 1
        env = np.repeat(np.arange(self.num_envs), per_env)
        stratum = np.arange(sequences) - np.repeat(np.cumsum(per_env) - per_env, per_env)
        start = np.floor((stratum + rng.random(sequences)) / per_env[env] * starts[env]).astype(np.int64)
        return env, np.minimum(start, starts[env] - 1)  # the minimum only guards against rounding

    def _acted(self, action: np.ndarray) -> np.ndarray:
        if not self._discrete:
            return np.ascontiguousarray(action)
        return action.astype(np.int32).reshape(*action.shape[:-1], *self._act_shape)

    def _stacked(self, env: np.ndarray, begin: np.ndarray, age: np.ndarray) -> Obs:
        """Observations with the frames before them, clamped to the FIRST row.

        `env` and `begin` are `[..., B]`, `age` (rows since the FIRST one) is `[..., T, B]`; gives `[..., T, B, S * O]`.
        """
        stack, (length, lanes) = self.frame_stack, age.shape[-2:]
        back = np.minimum(np.arange(stack - 1, -1, -1), age[..., None])
        frame = np.arange(stack - 1, stack - 1 + length)[:, None, None] - back  # [..., T, B, S], 0 is the oldest
        base = env * self.capacity

        rows: Any = None  # [..., T, B, S]
        if self._rings or any(ring.dtype != np.float16 for ring in self._obs):
            rows = base[..., None, :, None] + (begin[..., None, :, None] + frame) % self.capacity

        def gathered(ring: np.ndarray) -> np.ndarray:
            if ring.dtype != np.float16:
                return side_by_side(ring.take(rows, axis=0, mode="clip"), ring.ndim - 1)
            # Converting is slow: do it once for each row of a window rather than for each of its S copies.
            width = stack - 1 + length
            at = base[..., None, :] + (begin[..., None, :] + np.arange(width)[:, None]) % self.capacity
            window = ring.take(at, axis=0, mode="clip").astype(np.float32).reshape(-1, *ring.shape[1:])
            lane = (np.arange(env.size) // lanes * width * lanes + np.arange(env.size) % lanes).reshape(env.shape)
            inside = frame * lanes + lane[..., None, :, None]
            return side_by_side(window.take(inside, axis=0, mode="clip"), ring.ndim - 1)

        leaves: list[Any] = [copy.take(rows) for copy in self._rings] or [gathered(ring) for ring in self._obs]
        return jax.tree.unflatten(self._structure, leaves)

    def _chunk(self, start: np.ndarray) -> dict[str, np.ndarray]:
        """Rows `start` up to the newest, environment by environment."""
        count = self._total - start
        env, number = _enumerate(start, count)
        at = env * self.capacity + number % self.capacity
        obs = {name: np.asarray(ring[at]) for name, ring in zip(self._names, self._obs)}
        return {"start": start, "count": count, **obs, "rows": np.asarray(self._rows[at])}

    def _write(self, chunk: dict[str, np.ndarray], covered: np.ndarray) -> np.ndarray:
        """Writes the rows of a chunk that are still held; returns up to which row everything is there."""
        start, count = (np.asarray(chunk[name], np.int64) for name in ("start", "count"))
        fields = dict(zip([*self._names, "rows"], [*self._obs, self._rows]))
        there, here = ({n: (x.shape[1:], x.dtype) for n, x in each.items() if n in fields} for each in (chunk, fields))
        if start.shape != covered.shape or there != here:
            raise ValueError(f"a chunk of the journal does not fit this replay: it holds {there}, not {here}")
        env, number = _enumerate(start, count)
        held = (number >= (self._total - self.sizes)[env]) & (number < self._total[env])
        at = env[held] * self.capacity + number[held] % self.capacity
        for name, ring in fields.items():
            ring[at] = chunk[name][held]
        for copy in self._rings:
            copy.changed(at)
        return np.where(start <= covered, np.maximum(covered, start + count), covered)


def _enumerate(start: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Environment and running number of each of `count[e]` rows from `start[e]` on, environment by environment."""
    env = np.repeat(np.arange(len(count)), count)
    number = np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
    return env, number
