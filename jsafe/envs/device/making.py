"""The device environments that are not made of a task of the engine, by id."""

from __future__ import annotations

import inspect
from typing import Any

from jsafe.envs import checks
from jsafe.envs.device import catalogue
from jsafe.envs.device.api import DeviceEnv

IDS = (*catalogue.IDS, *catalogue.ALIASES, *catalogue.TOYS)


def make(id: str, costs: str = "sum", **options: Any) -> DeviceEnv:
    """One episode of one of `IDS` as pure functions.

    Args:
      id: Its name.
      costs: `sum`: one cost column; `separate`: one for each cost group of the task.
      **options: Of the task.

    Raises:
      ValueError: If an option is unknown, or a value is not allowed.
    """
    checks.costs(costs)
    if costs != "sum":
        raise ValueError(f"costs must be 'sum' on {id}, which has a single cost: {costs!r}")
    if id in catalogue.IDS or id in catalogue.ALIASES:
        from jsafe.envs.device.racing import make as make_racing

        return make_racing(id, **options)
    from jsafe.envs.device.speed_limit import speed_limit

    try:
        inspect.signature(speed_limit).bind(**options)
    except TypeError as error:
        raise ValueError(f"options of {id!r} on the device: {error}") from None
    return speed_limit(**options)
