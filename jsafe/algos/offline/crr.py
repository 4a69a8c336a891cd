"""Critic-regularised regression: recorded actions are imitated, those better than the policy's own the more.

    y    = r + gamma d min_j Q'_j(s', a'),   a' ~ pi'(s')
    A    = q(s, a) - mean_i q(s, a_i),   a_i ~ pi(s), i = 1..4,   q = min_j Q_j
    L_pi = -mean f(A) log pi(a | s),    f = min(exp(A / beta), 20)   or   1[A > 0]   (`weight="binary"`)
    act: the mean; `choice="softmax"` draws one of n actions with probability softmax(Q / beta)

`ccrr` has critics of the costs as well (the larger counts) and a multiplier from their estimate:

    A    = w_r A_r - w_c . A_c,    J = mean max_j Q_c,j(s, a_i),    lam <- max(0, lam + rate (J - k / ((1 - gamma) T)))

With beta 1 and advantages of 0.02, as navigation has, all weights are 1 and this is plain cloning: watch
`weight/effective`. The preset `jsafe` starts from beta 0.1 and rewards scaled to returns of the horizon's size.

Source: Wang et al. 2020, Critic regularized regression, arXiv 2006.15134, and acme's code (4
samples, the cap). Differences: a scalar twin critic (theirs: distributional, no twin), a Gaussian (theirs: a mixture),
slow copies at 0.005 per update (theirs: every 100 updates). `ccrr` has no paper. OmniSafe (preset `omnisafe`): 10
samples, no cap (1e10 in C-CRR), the current policy in targets, an unbounded mean. C-CRR's cost step there trains the
*reward's* critics towards `c + gamma min Q'_r`; the costs' critics stay as they began, and are asked for `q(s, a)`
alone.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import ASCENT, RELEASED, RELEASED_LIMIT, jsafe_preset
from jsafe.components.critics import Blended
from jsafe.components.generators import Gaussian
from jsafe.components.regression_weights import Exp
from jsafe.components.rules import NoRule
from jsafe.components.valuations import Bootstrapped
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

CCRR = replace(
    OfflineConfig(),
    {
        "policy": Gaussian(hidden=(256, 256, 256)),
        "critic": Bootstrapped(Blended(hidden=(256, 256, 256)), samples=4),
        "weight": Exp(beta=1.0, cap=20.0),
        "rule": ASCENT,
    },
)

RELEASED_CRR = {**RELEASED, "critic.samples": 10, "policy.slow": False, "policy.squash": False}
PAPER = "Wang et al. 2020, Critic regularized regression, arXiv 2006.15134"

for _name, _changes, _released, _summary in (
    (
        "crr",
        {"rule": NoRule(), "critic.critics.costs": False},
        {"weight.cap": None},
        "Imitates recorded actions, the better the more; ignores the costs.",
    ),
    (
        "ccrr",
        {},
        {"weight.cap": 1e10, "critic.critics.cost_climb": "min", "critic.cost_target": "reward", **RELEASED_LIMIT},
        "Imitates recorded actions by what they earn and, under a multiplier, cost.",
    ),
):
    register(
        Algorithm(
            _name,
            "offline",
            replace(CCRR, _changes),
            assemble,
            {
                "jsafe": jsafe_preset(beta=0.1, reward_scale="range"),
                "omnisafe": Preset(
                    "OmniSafe's numbers and its released behaviour.", RELEASED_CRR | _released, 1_000_000
                ),
            },
            PAPER,
            _summary,
            recommended="jsafe",
            module=__name__,
        )
    )
