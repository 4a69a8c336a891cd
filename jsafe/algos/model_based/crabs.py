"""CRABS: a policy improves inside a barrier certificate, which grows with it, so that training itself is safe.

    certificate   h(s) = softplus(f(s) - f(s0)) + B(s) - 1,  the safe set is {h < 0}
    worst next    u(s, a) = max_e h(m_e(s, a)) over the means of an ensemble of models
    certified     no s with h(s) < 0 and u(s, pi(s)) + eps > 0
    guard         the first of 100 actions on the way from the proposal to the certified policy's with u(s, a) <= 0

An epoch (one `update`) learns the models from all data, lets chains of states search for failures
(`components.certify`), improves the policy by soft actor-critic on the masked value `Q~ = Q if u <= 0 else -1000 - u`
with adversarial steps on `mean(u + eps)` over the failures in between, and trains h until no failure is found. Then
h, policy and models become the reference, under which the next epoch is guarded; if none is found h goes back to the
reference's. So policies that are not certified yet act only as far as the last certificate lets them.

It begins from nothing (the authors and OmniSafe load intermediate files), in phases that `crabs/phase` tells:

0. *initial policy*: soft actor-critic on `-mean(w z^2)` of the bounded components z, scaled to the box, with
   the weights `pretrain_weights`, less `pretrain_effort` times its actions' square and a penalty for leaving it, until
   nothing has been violated for `quiet_steps`;
1. *trial*: that policy or its average over the last updates (`pretrain_average`), frozen, acts by its mean in half of
   the environments and sampled in the others for `trial_steps`; a violation leads back to 0. Models and the scale of
   observations are learned;
2. *certificate*: h is trained with a wider margin, until one is found;
3. *training*, guarded, on the task's own reward.

Violations before 3 are counted as `crabs/pretrain_violations`, those after as `crabs/violations`.

| | the authors, OmniSafe | here |
|---|---|---|
| acceptance of MALA's moves | `|w|^2` in place of half of it | correct (`certify.squares=1` is theirs) |
| the policy's mean, where noise is added | squashed by tanh twice | once |
| models | gated networks of the next state | the ensemble of the planners, of the change in units of its deviation |
| chains begin, and begin again | anywhere in the box; after long without a failure | by their density; regularly |
| set without bounds (velocities) | open | ends at 10 standard deviations (`barrier.reach`) |
| scale of observations | of 1e6 steps of the initial policy | of all data when the trial ends |
| actor's loss | at s' (authors), at s (OmniSafe) | at s |
| guarded actor-critic | after 10 001 updates of the critic (authors) | after `critic_warmup`, critics anew |
| chains before the actor-critic | 2000 moves | they are where the last search left them |

Source: Luo & Ma 2021, Learning barrier certificates: towards safe RL with zero training-time violations
(arXiv 2108.01846), with the authors' code for what the paper leaves open.
"""

from __future__ import annotations

from jsafe.algos.model_based.certified.assembly import assemble
from jsafe.algos.model_based.certified.config import CrabsConfig
from jsafe.registry import Algorithm, Preset, register

LAPTOP = {
    "hidden": (64, 64),
    "certify.chains": 256,
    "certify.learning_rate": 1e-3,
    "certify.max_steps": 3000,
    "certify.renew": 100,
    "certify.clean": 400,
    "certify.draws": 4000,
    "critic_warmup": 1000,
    "pretrain_margin": 0.02,
    "quiet_steps": 6000,
    "trial_steps": 7200,
    "unroll": 100,
    "updates": 300,
    "random_steps": 1200,
    "initial_rows": 1200,
}

CART = LAPTOP | {"pretrain_weights": (1.0, 0.0178), "pretrain_average": 0.002}
"""The pole's angle weighs as on Swing, where its bound is 1.5 rad, not 0.2: otherwise the cart hardly counts."""

register(
    Algorithm(
        name="crabs",
        family="model_based",
        config=CrabsConfig(),
        build=assemble,
        presets={
            "paper": Preset("The published sizes: hours per epoch without an accelerator.", {}, 1_212_000),
            "laptop": Preset("Small networks, 256 chains, epochs of 600 steps: minutes on a laptop.", LAPTOP, 90_000),
            "cart": Preset("The same for the cart and Move, where it has to come back to the middle.", CART, 90_000),
        },
        paper="Luo & Ma 2021, Learning Barrier Certificates, arXiv 2108.01846",
        summary="Improves a policy inside a learned barrier certificate, which guards every action.",
        recommended="laptop",
        module=__name__,
    )
)
