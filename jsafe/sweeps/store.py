"""The file of a sweep: its runs and how they ended."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from jsafe.options import difference
from jsafe.runs.folder import RunError
from jsafe.sweeps.grid import Cell


class Store:
    """The file that knows how runs ended."""

    def __init__(self, folder: Path, cells: Sequence[Cell]):
        self.folder, self.cells = folder, cells
        self.ended: dict[str, str] = {}
        self._path = folder / "sweep.json"

    def path(self, cell: Cell) -> Path:
        """The run folder."""
        return self.folder / "runs" / cell.name

    def load(self) -> None:
        """Reads what an earlier session left; nothing may have changed, but runs may be new."""
        try:
            old = json.loads(self._path.read_text()) if self._path.exists() else {"runs": {}, "ended": {}}
        except (OSError, ValueError) as error:
            raise RunError(f"{self._path} cannot be read: {error}") from error
        new = {cell.name: cell.given for cell in self.cells}
        lines = [f"{name}: not in the file any more" for name in old["runs"] if name not in new]
        for name, given in old["runs"].items():
            lines += [f"{name}: {line}" for line in difference(given, new.get(name, given))]
        if lines:
            shown = "\n  ".join([*lines[:8], *(["..."] if len(lines) > 8 else [])])
            raise ValueError(f"{self.folder} holds another sweep; name another --folder\n  {shown}")
        for cell in self.cells:
            if cell.name not in old["runs"] and self.path(cell).exists():
                raise ValueError(f"{self.path(cell)} exists, but does not belong to this sweep; name another --folder")
        self.ended = old["ended"]
        self.save()

    def save(self) -> None:
        """Writes the file, at once or not at all."""
        data = {"runs": {cell.name: cell.given for cell in self.cells}, "ended": self.ended}
        temporary = self._path.with_name(".sweep.json.new")
        try:
            temporary.write_text(json.dumps(data, indent=1) + "\n")
            os.replace(temporary, self._path)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error}") from error
