"""Options of the off-policy learners."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jsafe.types import ReplayData

ActorName = Literal["seditor", "beta", "gaussian", "ddpg", "td3"]
RuleName = Literal["none", "lagrange", "pid", "crpo", "ipo", "augmented"]

_POSITIVE = (
    "learning_rate",
    "adam_eps",
    "replicas",
    "initial_temperature",
    "normalizer_speed",
    "reward_clip",
    "num_envs",
    "unroll",
    "sequences",
    "frame_stack",
    "replay_rows",
    "updates",
    "policy_delay",
    "cost_window",
    "rule_steps",
    "pid_delay",
    "smoothing_clip",
)
_AT_LEAST_0 = (
    "initial_multiplier",
    "multiplier_learning_rate",
    "pid_kp",
    "pid_ki",
    "pid_kd",
    "crpo_distance",
    "ipo_kappa",
    "ipo_penalty_max",
    "augmented_lr",
    "augmented_penalty",
    "exploration_noise",
    "smoothing_noise",
    "rule_warmup_steps",
    "random_steps",
    "initial_rows",
)


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig:
    """Options shared by the off-policy learners; the defaults are SEditor's run on Safety Gym (preset `paper`)."""

    actor: ActorName = "seditor"
    """The policy and its objective: SEditor's pair, one Beta policy, a tanh-Gaussian one (SAC), DDPG's or TD3's."""
    rule: RuleName = "lagrange"
    """How measured costs weight the critics of the costs in the actor's objective."""
    compat: Literal["paper", "omnisafe"] = "paper"
    """`omnisafe` reproduces the released behaviour where it departs from the papers (table in the assembly)."""

    cost_limit_per_step: float | tuple[float, ...] | None = 5e-4
    """Largest mean cost per environment step, one number or one per cost. 25 per 1000-step episode is 0.025."""
    cost_limit: float | tuple[float, ...] | None = None
    """Largest undiscounted cost of an episode instead, one number or one per cost; the other limit is then None."""
    limit_margin: float = 0.0
    """Share of the limit that the constraint rule keeps in reserve: at 0.1 it aims at nine tenths of the limit. A rule
    that settles on the limit itself is above it half of the time."""
    cost_window: int = 10
    """Finished episodes over which the cost of an episode is averaged."""
    gamma: float = 0.99
    td_lambda: float = 0.95
    """Mixes the n-step returns inside a window: 0 is one step, 1 the longest return that the window holds."""
    tau: float = 0.005
    """Share of the online critics (and actor, where it has a slow copy) mixed into the targets after an update."""
    learning_rate: float = 3e-4
    actor_learning_rate: float | None = None
    """Of the actor; None: the same as of the critics."""
    adam_eps: float = 1e-7
    max_grad_norm: float | None = None
    """Largest norm of the critics' gradient, and of the actor's; None: no clip."""
    policy_delay: int = 1
    """Critic updates per update of actor, temperature and targets."""
    hidden: tuple[int, ...] = (256, 256, 256)
    actor_hidden: tuple[int, ...] | None = None
    """Hidden widths of the actor; None: as the critics'."""
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = "tanh"
    replicas: int = 2
    """Critics per reward; their minimum counts."""
    cost_replicas: int | None = None
    """Critics per cost, the largest cost counts; None: as `replicas`; 0: none, for the rule `none` alone."""
    actor_critic: Literal["min", "first"] = "min"
    """What the actor climbs: the minimum over replicas, or the first of them."""

    entropy_reward: bool = False
    """Adds the entropy of the next action to the reward in the critics' targets: SAC's soft value."""
    entropy_costs: bool = True
    """With `entropy_reward`: adds it to the negated costs as well, as SEditor's released baselines do."""
    temperature: Literal["learned", "fixed"] = "learned"
    initial_temperature: float = 1.0
    target_min_prob: float = 0.1
    """Sets the target entropy: `log 2 + log target_min_prob` per action component."""
    target_entropy_per_dim: float | None = None
    """Target entropy per action component in nats, instead of `target_min_prob`. Haarnoja et al. 2018: -1."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on a deterministic actor's actions."""
    smoothing_noise: float = 0.2
    """Standard deviation of the noise on the actions that TD3's targets bootstrap from."""
    smoothing_clip: float = 0.5
    distance: Literal["hinge", "l2", "none"] = "hinge"
    """SEditor: what an edit costs the editor; `l2` and `none` are the paper's ablations."""
    edit: Literal["add", "overwrite", "soft"] = "add"
    """SEditor: how an edit acts on a proposal; `overwrite` and `soft` are ablations."""

    multiplier: Literal["softplus", "clamp"] = "softplus"
    """How the rule `lagrange` keeps its multiplier from falling below 0."""
    initial_multiplier: float = 1.0
    multiplier_learning_rate: float = 0.01
    """Step of the Lagrange multiplier."""
    multiplier_optimizer: Literal["adam", "sgd"] = "adam"
    """Adam's steps hardly depend on the size of the violation, so that the multiplier swings around its optimum; plain
    dual ascent (`sgd`: rate times violation) comes to rest there."""
    multiplier_bound: float | None = None
    """Largest multiplier (rules `lagrange`, `pid`, `augmented`)."""
    rule_steps: int = 1
    """Steps of the constraint rule per iteration."""
    rule_warmup_steps: int = 0
    """Environment steps before the constraint rule's first step; until then its initial weights hold."""
    pid_kp: float = 10.0
    """Gains of the rule `pid`, per unit of violation and step of the rule. Here per step, elsewhere per episode."""
    pid_ki: float = 0.01
    pid_kd: float = 10.0
    pid_delay: int = 10
    pid_smoothing: float = 0.95
    """Exponential smoothing of the proportional and of the derivative term."""
    crpo_distance: float = 0.0
    """Tolerance of the rule `crpo` above the limit."""
    ipo_kappa: float = 0.01
    ipo_penalty_max: float = 1.0
    """Largest multiplier of the rule `ipo`."""
    augmented_lr: float = 0.1
    augmented_penalty: float = 10.0

    normalize_reward: bool = True
    """Zero mean and unit variance of replayed rewards, by moving averages."""
    normalize_cost: bool = True
    """The same for replayed costs. The constraint is measured in raw costs."""
    normalizer_speed: float = 8.0
    reward_clip: float = 10.0
    normalize_obs: bool = False
    """Running mean and standard deviation of replayed observations, clipped at 5."""
    num_envs: int = 32
    unroll: int = 5
    """Steps of every environment per iteration."""
    sequences: int = 1024
    """Windows of replayed rows per update: the minibatch."""
    sequence_length: int = 8
    """Rows per window; 2 is a single transition."""
    frame_stack: int = 4
    replay_rows: int = 50_000
    """Replay capacity in rows per environment."""
    initial_rows: int = 10_000
    """Rows (all environments) collected before the first gradient update."""
    random_steps: int = 0
    """Environment steps (all environments) with uniformly random actions at the start."""
    updates: int = 1
    """Gradient updates per iteration."""
    replay_dtype: Literal["float32", "float16"] = "float32"
    replay_on_device: bool = False
    """Keep a copy of the observations in the memory of the accelerator, and gather minibatches there."""

    def __post_init__(self):
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in _AT_LEAST_0:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        for name in ("actor_learning_rate", "max_grad_norm"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive or None, got {getattr(self, name)!r}")
        for name in ("gamma", "td_lambda", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)!r}")
        if not 0 <= self.pid_smoothing < 1:
            raise ValueError(f"pid_smoothing must be in [0, 1), got {self.pid_smoothing!r}")
        if self.sequence_length < 2:
            raise ValueError(f"sequence_length must be at least 2, got {self.sequence_length!r}")
        if not 0 <= self.limit_margin < 1:
            raise ValueError(f"limit_margin must be in [0, 1), got {self.limit_margin!r}")
        if not 0 < self.target_min_prob <= 1:
            raise ValueError(f"target_min_prob must be in (0, 1], got {self.target_min_prob!r}")
        if self.sequences % self.num_envs and self.num_envs % self.sequences:
            raise ValueError(f"sequences ({self.sequences}) must be a multiple of num_envs ({self.num_envs})")
        if self.cost_replicas is not None and self.cost_replicas < 0:
            raise ValueError(f"cost_replicas must be at least 0 or None, got {self.cost_replicas!r}")
        if self.cost_replicas == 0 and (self.rule != "none" or self.actor == "seditor"):
            raise ValueError("cost_replicas=0 leaves the costs without critics, which only rule='none' can do with")
        if self.compat == "omnisafe" and self.actor in ("seditor", "beta"):
            raise ValueError(f"compat='omnisafe' has no meaning with actor={self.actor!r}, which OmniSafe lacks")
        if (self.cost_limit is None) == (self.cost_limit_per_step is None):
            raise ValueError(
                "give one of cost_limit (per episode) and cost_limit_per_step, and None for the other: "
                f"cost_limit={self.cost_limit!r}, cost_limit_per_step={self.cost_limit_per_step!r}"
            )
        if getattr(self, self.limit_name) == ():
            raise ValueError(f"{self.limit_name} must not be empty")
        if (smallest := min(self.cost_limits(None))) < 0:
            raise ValueError(f"{self.limit_name} must be at least 0, got {smallest!r}")

    @property
    def constrained(self) -> bool:
        """Whether costs have a say in what is learnt."""
        return self.rule != "none"

    @property
    def limit_name(self) -> str:
        """The field that holds the limit: `cost_limit_per_step`, or `cost_limit` per episode."""
        return "cost_limit_per_step" if self.cost_limit is None else "cost_limit"

    def cost_limits(self, num_costs: int | None) -> tuple[float, ...]:
        """One limit per cost; a single number serves all.

        Raises:
          ValueError: If the number of limits is neither 1 nor `num_costs`.
        """
        limit = getattr(self, self.limit_name)
        limits = tuple(limit) if isinstance(limit, tuple) else (limit,) * (num_costs or 1)
        if num_costs is not None and len(limits) != num_costs:
            raise ValueError(f"{self.limit_name} has {len(limits)} values, the environment {num_costs} costs")
        return limits

    def data(self) -> ReplayData:
        """What the collector has to produce for this config."""
        names = [field.name for field in dataclasses.fields(ReplayData) if hasattr(self, field.name)]
        return ReplayData(dtype=self.replay_dtype, **{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class TextbookConfig(OffPolicyConfig):
    """What the off-policy literature has in common: one-step targets, and a limit on the cost of an episode.

    The defaults are SAC's (Haarnoja et al. 2018, arXiv 1812.05905, table 1) with one gradient step per environment
    step. Costs are learnt by one critic each. The gains of the rules are ours: no paper gives any for this setting.
    """

    actor: ActorName = "gaussian"
    cost_limit_per_step: float | tuple[float, ...] | None = None
    cost_limit: float | tuple[float, ...] | None = 25.0
    td_lambda: float = 0.0
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = "relu"
    cost_replicas: int | None = 1
    entropy_reward: bool = True
    entropy_costs: bool = False
    target_entropy_per_dim: float | None = -1.0
    multiplier: Literal["softplus", "clamp"] = "clamp"
    initial_multiplier: float = 0.001
    multiplier_learning_rate: float = 1e-3
    rule_warmup_steps: int = 10_000
    pid_kp: float = 0.01
    pid_ki: float = 1e-5
    pid_kd: float = 0.01
    augmented_lr: float = 1e-4
    augmented_penalty: float = 0.01
    normalize_reward: bool = False
    normalize_cost: bool = False
    num_envs: int = 16
    unroll: int = 4
    sequences: int = 256
    sequence_length: int = 2
    frame_stack: int = 1
    replay_rows: int = 62_500
    random_steps: int = 10_000
    updates: int = 64


OMNISAFE = {
    "compat": "omnisafe",
    "learning_rate": 3e-4,
    "actor_learning_rate": 3e-4,
    "tau": 0.005,
    "max_grad_norm": 40.0,
    "hidden": (256, 256),
    "temperature": "fixed",
    "initial_temperature": 0.2,
    "multiplier_learning_rate": 1e-5,
    "rule_warmup_steps": 200_000,
    "pid_kp": 1e-6,
    "pid_ki": 1e-7,
    "pid_kd": 1e-7,
    "reward_clip": 5.0,
    "sequences": 256,
    "num_envs": 1,
    "unroll": 1,
    "updates": 1,
    "replay_rows": 1_000_000,
}
"""OmniSafe's defaults: one environment, and one update (`update_iters`) and one step of the multiplier after each step
of it (`update_cycle`). With N environments there, a minibatch has 256 N rows, and the buffer is per environment: here
`num_envs=N, sequences=256 * N`, and `replay_rows` as it is. Costs are normalised when they are replayed, by moving
averages; there when they are stored, by the statistics of all before."""

NAVIGATION = {
    "learning_rate": 1e-3,
    "actor_learning_rate": 5e-6,
    "initial_multiplier": 0.0,
    "multiplier_learning_rate": 5e-7,
    "pid_kp": 5e-7,
    "pid_ki": 1e-8,
    "pid_kd": 1e-8,
    "normalize_cost": False,
}
"""OmniSafe's overrides for PointGoal1, CarGoal1, PointCircle1 and CarCircle1."""


JSAFE = {
    "td_lambda": 0.95,
    "learning_rate": 3e-4,
    "hidden": (128, 128),
    "initial_temperature": 0.01,
    "multiplier_optimizer": "sgd",
    "multiplier_learning_rate": 1.5e-6,
    "pid_kp": 1e-3,
    "pid_ki": 1.5e-6,
    "pid_kd": 0.0,
    "cost_window": 50,
    "limit_margin": 0.1,
    "num_envs": 16,
    "unroll": 4,
    "sequences": 32,
    "sequence_length": 8,
    "replay_rows": 62_500,
    "updates": 8,
}
"""What learns the stock navigation tasks; experiments/off_policy measures it choice by choice. The temperature is
learned from 0.01, for a step there earns some 0.02. Returns over up to seven steps, and the larger of two critics per
cost: one bootstrapped critic underestimates the costs of the very actions that the actor prefers. Plain dual ascent at
the pace at which costs fall, which is the controller's integral part, too; its derivative is off, because an average
over 50 episodes says nothing of the last iterations. An update per eight environment steps, on smaller networks, for
the time it takes."""


JSAFE_VELOCITY = {"updates": 16, "rule_warmup_steps": 100_000, "multiplier_learning_rate": 3e-6}
"""What the velocity tasks take besides: a gait first, then a limit on it."""


def jsafe_presets(rule: str, **family) -> dict[str, dict]:
    """The presets `jsafe` and `jsafe_velocity` for a rule; `family` are the fields of an actor family."""
    presets = {"jsafe": JSAFE | family | ({} if rule == "none" else {"cost_replicas": 2})}
    if rule == "lagrange":
        presets["jsafe_velocity"] = presets["jsafe"] | JSAFE_VELOCITY
    return presets


def omnisafe_presets(rule: str, **family) -> dict[str, dict]:
    """The presets `omnisafe` and `omnisafe_navigation` for a rule; `family` are the fields of an actor family."""
    changes = OMNISAFE | family | {"normalize_cost": rule != "none"}
    if rule == "pid":
        changes["actor_learning_rate"] = 1e-4
    return {"omnisafe": changes, "omnisafe_navigation": changes | NAVIGATION}
