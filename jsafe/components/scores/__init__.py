"""Scores of candidate plans: by return, under limits, under limits and ignorance."""

from jsafe.components.scores.base import Aim as Aim
from jsafe.components.scores.base import Judged as Judged
from jsafe.components.scores.base import Score as Score
from jsafe.components.scores.constrained import Constrained as Constrained
from jsafe.components.scores.penalised import Penalised as Penalised
from jsafe.components.scores.returns import Returns as Returns
