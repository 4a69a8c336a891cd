"""Recorded episodes in memory: the one form that every layout is read into and written from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jsafe import spaces
from jsafe.spaces import Box, Discrete, Space
from jsafe.types import EnvSpec

COLUMNS = ("obs", "action", "reward", "cost", "terminated", "truncated")
"""Arrays that every data set has, one row each."""
BEYOND = 1e-3
"""How far a continuous action may leave `[-1, 1]`, for rounding."""


class DatasetError(ValueError):
    """A data set that cannot be used; the message names the file, the field and the row."""


@dataclasses.dataclass(frozen=True)
class About:
    """What is known of a data set besides its numbers.

    Attributes:
      obs: Space of one observation, a `Box` or a `Discrete`.
      action: Space of one action. Rows hold what a policy gives: `[-1, 1]` for a `Box`, whatever its bounds.
      horizon: Longest episode, in steps.
      env: Id of the environment; None where nobody knows.
      env_options: Of its constructor.
      cost_names: Of the M costs.
      term_names: Of the P constraints behind them (`Episodes.terms`).
      behaviours: Who acted, one entry for each policy: plain values (`run`, `algorithm`, `iteration` ...).
      source: Where it came from: `record`, or the layout it was imported from.
      made_by: Version of jsafe.
    """

    obs: Space
    action: Space
    horizon: int
    env: str | None = None
    env_options: tuple[tuple[str, Any], ...] = ()
    cost_names: tuple[str, ...] = ("cost",)
    term_names: tuple[str, ...] = ()
    behaviours: tuple[Mapping[str, Any], ...] = ()
    source: str = ""
    made_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain | {
            "obs": spaces.to_json(self.obs),
            "action": spaces.to_json(self.action),
            "env_options": dict(self.env_options),
            "cost_names": list(self.cost_names),
            "term_names": list(self.term_names),
            "behaviours": [dict(each) for each in self.behaviours],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> About:
        """The inverse of `to_json`; fields that it does not know are left out.

        Raises:
          ValueError: For a missing field, or one that is something else.
        """
        try:
            known = {field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data}
            return cls(
                **known
                | {
                    "obs": spaces.from_json(data["obs"]),
                    "action": spaces.from_json(data["action"]),
                    "horizon": int(data["horizon"]),
                    "env_options": tuple(dict(data.get("env_options", {})).items()),
                    "cost_names": tuple(map(str, data.get("cost_names", ("cost",)))),
                    "term_names": tuple(map(str, data.get("term_names", ()))),
                    "behaviours": tuple(map(dict, data.get("behaviours", ()))),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"meta: {type(error).__name__}: {error}") from None


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """E episodes in R rows: T + 1 rows for an episode of T steps, so that no observation is stored twice.

    Row t of an episode holds what was seen, done and received; its last row the final observation alone, and zeros.
    What followed row t is row t + 1 (or `next_obs`), never a row of another episode.

    Attributes:
      obs: `[R, ...]`, float32, float16 or whole numbers.
      action: `[R, A]` float32 in `[-1, 1]`, or int32 choices `[R]`.
      reward: `[R]` float32.
      cost: `[R, M]` float32.
      terminated, truncated: `[R]` booleans, of the action taken from the row. An episode may end with neither: the
        recording was stopped there, and learners treat it as cut.
      start: `[E + 1]` int64: first row of each episode, then R.
      about: Spaces, names, origin.
      next_obs: `[R, ...]` where rows do not follow one another in the file, else None.
      terms: `[R, P]` float32, each constraint of the task by itself, where it was recorded.
      behaviour: `[E]` int16, which of `about.behaviours` acted; None: the only one.
      states: Of the engine at the start of each episode, `[E, ...]` by name; see `jsafe.data.datasets.replay`.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    start: np.ndarray
    about: About
    next_obs: np.ndarray | None = None
    terms: np.ndarray | None = None
    behaviour: np.ndarray | None = None
    states: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    # ---- sizes -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of episodes E."""
        return len(self.start) - 1

    @property
    def spec(self) -> EnvSpec:
        """What a learner is built from."""
        return EnvSpec(self.about.obs, self.about.action, self.cost.shape[1], self.about.horizon)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, `[E]`."""
        return np.diff(self.start) - 1

    @property
    def transitions(self) -> int:
        """Steps of all episodes."""
        return int(self.start[-1]) - len(self)

    def rows(self, episodes: np.ndarray | None = None) -> np.ndarray:
        """Rows that hold a step, `[N]` int64, in order; of some episodes (numbers) or of all."""
        chosen = np.arange(len(self)) if episodes is None else np.asarray(episodes)
        first, count = self.start[chosen], self.lengths[chosen]
        return np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())

    @property
    def last(self) -> np.ndarray:
        """Row of the last step of each episode, `[E]`."""
        return self.start[1:] - 2

    @property
    def finished(self) -> np.ndarray:
        """Which episodes were recorded to their end, `[E]`."""
        return self.terminated[self.last] | self.truncated[self.last]

    # ---- sums --------------------------------------------------------------------------------------------------------

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted, `[E]` float64."""
        return self._sums(self.reward)

    @property
    def costs(self) -> np.ndarray:
        """Undiscounted, `[E, M]` float64."""
        return self._sums(self.cost)

    def _sums(self, column: np.ndarray) -> np.ndarray:
        return np.add.reduceat(column, self.start[:-1], axis=0, dtype=np.float64)

    def to_go(self, column: np.ndarray, gamma: float = 1.0) -> np.ndarray:
        """Sums of a column `[R, ...]` from each row to the last step of its episode, discounted; 0 in last rows."""
        total = np.zeros((len(self), *column.shape[1:]))
        result = np.zeros(column.shape, np.float32)
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")
        counts = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)), side="left")
        for t in range(lengths.max(initial=0) - 1, -1, -1):
            running = order[: counts[t]]  # the episodes of more than t steps
            rows = self.start[running] + t
            total[running] = column[rows] + gamma * total[running]
            result[rows] = total[running]
        return result

    # ---- parts -------------------------------------------------------------------------------------------------------

    def take(self, episodes: Iterable[int] | np.ndarray) -> Episodes:
        """Some of the episodes, by number or as booleans `[E]`, in the order given.

        Raises:
          DatasetError: If none is left.
        """
        chosen = np.asarray(episodes)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if not len(chosen):
            raise DatasetError("no episode is left")
        count = self.lengths[chosen] + 1
        stop = np.cumsum(count)
        rows = np.repeat(self.start[chosen] - stop + count, count) + np.arange(stop[-1])
        whole = {name: getattr(self, name) for name in (*COLUMNS, "next_obs", "terms")}
        cut: dict[str, Any] = {name: None if column is None else column[rows] for name, column in whole.items()}
        return dataclasses.replace(
            self,
            **cut,
            start=np.concatenate([[0], stop]),
            behaviour=None if self.behaviour is None else self.behaviour[chosen],
            states={name: value[chosen] for name, value in self.states.items()},
        )

    def with_costs(self, kind: str) -> Episodes:
        """The data set with its costs as they are (`sum`), or with one cost for each constraint (`separate`).

        Raises:
          DatasetError: If the constraints were not recorded one by one.
        """
        if kind == "sum":
            return self
        if self.terms is None:
            raise DatasetError(
                f"the data set holds the costs {', '.join(self.about.cost_names)} and not each constraint by itself: "
                "train with costs='sum'"
            )
        return dataclasses.replace(
            self, cost=self.terms, about=dataclasses.replace(self.about, cost_names=self.about.term_names)
        )

    def nbytes(self) -> int:
        """Memory of the rows."""
        columns = [getattr(self, name) for name in (*COLUMNS, "next_obs")]
        return sum(column.nbytes for column in columns if column is not None)

    def flat(self) -> dict[str, np.ndarray]:
        """The steps alone, `[N, ...]`: the columns, `next_obs`, `initial_obs`, and the number of the `episode`."""
        rows = self.rows()
        following = self.obs[rows + 1] if self.next_obs is None else self.next_obs[rows]
        episode = np.repeat(np.arange(len(self)), self.lengths)
        return {name: getattr(self, name)[rows] for name in COLUMNS} | {
            "next_obs": following,
            "initial_obs": self.obs[self.start[:-1]][episode],
            "episode": episode,
        }

    # ---- checks ------------------------------------------------------------------------------------------------------

    def check(self, where: str = "the data set") -> Episodes:
        """Itself, if everything in it can be used.

        Args:
          where: Name of the file, for messages.

        Raises:
          DatasetError: Naming the field, its shape or the row.
        """
        self._check_shapes(where)
        for name in ("obs", "next_obs", "action", "reward", "cost", "terms"):
            column = getattr(self, name)
            if column is None or column.dtype.kind != "f":
                continue
            if not np.isfinite(np.vdot(column, column) if column.dtype != np.float16 else np.nan):
                bad = np.argwhere(~np.isfinite(column))
                if len(bad):
                    raise DatasetError(f"{where}: {name} is {column[tuple(bad[0])]} in row {bad[0][0]}")
        if isinstance(self.about.action, Box):
            largest = np.abs(self.action).max(axis=-1)
            row = int(largest.argmax())
            if largest[row] > 1 + BEYOND:
                raise DatasetError(
                    f"{where}: action is {largest[row]:g} in row {row}, and actions lie in [-1, 1]; "
                    "of an import `env` says how wide the task's bounds are; `clip` clips them as the environment did"
                )
        elif self.action.min() < 0 or (self.action >= np.asarray(self.about.action.sizes)).any():  # type: ignore[union-attr]
            raise DatasetError(f"{where}: action holds a choice that {self.about.action} lacks")
        if not self.finished.any():
            raise DatasetError(f"{where}: no episode is finished: no row is terminated or truncated")
        return self

    def _check_shapes(self, where: str) -> None:
        start = self.start
        if start.ndim != 1 or len(start) < 2:
            raise DatasetError(f"{where}: there is no episode in it (start has shape {start.shape})")
        total = int(start[-1])
        if start[0] != 0 or (np.diff(start) < 2).any():
            raise DatasetError(f"{where}: start must begin at 0 and grow by 2 or more, got {start[:5].tolist()} ...")
        obs, action = self.about.obs, self.about.action
        for name, space in (("obs", obs), ("action", action)):
            if not isinstance(space, (Box, Discrete)):
                raise DatasetError(f"{where}: {name} must be a Box or a Discrete, not {space}: data sets hold no trees")
        width = (action.width,) if isinstance(action, Box) else action.shape  # type: ignore[union-attr]
        want: dict[str, Any] = {
            "obs": (total, *obs.shape),  # type: ignore[union-attr]
            "action": (total, *width),
            "reward": (total,),
            "cost": (total, len(self.about.cost_names)),
            "terminated": (total,),
            "truncated": (total,),
            "next_obs": (total, *obs.shape),  # type: ignore[union-attr]
            "terms": (total, len(self.about.term_names)),
        }
        for name, shape in want.items():
            column = getattr(self, name)
            if column is not None and column.shape != shape:
                raise DatasetError(f"{where}: {name} must have shape {shape}, got {column.shape}")
        for name in ("terminated", "truncated"):
            inside = getattr(self, name).copy()
            inside[self.last] = False
            if inside.any():
                raise DatasetError(
                    f"{where}: {name} is true in row {int(inside.argmax())}, in the middle of an episode (see start)"
                )
        per_episode = {f"states[{name!r}]": value for name, value in self.states.items()}
        for name, value in (per_episode | {"behaviour": self.behaviour}).items():
            if value is not None and len(value) != len(self):
                raise DatasetError(f"{where}: {name} has {len(value)} entries for {len(self)} episodes")
        known = max(1, len(self.about.behaviours))
        if self.behaviour is not None and not ((self.behaviour >= 0) & (self.behaviour < known)).all():
            raise DatasetError(f"{where}: behaviour must be below {known}, got {self.behaviour.max()}")


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """Several data sets of one task in one, in order.

    Raises:
      DatasetError: If they differ in their task or in what they hold, naming the field.
    """
    first = parts[0]
    keep = ("obs", "action", "horizon", "env", "env_options", "cost_names", "term_names")
    for part in parts[1:]:
        for name in keep:
            here, there = getattr(part.about, name), getattr(first.about, name)
            if here != there:
                raise DatasetError(f"data sets of different tasks: {name} is {there!r} in one and {here!r} in another")
        for name in ("next_obs", "terms"):
            if (getattr(part, name) is None) != (getattr(first, name) is None):
                raise DatasetError(f"some of the data sets have {name}, and others have not")
    behaviours: list[Mapping[str, Any]] = []
    numbers = []
    for part in parts:
        own = np.zeros(len(part), np.int16) if part.behaviour is None else part.behaviour
        numbers.append(own + np.int16(len(behaviours)))
        behaviours += part.about.behaviours or ({},)
    offsets = np.cumsum([0, *(part.start[-1] for part in parts)])
    shared = set(first.states).intersection(*(part.states for part in parts))
    same = all(set(part.states) == set(first.states) for part in parts)

    def joined(name: str) -> Any:
        return None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])

    return Episodes(
        **{name: joined(name) for name in (*COLUMNS, "next_obs", "terms")},
        start=np.concatenate([*(part.start[:-1] + offset for part, offset in zip(parts, offsets)), offsets[-1:]]),
        about=dataclasses.replace(first.about, behaviours=tuple(behaviours)),
        behaviour=np.concatenate(numbers),
        states={name: np.concatenate([part.states[name] for part in parts]) for name in sorted(shared)} if same else {},
    )
