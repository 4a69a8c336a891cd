"""OmniSafe's `.npz`: `obs, action, reward, cost, next_obs, done`, one row per step, and perhaps `init_obs`.

`done` says terminated or truncated, and nothing says where an episode began: a `done` in step `horizon` is a cut, an
earlier one the end of the task. The last episode of each agent may be unfinished; `next_obs` tells where.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.data.datasets.rows import from_rows

KEYS = ("obs", "action", "reward", "cost", "next_obs", "done")


def read(path: str | os.PathLike, about: About | None = None, *, clip: bool = False, **_: Any) -> Episodes:
    """Reads a file of OmniSafe's.

    Args:
      path: The file.
      about: What is known of the task; its horizon tells cuts from ends. Without it an episode is taken to be cut if it
        is as long as the longest one.
      clip: Clip actions to `[-1, 1]`: the behaviour policies were Gaussian, and stored what they drew.

    Raises:
      DatasetError: If a key is missing or its values cannot be used.
      OSError: If the file cannot be opened.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise DatasetError(f"{path} is no .npz file, or is damaged")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise DatasetError(f"{path}: {', '.join(missing)} missing; it holds {', '.join(file.files)}")
            rows = {key: file[key] for key in KEYS}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path} is no file of OmniSafe's, or is damaged: {error}") from None
    if not len(rows["obs"]):
        raise DatasetError(f"{path}: it is empty: obs has shape {rows['obs'].shape}")
    done = rows.pop("done").reshape(-1)
    never = np.zeros(len(done), bool)
    episodes = from_rows(terminated=done, truncated=never, where=str(path), clip=clip, about=about, **rows)
    horizon = int(episodes.lengths.max()) if about is None else about.horizon
    late = (episodes.lengths >= horizon) & episodes.terminated[episodes.last]
    episodes.truncated[episodes.last[late]] = True
    episodes.terminated[episodes.last[late]] = False
    return episodes.check(str(path))


def write(episodes: Episodes, path: str | os.PathLike) -> None:
    """Writes a file that OmniSafe reads; costs are added up, and `init_obs` is there."""
    steps = episodes.flat()
    floats = {name: steps[name].astype(np.float32) for name in ("obs", "action", "next_obs")}
    done = steps["terminated"] | steps["truncated"]
    columns = {"reward": steps["reward"], "cost": steps["cost"].sum(axis=1), "done": done}
    with open(path, "wb") as file:
        np.savez(
            file,
            **floats,  # type: ignore[arg-type]
            **{name: value.astype(np.float32)[:, None] for name, value in columns.items()},
            init_obs=steps["initial_obs"].astype(np.float32),
        )
