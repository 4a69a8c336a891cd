"""What is written beside the learning curve: evaluations while a run trains, its best policy, its episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsafe.components.limits import limit_of
from jsafe.curves.csv_table import CsvTable
from jsafe.curves.screen import count
from jsafe.curves.vocabulary import cost_name
from jsafe.data.episodes import Finished
from jsafe.runs.checkpoint import BEST, EVALUATIONS, Checkpoints
from jsafe.runs.config import env_seed
from jsafe.runs.evaluation import rollout, statistics
from jsafe.runs.folder import Run
from jsafe.types import Learner

PURPOSE = 3
"""Of the seeds of these evaluations; see `env_seed`."""


class Evaluated(NamedTuple):
    """One evaluation.

    Attributes:
      values: For a row of the learning curve: `eval/return`, `eval/success`, `eval/length` and `eval/cost` (of several
        costs `eval/cost/0` ...), means over the episodes.
      row: For `evaluations.csv`.
      kept: Whether each cost keeps its limit; None where there is no limit.
      told: A line for people.
    """

    values: dict[str, float]
    row: dict[str, float]
    kept: bool | None
    told: str


class Evaluations:
    """Evaluates a policy every so many steps, and keeps the best one that keeps its limit.

    Most likely actions; the seed of an evaluation depends on the run's seed and on the iteration, so that no two are of
    the same episodes, none was trained on, and a resumed run repeats them. Each has a row in `evaluations.csv`.

    The best policy is the one with the highest mean return among those whose mean costs are all within their limits (of
    all, where nothing is limited): RUN/best holds the learner's state, which the ordinary rotation of checkpoints does
    not touch. It is the best of many noisy means: `jsafe evaluate RUN --checkpoint best` says what it is worth, on
    other seeds.

    Args:
      folder: The run folder.
      described: What it says.
      learner: What is trained.
      env: Batched environment for evaluation; it belongs to the caller.
    """

    def __init__(self, folder: Path, described: Run, learner: Learner, env: Any):
        self.folder = folder
        self._described, self._learner, self._env = described, learner, env
        self._every, self._episodes = described.config.evaluated_every, described.config.eval_episodes
        self._limit = limit_of(described.options)
        self.table = CsvTable(folder / EVALUATIONS)
        self._store = Checkpoints(folder / BEST, keep=1)
        self._best = -math.inf
        self._next = self._every

    def due(self, env_steps: int) -> bool:
        """Whether it is time."""
        return env_steps >= self._next

    def look(self, iteration: int, env_steps: int, state: Any) -> Evaluated:
        """Evaluates a state.

        Raises:
          BadValueError: If the environment gives what no learner can use.
        """
        self._next = (env_steps // self._every + 1) * self._every
        seed = env_seed(self._described.config.seed, PURPOSE, iteration)
        result = rollout(self._env, self._learner, state, self._episodes, seed, True)
        names = tuple(self._env.spec.cost_names)
        report = statistics(result, names, self._limit)
        values = {f"eval/{name}": report[name]["mean"] for name in ("return", "length")}
        values["eval/success"] = report["success"]
        costs = report["costs"]
        for i, cost in enumerate(costs):
            values["eval/cost" if len(costs) == 1 else f"eval/cost/{i}"] = cost["mean"]
        limited = [cost["kept"] for cost in costs if "kept" in cost]
        kept = all(limited) if limited else None
        row: dict[str, float] = {"iteration": iteration, "env_steps": env_steps}
        row |= {"episodes": self._episodes, "seed": seed}
        row |= {name.removeprefix("eval/"): value for name, value in values.items()}
        row["return_std"] = report["return"]["std"]
        if kept is not None:
            row["kept"] = int(kept)
        return Evaluated(values, row, kept, _line(env_steps, report, names))

    def is_best(self, found: Evaluated) -> bool:
        """Whether it is the best so far of those that keep the limit."""
        return found.kept is not False and found.values["eval/return"] > self._best

    def keep(self, found: Evaluated, state: Any) -> None:
        """Writes the best state so far, in the place of the one before.

        Raises:
          OSError: If it could not be written; the one before is untouched.
        """
        iteration = int(found.row["iteration"])
        self._store.put_aside(iteration)  # of a branch that was not gone on with
        self._store.save(
            iteration, state, _Nothing(), {"env_steps": found.row["env_steps"], "evaluation": found.values}
        )
        self._best = found.values["eval/return"]

    def continue_after(self, iteration: int, env_steps: int) -> None:
        """Drops the rows after a checkpoint, which are made again."""
        self.table.continue_after(iteration)
        self._next = (env_steps // self._every + 1) * self._every

    def state_dict(self) -> dict[str, Any]:
        """Rows that are not in the file yet, and the best return so far."""
        return {"table": self.table.state_dict(), "best": self._best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.table.load_state_dict(state["table"])
        self._best = state["best"]


def _line(env_steps: int, report: dict[str, Any], names: Sequence[str]) -> str:
    parts = [f"return {report['return']['mean']:.4g}"]
    for i, cost in enumerate(report["costs"]):
        text = f"{cost_name(i, names, len(names))} {cost['mean']:.4g}"
        if "limit" in cost:
            text += f" (limit {cost['limit']:g} per {cost['per']}: {'kept' if cost['kept'] else 'broken'})"
        parts.append(text)
    return f"evaluated at {count(env_steps)} steps: {', '.join(parts)}"


class _Nothing:
    """The best policy needs no environments."""

    def journal(self) -> None:
        return None

    def journal_keep(self) -> int:
        return 0

    def state_dict(self) -> dict[str, Any]:
        return {}


class EpisodeLog:
    """`episodes.csv`: a row for each episode of a training.

    Args:
      path: The file.
      cost_names: Of the environment.
      tracker: Of the collector (`jsafe.data.EpisodeTracker`).
    """

    def __init__(self, path: Path, cost_names: Sequence[str], tracker: Any):
        self.table = CsvTable(path)
        self._tracker = tracker
        self._names = [
            "cost" if len(cost_names) == 1 else f"cost/{cost_name(i, cost_names, len(cost_names))}"
            for i in range(len(cost_names))
        ]
        tracker.log = []
        self._rows: list[dict[str, float]] = []

    def take(self, iteration: int, env_steps: int) -> None:
        """Notes the episodes that ended in an iteration."""
        ended: list[Finished] = self._tracker.log
        for each in ended:
            for env, total, cost, length, success in zip(*each):
                row = {"iteration": iteration, "env_steps": env_steps, "env": int(env), "return": float(total)}
                row |= {"length": int(length), "success": int(success)}
                self._rows.append(row | {name: float(value) for name, value in zip(self._names, cost)})
        ended.clear()

    def write(self) -> None:
        """Writes them.

        Raises:
          OSError: If they could not be written; they will be with the next ones.
        """
        rows, self._rows = self._rows, []
        if rows:
            self.table.append(*rows)
