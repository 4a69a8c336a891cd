"""Models of the environment, and what follows from them."""

from jsafe.components.dynamics.base import Dynamics as Dynamics
from jsafe.components.dynamics.base import Heads as Heads
from jsafe.components.dynamics.base import Model as Model
from jsafe.components.dynamics.base import Prediction as Prediction
from jsafe.components.dynamics.base import Transitions as Transitions
from jsafe.components.dynamics.base import transitions as transitions
from jsafe.components.dynamics.ensemble import Ensemble as Ensemble
