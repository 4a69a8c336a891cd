"""Recorded data: files in four layouts, filters, recording, and the collector that feeds offline learners.

episodes = jsafe.data.datasets.read("pointcircle1.npz")
learner = jsafe.make("bcq", episodes.spec)
collector = jsafe.data.make_collector(None, learner, data=episodes)
"""

from jsafe.data.datasets.collector import DatasetCollector, ManyDatasets
from jsafe.data.datasets.episodes import About, DatasetError, Episodes, concatenate
from jsafe.data.datasets.layouts import LAYOUTS, layout_of, read, write
from jsafe.data.datasets.native import checksum
from jsafe.data.datasets.record import record
from jsafe.data.datasets.replay import replay
from jsafe.data.datasets.rows import from_rows
from jsafe.data.datasets.scores import score
from jsafe.data.datasets.select import choose, frontier, grid

__all__ = [
    "LAYOUTS",
    "About",
    "DatasetCollector",
    "DatasetError",
    "Episodes",
    "ManyDatasets",
    "checksum",
    "choose",
    "concatenate",
    "from_rows",
    "frontier",
    "grid",
    "layout_of",
    "read",
    "record",
    "replay",
    "score",
    "write",
]
