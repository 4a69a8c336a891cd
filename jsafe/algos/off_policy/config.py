"""Options of the off-policy learners."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from jsafe.components.actors import Actor, Gaussian
from jsafe.components.augmentations import Augmentation, NoAugmentation
from jsafe.components.compat import Compat
from jsafe.components.critics import Critics, Ensemble
from jsafe.components.limits import CostLimit
from jsafe.components.reward_normalizer import NoNormalizer, RewardNormalizer
from jsafe.components.rules import IPO, Lagrange, NoRule
from jsafe.components.temperature import Learned, Temperature
from jsafe.feeds import Replay
from jsafe.nets.encoders import OWN, Auto
from jsafe.ops.precision import Precision
from jsafe.options import Options, number, seam, traced
from jsafe.types import ConstraintRule, Part

EPISODIC = CostLimit(window=10)
"""25 per episode, over ten of them."""

TRANSITIONS = Replay(
    num_envs=16, unroll=4, sequences=256, sequence_length=2, replay_rows=62_500, random_steps=10_000, updates=64
)
"""Single transitions, one update per environment step: what the off-policy literature has in common."""


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig(Options):
    """What an off-policy learner is made of. The defaults are SAC's, under a Lagrange multiplier.

    Source of the defaults: Haarnoja et al. 2018 (arXiv 1812.05905), table 1, with one update per environment step; the
    rates of the multiplier are ours.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    actor: Part = seam("actor", Gaussian(), Actor)
    """The policy and its loss."""
    critics: Part = seam("critics", Ensemble(), Critics)
    """Action values of the reward and of the costs."""
    encoder: Part = seam("encoder", Auto(), OWN)
    """From an observation to what actor and critics see, trained by the critics alone; a part, or a flax module of
    one's own."""
    augmentation: Part = seam("augmentation", NoAugmentation(), Augmentation)
    """What is done to replayed observations before every update."""
    rule: Part = seam("rule", Lagrange(learning_rate=1e-3), ConstraintRule)
    """How costs weigh in the actor's objective."""
    temperature: Part = seam("temperature", Learned(), Temperature)
    """How the policy's entropy weighs."""
    normalizer: Part = seam("normalizer", NoNormalizer(), RewardNormalizer)
    """What is done to replayed rewards and costs."""
    limit: CostLimit = EPISODIC
    """What the costs may be."""
    feed: Replay = TRANSITIONS
    """How experience is collected and replayed."""

    gamma: float = traced(0.99, low=0, high=1)
    """Discount factor."""
    td_lambda: float = traced(0.0, low=0, high=1)
    """Mixes the n-step returns inside a window: 0 is one step, 1 the longest return that the window holds."""
    critic_learning_rate: float = traced(3e-4, above=0)
    """Of the critics and of a learned temperature."""
    actor_learning_rate: float = traced(3e-4, above=0)
    """Of the actor."""
    tau: float = traced(0.005, low=0, high=1)
    """Share of the online critics (and actor, where it has a slow copy) mixed into the targets after an update."""
    rates: Literal["update", "step"] = "update"
    """What `tau` and the rate of a learned temperature count: updates, or decisions (an environment's steps, each of
    which may hold its action for several of the simulation's), so that they keep their pace when `feed.updates` is
    changed. `gamma` counts decisions, too."""
    policy_delay: int = number(1, low=1)
    """Critic updates per update of actor, temperature and targets."""
    adam_eps: float = number(1e-8, above=0)
    """Adam's epsilon, added to the root of the uncorrected second moment."""
    max_grad_norm: float | None = number(None, above=0)
    """Largest norm of the gradient of the actor, of the reward's critics and of the costs', each; None: no clip."""
    normalize_obs: bool = False
    """Running mean and standard deviation of replayed observations, clipped at 5."""

    cost_estimate: Literal["measured", "critics"] = "measured"
    """What drives the rule: costs of the environment, once per iteration; or the cost critics at replayed actions, in
    every update, against the limit as a discounted sum."""
    rule_interval: int | None = number(None, low=1, high=10**9)
    """Environment steps between steps of the rule on measured costs; None: one step per iteration, however long."""
    rule_warmup: int = number(10_000, low=0)
    """Environment steps before the rule's first step; until then its initial weights hold."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""
    compat: Compat = "paper"
    """`omnisafe` reproduces the released behaviour where it departs from the papers (table in the assembly)."""

    SHORT: ClassVar[dict[str, Any]] = {
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        "hidden": lambda value: {"actor.hidden": value, "critics.hidden": value},
        "activation": lambda value: {"actor.activation": value, "critics.activation": value},
        "learning_rate": lambda value: {"actor_learning_rate": value, "critic_learning_rate": value},
        **{name: f"feed.{name}" for name in ("num_envs", "unroll", "sequences", "sequence_length", "updates")},
        **{name: f"feed.{name}" for name in ("frame_stack", "replay_rows", "initial_rows", "random_steps")},
    }

    def __post_init__(self):
        super().__post_init__()
        feed, kind = self.feed, getattr(type(self.actor), "kind", "")
        if feed.sequences % feed.num_envs and feed.num_envs % feed.sequences:
            raise ValueError(f"sequences ({feed.sequences}) must be a multiple of num_envs ({feed.num_envs})")
        if getattr(self.critics, "cost_replicas", 1) == 0 and self.constrained:
            raise ValueError("cost_replicas=0 leaves the costs without critics, which only rule='none' can do with")
        if self.compat == "omnisafe" and kind not in ("gaussian", "deterministic"):
            raise ValueError(f"compat='omnisafe' has no meaning with actor={kind!r}, which OmniSafe lacks")
        if self.discounted_limit and (self.gamma >= 1 or getattr(self.normalizer, "cost", False)):
            raise ValueError(
                "where the critics' estimate of a cost meets its limit, gamma must be below 1 and costs must not be "
                f"normalised: got gamma={self.gamma!r}, normalizer={self.normalizer!r}"
            )
        self._check_barrier()

    def _check_barrier(self) -> None:
        """A log barrier that cannot act is an error."""
        if not (isinstance(self.rule, IPO) and self.limit.per == "step" and self.rule.penalty_max > 0):
            return
        smallest = min(self.limit.value) if isinstance(self.limit.value, tuple) else self.limit.value
        reach = self.rule.kappa / self.rule.penalty_max
        if 0 < smallest <= reach:
            raise ValueError(
                "rule.kappa / rule.penalty_max must be below the limit per step, else costs weigh the same whatever "
                f"they are: got {self.rule.kappa!r} / {self.rule.penalty_max!r} for a limit of {smallest!r}"
            )

    @property
    def constrained(self) -> bool:
        """Whether costs have a say in what is learnt."""
        return not isinstance(self.rule, NoRule) or getattr(self.actor, "constrains", False)

    @property
    def discounted_limit(self) -> bool:
        """Whether the limit is compared with the critics' estimate, a discounted sum."""
        return self.cost_estimate == "critics" or getattr(self.actor, "constrains", False)
