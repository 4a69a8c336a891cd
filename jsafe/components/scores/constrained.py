"""The predicted return of the candidates whose predicted cost is within the limit."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jsafe.components.compat import Compat
from jsafe.components.scores.base import Score, ScorePart, mean_return, ranked
from jsafe.options import part
from jsafe.types import EnvSpec


@part("score", "constrained")
@dataclasses.dataclass(frozen=True)
class Constrained(ScorePart):
    """`ranked` by the cost of the plan on the scale of an episode, `C <- C T / H`, against the limit per episode.

    With a short plan any limit below `T k / (H P)` (k: cost of one violation) means that no particle may touch: `mean`
    and `max` then allow the same candidates, and differ in how they rank the others.

    Source: Wen & Topcu 2018 (`mean`); Liu et al. 2020 (arXiv 2010.07968, `max`); OmniSafe's RCE and SafeLOOP sum the
    largest cost of any particle step by step (`sum_max`).
    """

    over: Literal["mean", "max", "sum_max"] = "mean"
    """The cost of a candidate: the mean over its particles, the largest of any particle, or the sum over the steps of
    the largest (also with `compat="omnisafe"` in the place of `max`)."""

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper", steps: int = 1) -> Score:
        """A `Score`."""
        del axis_name
        scale = spec.horizon / steps
        over = "sum_max" if self.over == "max" and compat == "omnisafe" else self.over

        def judge(rollout, terminal, aim, enough):
            cost = {
                "mean": lambda: rollout.cost.mean(axis=(0, 1)),
                "max": lambda: rollout.cost.max(axis=(0, 1)),
                "sum_max": lambda: rollout.worst,
            }[over]()
            return ranked(mean_return(rollout, terminal), scale * cost, aim.limit, enough)

        return Score(judge)
