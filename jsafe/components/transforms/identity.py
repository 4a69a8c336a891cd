"""No transform."""

from __future__ import annotations

import dataclasses

from jsafe.components.transforms.base import Transform
from jsafe.options import Options, part
from jsafe.types import EnvSpec


@part("transform", "identity")
@dataclasses.dataclass(frozen=True)
class Identity(Options):
    """Leaves the problem as it is."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Transform:
        """The transform, without data or state."""
        return Transform(None, lambda limit: ())
