"""SEditor: a utility maximiser proposes actions, a safety editor edits them.

    a = clip(p + 2 d, -1, 1),   p ~ phi(. | s),   d ~ psi(. | s, p)                      (h of section 4)
    maximiser:  -Q_r(s, a) + alpha_p log phi(p | s)                                      (7a)
    editor:     w_c Q_c(s, a) + w_r relu(Q_r(s, p) - Q_r(s, a)) + alpha_d log psi(d | s, p)  (7b, 8)

Critics learn by TD(0.95) over 8 rows without entropy; the multiplier is `softplus(rho)`, one Adam step per iteration on
the cost per step of the fresh rows.

Source: Yu, Xu & Zhang 2022, Towards Safe Reinforcement Learning with a Safety Editor Policy, NeurIPS, arXiv 2201.12427,
and the authors' released configuration with its debug switch off. Differences: the gradient of a Beta sample is that of
two gamma draws (unbiased, as torch's is, but not equal sample by sample); the cost per step is that of environment
steps, theirs of replay rows, an episode's first row included; the moments of rewards are those of the rows that have a
successor in their window (theirs: of all eight).
"""

from __future__ import annotations

import math

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.presets import LAPTOP, RACING
from jsafe.components.actors import Editor
from jsafe.components.critics import Ensemble
from jsafe.components.limits import CostLimit
from jsafe.components.reward_normalizer import MovingNormalizer
from jsafe.components.rules import Lagrange
from jsafe.components.temperature import Learned
from jsafe.feeds import Replay
from jsafe.registry import Algorithm, Preset, register

PAPER = OffPolicyConfig(
    actor=Editor(),
    critics=Ensemble(hidden=(256, 256, 256), activation="tanh", cost_replicas=2, average=True),
    rule=Lagrange(init=1.0, learning_rate=0.01, transform="softplus"),
    temperature=Learned(target=math.log(2) + math.log(0.1), soft="none"),
    normalizer=MovingNormalizer(),
    limit=CostLimit(5e-4, per="step", window=10),
    feed=Replay(frame_stack=4),
    td_lambda=0.95,
    adam_eps=1e-7,
    rule_warmup=0,
)
"""The paper's run on Safety Gym."""

STOCK = LAPTOP | {
    "temperature.init": 0.01,
    "cost_limit_per_step": 0.025,
    "rule.init": 0.1,
    "rule.learning_rate": 0.001,
}
"""The preset `jsafe`: 25 per episode of 1000 steps. Costs of the stock tasks are common, and a multiplier that starts
at 1 and runs ahead of the policy drives it into corners that it leaves slowly."""

PICTURES = RACING | {"temperature.target": (math.log(2) + math.log(0.1), math.log(2) + math.log(0.2))}
"""The paper's run on SafeRacing: there the editor is to stay more random than the maximiser."""

register(
    Algorithm(
        name="seditor",
        family="off_policy",
        config=PAPER,
        build=assemble,
        presets={
            "paper": Preset("The paper's run on Safety Gym.", {}, 5_000_000),
            "paper_racing": Preset("The paper's run on SafeRacing's pictures, for a GPU.", PICTURES, 5_000_000),
            "laptop": Preset("The paper's tasks on a laptop: smaller networks, more updates.", LAPTOP, 1_000_000),
            "jsafe": Preset("`laptop` for the stock tasks, at 25 per episode of 1000 steps.", STOCK, 3_000_000),
        },
        paper="Yu, Xu & Zhang 2022, Towards Safe RL with a Safety Editor Policy, arXiv 2201.12427",
        summary="A safety editor edits the actions that a utility maximiser proposes.",
        recommended="jsafe",
        module=__name__,
    )
)
