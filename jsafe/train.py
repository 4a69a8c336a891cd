"""The training loop for scripts: `for step in jsafe.train.run(learner, collector, ...)`."""

from jsafe.runs.checkpoint import CheckpointError
from jsafe.runs.folder import RunError, read, start
from jsafe.runs.loop import TrainStep, run
from jsafe.runs.loop_many import ManyStep, run_many
from jsafe.runs.session import Outcome, train

__all__ = [
    "CheckpointError",
    "ManyStep",
    "Outcome",
    "RunError",
    "TrainStep",
    "read",
    "run",
    "run_many",
    "start",
    "train",
]
