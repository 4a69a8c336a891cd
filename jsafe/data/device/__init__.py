"""Environments in the compiled program: rollouts and a replay that never leave the device."""

from jsafe.data.device.api import Collecting, Report, collecting, collects
from jsafe.data.device.collector import DeviceCollector, Episodes
from jsafe.data.device.replay import Kept, replay
from jsafe.data.device.rollouts import rollouts
from jsafe.data.device.world import World

__all__ = [
    "Collecting",
    "DeviceCollector",
    "Episodes",
    "Kept",
    "Report",
    "World",
    "collecting",
    "collects",
    "replay",
    "rollouts",
]
