"""The layouts by name, and how they are told apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from jsafe.data.datasets import dsrl, minari, native, omnisafe
from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.errors import unknown

Layout = Literal["native", "omnisafe", "dsrl", "minari"]
LAYOUTS: tuple[Layout, ...] = ("native", "omnisafe", "dsrl", "minari")
"""Our own file, and those of others."""
_OTHERS: dict[str, Any] = {"omnisafe": omnisafe, "dsrl": dsrl, "minari": minari}


def layout_of(path: str | os.PathLike) -> Layout:
    """The layout that a path looks like: a folder is Minari's, `.hdf5` DSRL's, `.npz` ours or OmniSafe's."""
    place = Path(path)
    if place.suffix in (".hdf5", ".h5"):
        return "dsrl"
    if place.suffix == ".npz" or place.is_file():
        return "native" if native.is_native(place) or not place.exists() else "omnisafe"
    return "minari"


def read(path: str | os.PathLike, layout: Layout | None = None, about: About | None = None, **options: Any) -> Episodes:
    """Reads a data set in any layout.

    Args:
      path: File or folder.
      layout: One of `LAYOUTS`; by default what the path looks like.
      about: What is known of the task, for the layouts that do not say it.
      **options: `clip` (actions to their bounds), and `cost_key` for `dsrl` and `minari`.

    Raises:
      DatasetError: If it is damaged, incomplete, or holds values that cannot be used; it names the field.
      OSError: If it cannot be opened.
      ValueError: For an unknown layout.

    Example:
      `episodes = jsafe.data.datasets.read("SafetyPointCircle1Gymnasium-v0-200-1098.hdf5")`
    """
    layout = layout or layout_of(path)
    _check(layout)
    if layout == "native":
        if options:
            raise ValueError(f"our own layout takes no options, got {', '.join(options)}")
        if not native.is_native(path) and Path(path).is_file():
            omnisafe_like = Path(path).suffix == ".npz"
            hint = "; --format omnisafe reads OmniSafe's" if omnisafe_like else ""
            raise DatasetError(f"{path} is no data set in our own layout, or is damaged{hint}")
        return native.read(path)
    return _OTHERS[layout].read(path, about, **options)


def write(episodes: Episodes, path: str | os.PathLike, layout: Layout = "native") -> None:
    """Writes a data set in any layout.

    Raises:
      OSError: If it cannot be written.
      ValueError: For an unknown layout, or a name that it does not take.
    """
    _check(layout)
    if layout == "native":
        native.write(episodes, path)
    else:
        _OTHERS[layout].write(episodes, path)


def _check(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(unknown("layout", layout, LAYOUTS))
