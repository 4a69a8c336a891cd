"""SEditor: a utility maximiser proposes actions, a safety editor edits them (Yu, Xu & Zhang 2022)."""

from __future__ import annotations

import dataclasses

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import ActorName, OffPolicyConfig
from jsafe.registry import Algorithm, register
from jsafe.types import EnvSpec, Learner


@dataclasses.dataclass(frozen=True)
class SEditorConfig(OffPolicyConfig):
    """Options of SEditor; the defaults are the paper's run on Safety Gym."""

    actor: ActorName = "seditor"


LAPTOP = {"hidden": (128, 128), "sequences": 32, "updates": 8, "initial_temperature": 0.1}
"""What the preset `laptop` changes: smaller networks and minibatches pay for eight updates per iteration instead of
one, and temperatures start where the paper's are after some 7 000 updates (0.1 instead of 1). The algorithm is the
same. It needs a quarter of the environment steps of the paper's networks with one update (experiments/seditor)."""

STOCK = LAPTOP | {
    "initial_temperature": 0.01,
    "cost_limit_per_step": 0.025,
    "initial_multiplier": 0.1,
    "multiplier_learning_rate": 0.001,
}
"""The preset `jsafe`, for the stock tasks: 25 per episode of 1000 steps. Their costs are common, and a multiplier that
starts at 1 and runs ahead of the policy drives it into corners that it leaves slowly."""

STEPS = {"paper": 5_000_000, "laptop": 1_000_000, "jsafe": 3_000_000}
"""Environment steps of a full run."""


def build(config: SEditorConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """SEditor, trained off-policy under a Lagrange multiplier on the cost per step.

    `a = clip(p + 2 d, -1, 1)`, proposal `p ~ phi(. | s)`, edit `d ~ psi(. | s, p)` (h in section 4);
    maximiser Eq. 7a, editor Eq. 7b with the hinge of Eq. 8 (`jsafe.components.actors.editor_actor`); critics by
    TD(0.95) without entropy reward; multiplier `softplus(rho)`, one step per iteration on raw fresh costs.

    Args:
      config: Options.
      spec: Sizes of the environment. Several costs get a critic pair and a multiplier each.
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner`.

    Source: Yu, Xu & Zhang 2022, Towards Safe Reinforcement Learning with a Safety Editor Policy, NeurIPS,
      arXiv 2201.12427, and the authors' released configuration with its debug switch off. Differences: the gradient
      of a Beta sample is that of two gamma draws (unbiased, as torch's is, but not equal sample by sample).
    """
    return assemble(config, spec, axis_name=axis_name)


register(
    Algorithm(
        name="seditor",
        family="off_policy",
        config=SEditorConfig,
        build=build,
        presets={"paper": {}, "laptop": LAPTOP, "jsafe": STOCK},
        paper="Yu, Xu & Zhang 2022, Towards Safe RL with a Safety Editor Policy, arXiv 2201.12427",
        summary="A safety editor edits the actions that a utility maximiser proposes.",
        total_steps=STEPS,
    )
)
