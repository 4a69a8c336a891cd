"""Soft actor-critic: plain, under a Lagrange multiplier, and under a PID controller.

    y   = r + gamma (min_j Q'_j(s', a') - alpha log pi(a' | s')),   y_c = c + gamma Q_c'(s', a'),   a' ~ pi
    pi <- down the slope of  alpha log pi(a | s) - (min_j Q_j(s, a) - lam Q_c(s, a)) / (1 + lam)

The defaults are the textbook's: a tanh-Gaussian policy, single transitions, raw rewards, a learned temperature with a
target entropy of -1 per component, one critic per cost, and a limit on the mean cost of the last ten episodes. What the
presets change:

| | default (`textbook`) | `seditor_paper` | `omnisafe` |
|---|---|---|---|
| policy | tanh-Gaussian | Beta | tanh-Gaussian |
| targets | one step | TD(0.95) over 8 rows, 4 stacked frames | one step |
| entropy in targets | of the reward | of reward and costs | of the reward |
| temperature | learned, target -1 | learned, target -1.61 | fixed, 0.2 |
| critics per cost | 1 | 2, the larger counts | 1, bootstrapped at the mean action |
| rewards, costs | raw | both normalised | costs normalised |
| limit | cost per episode, 25 | cost per step, 5e-4 | cost per episode, 25 |
| multiplier | clamped, from 0.001 | softplus, from 1 | clamped, from 0.001, after 200 000 steps |
| Adam step of it | 0.001 per 64 steps | 0.01 per 160 steps | 1e-5 per step |
| updates per environment step | 1 of 256 | 1/160 of 1024 windows | 1 of 256, actor and targets every second |

`seditor_paper` (also `paper`) and `laptop` are the baselines of SEditor's paper; `sac_actor2x_lag`, the name of one of
them, has its numbers as defaults. No configuration of the paper's unconstrained SAC was released.

Source: Haarnoja et al. 2018 (arXiv 1801.01290, and 1812.05905 for the learned temperature); the multiplier on costs:
Ray, Achiam & Amodei 2019, Benchmarking safe exploration; the controller: Stooke et al. 2020 (arXiv 2007.03964).
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.presets import LAPTOP, RACING, jsafe_presets, leading_to, omnisafe_presets
from jsafe.algos.off_policy.seditor import PAPER
from jsafe.components.actors import Beta
from jsafe.components.rules import PID, NoRule
from jsafe.components.temperature import Fixed
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

TEXTBOOK = OffPolicyConfig()
BASELINE = replace(PAPER, {"actor": Beta(), "temperature.soft": "all"})
"""The baseline SAC-Lag of SEditor's paper: its critics, replay, normaliser, temperature and multiplier."""

WIDER = {"actor.hidden": (360, 360)}
"""`256 sqrt(2)` units per layer: about as many parameters as SEditor's two policies."""

UNCONSTRAINED = {"rule": NoRule(), "critics.cost_replicas": 0}
CONTROLLED = {"rule": PID(kp=0.01, ki=1e-5, kd=0.01)}


def define(name: str, base: OffPolicyConfig, start: OffPolicyConfig, seditor: OffPolicyConfig, wider: dict, **words):
    """Registers one of the names.

    Args:
      name: Of the algorithm.
      base: Its config.
      start: The textbook's version of it.
      seditor: SEditor's version of it.
      wider: What keeps its actor wider in presets that set the widths.
      **words: Its summary, and the recommended preset.
    """
    changes, family = leading_to(seditor, base), {"temperature.init": 0.01, "temperature.floor": 1e-4, **wider}
    released = {"policy_delay": 2, "initial_rows": 10_000, "random_steps": 10_000, "temperature": Fixed(0.2), **wider}
    presets = {
        "textbook": Preset("Haarnoja et al. 2018, with a limit per episode.", leading_to(start, base)),
        "seditor_paper": Preset("The baseline of SEditor's paper on Safety Gym.", changes, 5_000_000),
        "paper": Preset("Another name of `seditor_paper`.", changes, 5_000_000),
        "laptop": Preset(
            "SEditor's baseline on a laptop: smaller networks, more updates.",
            leading_to(replace(seditor, LAPTOP), base),
            1_000_000,
        ),
        "paper_racing": Preset(
            "The baseline of SEditor's paper on SafeRacing's pictures, for a GPU.",
            leading_to(replace(seditor, RACING | wider), base),
            5_000_000,
        ),
        **jsafe_presets(base, start, family),
        **omnisafe_presets(base, start, released, 0.001, {"temperature.value": 1e-5}),
    }
    paper = "Haarnoja et al. 2018, arXiv 1801.01290; Ray et al. 2019; Yu, Xu & Zhang 2022, arXiv 2201.12427"
    register(Algorithm(name, "off_policy", base, assemble, presets, paper, module=__name__, **words))


define(
    "sac",
    replace(TEXTBOOK, UNCONSTRAINED),
    replace(TEXTBOOK, UNCONSTRAINED),
    replace(BASELINE, {"rule": NoRule()}),
    {},
    summary="Soft actor-critic: the reference without costs.",
    recommended="jsafe",
)
define(
    "sac_lag",
    TEXTBOOK,
    TEXTBOOK,
    BASELINE,
    {},
    summary="Soft actor-critic with a Lagrange multiplier on the episodic cost.",
    recommended="jsafe",
)
define(
    "sac_pid",
    replace(TEXTBOOK, CONTROLLED),
    replace(TEXTBOOK, CONTROLLED),
    replace(BASELINE, {"rule": PID(kp=10.0, ki=0.01, kd=10.0, init=1.0)}),
    {},
    summary="Soft actor-critic with a multiplier set by a PID controller.",
    recommended="jsafe",
)
define(
    "sac_actor2x_lag",
    replace(BASELINE, {"actor.hidden": (360, 360, 360)}),
    replace(TEXTBOOK, WIDER),
    replace(BASELINE, {"actor.hidden": (360, 360, 360)}),
    WIDER,
    summary="SEditor's baseline SAC-Lag with an actor of about SEditor's parameter count.",
    recommended="laptop",
)
