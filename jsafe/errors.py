"""Messages for what is not known: the value, the closest match, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(value: object, allowed: Iterable[object], cutoff: float = 0.4) -> str:
    """The allowed name nearest to `value` as `; did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(str(value), [str(name) for name in allowed], n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(what: str, value: object, allowed: Iterable[object]) -> str:
    """The message for an unknown name: the value, the closest match, and what is allowed."""
    names = [str(name) for name in allowed]
    return f"unknown {what} {value!r}{closest(value, names) or '.'} Allowed: {', '.join(names)}"
