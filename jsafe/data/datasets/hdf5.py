"""What the layouts in HDF5 share: opening files, reading arrays, and words for what is wrong with them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import DatasetError


def h5py() -> Any:
    """The module.

    Raises:
      DatasetError: If it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise DatasetError("files in HDF5 need h5py: pip install 'jsafe[offline]'") from None
    return h5py


def opened(path: str | os.PathLike) -> Any:
    """The file, to be closed by the caller.

    Raises:
      DatasetError: If it is damaged or something else.
      OSError: If it cannot be opened.
    """
    with open(path, "rb"):  # a file that is missing or forbidden says so itself
        pass
    try:
        return h5py().File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is no file in HDF5, or is damaged: {error}") from None


def array(group: Any, key: str, where: str) -> np.ndarray:
    """One array.

    Raises:
      DatasetError: If it is not there, is no array, or is damaged.
    """
    if key not in group:
        raise DatasetError(f"{where}: {key} missing; it holds {', '.join(group)}")
    if not hasattr(group[key], "shape"):
        raise DatasetError(f"{where}: {key} must be one array, but is a group of {', '.join(group[key])}")
    try:
        return group[key][()]
    except OSError as error:
        raise DatasetError(f"{where}: {key} is damaged: {error}") from None
