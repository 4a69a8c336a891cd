"""Entries for `gymnasium.make("jsafe/SafetyPointGoal1-v0")`."""

from __future__ import annotations

from jsafe.envs.registry import list_ids

_ENTRY = "jsafe.envs.export.as_gymnasium:as_gymnasium"


def register_all() -> None:
    """Registers every id with Gymnasium as `jsafe/ID`; twice is harmless. Nothing is built, MuJoCo is not imported.

    Raises:
      ImportError: If gymnasium is not installed.
    """
    import gymnasium

    for id in list_ids():
        if f"jsafe/{id}" not in gymnasium.registry:
            gymnasium.register(f"jsafe/{id}", entry_point=_ENTRY, vector_entry_point=_ENTRY, kwargs={"id": id})
