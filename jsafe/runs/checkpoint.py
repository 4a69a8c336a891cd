"""Checkpoints from which a run continues bit for bit, written so that a kill at any moment leaves a good one.

    RUN/checkpoints/00000120/arrays.npz     every array of the learner, the engine and the counters
    RUN/checkpoints/00000120/manifest.json  trees, shapes, dtypes, plain values, the list of journal chunks
    RUN/journal/00000003.npz                rows of the replay, stored once and shared by the checkpoints

A checkpoint is made in a hidden folder, each file is flushed to the disk, the manifest comes last, and one rename
gives the folder its name: a folder with a name is complete. Journal chunks are renamed into place before the
checkpoint that lists them. Whatever a kill leaves behind (hidden files, chunks that no checkpoint lists) is ignored
when reading and removed by the next save.

Why not orbax: half of what an exact resume needs is host state (engine, replay, streams with 128-bit integers), the
replay must be stored incrementally, and the order of flushes and renames has to be known to be tested. Here they are
numpy files, readable without this library, and about as many lines as the adapter would have.

Every file has a checksum in the manifest, the manifest one of itself: a flipped bit, or a file of another run, is
recognised, and the checkpoint before is taken. Only files that are ours by name are ever removed, and a linked folder
is refused.

A write that fails (full disk) raises `OSError` and leaves earlier checkpoints as they are; the rows that did not reach
the disk are kept in memory for the next attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jsafe.options import difference
from jsafe.runs.storage import (
    BROKEN,
    checksum,
    decode,
    described,
    encode,
    encode_state,
    load_npz,
    npz,
    sealed,
    sync_folder,
    unsealed,
    write_through,
)

FORMAT = 2
BEST = "best"
"""In the place of an iteration: the checkpoint of the best policy that keeps the limit, and its folder."""
EVALUATIONS = "evaluations.csv"
Which = int | Literal["best"] | None
"""A checkpoint of a run: its iteration, `best`, or None for the newest."""
_MADE_BY = {1: "jsafe 0.1, with another layout of options and parameters"}
_OURS = re.compile(r"\d{8}|\.\d{8}\.(new|old|unreadable)(\.old)?")
"""Names of checkpoints, and of what a kill leaves behind of them."""
_FILES = ("manifest.json", "arrays.npz")
"""What a checkpoint consists of; a folder with none of them is somebody else's, whatever its name."""
_OUR_CHUNKS = re.compile(r"(\d{8})\.npz|\.(\d{8})\.npz\.new")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or that belongs to something else; the message names the file or the field."""


class Loaded(NamedTuple):
    """What `Checkpoints.load` returns: where the run stood, the learner's state, and what was given as `extra`."""

    iteration: int
    state: Any
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
      folder: The run folder; `checkpoints` and `journal` are made in it when needed.
      keep: Number of checkpoints to keep; the replay rows that any of them needs are kept with them.
      config: JSON-able description of the run, stored in each checkpoint and compared when loading.
      meant: What a stored description means today: checkpoints of earlier versions lack the options that were added
        since. As it is by default.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        keep: int = 2,
        config: dict[str, Any] | None = None,
        meant: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ):
        self.folder = Path(folder)
        self.keep = keep
        self.config, self._meant = json.loads(json.dumps(config or {})), meant
        self._journal: list[list[str]] = []  # name and checksum of the chunks on the disk, oldest first
        self._unwritten: list[dict[str, np.ndarray]] = []  # chunks that failed to reach it
        self._next_chunk = 0
        self._newest: Path | None = None
        self.problems: list[str] = []
        """What `load` found damaged and passed over, for the user."""

    def list(self) -> list[int]:
        """Iterations of the complete checkpoints, oldest first."""
        folder = self.folder / "checkpoints"
        paths = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(path.name) for path in paths if path.name.isdigit() and _is_ours(path))

    def check_folders(self) -> None:
        """Raises CheckpointError where a folder of ours is a link: what lies behind it is somebody else's."""
        for name in ("checkpoints", "journal"):
            path = self.folder / name
            if path.is_symlink():
                raise CheckpointError(
                    f"{path} is a link to {os.readlink(path)}; checkpoints need a folder of their own"
                )

    def save(self, iteration: int, state: Any, collector: Any, extra: dict[str, Any] | None = None) -> Path:
        """Writes a checkpoint and removes the ones that are no longer kept.

        Args:
          iteration: Iterations done so far; names the checkpoint.
          state: The learner's state, any tree of arrays (typed keys included).
          collector: Gives `journal`, `journal_keep` and `state_dict`.
          extra: Counters and other small state of the caller: plain values, arrays, nested dicts, lists and tuples.

        Raises:
          OSError: If something could not be written; earlier checkpoints are untouched, and a later call may succeed.
        """
        chunk = collector.journal()
        if chunk is not None:
            self._unwritten.append(chunk)
        keep = collector.journal_keep()
        arrays: list[np.ndarray] = []
        manifest = {
            "format": FORMAT,
            "iteration": iteration,
            "config": self.config,
            "learner": encode_state(state, arrays),
            "collector": encode(collector.state_dict(), arrays),
            "extra": encode(extra or {}, arrays),
        }
        self.check_folders()
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self._write_journal(keep)
        for name, _ in self._journal:
            if not (self.folder / "journal" / name).exists():
                raise FileNotFoundError(
                    f"{self.folder / 'journal' / name}, which holds rows of the replay, has vanished"
                )
        manifest["journal"] = self._journal
        path = self.folder / "checkpoints" / f"{iteration:08d}"
        temporary = path.with_name(f".{path.name}.new")
        _remove(temporary)
        temporary.mkdir()
        try:
            data = npz(arrays)
            manifest["arrays"] = checksum(data)
            write_through(temporary / "arrays.npz", data)
            write_through(temporary / "manifest.json", sealed(manifest))
            sync_folder(temporary)
            if path.exists():  # only one that could not be read is ever written again
                _remove(path)
            if path.exists():
                os.replace(path, _free(path.with_name(f"{path.name}.not-ours")))
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(temporary)
            raise
        self._clean()
        self._newest = path
        return path

    def lost(self) -> bool:
        """Whether somebody has taken the newest checkpoint away since it was written; said once."""
        lost = self._newest is not None and not self._newest.exists()
        if lost:
            self._newest = None
        return lost

    def load(self, template: Any, collector: Any) -> Loaded | None:
        """Restores the newest readable checkpoint into `collector` and returns the rest; None if there is none.

        Args:
          template: A state of the learner, or its `jax.eval_shape`: what the stored one must agree with.
          collector: A fresh collector, restored in place.

        Raises:
          CheckpointError: If the checkpoint belongs to another configuration or tree, naming each difference, or if
            there are checkpoints and none can be read.
        """
        problems = []
        self.check_folders()
        for iteration in reversed(self.list()):
            try:
                stored = _Stored(self.folder, iteration)
                chunks = [_read_chunk(self.folder, *entry) for entry in stored.manifest["journal"]]
            except _Unreadable as error:
                problems.append(str(error))
                continue
            lines = difference(self._meant(stored.manifest["config"]), self.config)
            if lines:
                raise CheckpointError(f"{stored.path} belongs to another configuration:\n  " + "\n  ".join(lines))
            state = stored.state(template)
            try:
                collector.load_state_dict(stored.decode("collector"), journal=chunks)
            except (ValueError, KeyError) as error:
                raise CheckpointError(f"{stored.path}: environments or replay do not fit: {error}") from error
            self.put_aside(iteration)  # the journal of newer ones is about to be written anew
            self._journal = list(stored.manifest["journal"])
            self._next_chunk = 1 + max((int(Path(name).stem) for name, _ in self._journal), default=-1)
            self.problems = [f"{problem}; continuing from iteration {iteration} instead" for problem in problems]
            return Loaded(iteration, state, stored.decode("extra"))
        if problems:
            raise CheckpointError("no checkpoint can be read:\n  " + "\n  ".join(problems))
        return None

    def put_aside(self, iteration: int) -> None:
        """Takes their names from the checkpoints after an iteration, which is where the run goes on."""
        for newer in self.list():
            if newer > iteration:
                path = self.folder / "checkpoints" / f"{newer:08d}"
                os.replace(path, path.with_name(f".{path.name}.unreadable"))

    def _write_journal(self, keep: int) -> None:
        folder = self.folder / "journal"
        while self._unwritten:
            if len(self._unwritten) > keep:  # overwritten in the replay before it could be stored
                self._unwritten.pop(0)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            arrays: list[np.ndarray] = []
            tree = encode(self._unwritten[0], arrays)
            name = f"{self._next_chunk:08d}.npz"
            temporary = folder / f".{name}.new"
            data = npz(arrays, header=np.frombuffer(json.dumps(tree).encode(), np.uint8))
            write_through(temporary, data)
            os.replace(temporary, folder / name)
            sync_folder(folder)
            self._journal = [*self._journal, [name, checksum(data)]]
            self._next_chunk += 1
            self._unwritten.pop(0)
        self._journal = self._journal[max(len(self._journal) - keep, 0) :]

    def _clean(self) -> None:
        """Removes old checkpoints, chunks that none of the kept ones lists, and what a kill left behind."""
        kept = self.list()[-self.keep :]
        needed = {name for name, _ in self._journal}
        for iteration in kept:
            with contextlib.suppress(_Unreadable):
                journal = _Stored(self.folder, iteration, arrays=False).manifest["journal"]
                needed.update(name for name, _ in journal)
        with contextlib.suppress(OSError):  # a file that cannot be removed now is tried again after the next save
            for path in (self.folder / "checkpoints").iterdir():
                if _is_ours(path) and not (path.name.isdigit() and int(path.name) in kept):
                    _remove(path)
            chunks = self.folder / "journal"
            for path in chunks.iterdir() if chunks.is_dir() else ():
                match = _OUR_CHUNKS.fullmatch(path.name)
                if match and path.name not in needed and int(match[1] or match[2]) < self._next_chunk:
                    path.unlink()


def load_state(folder: str | os.PathLike, template: Any, which: Which = None) -> Loaded:
    """The learner's part of the newest readable checkpoint of a run, without its environments and replay.

    Newer ones that are damaged are passed over with a warning.

    Args:
      folder: The run folder.
      template: A state of the learner, or its `jax.eval_shape`.
      which: `best`, or an iteration, in place of the newest.

    Raises:
      CheckpointError: If there is none, or it does not agree with `template`.
    """
    if which == BEST:
        folder, iteration = best_folder(folder), None
    else:
        iteration = which
    problems = []
    there = Checkpoints(folder).list()
    if iteration is not None and iteration not in there:
        raise CheckpointError(f"{folder} has no checkpoint of iteration {iteration}; it has {there or 'none'}")
    for number in reversed(there if iteration is None else [iteration]):
        try:
            stored = _Stored(Path(folder), number)
        except _Unreadable as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; taking iteration {number} instead", RuntimeWarning, stacklevel=2)
        return Loaded(number, stored.state(template), stored.decode("extra"))
    raise CheckpointError("\n  ".join([f"no readable checkpoint in {folder}", *problems]))


def best_folder(folder: str | os.PathLike) -> Path:
    """Where the best policy of a run is; it holds checkpoints, too, of the learner alone.

    Raises:
      CheckpointError: If it has none; the message says why.
    """
    path = Path(folder) / BEST
    if Checkpoints(path).list():
        return path
    if (Path(folder) / EVALUATIONS).exists():
        why = f"no evaluation has kept the limit yet ({Path(folder) / EVALUATIONS})"
    else:
        why = "it was trained without evaluations (--eval-interval)"
    raise CheckpointError(f"{folder} has no best checkpoint: {why}")


class _Unreadable(Exception):
    """A damaged file: the next older checkpoint may do."""


class _Stored:
    """One checkpoint on the disk."""

    def __init__(self, folder: Path, iteration: int, *, arrays: bool = True):
        self.path = folder / "checkpoints" / f"{iteration:08d}"
        try:
            data = (self.path / "manifest.json").read_bytes()
            self.manifest = json.loads(data)
            found = self.manifest["format"]
        except BROKEN as error:
            raise _Unreadable(f"{self.path} is unreadable ({type(error).__name__}: {error})") from error
        if found in _MADE_BY and "checksum" not in self.manifest:
            raise CheckpointError(f"{self.path} was made by {_MADE_BY[found]}: only that version can go on with it")
        try:
            self.manifest = unsealed(data)
            if found != FORMAT:
                raise CheckpointError(f"{self.path} has format {found}; this version of jsafe reads format {FORMAT}")
            if arrays:
                self.arrays = load_npz(self.path / "arrays.npz", self.manifest["arrays"])
        except BROKEN as error:
            raise _Unreadable(f"{self.path} is unreadable ({type(error).__name__}: {error})") from error

    def decode(self, part: str) -> Any:
        return decode(self.manifest[part], self.arrays)

    def state(self, template: Any) -> Any:
        """The learner's state in the tree of `template`; a difference in any leaf is an error that names it."""
        expected, structure = described(template)
        stored = {entry["path"]: entry for entry in self.manifest["learner"]}
        lines = [f"{path}: not in the checkpoint" for path in expected if path not in stored]
        lines += [f"{path}: in the checkpoint only" for path in stored if path not in expected]
        for path in expected.keys() & stored.keys():
            here, there = expected[path], (tuple(stored[path]["shape"]), stored[path]["dtype"])
            if here != there:
                lines.append(f"{path}: {there[1]}{list(there[0])} in the checkpoint, {here[1]}{list(here[0])} here")
        if lines:
            more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
            raise CheckpointError(
                f"{self.path} does not fit this learner, it is of other options or another version of jsafe:\n  "
                + "\n  ".join([*sorted(lines)[:8], *more])
            )
        return jax.tree.unflatten(structure, [decode(stored[path]["value"], self.arrays) for path in expected])


def _read_chunk(folder: Path, name: str, expected: str) -> dict[str, np.ndarray]:
    try:
        arrays = load_npz(folder / "journal" / name, expected)
        return decode(json.loads(arrays["header"].tobytes()), arrays)
    except BROKEN as error:
        raise _Unreadable(f"{folder / 'journal' / name} is unreadable ({type(error).__name__}: {error})") from error


def _is_ours(path: Path) -> bool:
    """Whether it is a checkpoint, or what a kill has left of one."""
    if not _OURS.fullmatch(path.name):
        return False
    hidden = path.name.startswith(".")
    return path.is_dir() and (any((path / name).exists() for name in _FILES) or (hidden and not any(path.iterdir())))


def _remove(path: Path) -> None:
    """Removes a folder of ours; it loses its name first, so that no half of it is ever taken for a whole.

    A link goes, and what it points to stays. Where somebody has put files into the folder, those stay in it.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if {each.name for each in path.iterdir()} <= set(_FILES):
        hidden = path.with_name(f".{path.name.lstrip('.')}.old")
        if hidden != path:
            if hidden.exists():
                _remove(hidden)
            os.replace(path, hidden)
        shutil.rmtree(hidden)
    else:
        for name in _FILES:
            (path / name).unlink(missing_ok=True)


def _free(path: Path) -> Path:
    """The name, or with a number the first one that nothing has."""
    names = (path, *(path.with_name(f"{path.name}-{k}") for k in range(2, 1000)))
    return next(name for name in names if not name.exists())
