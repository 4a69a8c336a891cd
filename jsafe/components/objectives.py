"""Objectives of the first-order steps by name: which advantages enter `ops.policy_losses`, and how.

All but CUP's act on the advantage that the constraint rule has mixed (the reward's alone under the rule `none`), so
that P3O's penalty or IPO's barrier also combine with a multiplier.
"""

from __future__ import annotations

from jsafe.components.steps import Objective
from jsafe.distributions import gaussian as distributions
from jsafe.ops import policy_losses


def policy_gradient() -> Objective:
    """`policy_losses.policy_gradient` of the mixed advantage."""
    return lambda out, b, view, hyper, mean: policy_losses.policy_gradient(out.ratio, b.advantage, mean)


def clipped() -> Objective:
    """`policy_losses.clipped` (PPO) of the mixed advantage."""
    return lambda out, b, view, hyper, mean: policy_losses.clipped(out.ratio, b.advantage, hyper.clip, mean)


def clipped_reward() -> Objective:
    """`policy_losses.clipped` of the reward's advantage alone: CUP's first stage."""
    return lambda out, b, view, hyper, mean: policy_losses.clipped(out.ratio, b.advantage_reward, hyper.clip, mean)


def focops(*, omnisafe: bool = False) -> Objective:
    """`policy_losses.focops` with `KL(new || old)` per state; `omnisafe` pairs every row with every other."""

    def objective(out, b, view, hyper, mean):
        kl = distributions.kl(out.dist, b.old)
        return policy_losses.focops(
            out.ratio, b.advantage, kl, hyper.focops_temperature, hyper.focops_radius, mean, pairwise=omnisafe
        )

    return objective


def p3o(*, omnisafe: bool = False) -> Objective:
    """PPO plus `policy_losses.exact_penalty`; `omnisafe` does not clip the cost ratio."""

    def objective(out, b, view, hyper, mean):
        clip = None if omnisafe else hyper.clip
        penalty = policy_losses.exact_penalty(out.ratio, b.advantage_cost, view.gap, hyper.p3o_kappa, clip, mean)
        return policy_losses.clipped(out.ratio, b.advantage, hyper.clip, mean) + penalty

    return objective


def ipo() -> Objective:
    """PPO plus `policy_losses.log_barrier`."""

    def objective(out, b, view, hyper, mean):
        barrier = policy_losses.log_barrier(
            out.ratio, b.advantage_cost, view.gap, hyper.ipo_kappa, hyper.ipo_slope, mean
        )
        return policy_losses.clipped(out.ratio, b.advantage, hyper.clip, mean) + barrier

    return objective


def cup_projection() -> Objective:
    """`policy_losses.cup_projection` with the rule's multiplier: CUP's second stage."""

    def objective(out, b, view, hyper, mean):
        kl = distributions.kl(out.dist, b.old)
        scale = (1 - hyper.gamma * hyper.lam) / (1 - hyper.gamma)
        return policy_losses.cup_projection(out.ratio, b.advantage_cost, kl, view.multiplier, scale, mean)

    return objective
