"""Policy steps: what an on-policy algorithm does with one batch of advantages.

A `PolicyStep` owns all passes over the batch, the critics' included, so that an epoch is one compiled program.
First-order steps train actor and critics on the same minibatches; second-order steps move the actor once on the full
batch, then fit the critics. All but CUP and APPO act on the advantage that the constraint rule has mixed (the reward's
alone under the rule `none`), so that P3O's penalty or IPO's barrier also combine with a multiplier.
"""

from jsafe.components.steps.appo import APPO as APPO
from jsafe.components.steps.base import ActorCritic as ActorCritic
from jsafe.components.steps.base import ConstraintView as ConstraintView
from jsafe.components.steps.base import CriticFit as CriticFit
from jsafe.components.steps.base import Networks as Networks
from jsafe.components.steps.base import PolicyBatch as PolicyBatch
from jsafe.components.steps.base import PolicyStep as PolicyStep
from jsafe.components.steps.cpo import CPO as CPO
from jsafe.components.steps.cup import CUP as CUP
from jsafe.components.steps.focops import FOCOPS as FOCOPS
from jsafe.components.steps.ipo import IPO as IPO
from jsafe.components.steps.natural_pg import NaturalPG as NaturalPG
from jsafe.components.steps.p3o import P3O as P3O
from jsafe.components.steps.pcpo import PCPO as PCPO
from jsafe.components.steps.policy_gradient import PolicyGradient as PolicyGradient
from jsafe.components.steps.ppo import PPO as PPO
from jsafe.components.steps.trpo import TRPO as TRPO
