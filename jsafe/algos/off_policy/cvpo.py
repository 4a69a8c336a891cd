"""CVPO: constrained variational policy optimisation.

    E-step:  max_w E[w Q_r]   with  E[w Q_c] <= d,  E KL(w || pi') <= eps;   w ~ pi' exp((Q_r - lam Q_c) / eta),
             (eta, lam) from a convex dual of 1 + M variables, solved in every update
    M-step:  pi <- up the slope of E[w log pi],  within trust regions of mean and standard deviation around pi'

The critics are those of TD3 without smoothing: two of the reward, one of each cost. `pi'` and the critics that weigh
its actions are the slow copies. The limit acts in the E-step, there is no rule.

Source: Liu et al. 2022, Constrained Variational Policy Optimization for Safe Reinforcement Learning, ICML,
arXiv 2201.11927, algorithm 1, and the authors' configuration. Differences: one M-step per E-step and minibatch, as
implementations of MPO do (theirs: six); a diagonal covariance; the limit as a discounted sum is that of episodes that
go on after a cut, `d / T / (1 - gamma)`.
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.actors import Variational
from jsafe.components.rules import NoRule
from jsafe.components.temperature import NoTemperature
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

CVPO = replace(
    OffPolicyConfig(),
    {
        "actor": Variational(),
        "rule": NoRule(),
        "temperature": NoTemperature(),
        "critic_learning_rate": 1e-3,
        "actor_learning_rate": 2e-3,
    },
)

LAPTOP = {"hidden": (128, 128), "actor_learning_rate": 1e-3, "updates": 8}

register(
    Algorithm(
        name="cvpo",
        family="off_policy",
        config=CVPO,
        build=assemble,
        presets={"laptop": Preset("Smaller networks, an update per eight steps.", LAPTOP)},
        paper="Liu et al. 2022, Constrained Variational Policy Optimization, arXiv 2201.11927",
        summary="Fits the policy to the solution of the constrained problem on its own samples.",
        module=__name__,
    )
)
