"""Options of the offline learners."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from jsafe.components.choices import Choice, OfPolicy
from jsafe.components.compat import Compat
from jsafe.components.generators import Deterministic, Generator
from jsafe.components.improvements import Improvement, Regress
from jsafe.components.limits import CostLimit
from jsafe.components.regression_weights import One, RowWeights
from jsafe.components.rules import NoRule
from jsafe.components.valuations import NoValuation, Valuation
from jsafe.feeds import Dataset
from jsafe.ops.precision import Precision
from jsafe.options import Options, number, seam, traced
from jsafe.types import ConstraintRule, Part

RATES = ("policy_learning_rate", "critic_learning_rate", "cvae_learning_rate")
MINIBATCHES = Dataset()
"""250 minibatches of 256 transitions."""


@dataclasses.dataclass(frozen=True)
class OfflineConfig(Options):
    """What an offline learner is made of. The defaults are behaviour cloning's.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    policy: Part = seam("generator", Deterministic(), Generator)
    """What acts, fitted to recorded actions."""
    critic: Part = seam("valuation", NoValuation(), Valuation)
    """What says what actions are worth."""
    improve: Part = seam("improvement", Regress(), Improvement)
    """How the policy is trained."""
    weight: Part = seam("weight", One(), RowWeights)
    """How recorded actions weigh, where they are imitated."""
    rule: Part = seam("rule", NoRule(), ConstraintRule)
    """How costs weigh against the reward; driven by the critics' estimate, once per update."""
    choice: Part = seam("choice", OfPolicy(), Choice)
    """How it acts."""
    limit: CostLimit = CostLimit()
    """What the costs may be. Critics compare it in their own unit, see `limit_unit`."""
    feed: Dataset = MINIBATCHES
    """What is drawn from the data set."""

    gamma: float = traced(0.99, low=0, high=1)
    """Discount factor."""
    tau: float = traced(0.005, low=0, high=1)
    """Share of the current networks that is mixed into their slow copies after an update."""
    policy_learning_rate: float = traced(1e-3, above=0)
    """Of the policy."""
    critic_learning_rate: float = traced(1e-3, above=0)
    """Of everything in `critic`."""
    cvae_learning_rate: float = traced(1e-3, above=0)
    """Of what models the recorded actions."""
    multiplier_learning_rate: float | None = number(None, above=0)
    """Of a multiplier inside `critic` (COptiDICE); None: that of the critics."""
    cosine_updates: int | None = number(None, low=1)
    """Updates over which the policy's rate falls to 0, along half a cosine; None: it stays."""
    adam_eps: float = number(1e-8, above=0)
    """Adam's epsilon."""
    hidden: tuple[int, ...] | None = number(None, low=1)
    """Hidden widths of all networks, in the place of their own; None: their own."""
    normalize_obs: bool = False
    """Running mean and standard deviation of the drawn observations, clipped at 5."""
    condition: Literal["none", "cost"] = "none"
    """`cost`: the policy sees the cost of the row's whole episode beside the observation; the limit when it acts."""

    cost_estimate: Literal["states", "initial"] = "states"
    """Where the critics are asked for the policy's cost, which drives the rule: in recorded states, or in those that
    start an episode."""
    limit_unit: Literal["endless", "cut", "episode"] = "endless"
    """What a limit per episode is compared as, see `jsafe.components.valuations.base.Unit`: a discounted sum without
    end, as the critics bootstrap here; one that is cut at the horizon (OSRL); or as it is (OmniSafe), which in 1000
    steps at gamma 0.99 is ten times the limit."""
    rule_warmup: int = number(0, low=0)
    """Updates before the rule's first step; until then its initial weights hold."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""
    compat: Compat = "paper"
    """`omnisafe` reproduces released errors, where a part knows any."""

    SHORT: ClassVar[dict[str, str | Callable[[Any], dict[str, Any]]]] = {
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        "learning_rate": lambda value: dict.fromkeys(RATES, value),
        **{name: f"feed.{name}" for name in ("batch_size", "updates", "filter", "fraction", "reward_scale")},
    }

    def __post_init__(self):
        super().__post_init__()
        if self.gamma >= 1:
            raise ValueError(f"gamma must be below 1 (a limit is compared as a discounted sum), got {self.gamma!r}")
