"""Constraint rules: from measured cost to the weights of reward and costs in an objective.

Every rule is a `ConstraintRule(init, update, weights)`, built from its options. `update` is called with the measured
costs `J_cost [M]` and the limits `[M]` (one unit for both: an episodic sum or a cost per step); `weights` then says
how the objective mixes: `reward * R - sum_i cost_i * C_i`. Several costs keep one multiplier each.

- Until its first `update` a rule has the weights of its start, whatever was measured: a warm-up withholds `update`.
- Numbers that people sweep (rates, gains) are arrays in the rule's state, `state.numbers`, so that they can be vmapped.
- Callers hand in costs that are already global (`psum(total) / psum(count)`), which makes every state replicated by
  construction. Collectives: none.
"""

from jsafe.components.rules.augmented import Augmented as Augmented
from jsafe.components.rules.base import exceeds as exceeds
from jsafe.components.rules.base import mix as mix
from jsafe.components.rules.base import multiplier as multiplier
from jsafe.components.rules.base import paced as paced
from jsafe.components.rules.crpo import CRPO as CRPO
from jsafe.components.rules.ipo import IPO as IPO
from jsafe.components.rules.lagrange import Lagrange as Lagrange
from jsafe.components.rules.none import NoRule as NoRule
from jsafe.components.rules.pid import PID as PID
