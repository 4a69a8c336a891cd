"""Options of the on-policy learners."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jsafe.types import CMDPTransform, RolloutData

StepName = Literal["policy_gradient", "ppo", "focops", "p3o", "ipo", "cup", "natural_pg", "trpo", "cpo", "pcpo"]
RuleName = Literal["none", "lagrange", "pid", "crpo", "ipo", "augmented"]
TransformName = Literal["identity", "saute", "simmer", "early_termination"]

SECOND_ORDER = ("natural_pg", "trpo", "cpo", "pcpo")
"""Steps that use the Fisher matrix (the others descend on minibatches)."""
CONSTRAINED = ("p3o", "ipo", "cup", "cpo", "pcpo")
"""Steps that look at the costs themselves, with or without a constraint rule."""


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig:
    """Options that all on-policy learners share. The defaults are OmniSafe's settings for PPO-like algorithms.

    Raises:
      ValueError: For a number out of its range, naming the field.
    """

    step: StepName = "ppo"
    """What is done with a batch of advantages."""
    rule: RuleName = "none"
    """How measured costs weight the cost advantages."""
    transform: TransformName = "identity"
    """How the problem is changed before it is learnt."""
    compat: Literal["paper", "omnisafe"] = "paper"
    """`omnisafe` reproduces the released behaviour where it departs from the papers (table in the assembly)."""

    num_envs: int = 20
    """Environments of the collector."""
    steps_per_epoch: int = 20_000
    """Environment steps per iteration, over all environments; a multiple of `num_envs`."""

    cost_limit: float | tuple[float, ...] = 25.0
    """Largest undiscounted cost of an episode: one number, or one per cost. Also the budget of Saute and Simmer."""
    cost_window: int = 1
    """Episodes over which the cost is averaged (whole batches, newest first). 1: those of the newest batch."""
    multiplier_init: float = 0.001
    multiplier_lr: float = 0.035
    """Step of the Lagrange multiplier, once per iteration."""
    multiplier_optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` is plain dual ascent, rate times violation. Adam's steps remember the violations of the first epochs and
    shrink with that memory, and they bring a multiplier that has overshot down slowly."""
    multiplier_bound: float | None = None
    pid_kp: float = 0.1
    pid_ki: float = 0.01
    pid_kd: float = 0.01
    pid_delay: int = 10
    pid_smoothing: float = 0.95
    """Exponential smoothing of the proportional and of the derivative term."""
    margin_lr: float = 0.0
    """Learns a safety margin for what CPO, PCPO, P3O and IPO take as their constraint: `J - d + margin`, where
    `margin <- max(0, margin + margin_lr (J - d))` once per iteration. Their surrogate fits the noise of its own batch,
    so that without a margin (0) the cost stays above the limit."""
    crpo_distance: float = 2.0
    """Tolerance of CRPO above the limit."""
    augmented_lr: float = 1e-3
    augmented_penalty: float = 1e-3

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = "tanh"
    init_log_std: float = 0.0

    gamma: float = 0.99
    cost_gamma: float = 0.99
    """Discount of costs; `compat="omnisafe"` uses `gamma` for both."""
    lam: float = 0.95
    cost_lam: float = 0.95
    estimator: Literal["gae", "gae_rtg", "vtrace", "plain"] = "gae"
    standardize: Literal["reward", "mix", "none"] = "reward"
    """`reward`: the reward's advantage is centred and scaled, each cost's only centred, then they are mixed (Ray et al.
    2019 and OmniSafe). `mix`: the mix is scaled instead, so that the multiplier is the dual variable of the limit in
    units of reward per cost, whatever the spread of the advantages. `none`: centred only."""
    cost_penalty: float = 0.0
    """Subtracts this times the sum of costs from the reward."""
    normalize_obs: bool = True
    """Running mean and standard deviation, clipped at 5."""
    normalize_reward: bool = False
    normalize_cost: bool = False

    passes: int = 40
    """Most passes over a batch (second-order steps: of the critics)."""
    minibatch: int = 64
    """Rows per minibatch, over all devices."""
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    decay_iterations: int = 500
    """The actor's learning rate falls linearly to 0 over so many iterations; 0 keeps it."""
    optimizer: Literal["adam", "sgd"] = "adam"
    max_grad_norm: float = 40.0
    critic_l2: float = 0.001
    """Weight of the squared parameters in each critic's loss."""
    entropy_coef: float = 0.0
    target_kl: float = 0.02
    """Early stop of first-order steps; trust region of second-order ones. Summed over action components."""
    early_stop: bool = True
    clip: float = 0.2

    focops_temperature: float = 1.5
    focops_radius: float = 0.02
    p3o_kappa: float = 20.0
    ipo_kappa: float = 0.01
    ipo_slope: float = 10.0
    """Steepest slope of IPO's barrier: it goes on as a straight line from there."""
    ipo_penalty_max: float = 1.0
    """Largest multiplier of the rule `ipo`."""
    damping: float = 0.1
    cg_iterations: int = 15

    saute_gamma: float = 0.999
    """Discount of the safety budget."""
    unsafe_reward: float = -1.0
    """Reward once the budget is used up."""
    simmer_kp: float = 5e-4
    simmer_ki: float = 1e-5
    simmer_kd: float = 0.0
    simmer_polyak: float = 0.995

    def __post_init__(self):
        at_least = {
            1: "num_envs steps_per_epoch cost_window pid_delay passes minibatch cg_iterations",
            0: "decay_iterations multiplier_init multiplier_lr pid_kp pid_ki pid_kd crpo_distance augmented_lr "
            "augmented_penalty actor_lr critic_lr critic_l2 entropy_coef damping p3o_kappa ipo_kappa cost_penalty "
            "focops_radius ipo_penalty_max margin_lr",
        }
        for low, names in at_least.items():
            for name in names.split():
                if not getattr(self, name) >= low:
                    raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)!r}")
        for name in ("max_grad_norm", "target_kl", "clip", "focops_temperature", "ipo_slope"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("gamma", "cost_gamma", "lam", "cost_lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)!r}")
        if not 0 < self.saute_gamma <= 1:
            raise ValueError(f"saute_gamma must be in (0, 1], got {self.saute_gamma!r}")
        if self.step == "cup" and self.gamma >= 1:
            raise ValueError(f"gamma must be below 1 with step='cup', got {self.gamma!r}")
        for name in ("pid_smoothing", "simmer_polyak"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)!r}")
        if self.steps_per_epoch % self.num_envs:
            raise ValueError(
                f"steps_per_epoch ({self.steps_per_epoch}) must be a multiple of num_envs ({self.num_envs})"
            )
        limits = self.cost_limit if isinstance(self.cost_limit, tuple) else (self.cost_limit,)
        low = 1e-6 if self.transform in ("saute", "simmer") else 0.0
        if not limits or min(limits) < low:
            raise ValueError(f"cost_limit must be at least {low:g}, got {self.cost_limit!r}")

    @property
    def constrained(self) -> bool:
        """Whether costs have a say in what is learnt."""
        return self.rule != "none" or self.step in CONSTRAINED or self.transform != "identity"

    def cost_limits(self, num_costs: int) -> tuple[float, ...]:
        """One limit per cost; a single number serves all.

        Raises:
          ValueError: If the number of limits is neither 1 nor `num_costs`.
        """
        limits = self.cost_limit if isinstance(self.cost_limit, tuple) else (self.cost_limit,) * num_costs
        if len(limits) != num_costs:
            raise ValueError(f"cost_limit has {len(limits)} values, the environment has {num_costs} costs")
        return tuple(map(float, limits))

    def data(self, transform: CMDPTransform | None) -> RolloutData:
        """What the collector has to produce."""
        return RolloutData(self.num_envs, self.steps_per_epoch // self.num_envs, self.compat == "omnisafe", transform)


@dataclasses.dataclass(frozen=True)
class SecondOrderConfig(OnPolicyConfig):
    """`OnPolicyConfig` with OmniSafe's settings for the trust-region algorithms."""

    step: StepName = "trpo"
    passes: int = 10
    minibatch: int = 128
    critic_lr: float = 1e-3
    target_kl: float = 0.01
    early_stop: bool = False


_MILD = {"saute_gamma": 0.9999, "unsafe_reward": -0.2}
BUDGET_NAVIGATION = {"ppo": _MILD | {"passes": 80, "normalize_obs": False}, "trpo": _MILD}
"""OmniSafe's overrides for the algorithms with a budget on the Goal and Circle tasks, by step (its observations on the
Circle tasks are normalised all the same)."""
