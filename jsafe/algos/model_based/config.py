"""Options of the learners that plan."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jsafe.algos.model_based.value import NoValue, Value
from jsafe.components.compat import Compat
from jsafe.components.dynamics import Dynamics, Ensemble
from jsafe.components.dynamics.propagation import Noise
from jsafe.components.known import Auto, Known
from jsafe.components.limits import CostLimit
from jsafe.components.planners import CEM, Planner
from jsafe.components.rules import NoRule
from jsafe.components.scores import Constrained, Score
from jsafe.feeds import Replay
from jsafe.ops.precision import Precision
from jsafe.options import Options, number, seam
from jsafe.types import ConstraintRule, Part

TOUCH_NOTHING = CostLimit(1.0, window=10)
"""One per episode: a plan may cost next to nothing."""

TRANSITIONS = Replay(
    num_envs=8,
    unroll=25,
    sequences=5 * 256,
    sequence_length=2,
    replay_rows=125_000,
    initial_rows=1000,
    random_steps=10_000,
    updates=100,
    jumps=True,
)
"""Single transitions, 256 for each of five nets; one minibatch per two steps of the environments."""

SHORT: dict[str, Any] = {
    "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
    "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
    "hidden": "dynamics.hidden",
    "learning_rate": "dynamics.learning_rate",
    "model_updates": "feed.updates",
    **{name: f"feed.{name}" for name in ("num_envs", "unroll", "sequences", "sequence_length", "updates")},
    **{name: f"feed.{name}" for name in ("frame_stack", "replay_rows", "initial_rows", "random_steps")},
}


@dataclasses.dataclass(frozen=True)
class ModelBasedConfig(Options):
    """What a learner that plans is made of.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    planner: Part = seam("planner", CEM(), Planner)
    """How a plan is found."""
    score: Part = seam("score", Constrained(), Score)
    """How plans are ranked."""
    value: Part = seam("value", NoValue(), Value)
    """What the end of a plan is worth, and who proposes plans besides."""
    dynamics: Part = seam("dynamics", Ensemble(), Dynamics)
    """The model."""
    known: Part = seam("known", Auto(), Known)
    """What need not be learnt."""
    rule: Part = seam("rule", NoRule(), ConstraintRule)
    """Moves the weight of the model's ignorance, for the score `penalised` alone."""
    limit: CostLimit = TOUCH_NOTHING
    """What the costs may be."""
    feed: Replay = TRANSITIONS
    """How experience is collected and replayed."""

    particles: int = number(20, low=1)
    """Predictions of each candidate, shared out equally among the nets of the model."""
    noise: Noise = "independent"
    """`independent`: each candidate has draws of its own; `common`: they share them, which compares better and costs a
    fifth less."""
    discount: float = number(1.0, low=0, high=1)
    """Of the rewards within a plan and of its end's worth, per step; costs are not discounted."""
    rule_interval: int | None = number(None, low=1, high=10**9)
    """Environment steps between steps of the rule; None: one in every iteration in which an episode ended."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""
    compat: Compat = "paper"
    """`omnisafe` reproduces the released behaviour where it departs from the papers (table in the assembly)."""

    SHORT: ClassVar[dict[str, Any]] = SHORT

    def __post_init__(self):
        super().__post_init__()
        check_feed(self.feed, getattr(self.dynamics, "size", 1))
        size = getattr(self.dynamics, "size", 1)
        if self.particles % size:
            raise ValueError(f"particles must be a multiple of the nets, {size}, got {self.particles}")
        if self.feed.frame_stack != 1:
            raise ValueError(f"frame_stack must be 1: a plan starts from one observation, got {self.feed.frame_stack}")
        if self.limit.per != "episode":
            raise ValueError(f"the limit of a plan is one per episode, got per={self.limit.per!r}")
        if getattr(self.value, "updates", 0) > self.feed.updates * size:
            raise ValueError(
                f"value.updates must be at most feed.updates times the nets, {self.feed.updates * size}, "
                f"got {self.value.updates}"  # type: ignore[attr-defined]
            )


def check_feed(feed: Replay, size: int) -> None:
    """Raises ValueError for a feed that a model of so many nets cannot learn from."""
    if feed.sequences % size:
        raise ValueError(f"sequences must be a multiple of the nets, {size}, got {feed.sequences}")
    if not feed.jumps:
        raise ValueError("feed.jumps must be on: a model must not learn where goals jump, got False")
