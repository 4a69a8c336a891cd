"""Improvements: losses of policies that must stay near recorded actions.

An improvement of one's own is an `Improvement`, or a part that builds one (`jsafe.options.part("improvement", ...)`).
"""

from jsafe.components.improvements.base import Frozen as Frozen
from jsafe.components.improvements.base import Improved as Improved
from jsafe.components.improvements.base import Improvement as Improvement
from jsafe.components.improvements.climb import Climb as Climb
from jsafe.components.improvements.climb import ClimbFeasible as ClimbFeasible
from jsafe.components.improvements.climb import ClimbInSupport as ClimbInSupport
from jsafe.components.improvements.regress import Regress as Regress
