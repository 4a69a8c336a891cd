"""Training in one program: `for step in jsafe.device.run(learner, jsafe.device.make(ID), ...)`."""

from jsafe.data.device import Collecting, DeviceCollector, World, collecting
from jsafe.envs.device import DeviceEnv, hosted, make, vectorise
from jsafe.runs.device import iterate, repeat, run, run_many

__all__ = [
    "Collecting",
    "DeviceCollector",
    "DeviceEnv",
    "World",
    "collecting",
    "hosted",
    "iterate",
    "make",
    "repeat",
    "run",
    "run_many",
    "vectorise",
]
