"""BCQ under a Lagrange multiplier on the critics' estimate of the cost.

    i*   = argmax_i  w_r m(Q'_r) - w_c . max_j Q'_c,j     over the candidates of s'
    y_r  = r + gamma d m(Q'_r)(s', a'_i*),    y_c = c + gamma d max_j Q'_c,j(s', a'_i*)
    L_f  = -mean (w_r Q_r,1 - w_c . max_j Q_c,j)(s, a_f)
    lam <- max(0, lam + rate (J - l)),   J = mean max_j Q'_c,j(s', a'_i*),   l = k / ((1 - gamma) T)
    act: argmax of the same mixture over 100 candidates

Reward and costs bootstrap from the same action, the one that the policy would take. `J` is taken where targets are:
recorded states, one step later, and the slow critics; it costs nothing more. `k` is per episode, `l` is the sum that
the critics estimate: they bootstrap where an episode is only cut, hence no `(1 - gamma^T)`.

Source: no paper of its own; OSRL (arXiv 2306.09303) and OmniSafe. OmniSafe (preset `omnisafe`) beside what it changes
of `bcq`: costs bootstrap from the costliest candidate, which is not the one that is taken; the discounted `J` is
compared with the limit per *episode*, which in episodes of 500 steps is five times the limit; the multiplier is 1 for
150 000 updates, and weights are not divided by `1 + lam`. There reward and costs draw candidates apart, and `J` is
taken at the perturbed action.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.bcq import BCQ, RELEASED_BCQ
from jsafe.algos.offline.presets import ASCENT, RELEASED_LIMIT, jsafe_preset
from jsafe.algos.offline.vae_bc import WIDE
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

BCQ_LAG = replace(BCQ, {"critic.critics.costs": True, "rule": ASCENT})

RELEASED = {
    **RELEASED_BCQ,
    **RELEASED_LIMIT,
    "critic.cost_target": "max",
    "critic.critics.cost_blend": 0.75,
    "critic.critics.cost_climb": "first",
}

register(
    Algorithm(
        name="bcq_lag",
        family="offline",
        config=BCQ_LAG,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(batch_size=256, **WIDE),
            "omnisafe": Preset("OmniSafe's numbers and its released behaviour.", RELEASED, 1_000_000),
        },
        paper="Fujimoto, Meger & Precup 2019, arXiv 1812.02900; Liu et al. 2023, arXiv 2306.09303",
        summary="BCQ with a Lagrange multiplier on the critics' estimate of the cost.",
        recommended="jsafe",
        module=__name__,
    )
)
