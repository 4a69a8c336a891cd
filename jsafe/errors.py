"""Messages for what is not known: the value, the closest match, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(value: object, allowed: Iterable[object], cutoff: float = 0.4) -> str:
    """The allowed name nearest to `value`, in whatever case, as `; did you mean 'x'?`, or nothing."""
    names = {str(name).lower(): str(name) for name in allowed}
    close = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=cutoff)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def unknown(what: str, value: object, allowed: Iterable[object]) -> str:
    """The message for an unknown name: the value, the closest match, and what is allowed."""
    names = [str(name) for name in allowed]
    return f"unknown {what} {value!r}{closest(value, names) or '.'} Allowed: {', '.join(names)}"
