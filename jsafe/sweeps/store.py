"""The file of a sweep: its runs and how they ended."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsafe.curves.csv_table import read_progress, write_whole
from jsafe.options import difference, to_json
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.folder import CONFIG, Run, RunError, read
from jsafe.sweeps.grid import Cell


class Store:
    """The file that knows how runs ended."""

    def __init__(self, folder: Path, cells: Sequence[Cell], shared: bool = False):
        self.folder, self.cells, self._shared = folder, cells, shared
        self.ended: dict[str, str] = {}
        self._others: dict[str, dict] = {}
        self._path = folder / "sweep.json"

    def path(self, cell: Cell) -> Path:
        """The run folder."""
        return self.folder / "runs" / cell.name

    def load(self) -> None:
        """Reads what an earlier session left; nothing may have changed, but runs may be new.

        A shared folder may hold other runs too, and a run of ours that `jsafe train` has begun or finished there.
        """
        try:
            old = json.loads(self._path.read_text()) if self._path.exists() else {"runs": {}, "ended": {}}
            if not all(isinstance(old[name], dict) for name in ("runs", "ended")):
                raise ValueError("it holds no runs")
        except (OSError, ValueError, KeyError, TypeError) as error:
            advice = "; remove it, and the runs that are there are taken in" if self._shared else ""
            raise RunError(f"{self._path} cannot be read: {error!r}{advice}") from error
        new = {cell.name: cell.given for cell in self.cells}
        self._others = {name: given for name, given in old["runs"].items() if self._shared and name not in new}
        gone = [name for name in old["runs"] if name not in new and name not in self._others]
        lines = [f"{name}: not in the file any more" for name in gone]
        for name, given in old["runs"].items():
            lines += [f"{name}: {line}" for line in difference(given, new.get(name, given))]
        if lines:
            shown = "\n  ".join([*lines[:8], *(["..."] if len(lines) > 8 else [])])
            raise ValueError(f"{self.folder} holds another sweep; name another --folder\n  {shown}")
        self.ended = old["ended"]
        for cell in self.cells:
            self._look_after(cell)
        for cell in self.cells:
            if cell.name not in old["runs"] and self.path(cell).exists():
                self._take_in(cell)
        self.save()

    def _look_after(self, cell: Cell) -> None:
        """Forgets how a run ended whose folder somebody has removed: it is trained again.

        Raises:
          RunError: If it has finished, and config.json or progress.csv is damaged while its checkpoints are there.
        """
        path = self.path(cell)
        if cell.name in self.ended and not (path / CONFIG).exists():
            del self.ended[cell.name]
        if self.ended.get(cell.name) == "finished":
            try:
                json.loads((path / CONFIG).read_bytes())
                read_progress(path / "progress.csv")
            except (OSError, ValueError) as error:
                if Checkpoints(path).list():
                    raise RunError(
                        f"{cell.name} has finished, and its folder is damaged ({error}): remove {path} to have it "
                        "trained again"
                    ) from error
                del self.ended[cell.name]

    def _take_in(self, cell: Cell) -> None:
        """A run that is there without us, if it is the cell's; how it reports does not matter.

        Raises:
          ValueError: If it is another one.
        """
        path = self.path(cell)
        if not self._shared or not (path / CONFIG).exists():
            raise ValueError(f"{path} exists, but does not belong to this sweep; name another --folder")
        there = read(path)
        lines = difference(_meaning(there), _meaning(cell.run))
        if lines:
            raise ValueError(
                f"{path} holds another run than {cell.name}; name another --folder\n  " + "\n  ".join(lines)
            )
        with contextlib.suppress(OSError, ValueError):  # no curve yet
            if read_progress(path / "progress.csv")["env_steps"][-1] >= cell.config.total_steps:
                self.ended[cell.name] = "finished"

    def save(self) -> None:
        """Writes the file, at once or not at all."""
        data = {"runs": self._others | {cell.name: cell.given for cell in self.cells}, "ended": self.ended}
        try:
            write_whole(self._path, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error}") from error


def _meaning(run: Run) -> dict[str, Any]:
    return {"algorithm": run.algorithm, "options": to_json(run.options), "run": run.config.meaning()}
