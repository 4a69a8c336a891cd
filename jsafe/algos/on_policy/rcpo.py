"""Reward-constrained policy optimisation.

    penalised reward  r - lam c        (equation 10 of the paper),   lam <- max(0, lam + step of (J_c - d))

By linearity of the advantage, `A[r - lam c] = A_r - lam A_c`: the reward and the cost keep a critic each, so that no
critic has to follow a moving multiplier; the mix is divided by `1 + lam`, which a natural-gradient step ignores.
`lam` moves once per iteration, slower than the policy.

Source: Tessler, Mankowitz & Mannor 2019 (arXiv 1805.11074), algorithm 1, with a natural-gradient actor.
OmniSafe: the same assembly; KL averaged over action components, cost over 100 episodes (preset `omnisafe`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import NaturalPG

define(
    "rcpo",
    OnPolicyConfig(step=NaturalPG(), rule=Lagrange()),
    paper="Tessler, Mankowitz & Mannor 2019, Reward Constrained Policy Optimization, arXiv 1805.11074",
    summary="Natural gradient on the penalised reward.",
    module=__name__,
)
