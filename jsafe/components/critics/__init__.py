"""Critics of off-policy learners: ensembles with a loss and reductions of their own. Costs are positive.

Critics of one's own are `Critics` of two `Group`s, or a part that builds them (`jsafe.options.part("critics", ...)`).
"""

from jsafe.components.critics.base import Critics as Critics
from jsafe.components.critics.base import Group as Group
from jsafe.components.critics.base import pair as pair
from jsafe.components.critics.base import polyak as polyak
from jsafe.components.critics.base import q_networks as q_networks
from jsafe.components.critics.blended import Blended as Blended
from jsafe.components.critics.ensemble import Ensemble as Ensemble
from jsafe.components.critics.mean_variance import MeanVariance as MeanVariance
from jsafe.components.critics.quantile import Quantile as Quantile
from jsafe.components.critics.upper_bound import UpperBound as UpperBound
