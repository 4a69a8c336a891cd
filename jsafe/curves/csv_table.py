"""progress.csv: written row by row, read whole."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.curves.vocabulary import translate

WALL_COLUMNS = ("time/wall_seconds", "time/steps_per_second")
"""The columns of progress.csv in which a resumed run differs from an unbroken one."""


class CsvTable:
    """An append-only csv file that survives kills and full disks.

    A row that cannot be written is kept and written with the next one; a row of which only a part reached the disk is
    cut off again.

    Args:
      path: The file; its folder exists.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._rows: list[dict[str, float]] = []
        self._columns: list[str] | None = None

    def continue_after(self, iteration: int, columns: Sequence[str] = ()) -> int:
        """Drops what was written after `iteration`, and a last line that was cut off.

        Args:
          iteration: Of the checkpoint that the run goes on from.
          columns: The names in the first line as they were then (`state_dict`), if that is known: they hold where the
            line says something else.

        Returns:
          The number of damaged lines, repaired (the first) or dropped; the file as it was is `progress.csv.damaged`
          then.
        """
        if not self.path.exists():
            return 0
        rows, damaged = _sound_rows(self.path, columns)
        if damaged:
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.damaged"))
        kept = [row for row in rows if float(row["iteration"]) <= iteration]
        if kept:
            self._columns = list(kept[0])
            self._replace(kept, self._columns)
        else:
            self.path.unlink()
        return damaged

    @property
    def vanished(self) -> bool:
        """Whether somebody has taken the file away after rows were written."""
        return self._columns is not None and not self.path.exists()

    def append(self, *rows: Mapping[str, float]) -> None:
        """Adds rows; a file that has vanished begins anew.

        Raises:
          OSError: If they could not be written; they will be tried again with the next ones.
        """
        self._rows += [dict(row) for row in rows]
        if self.vanished:
            self._columns = None
        names = dict.fromkeys(name for row in rows for name in row)
        new = [name for name in names if name not in (self._columns or ())]
        if self._columns is None or new:
            kept = _sound_rows(self.path)[0] if self.path.exists() else []
            columns = [*(self._columns or ()), *new]
            self._replace([*kept, *self._rows], columns)
            self._columns = columns
        else:
            self._write(self._rows, self._columns)
        self._rows = []

    def sync(self) -> None:
        """Waits until the file is on the disk."""
        if self.path.exists():
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def state_dict(self) -> dict[str, Any]:
        """Rows that are not in the file yet, and the names of its columns."""
        return {"rows": list(self._rows), "columns": list(self._columns or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._rows = list(state["rows"])

    def _write(self, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
        size = self.path.stat().st_size
        try:
            with open(self.path, "a", newline="") as file:
                file.write(_lines(_cells(columns, rows)))
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise

    def _replace(self, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.new")
        with open(temporary, "w", newline="") as file:
            file.write(table_text(columns, _cells(columns, rows)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)


def _cells(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    return [[row.get(name, "") for name in columns] for row in rows]


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def table_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as the text of a csv file."""
    return _lines([columns]) + _lines(rows)


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes a file, at once or not at all; through a link, and into what is no file (`/dev/stdout`), as it comes.

    Raises:
      OSError: If it cannot be written.
    """
    data = data.encode() if isinstance(data, str) else data
    if path.is_symlink() or (path.exists() and not path.is_file()):  # neither is to be replaced by a file
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of a csv file as text, without a last line that was cut off in writing."""
    return list(csv.DictReader(io.StringIO(_whole_lines(Path(path)))))


def _whole_lines(path: Path) -> str:
    text = path.read_text(errors="replace")
    return text[: text.rfind("\n") + 1]


def _sound_rows(path: Path, columns: Sequence[str] = ()) -> tuple[list[dict[str, str]], int]:
    """The rows that have a number in each of their cells, or nothing; and how many damaged lines there are.

    Args:
      path: The file.
      columns: What the first line held, if that is known. They take its place where it lacks some of them and has
        others instead: a curve that began anew may lack some, one that goes on may have more.
    """
    first, _, rest = _whole_lines(path).partition("\n")
    names = next(csv.reader([first]), [])
    wrong = bool(columns) and not (set(names) <= set(columns) or set(columns) <= set(names))
    if wrong:
        names = list(columns)
    rows = list(csv.DictReader(io.StringIO(rest), names))
    sound = [row for row in rows if row.get("iteration") and all(map(_is_cell, row.values()))]
    return sound, len(rows) - len(sound) + wrong


def _is_cell(text: Any) -> bool:
    try:
        return text == "" or float(text) is not None
    except (TypeError, ValueError):  # a missing cell, a surplus one, or no number
        return False


def read_progress(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of a progress.csv as float64 arrays, by the names of today; an empty cell is NaN.

    Damaged rows are left out.

    Raises:
      ValueError: If the file holds no rows.
    """
    rows, damaged = _sound_rows(Path(path))
    if not rows:
        raise ValueError(f"{path} holds {'damaged rows only' if damaged else 'no rows yet'}")
    return {translate(name): np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
