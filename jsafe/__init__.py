"""jsafe: safe reinforcement learning in JAX."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers know it, without the time that `typing` takes
if TYPE_CHECKING:  # at run time on first use, so that `import jsafe.envs` needs no JAX, `import jsafe` no MuJoCo
    from typing import Any

    from jsafe.algos.model_based.assembly import model_based
    from jsafe.algos.model_based.imagination import imagining
    from jsafe.algos.off_policy.assembly import off_policy
    from jsafe.algos.offline.assembly import offline
    from jsafe.algos.on_policy.assembly import on_policy
    from jsafe.deploy.reading import load
    from jsafe.registry import make, names
    from jsafe.types import EnvSpec, Learner, env_spec

__version__ = "0.2.0"

__all__ = [
    "EnvSpec",
    "Learner",
    "env_spec",
    "imagining",
    "load",
    "make",
    "model_based",
    "names",
    "off_policy",
    "offline",
    "on_policy",
]

_NAMES = {
    "EnvSpec": "jsafe.types",
    "Learner": "jsafe.types",
    "env_spec": "jsafe.types",
    "imagining": "jsafe.algos.model_based.imagination",
    "load": "jsafe.deploy.reading",
    "make": "jsafe.registry",
    "model_based": "jsafe.algos.model_based.assembly",
    "names": "jsafe.registry",
    "off_policy": "jsafe.algos.off_policy.assembly",
    "offline": "jsafe.algos.offline.assembly",
    "on_policy": "jsafe.algos.on_policy.assembly",
}
_ROOMS = (
    "algos",
    "components",
    "curves",
    "data",
    "deploy",
    "device",
    "distributions",
    "envs",
    "errors",
    "feeds",
    "nets",
    "ops",
    "options",
    "registry",
    "report",
    "runs",
    "scale",
    "spaces",
    "sweeps",
    "testing",
    "train",
    "types",
)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jsafe.{name}")
    raise AttributeError(f"module 'jsafe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_ROOMS})
