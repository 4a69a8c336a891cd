"""An algorithm of parts with the family's kinds of options: for tests of the command line and of sweep files."""

import dataclasses
from typing import Literal

from jsafe import registry
from jsafe.components.limits import CostLimit
from jsafe.components.rules import PID, NoRule
from jsafe.options import Options, number, part, seam


@part("parts_policy", "narrow")
@dataclasses.dataclass(frozen=True)
class Narrow(Options):
    """A policy of one layer."""

    hidden: tuple[int, ...] = number((64, 64), low=1, high=2**14)
    """Widths of the layers. More is slower."""
    std: float = number(1.0, above=0)
    """Standard deviation."""

    def build(self, spec, axis_name=None):
        """Nothing is built of it."""
        return self


@part("parts_policy", "wide")
@dataclasses.dataclass(frozen=True)
class Wide(Narrow):
    """A policy with a rule of its own inside, so that a part brings a seam."""

    inner: PID | NoRule = seam("rule", NoRule())


@dataclasses.dataclass(frozen=True)
class PartsConfig(Options):
    """Options of the algorithm of parts."""

    SHORT = {  # noqa: RUF012
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        "hidden": lambda value: {"policy.hidden": value, "critic.hidden": value},
    }
    gamma: float = number(0.99, low=0, high=1)
    """Discount of rewards."""
    num_envs: int = number(20, low=1, high=10**6)
    """Environments that are stepped."""
    normalize: bool = True
    """Whether observations are normalised."""
    mode: Literal["reward", "mix"] = "reward"
    """What is standardised."""
    bound: float | None = number(None, low=0)
    """Largest of something."""
    rule: PID | NoRule = seam("rule", PID())
    """How costs become weights."""
    policy: Narrow | Wide = seam("parts_policy", Narrow())
    """What acts."""
    critic: Narrow = seam("parts_policy", Narrow())
    """What judges."""
    limit: CostLimit = CostLimit()
    """What a cost may be."""

    @property
    def constrained(self) -> bool:
        """Whether costs have a say."""
        return self.rule.kind != "none"


PARTS = registry.Algorithm(
    name="parts",
    family="on_policy",
    config=PartsConfig(),
    build=lambda config, spec, axis_name=None: config.limit.values(spec.num_costs),
    presets={
        "quick": registry.Preset("For a laptop.", {"rule.kp": 0.5, "policy.hidden": (8,)}, 30_000),
        "paper": registry.Preset("As published.", {}),
    },
    paper="Nobody 2026 (arXiv 0000.00000)",
    summary="Nothing is learnt.",
    recommended="quick",
)
