"""The host side: stepping environments, replay, overlap with the device, evaluation."""

from jsafe.data.collectors import RolloutCollector, SequenceCollector, make_collector
from jsafe.data.episodes import EpisodeTracker
from jsafe.data.evaluate import evaluate
from jsafe.data.many import ManyCollector
from jsafe.data.prefetch import PrefetchCollector
from jsafe.data.replay.sequences import SequenceReplay

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
