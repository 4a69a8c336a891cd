"""jsafe: safe reinforcement learning in JAX."""

import importlib

from jsafe import algos as algos
from jsafe.algos.off_policy.assembly import off_policy as off_policy
from jsafe.algos.on_policy.assembly import on_policy as on_policy
from jsafe.registry import make as make
from jsafe.registry import names as names
from jsafe.types import EnvSpec as EnvSpec
from jsafe.types import Learner as Learner
from jsafe.types import env_spec as env_spec

__version__ = "0.1.0"

_LAZY = (
    "components",
    "curves",
    "data",
    "distributions",
    "envs",
    "nets",
    "ops",
    "report",
    "runs",
    "scale",
    "sweeps",
    "testing",
    "train",
)


def __getattr__(name: str):
    # Engine, loop and plotting are imported on first use, so that `import jsafe` needs neither mujoco nor matplotlib.
    if name in _LAZY:
        return importlib.import_module(f"jsafe.{name}")
    raise AttributeError(f"module 'jsafe' has no attribute {name!r}")
