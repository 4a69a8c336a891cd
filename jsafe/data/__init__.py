"""The host side: stepping environments, replay, overlap with the device, evaluation."""

from jsafe.data import ram
from jsafe.data.api import BadValueError, Collector, feeds_with, make_collector
from jsafe.data.datasets.collector import DatasetCollector
from jsafe.data.door import Door
from jsafe.data.episodes import EpisodeTracker
from jsafe.data.evaluate import Acting, evaluate, run_episodes
from jsafe.data.many import ManyCollector
from jsafe.data.playing import Policy, play
from jsafe.data.prefetch import PrefetchCollector
from jsafe.data.replay.collector import ReplayCollector
from jsafe.data.replay.store import ReplayStore
from jsafe.data.rollouts import RolloutCollector
from jsafe.data.stepping import SteppingCollector

__all__ = [
    "Acting",
    "BadValueError",
    "Collector",
    "DatasetCollector",
    "Door",
    "EpisodeTracker",
    "ManyCollector",
    "Policy",
    "PrefetchCollector",
    "ReplayCollector",
    "ReplayStore",
    "RolloutCollector",
    "SteppingCollector",
    "evaluate",
    "feeds_with",
    "make_collector",
    "play",
    "ram",
    "run_episodes",
]
