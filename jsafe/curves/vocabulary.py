"""The names of metrics: what they are called, their units, which way is better; and each cost with its limit.

Screen, plots, tables and evaluation read them here. A cost is a column `cost/I/...` with its index; its name is the
environment's. There is no sum over costs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

Unit = Literal["episode", "step"]

EPISODES_COUNTED = "episode/window"
"""Number of finished episodes behind the means of `episode/*`, 100 at most."""


class Metric(NamedTuple):
    """What a metric is.

    Attributes:
      title: For axes and tables.
      unit: Of its values; empty where it has none.
      better: 1 where more is better, -1 where less is, 0 where neither is.
    """

    title: str
    unit: str = ""
    better: int = 0

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} {self.unit}".rstrip()


METRICS: dict[str, Metric] = {
    "iteration": Metric("iterations"),
    "env_steps": Metric("environment steps"),
    "time/wall_seconds": Metric("wall time", "in seconds"),
    "time/steps_per_second": Metric("speed", "in steps per second", 1),
    "episode/count": Metric("finished episodes", "since the last row"),
    EPISODES_COUNTED: Metric("finished episodes", "in the means"),
    "episode/finished_envs": Metric("environments that have finished an episode"),
    "episode/bad": Metric("episodes ended because of bad values"),
    "episode/return": Metric("return", "per episode", 1),
    "episode/success": Metric("success rate", "", 1),
    "episode/length": Metric("length", "in steps"),
    "episode/cost": Metric("cost", "per episode", -1),
    "episode/cost_rate": Metric("cost", "per step", -1),
    "episode/cost/*": Metric("cost", "per episode", -1),
    "episode/cost_rate/*": Metric("cost", "per step", -1),
    "eval/return": Metric("return in evaluation", "per episode", 1),
    "eval/success": Metric("success rate in evaluation", "", 1),
    "eval/length": Metric("length in evaluation", "in steps"),
    "eval/cost": Metric("cost in evaluation", "per episode", -1),
    "eval/cost/*": Metric("cost in evaluation", "per episode", -1),
    "cost/*/episodic": Metric("cost", "per episode", -1),
    "cost/*/per_step": Metric("cost", "per step", -1),
    "cost/*/limit": Metric("limit", "per episode"),
    "cost/*/limit_per_step": Metric("limit", "per step"),
    "cost/*/multiplier": Metric("multiplier", "in reward per cost"),
    "cost/*/estimated": Metric("cost by the critics", "per episode", -1),
    "cost/*/critic": Metric("cost by the critics", "in their unit", -1),
    "cost/*/critic_limit": Metric("limit", "in the critics' unit"),
    "weight/mean": Metric("weight of recorded actions"),
    "weight/effective": Metric("share of recorded actions that count"),
    "cost/*/margin": Metric("margin", "below the limit"),
    "rule/reward_weight": Metric("weight of the reward"),
    "loss/*": Metric("loss", "", -1),
    "policy/entropy": Metric("entropy of the policy", "in nats"),
    "policy/kl": Metric("KL divergence of an update", "in nats"),
    "policy/std": Metric("standard deviation of the policy"),
    "entropy/*": Metric("entropy", "in nats"),
    "temperature/*": Metric("temperature", "in reward per nat"),
    "q/reward": Metric("expected return"),
    "q/cost": Metric("expected cost"),
    "plan/return": Metric("return of plans", "as predicted, over their steps"),
    "plan/feasible": Metric("share of feasible plans", "", 1),
    "plan/cost/*": Metric("cost of plans", "as predicted, per episode", -1),
    "model/nll": Metric("negative log likelihood of the model", "per output", -1),
    "model/squared_error": Metric("squared error of the model", "per output", -1),
    "train/updates": Metric("gradient steps", "per iteration"),
}
"""By name; `*` stands for one word, as the index of a cost or the name of a network."""

_FORMER = (
    (r"rule/limit_episodic(?:_(\d+))?", "cost/{}/limit"),
    (r"rule/limit(?:_(\d+))?", "cost/{}/limit_per_step"),
    (r"rule/multiplier(?:_(\d+))?", "cost/{}/multiplier"),
    (r"(?:rule/cost|cost/)_?episodic(?:_(\d+))?", "cost/{}/episodic"),
    (r"(?:rule/cost|cost/)_?per_step(?:_(\d+))?", "cost/{}/per_step"),
    (r"cost/margin_(\d+)", "cost/{}/margin"),
    (r"rule/weight_reward", "rule/reward_weight"),
    (r"loss/value_reward", "loss/critic_reward"),
    (r"loss/value_cost", "loss/critic_cost"),
)
"""The names in the curves of jsafe 0.1, as patterns; a cost without an index was the only one."""


def describe(name: str) -> Metric:
    """What a metric is; the name itself is the title of one that is not in the table."""
    if name in METRICS:
        return METRICS[name]
    for pattern, metric in METRICS.items():
        if "*" in pattern and re.fullmatch(pattern.replace("*", "[^/]+"), name):
            return metric
    return Metric(name)


def translate(name: str) -> str:
    """The name of today for a metric of jsafe 0.1; others stay."""
    for pattern, today in _FORMER:
        if match := re.fullmatch(pattern, name):
            return today.format(*(index or 0 for index in match.groups()))
    return name


class Cost(NamedTuple):
    """One cost as a row of a curve tells of it; NaN where it does not.

    Attributes:
      name: What to call it.
      per_episode, per_step: What was measured.
      limit, limit_per_step: Its limit, in the unit that the algorithm has it in.
      multiplier: Its weight against the reward.
    """

    name: str
    per_episode: float
    per_step: float
    limit: float = math.nan
    limit_per_step: float = math.nan
    multiplier: float = math.nan

    @property
    def unit(self) -> Unit:
        """The unit to judge it in: that of its limit."""
        return "step" if math.isnan(self.limit) and not math.isnan(self.limit_per_step) else "episode"

    @property
    def measured(self) -> float:
        """What was measured, in `unit`."""
        return self.per_step if self.unit == "step" else self.per_episode

    @property
    def bound(self) -> float:
        """The limit, in `unit`."""
        return self.limit_per_step if self.unit == "step" else self.limit

    @property
    def kept(self) -> bool | None:
        """Whether the limit is kept; None without a limit, or before anything was measured."""
        return None if math.isnan(self.measured) or math.isnan(self.bound) else self.measured <= self.bound

    @property
    def verdict(self) -> str:
        """`kept`, `broken`, or nothing."""
        return {None: "", True: "kept", False: "broken"}[self.kept]


def costs(values: Mapping[str, float], names: Sequence[str] = ()) -> list[Cost]:
    """Every cost of a row, with its limit.

    Args:
      values: Metrics by name, those of 0.1 translated.
      names: The environment's `cost_names`.
    """

    def value(column):
        return float(values[column]) if column in values else math.nan

    known = range(num_costs(values))
    return [
        Cost(
            cost_name(i, names, len(known)),
            value(measured_column(values, i, "episode")),
            value(measured_column(values, i, "step")),
            value(limit_column(i, "episode")),
            value(limit_column(i, "step")),
            value(f"cost/{i}/multiplier"),
        )
        for i in known
    ]


def num_costs(columns: Iterable[str]) -> int:
    """Number of costs that the columns of a curve tell of."""
    found = (re.match(r"(?:cost|episode/cost|episode/cost_rate)/(\d+)(?:/|$)", name) for name in columns)
    indices = [int(match[1]) for match in found if match]
    return max(indices) + 1 if indices else int("episode/cost" in columns)


def cost_name(index: int, names: Sequence[str] = (), count: int = 1) -> str:
    """What to call a cost: its name in the environment, `cost` for the only one, or its number."""
    if index < len(names) and names[index] not in ("sum", "cost"):
        return names[index].removeprefix("cost_")
    return "cost" if count == 1 else f"cost {index}"


def measured_column(columns: Iterable[str], index: int, unit: Unit) -> str:
    """The column with what was measured of a cost: over the last finished episodes where the curve has that."""
    known = set(columns)
    over_episodes = "episode/cost" if unit == "episode" else "episode/cost_rate"
    if f"{over_episodes}/{index}" in known:
        return f"{over_episodes}/{index}"
    if over_episodes in known and num_costs(known) == 1:
        return over_episodes
    return f"cost/{index}/{'episodic' if unit == 'episode' else 'per_step'}"


def limit_column(index: int, unit: Unit) -> str:
    """The column with the limit of a cost."""
    return f"cost/{index}/{'limit' if unit == 'episode' else 'limit_per_step'}"
