"""The host side: stepping environments, replay, overlap with the device, evaluation."""

from jsafe.collect.collector import RolloutCollector, SequenceCollector, make_collector
from jsafe.collect.episodes import EpisodeTracker
from jsafe.collect.evaluate import evaluate
from jsafe.collect.many import ManyCollector
from jsafe.collect.prefetch import PrefetchCollector
from jsafe.collect.replay import SequenceReplay

__all__ = [
    "EpisodeTracker",
    "ManyCollector",
    "PrefetchCollector",
    "RolloutCollector",
    "SequenceCollector",
    "SequenceReplay",
    "evaluate",
    "make_collector",
]
