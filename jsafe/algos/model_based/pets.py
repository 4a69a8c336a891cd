"""PETS: plans by the cross-entropy method in an ensemble of probabilistic models; ignores the costs.

    s'_p = s_p + m_e(s_p, a) + sd_e(s_p, a) xi,   particle p of net e
    a* = CEM argmax over a_0 ... a_{H-1} of  R = mean_p sum_t r_p,t

The first action of the plan is executed, the rest is where the next search starts.

Source: Chua et al. 2018, Deep reinforcement learning in a handful of trials using probabilistic dynamics models, arXiv
1805.12114. Differences: the model is trained on a fixed number of minibatches of the replay after every few steps
(there five passes over all data after each episode), the reward is learnt where it is not known, inputs that are
constant are not scaled. The defaults are the authors' numbers.
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.config import ModelBasedConfig
from jsafe.algos.model_based.presets import JSAFE_CEM, OMNISAFE_CEM, presets
from jsafe.components.planners import CEM
from jsafe.components.scores import Returns
from jsafe.registry import Algorithm, register

PETS = ModelBasedConfig(planner=CEM(horizon=25, samples=500, elites=50, last="zero"), score=Returns())
"""The authors' numbers."""

register(
    Algorithm(
        name="pets",
        family="model_based",
        config=PETS,
        build=assemble,
        presets=presets(OMNISAFE_CEM, JSAFE_CEM),
        paper="Chua et al. 2018, Deep RL in a Handful of Trials, arXiv 1805.12114",
        summary="Plans with an ensemble of learned models; ignores the costs.",
        recommended="jsafe",
        module=__name__,
    )
)
