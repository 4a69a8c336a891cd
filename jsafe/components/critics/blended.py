"""Twin critics whose smaller and larger values are blended, as BCQ does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from jsafe.components.critics.base import Critics, pair, q_networks
from jsafe.components.critics.ensemble import as_one, first, joined, largest, pessimistic, squared_error_group
from jsafe.nets.perceptron import Layers
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec


@part("critics", "blended")
@dataclasses.dataclass(frozen=True)
class Blended(Layers):
    """Ensembles of the reward and of each cost; targets bootstrap from a blend of the smallest and the largest.

    `m(Q) = b min_j Q_j + (1 - b) max_j Q_j`: 0.75 for BCQ's rewards, 1 is the smaller (clipped double Q-learning), 0
    the larger.

    Source: Fujimoto, Meger & Precup 2019 (arXiv 1812.02900).
    """

    replicas: int = number(2, low=1)
    """Critics of the reward, and of each cost."""
    costs: bool = True
    """Costs have critics; False only with the rule `none`."""
    blend: float = number(1.0, low=0, high=1)
    """`b` of the reward's targets."""
    cost_blend: float = number(0.0, low=0, high=1)
    """`b` of the costs' targets."""
    climb: Literal["min", "first"] = "min"
    """What the policy climbs of the reward's critics."""
    cost_climb: Literal["max", "min", "first"] = "max"
    """What the policy descends of a cost's critics."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Critics:
        """`Critics` of the reward and, with `costs`, of the M costs."""
        del axis_name
        layers: dict[str, Any] = {"replicas": self.replicas, "hidden": self.hidden, "act": self.activation}
        nets = q_networks(spec.obs_dim, spec.action_width, 1 + self.costs * spec.num_costs, **layers)
        climb = pessimistic if self.climb == "min" else first
        if not self.costs:
            return pair(squared_error_group(nets, climb, as_one(blend(self.blend))), None, 0)
        cost_climb = {"max": largest, "min": pessimistic, "first": first}[self.cost_climb]
        return joined(nets, spec.num_costs, climb, blend(self.blend), cost_climb, blend(self.cost_blend))


def blend(share: float) -> Callable[[Array], Array]:
    """`b min_j + (1 - b) max_j` of replicas `[replicas, ...]`."""
    if share == 1:
        return pessimistic
    if share == 0:
        return largest
    return lambda replicas: share * replicas.min(axis=0) + (1.0 - share) * replicas.max(axis=0)
