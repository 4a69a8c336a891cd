"""Options of the on-policy learners: parts, the limit, and what no part owns."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.estimators import GAE, Estimator
from jsafe.components.limits import CostLimit
from jsafe.components.policies import AutoPolicy, PolicyNetwork
from jsafe.components.rules import NoRule
from jsafe.components.steps import PPO, PolicyStep
from jsafe.components.transforms import Identity, Transform
from jsafe.feeds import Rollouts
from jsafe.ops.precision import Precision
from jsafe.options import Options, number, seam, traced
from jsafe.types import Array, CMDPTransform, ConstraintRule, Part


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig(Options):
    """Options that all on-policy learners share. The defaults are OmniSafe's settings for PPO-like algorithms.

    Raises:
      ValueError: For a number out of its range, naming the field.
    """

    step: Part = seam("step", PPO(), PolicyStep)
    """What is done with a batch of advantages."""
    rule: Part = seam("rule", NoRule(), ConstraintRule)
    """How measured costs weight the cost advantages."""
    transform: Part = seam("transform", Identity(), Transform)
    """How the problem is changed before it is learnt."""
    policy: Part = seam("policy", AutoPolicy(), PolicyNetwork)
    """The distribution of actions."""
    estimator: Part = seam("estimator", GAE(), Estimator)
    """Advantages and targets, with their discounts."""
    limit: CostLimit = CostLimit()
    """What the costs may be; also the budget of Saute and Simmer."""
    compat: Compat = "paper"
    """`omnisafe` reproduces the released behaviour where it departs from the papers (table in the assembly)."""

    num_envs: int = number(20, low=1, high=10**6)
    """Environments of the collector."""
    steps_per_epoch: int = number(20_000, low=1, high=10**12)
    """Environment steps per iteration, over all environments; a multiple of `num_envs`."""
    schedule_steps: int | None = number(None, low=1)
    """Environment steps over which rates decay; None: those of the run (`total_steps`), or no decay outside of one."""

    standardize: Literal["reward", "all", "mix", "none"] = "reward"
    """`reward`: the reward's advantage is centred and scaled, each cost's only centred, then they are mixed (Ray et al.
    2019 and OmniSafe). `all`: each is scaled (FOCOPS' authors). `mix`: the mix is scaled instead, so that the
    multiplier is the dual variable of the limit in units of reward per cost, whatever the spread of the advantages.
    `none`: centred only."""
    cost_penalty: float = traced(0.0, low=0)
    """Subtracts this times the sum of costs from the reward."""
    normalize_obs: bool = True
    """Running mean and standard deviation, clipped at 5. They move after each update, and move the policy with them: by
    much after the first one, which was acted on without them (metric `policy/kl_statistics`)."""
    normalize_reward: bool = False
    """By the running standard deviation, clipped at 5."""
    normalize_cost: bool = False
    """Likewise what the critics of the costs learn; limits stay in raw costs."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""

    SHORT: ClassVar[dict[str, Any]] = {
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        "hidden": lambda value: {"policy.hidden": value, "step.critics.hidden": value},
        "activation": lambda value: {"policy.activation": value, "step.critics.activation": value},
        "encoder": lambda value: {"policy.encoder": value, "step.critics.encoder": value},
        "gamma": "estimator.gamma",
        "learning_rate": "step.learning_rate",
        "critic_learning_rate": "step.critics.learning_rate",
    }

    def __post_init__(self):
        super().__post_init__()
        if self.steps_per_epoch % self.num_envs:
            raise ValueError(
                f"steps_per_epoch ({self.steps_per_epoch}) must be a multiple of num_envs ({self.num_envs})"
            )
        if getattr(self.step, "discounted", False) and (gamma := getattr(self.estimator, "gamma", 0.0)) >= 1:
            raise ValueError(f"gamma must be below 1 with this step, got {gamma!r}")
        values = self.limit.value if isinstance(self.limit.value, tuple) else (self.limit.value,)
        if getattr(self.transform, "budgets", False) and min(values) < 1e-6:
            raise ValueError(f"cost_limit must be at least 1e-06 where it is a budget, got {self.limit.value!r}")

    @property
    def uses_costs(self) -> bool:
        """Whether the costs' advantages are needed."""
        return not isinstance(self.rule, NoRule) or getattr(self.step, "constrained", True)

    @property
    def constrained(self) -> bool:
        """Whether costs have a say in what is learnt."""
        return self.uses_costs or not isinstance(self.transform, Identity)

    def remaining(self, iteration: Array) -> Array:
        """Share of the run that is left at the start of an iteration: 1, then down to that of the last one."""
        if self.schedule_steps is None:
            return jnp.ones(())
        epochs = max(self.schedule_steps / self.steps_per_epoch, 1.0)
        return jnp.maximum(1.0 - iteration / epochs, 1.0 / epochs)

    def feed(self, transform: CMDPTransform | None) -> Rollouts:
        """What the collector has to produce."""
        return Rollouts(self.num_envs, self.steps_per_epoch // self.num_envs, self.compat == "omnisafe", transform)
