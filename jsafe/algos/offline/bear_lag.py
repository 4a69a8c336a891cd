"""BEAR under a Lagrange multiplier: the policy's samples have to lie among those of a model of the data.

    y_r  = r + gamma d m(Q'_r)(s', a'_i*),    y_c = c + gamma d max_j Q'_c,j(s', a'_i*),    i* as in `bcq_lag`, a' ~ pi'
    L_pi = -mean (w_r min_j Q_r,j - w_c . max_j Q_c,j)(s, a) + alpha (MMD(pi(s), D(s)) - 0.05),   a ~ pi(s)
    log alpha <- clip(log alpha + 0.001 alpha (MMD - 0.05), -5, 5)

MMD is taken over ten actions of each before they are squashed.

Source: Kumar et al. 2019, Stabilizing off-policy Q-learning via bootstrapping error reduction, arXiv 1906.00949, and
OSRL (arXiv 2306.09303) for the multiplier. Differences: reward and costs bootstrap from the same action.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import ASCENT, jsafe_preset
from jsafe.components.critics import Blended
from jsafe.components.generators import Supported
from jsafe.components.improvements import ClimbInSupport
from jsafe.components.valuations import Bootstrapped
from jsafe.options import replace
from jsafe.registry import Algorithm, register

BEAR_LAG = replace(
    OfflineConfig(),
    {
        "policy": Supported(),
        "critic": Bootstrapped(Blended(blend=0.75), candidates=10),
        "improve": ClimbInSupport(),
        "rule": ASCENT,
        "batch_size": 512,
    },
)

register(
    Algorithm(
        name="bear_lag",
        family="offline",
        config=BEAR_LAG,
        build=assemble,
        presets={"jsafe": jsafe_preset(batch_size=256)},
        paper="Kumar et al. 2019, arXiv 1906.00949; Liu et al. 2023, arXiv 2306.09303",
        summary="BEAR, whose policy stays among samples of a model of the data, with a Lagrange multiplier.",
        recommended="jsafe",
        module=__name__,
    )
)
