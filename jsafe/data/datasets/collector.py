"""Minibatches of a data set: the collector for `Dataset`."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.data import ram
from jsafe.data.api import BadValueError, feeds_with
from jsafe.data.datasets.episodes import DatasetError, Episodes
from jsafe.data.datasets.layouts import read
from jsafe.data.datasets.native import checksum
from jsafe.data.datasets.select import choose
from jsafe.data.episodes import statistics
from jsafe.data.evaluate import evaluate
from jsafe.feeds import Dataset
from jsafe.types import Batch, CostStats, EpisodeStats, Key, Learner, Measured, PolicyState, Steps

SHARE = 0.5
"""Of the device's memory, that a data set may take."""


@feeds_with(Dataset)
class DatasetCollector:
    """Draws minibatches from recorded episodes; see `jsafe.feeds.Dataset` for what is in them.

    The numbers of the rows are drawn on the device, and with `feed.resident` the rows are gathered there, too: a batch
    is the result of one compiled call, and nothing but a key goes to the device. Where the data set takes more than
    half of the device's memory, or `feed.resident` is False, the same rows are gathered on the host.

    With an environment, every `eval_interval` updates the policy as it is then runs `eval_episodes` episodes with its
    most likely actions, always from the same seed, for `episodes` to report. Nothing of them reaches the learner.

    Args:
      env: Batched environment for evaluation, or None.
      learner: Its `spec`, `feed`, `act` and `memory` are used, and of its `config` the cost limit, by filters.
      seed: Of evaluation and of what `feed.fraction` keeps.
      data: Episodes, or the path of a file.
      eval_interval: Updates between two evaluations; 0: none.
      eval_episodes: Episodes of each.
      on_bad, largest: For collectors that step; not used here.

    Raises:
      DatasetError: If the data cannot be used, do not fit the learner, or the filter leaves nothing.
    """

    env_steps = 0
    """None is taken for learning."""

    def __init__(
        self,
        env: Any,
        learner: Learner,
        seed: int | None = None,
        *,
        data: Episodes | str | os.PathLike | None = None,
        eval_interval: int = 5000,
        eval_episodes: int = 10,
        on_bad: str = "stop",
        largest: float | None = None,
    ):
        del on_bad, largest
        if data is None:
            raise ValueError(f"{type(learner.feed).__name__} needs a data set: give `data`, episodes or a file")
        self.data = data if isinstance(data, Episodes) else read(data)
        """All episodes, before filters."""
        check_fit(self.data, learner)
        self.feed, self.checksum = cast(Dataset, learner.feed), checksum(self.data)
        self.chosen = chosen(self.data, learner, seed)
        """Numbers of the episodes that are learnt from."""
        self._env, self._learner, self._seed = env, learner, seed or 0
        self._interval, self._eval_episodes = (eval_interval, eval_episodes) if env is not None else (0, 0)
        self._updates = 0
        self._sums, self._fresh = np.zeros(3 + learner.spec.num_costs), 0.0
        self._window = 0
        arrays = table(self.data, self.chosen, self.feed)
        self.resident = self.feed.resident and _fits(arrays)
        """Whether the rows are in the device's memory."""
        self._table = jax.tree.map(jnp.asarray, arrays) if self.resident else arrays

    @property
    def progress(self) -> int:
        """Gradient updates in the batches handed over so far."""
        return self._updates

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """One batch; `key` is the only source of randomness.

        Args:
          policy_state: What `learner.policy` returned; evaluated if it is time to.
          key: Key of this iteration.
        """
        self._look_at(policy_state)
        self._updates += self.feed.updates
        return batch(self.feed, self._table, key, self.resident)

    def _look_at(self, policy_state: PolicyState) -> None:
        """Evaluates the policy, if it is due after so many updates."""
        before = self._updates - self.feed.updates
        if not self._interval or before < 0 or self._updates // self._interval == before // self._interval:
            return
        result = evaluate(
            self._env, self._learner, policy_state, self._eval_episodes, jax.random.key(self._seed), seed=self._seed
        )
        columns = [result["return"], result["length"], result["success"], *result["cost"].T]
        self._sums = np.array([column.sum() for column in columns], np.float64)
        self._window, self._fresh = self._eval_episodes, self._fresh + self._eval_episodes

    def episodes(self) -> dict[str, float]:
        """Statistics of the newest evaluation, NaN before the first; see `jsafe.data.episodes.statistics`."""
        count, self._fresh = self._fresh, 0.0
        return statistics(self._window, self._sums, count, 1, 1, 0)

    def journal(self) -> None:
        """Nothing: the data set does not grow."""

    def journal_keep(self) -> int:
        """None."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Counters, the newest evaluation, and which data set it is."""
        return {
            "updates": self._updates,
            "sums": self._sums.copy(),
            "window": self._window,
            "fresh": self._fresh,
            "data": self.checksum,
        }

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit.

        Raises:
          ValueError: If it was called with another data set.
        """
        del journal
        check_same(str(state["data"]), self.checksum)
        self._updates, self._window = int(state["updates"]), int(state["window"])
        self._sums, self._fresh = np.array(state["sums"], np.float64), float(state["fresh"])

    def close(self) -> None:
        """Nothing: the environments belong to the caller."""


class ManyDatasets:
    """Collectors of several runs on one data set: their minibatches are drawn in one call, from one copy of the rows.

    Args:
      env: Batched environment for evaluation, or None; the runs take turns.
      learners: One for each run, with equal `feed`, `act` and `memory`.
      seeds: Of each run.
      **options: Of each run's collector; `data` among them.

    Raises:
      DatasetError: As `DatasetCollector`; or if a filter keeps other episodes in one run than in another.
    """

    def __init__(self, env: Any, learners: Sequence[Learner], seeds: Sequence[int], **options: Any):
        if not isinstance(options.get("data"), Episodes):
            options["data"] = read(options["data"])
        self.collectors = [DatasetCollector(env, *each, **options) for each in zip(learners, seeds, strict=True)]
        first = self.collectors[0]
        for other in self.collectors[1:]:
            if not np.array_equal(other.chosen, first.chosen):
                raise DatasetError(
                    "runs in one program learn from the same episodes, but the filter keeps "
                    f"{len(first.chosen)} in one and {len(other.chosen)} in another: train them one by one"
                )
            other._table = first._table
        self.feed = first.feed
        self.lost: dict[int, BadValueError] = {}
        """What has ended runs, by their numbers: evaluations of policies that had diverged."""

    @property
    def env_steps(self) -> int:
        """None."""
        return 0

    @property
    def progress(self) -> int:
        """Gradient updates so far, of each run."""
        return self.collectors[0].progress

    def collect(self, policy_states: Any, keys: Any) -> Batch:
        """One batch for each run, stacked: every leaf has a leading axis R.

        Args:
          policy_states: What `learner.policy` returned, stacked likewise.
          keys: Typed keys `[R]`.

        Raises:
          BadValueError: When all runs are lost.
        """
        for r, collector in enumerate(self.collectors):
            if collector._interval and r not in self.lost:
                try:
                    collector._look_at(jax.tree.map(lambda x, r=r: x[r], policy_states))
                except BadValueError as error:
                    self.lost[r] = error
            collector._updates += self.feed.updates
        if len(self.lost) == len(self.collectors):
            raise list(self.lost.values())[-1]
        first = self.collectors[0]
        if first.resident:
            return _draw_many(self.feed, first._table, keys)
        batches = [batch(self.feed, first._table, key, False) for key in keys]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    def episodes(self) -> list[dict[str, float]]:
        """The statistics of each run."""
        return [collector.episodes() for collector in self.collectors]

    def close(self) -> None:
        """Nothing."""


# ---- what is drawn from --------------------------------------------------------------------------------------------


def check_fit(data: Episodes, learner: Learner) -> None:
    """Raises DatasetError if a learner was built for something else than the data set holds."""
    have, want = data.spec, learner.spec
    for name in ("obs", "action"):
        line = spaces.difference(getattr(have, name), getattr(want, name))
        if line:
            raise DatasetError(f"the {name} space of the data set does not fit the learner: {line}")
    if have.num_costs != want.num_costs:
        names = ", ".join(data.about.cost_names)
        raise DatasetError(f"the data set has {have.num_costs} costs ({names}), the learner {want.num_costs}")


def check_same(then: str, now: str) -> None:
    """Raises ValueError if two checksums differ."""
    if then != now:
        raise ValueError(
            f"the data set is another one: its checksum is {now[:12]}..., and the run was started with {then[:12]}..."
        )


def chosen(data: Episodes, learner: Learner, seed: int | None) -> np.ndarray:
    """Numbers of the episodes that the feed's filter and fraction keep."""
    feed, spec = cast(Dataset, learner.feed), learner.spec
    limit: Any = feed.filter_limit
    own = getattr(learner.config, "limit", None)
    if limit is None and own is not None:
        limit = np.array(own.values(spec.num_costs)) * (1 if own.per == "episode" else spec.horizon)
    kept = choose(data, feed.filter, limit)
    if feed.fraction < 1:
        count = max(1, round(feed.fraction * len(kept)))
        kept = np.sort(np.random.default_rng([seed or 0, 1]).permutation(kept)[:count])
    return kept


def table(data: Episodes, kept: np.ndarray, feed: Dataset) -> dict[str, Any]:
    """The arrays that minibatches are gathered from, `[R, ...]` but for `rows [N]` and `first [E]`.

    Raises:
      DatasetError: If rows cannot be numbered in 32 bits, or returns have no range.
    """
    if len(kept) < len(data):
        data = data.take(kept)
    if len(data.reward) >= 1 << 31:
        raise DatasetError(f"a data set has fewer than 2**31 rows, got {len(data.reward)}")
    scale = feed.reward_scale
    if isinstance(scale, str):
        span = float(np.ptp(data.returns))
        if not span > 0:
            raise DatasetError("reward_scale='range' needs episodes of different returns, and all are equal")
        scale = data.about.horizon / span
    reward = (data.reward * np.float32(scale)).astype(np.float32)
    # What is stopped without an end is cut: nobody knows what would have come.
    truncated = data.truncated.copy()
    truncated[data.last] |= ~data.finished
    found: dict[str, Any] = {
        "obs": data.obs,
        "action": data.action,
        "reward": reward,
        "cost": data.cost,
        "terminated": data.terminated,
        "truncated": truncated,
        "rows": data.rows().astype(np.int32),
        "first": data.start[:-1].astype(np.int32),
    }
    if data.next_obs is not None:
        found["next_obs"] = data.next_obs
    count = data.lengths + 1
    if feed.length > 1:
        found["end"] = np.repeat(data.last, count).astype(np.int32)
    whole = {"episode_return": data.returns * scale, "episode_cost": data.costs}
    makers = {
        "return_to_go": lambda: data.to_go(reward, feed.to_go_gamma),
        "cost_to_go": lambda: data.to_go(data.cost, feed.to_go_gamma),
        "step": lambda: (np.arange(len(reward)) - np.repeat(data.start[:-1], count)).astype(np.int32),
        "episode_return": lambda: np.repeat(whole["episode_return"], count).astype(np.float32),
        "episode_cost": lambda: np.repeat(whole["episode_cost"], count, axis=0).astype(np.float32),
    }
    found["extras"] = {name: makers[name]() for name in feed.extras if name in makers}
    return found


def _fits(arrays: Any) -> bool:
    """Whether the device has room; says so if not."""
    need = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    stats = jax.devices()[0].memory_stats() or {}
    have = stats.get("bytes_limit") or ram.available()
    if have is None or need <= SHARE * have:
        return True
    warnings.warn(
        f"the data set takes {need / ram.GIB:.1f} GiB, more than half of the device's memory ({have / ram.GIB:.1f} "
        "GiB): it stays on the host (the option `resident`)",
        stacklevel=3,
    )
    return False


# ---- drawing -------------------------------------------------------------------------------------------------------


def batch(feed: Dataset, table: dict[str, Any], key: Key, resident: bool) -> Batch:
    """A batch of the rows that a key stands for; the same ones wherever they are gathered."""
    if resident:
        return _draw(feed, table, key)
    numbers = jax.device_get(_numbers_jit(feed, len(table["rows"]), len(table["first"]), key))
    return _gather(feed, table, *numbers, xp=np)


def _numbers(feed: Dataset, rows: int, episodes: int, key: Key) -> tuple[jax.Array, jax.Array]:
    """Numbers of steps and of episodes, uniform and with replacement, `[K, B]`."""
    shape = (feed.updates, feed.batch_size)
    row_key, first_key = jax.random.split(key)
    return jax.random.randint(row_key, shape, 0, rows), jax.random.randint(first_key, shape, 0, episodes)


_numbers_jit = jax.jit(_numbers, static_argnums=(0, 1, 2))


@functools.partial(jax.jit, static_argnums=0)
def _draw(feed: Dataset, table: dict[str, Any], key: Key) -> Batch:
    numbers = _numbers(feed, len(table["rows"]), len(table["first"]), key)
    return _gather(feed, table, *numbers, xp=jnp)


@functools.partial(jax.jit, static_argnums=0)
def _draw_many(feed: Dataset, table: dict[str, Any], keys: Key) -> Batch:
    return jax.vmap(lambda key: _draw(feed, table, key))(keys)


def _gather(feed: Dataset, table: dict[str, Any], steps: Any, episodes: Any, *, xp: Any) -> Batch:
    """The batch of some steps and first observations, with numpy or jax arrays."""
    row, first = table["rows"][steps], table["first"][episodes]
    weight = xp.ones(row.shape, np.float32)
    if feed.length > 1:
        window = row[:, None, :] + xp.arange(feed.length)[:, None]
        end = table["end"][row][:, None, :]
        row, weight = xp.minimum(window, end), (window <= end).astype(np.float32)
        first = xp.broadcast_to(first[:, None, :], row.shape)

    def seen(values: Any) -> Any:
        return values.astype(np.float32) if values.dtype == np.float16 else values

    following = table["obs"][row + 1] if "next_obs" not in table else table["next_obs"][row]
    extras = {name: values[row] for name, values in table["extras"].items()}
    if "initial_obs" in feed.extras:
        extras["initial_obs"] = seen(table["obs"][first])
    steps_ = Steps(
        obs=seen(table["obs"][row]),
        action=table["action"][row],
        reward=table["reward"][row],
        cost=table["cost"][row],
        terminated=table["terminated"][row],
        truncated=table["truncated"][row],
        next_obs=seen(following),
        weight=weight,
        extras=extras,
    )
    zero = xp.zeros((), np.float32)
    nothing = xp.zeros(table["cost"].shape[1], np.float32)
    measured = Measured(CostStats(nothing, zero), EpisodeStats(zero, nothing, zero, zero))
    return Batch(steps_, measured, xp.ones((), bool))
