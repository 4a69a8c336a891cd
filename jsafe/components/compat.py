"""Parts whose released code departs from the paper: the one switch `compat` reaches them all."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jsafe.options import Options
from jsafe.types import EnvSpec

Compat = Literal["paper", "omnisafe"]


@dataclasses.dataclass(frozen=True)
class Released(Options):
    """Base of parts that know the released behaviour."""

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Any:
        """The functions, as in the paper or as released."""
        raise NotImplementedError


def build(part: Any, spec: EnvSpec, axis_name: str | None, compat: Compat) -> Any:
    """Builds a part; one that has a released form is told which is wanted."""
    if isinstance(part, Released):
        return part.build(spec, axis_name, compat)
    return part.build(spec, axis_name)
