"""Our own file: one uncompressed `.npz`, which numpy alone can read.

obs [R, ...] f4|f2|u1|i4     T + 1 rows for an episode of T steps, one episode after the other
action [R, A] f4 | [R] i4    the last row of an episode is 0, here and below
reward [R] f4, cost [R, M] f4, terminated [R] b1, truncated [R] b1
start [E+1] i8               first row of each episode, then R
next_obs, terms, behaviour   where there are any (see `Episodes`)
state/NAME [E, ...]          of the engine at the start of each episode
meta                         JSON: format, spaces, names, who acted, sha256 of all the rest
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import COLUMNS, About, DatasetError, Episodes

FORMAT = 1
_OPTIONAL = ("next_obs", "terms", "behaviour")
_STATE = "state/"
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def write(episodes: Episodes, path: str | os.PathLike) -> str:
    """Writes a data set, at once or not at all; returns its checksum.

    Raises:
      DatasetError: If it could not be read again.
      OSError: If it cannot be written.
    """
    path = Path(path)
    episodes.check(str(path))
    arrays = _arrays(episodes)
    about = {"format": FORMAT, **episodes.about.to_json()}
    digest = _checksum(arrays, about)
    arrays["meta"] = np.frombuffer(json.dumps(about | {"sha256": digest}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return digest


def read(path: str | os.PathLike) -> Episodes:
    """Reads a data set and checks it.

    Raises:
      DatasetError: If the file is damaged, incomplete, of another format, or holds values that cannot be used; it names
        the field.
      OSError: If it cannot be opened.
    """
    with open(path, "rb"):  # a file that is missing or forbidden says so itself
        pass
    try:
        file = np.load(path, allow_pickle=False)
        names = file.files
    except _BROKEN as error:
        raise DatasetError(f"{path} is no data set, or is damaged: {error}") from None
    except AttributeError:
        raise DatasetError(f"{path} is a single array (.npy), not a data set (.npz)") from None
    with file:
        meta = _meta(path, file, names)
        missing = [name for name in (*COLUMNS, "start") if name not in names]
        if missing:
            raise DatasetError(f"{path}: {', '.join(missing)} missing; it holds {', '.join(names)}")
        arrays = {name: _array(path, file, name) for name in names if name != "meta"}
    claimed = meta.pop("sha256", None)
    if claimed is not None and claimed != _checksum(arrays, meta):
        raise DatasetError(f"{path} is damaged: its checksum is not the one in its meta")
    try:
        about = About.from_json(meta)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    episodes = Episodes(
        **{name: arrays.get(name) for name in (*COLUMNS, "start", *_OPTIONAL)},  # type: ignore[arg-type]
        about=about,
        states={name[len(_STATE) :]: value for name, value in arrays.items() if name.startswith(_STATE)},
    )
    return episodes.check(str(path))


def is_native(path: str | os.PathLike) -> bool:
    """Whether a file looks like ours; damaged ones included, as far as their list of arrays goes."""
    try:
        with zipfile.ZipFile(path) as file:
            return "meta.npy" in file.namelist()
    except _BROKEN:
        return False


def checksum(episodes: Episodes) -> str:
    """sha256 over everything in a data set: what tells one file from another."""
    return _checksum(_arrays(episodes), {"format": FORMAT, **episodes.about.to_json()})


def _arrays(episodes: Episodes) -> dict[str, np.ndarray]:
    columns = {name: getattr(episodes, name) for name in (*COLUMNS, "start", *_OPTIONAL)}
    states = {f"{_STATE}{name}": value for name, value in episodes.states.items()}
    return {name: value for name, value in (columns | states).items() if value is not None}


def _checksum(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(value.data if value.size else b"")
    return digest.hexdigest()


def _meta(path: Any, file: Any, names: list[str]) -> dict[str, Any]:
    if "meta" not in names:
        raise DatasetError(
            f"{path}: meta missing: it is not in our own layout (it holds {', '.join(names)}); "
            "`jsafe dataset import` reads those of OmniSafe, DSRL and Minari"
        )
    try:
        meta = json.loads(_array(path, file, "meta").tobytes())
        found = meta["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: meta is damaged: {error}") from None
    if found != FORMAT:
        raise DatasetError(f"{path} has format {found!r}; this version of jsafe reads format {FORMAT}")
    return meta


def _array(path: Any, file: Any, name: str) -> np.ndarray:
    try:
        return file[name]
    except _BROKEN as error:
        raise DatasetError(f"{path}: {name} is damaged: {error}") from None
