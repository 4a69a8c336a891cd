"""Signals that end a run in good order."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Signals:
    """Notes the first SIGINT or SIGTERM; after it, the next one has its default effect and kills."""

    def __init__(self):
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
