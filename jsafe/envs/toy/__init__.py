"""Toy constrained tasks with a known optimum, in plain numpy: learners and loops can be tried without physics."""

from collections.abc import Callable

from jsafe.envs.toy.base import Toy, ToyOptimum
from jsafe.envs.toy.grid import GRID, ToyGrid
from jsafe.envs.toy.image import IMAGE, ToyImage
from jsafe.envs.toy.recall import RECALL, ToyRecall
from jsafe.envs.toy.speed_limit import SPEED_LIMIT, ToyEnv

TOYS: dict[str, Callable[..., Toy]] = {SPEED_LIMIT: ToyEnv, GRID: ToyGrid, RECALL: ToyRecall, IMAGE: ToyImage}
"""The toys by id; `(num_envs, seed, **options)`."""

__all__ = ["SPEED_LIMIT", "TOYS", "Toy", "ToyEnv", "ToyGrid", "ToyImage", "ToyOptimum", "ToyRecall"]
