"""Actors of off-policy learners: networks, draws, and the losses that train them on frozen critics.

An actor of one's own is an `Actor`, or a part that builds one (`jsafe.options.part("actor", ...)`).
"""

from jsafe.components.actors.base import Actor as Actor
from jsafe.components.actors.base import ActorInputs as ActorInputs
from jsafe.components.actors.base import ActorLoss as ActorLoss
from jsafe.components.actors.base import Draw as Draw
from jsafe.components.actors.base import FrozenQ as FrozenQ
from jsafe.components.actors.base import Values as Values
from jsafe.components.actors.base import mixture as mixture
from jsafe.components.actors.beta import Beta as Beta
from jsafe.components.actors.categorical import Categorical as Categorical
from jsafe.components.actors.deterministic import Deterministic as Deterministic
from jsafe.components.actors.editor import Editor as Editor
from jsafe.components.actors.gaussian import Gaussian as Gaussian
from jsafe.components.actors.variational import Variational as Variational
