"""Behaviour cloning, of all episodes or of some.

    L = mean |pi(s) - a|^2,   pi(s) = tanh(MLP(s))

They differ by the episodes that are kept, by cost C and the limit k: `bc` all; `bc_safe` C <= k; `bc_risky` C >= 2k;
`bc_boundary` k/2 < C <= 3k/2; `bc_frontier` those near the best return for their cost. `bc_conditioned` keeps all, and
the policy sees C beside the observation; told k when it acts, it imitates episodes of that cost.

Any other offline algorithm can keep the same episodes: `filter="safe"`.

Source: Liu et al. 2023, Datasets and benchmarks for offline safe reinforcement learning (DSRL and OSRL), arXiv
2306.09303, and the released code. Differences: the loss is a sum over action components (theirs: a mean).
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.options import replace
from jsafe.registry import Algorithm, register

BC = replace(OfflineConfig(), {"batch_size": 512, "policy_learning_rate": 1e-3})

for _name, _changes, _summary in (
    ("bc", {}, "Behaviour cloning of all episodes; ignores the costs."),
    ("bc_safe", {"filter": "safe"}, "Behaviour cloning of the episodes within the limit."),
    ("bc_risky", {"filter": "risky"}, "Behaviour cloning of episodes of twice the limit and more."),
    ("bc_boundary", {"filter": "boundary"}, "Behaviour cloning of episodes around the limit."),
    ("bc_frontier", {"filter": "frontier"}, "Behaviour cloning of the episodes of the best return for their cost."),
    ("bc_conditioned", {"condition": "cost"}, "Behaviour cloning with the episode's cost as an input."),
):
    register(
        Algorithm(
            _name,
            "offline",
            replace(BC, _changes),
            assemble,
            {"jsafe": jsafe_preset()},
            "Liu et al. 2023, Datasets and benchmarks for offline safe reinforcement learning, arXiv 2306.09303",
            _summary,
            recommended="jsafe",
            module=__name__,
        )
    )
