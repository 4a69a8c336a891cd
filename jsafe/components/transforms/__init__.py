"""CMDP transforms: safety budgets in the observation (Saute, Simmer) and early termination."""

from jsafe.components.transforms.base import Transform as Transform
from jsafe.components.transforms.early_termination import EarlyTermination as EarlyTermination
from jsafe.components.transforms.identity import Identity as Identity
from jsafe.components.transforms.saute import Saute as Saute
from jsafe.components.transforms.simmer import Simmer as Simmer
