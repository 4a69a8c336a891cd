"""Policy networks of the on-policy learners: from observations (and a memory) to a distribution of actions."""

from jsafe.components.policies.auto import AutoPolicy as AutoPolicy
from jsafe.components.policies.base import PolicyNetwork as PolicyNetwork
from jsafe.components.policies.beta import BetaPolicy as BetaPolicy
from jsafe.components.policies.categorical import CategoricalPolicy as CategoricalPolicy
from jsafe.components.policies.gaussian import GaussianPolicy as GaussianPolicy
from jsafe.components.policies.gru import GRUPolicy as GRUPolicy
