"""Planners: an action from a search over sequences of actions."""

from jsafe.components.planners.arc import ARC as ARC
from jsafe.components.planners.base import Planned as Planned
from jsafe.components.planners.base import Planner as Planner
from jsafe.components.planners.cem import CEM as CEM
