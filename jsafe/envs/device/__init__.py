"""Environments that run inside the compiled program, one episode as pure functions; and the way back to the host."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time on first use: the names in `catalogue` need no JAX
    from jsafe.envs.device.api import DeviceEnv
    from jsafe.envs.device.batch import vectorise
    from jsafe.envs.device.host import HostedEnv, hosted

_NAMES = {
    "DeviceEnv": "api",
    "HostedEnv": "host",
    "hosted": "host",
    "vectorise": "batch",
}

__all__ = ["DeviceEnv", "HostedEnv", "hosted", "vectorise"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"jsafe.envs.device.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jsafe.envs.device' has no attribute {name!r}")
