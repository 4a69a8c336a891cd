"""Presets that several offline algorithms share, as changes of a config (`jsafe.options.replace`)."""

from __future__ import annotations

from typing import Any

from jsafe.components.rules import Lagrange
from jsafe.registry import Preset

ASCENT = Lagrange(init=0.0, learning_rate=1e-3, optimizer="sgd")
"""Plain dual ascent on the critics' estimate, once per update: it rests at the limit."""

RELEASED_RULE = Lagrange(init=1.0, learning_rate=1e-3, optimizer="adam", normalize="none")
"""OmniSafe's multiplier."""

RELEASED: dict[str, Any] = {"hidden": (256, 256, 256), "learning_rate": 1e-3, "batch_size": 256}
"""OmniSafe's sizes and rates."""

RELEASED_LIMIT: dict[str, Any] = {"rule": RELEASED_RULE, "rule_warmup": 150_000, "limit_unit": "episode"}
"""OmniSafe's multiplier holds for 150 000 updates, then compares a discounted sum with the limit per episode."""


def jsafe_preset(**changes: Any) -> Preset:
    """Two layers of 256 and a tenth of the papers' updates."""
    return Preset("Two layers of 256, 100 000 updates.", {"hidden": (256, 256), **changes}, 100_000)
