"""Valuations: critics and the like of learners that step no environment, and what they say of recorded actions.

A valuation of one's own is a `Valuation`, or a part that builds one (`jsafe.options.part("valuation", ...)`).
"""

from jsafe.components.valuations.base import Context as Context
from jsafe.components.valuations.base import Judgement as Judgement
from jsafe.components.valuations.base import Rows as Rows
from jsafe.components.valuations.base import Valuation as Valuation
from jsafe.components.valuations.base import Valued as Valued
from jsafe.components.valuations.base import in_unit as in_unit
from jsafe.components.valuations.bootstrapped import Bootstrapped as Bootstrapped
from jsafe.components.valuations.dice import Dice as Dice
from jsafe.components.valuations.expectile import Expectile as Expectile
from jsafe.components.valuations.none import NoValuation as NoValuation
from jsafe.components.valuations.penalised import Penalised as Penalised
from jsafe.components.valuations.reach import Reach as Reach
