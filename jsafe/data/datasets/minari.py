"""Minari's folders (0.5): `data/metadata.json` and `data/main_data.hdf5` with a group for each episode.

A group holds T + 1 observations and T actions, in the units of the action space. Costs have no standard place there: we
read and write `infos/cost` (several costs: `infos/cost_NAME`), which begins with a 0 for the reset as Minari's own
collector writes it. Written with h5py alone; `minari.load_dataset` opens it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.data.datasets.hdf5 import array, h5py, opened
from jsafe.data.datasets.rows import from_rows, from_units, to_units
from jsafe.spaces import Box, Discrete, Space, bounds

VERSION = "0.5.4"
"""Of the layout that is written."""


def root() -> Path:
    """Where Minari keeps its data sets: `$MINARI_DATASETS_PATH`, or `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def read(
    path: str | os.PathLike, about: About | None = None, *, clip: bool = False, cost_key: str = "cost", **_: Any
) -> Episodes:
    """Reads a data set of Minari's.

    Args:
      path: Its folder, or its name in Minari's own folder (`root`).
      about: What is known of the task; by default what the metadata says.
      clip: Clip actions to their bounds.
      cost_key: Name of the cost among the infos, or the beginning of the names of several (`cost_hazards` ...).

    Raises:
      DatasetError: If a file or an array is missing or damaged, or observations are no `Box`; it names the episode.
      OSError: If a file cannot be opened.
    """
    folder = _folder(path)
    with open(folder / "metadata.json", "rb") as file:
        try:
            metadata = json.loads(file.read())
            layout = metadata.get("data_format", "hdf5")
            obs, action = (_space(metadata, f"{name}_space") for name in ("observation", "action"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{folder / 'metadata.json'}: {error}") from None
    if layout != "hdf5":
        raise DatasetError(f"{folder}: its data_format is {layout!r}, and only 'hdf5' is read")
    with opened(folder / "main_data.hdf5") as file:
        numbers = sorted(int(name[8:]) for name in file if re.fullmatch(r"episode_\d+", name))
        if not numbers:
            raise DatasetError(f"{folder}: there is no episode in it")
        names = _cost_names(file[f"episode_{numbers[0]}"], cost_key, str(folder))
        parts = [_episode(file[f"episode_{i}"], names, f"{folder}, episode_{i}") for i in numbers]
    rows: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    end = rows.pop("end")
    rows["action"] = from_units(rows["action"], action)
    short = tuple(name.removeprefix(f"{cost_key}_") for name in names) if len(names) > 1 else ("cost",)
    spec = json.loads(metadata["env_spec"]) if isinstance(metadata.get("env_spec"), str) else {}
    horizon = int(max(len(part["reward"]) for part in parts))
    about = about or About(obs, action, spec.get("max_episode_steps") or horizon, spec.get("id"), cost_names=short)
    stopped = end & ~(rows["terminated"] | rows["truncated"])
    rows["truncated"] = rows["truncated"] | stopped  # for the split; taken back below
    episodes = from_rows(about=about, where=str(folder), clip=clip, **rows)
    place = np.flatnonzero(stopped) + np.cumsum(end)[stopped] - 1
    episodes.truncated[place] = False
    return episodes.check(str(folder))


def write(episodes: Episodes, path: str | os.PathLike) -> None:
    """Writes a folder that Minari reads.

    Args:
      episodes: The data set.
      path: The folder; its name ends in a version, `pointgoal1-v0`. Inside `root()` it is known to Minari by the rest
        of the path.

    Raises:
      ValueError: If the name has no version.
      FileExistsError: If the folder is there already.
      OSError: If it cannot be written.
    """
    path = Path(path)
    if not re.fullmatch(r"[\w.-]+-v\d+", path.name):
        raise ValueError(f"the name of a Minari data set ends in a version, as in {path.name}-v0, got {path.name!r}")
    h5 = h5py()
    if path.exists():
        raise FileExistsError(17, "it exists already", str(path))
    temporary = path.with_name(f".{path.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "data").mkdir(parents=True)
    try:
        with h5.File(temporary / "data" / "main_data.hdf5", "w", track_order=True) as file:
            for i in range(len(episodes)):
                _write_episode(file.create_group(f"episode_{i}"), episodes, i)
        size = (temporary / "data" / "main_data.hdf5").stat().st_size
        metadata = _metadata(episodes, path) | {"dataset_size": round(size / 1e6, 1)}
        (temporary / "data" / "metadata.json").write_text(json.dumps(metadata))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise


def _write_episode(group: Any, episodes: Episodes, i: int) -> None:
    rows = slice(episodes.start[i], episodes.start[i + 1])
    steps = slice(rows.start, rows.stop - 1)
    columns = {
        "observations": episodes.obs[rows],
        "actions": to_units(episodes.action[steps], episodes.about.action),
        "rewards": episodes.reward[steps].astype(np.float64),
        "terminations": episodes.terminated[steps],
        "truncations": episodes.truncated[steps],
    }
    for name, value in columns.items():
        group.create_dataset(name, data=value, compression="gzip")
    infos = group.create_group("infos")
    names = episodes.about.cost_names
    for m, name in enumerate(names):
        cost = np.concatenate([[0.0], episodes.cost[steps, m]])
        key = "cost" if len(names) == 1 else f"cost_{name.removeprefix('cost_')}"
        infos.create_dataset(key, data=cost.astype(np.float32), compression="gzip")
    group.attrs["id"] = i
    group.attrs["total_steps"] = steps.stop - steps.start


def _metadata(episodes: Episodes, path: Path) -> dict[str, Any]:
    about = episodes.about
    inside = (
        path.absolute().relative_to(root().absolute()) if path.absolute().is_relative_to(root().absolute()) else None
    )
    agents = sorted({str(each["algorithm"]) for each in about.behaviours if "algorithm" in each})
    return {
        "total_episodes": len(episodes),
        "total_steps": episodes.transitions,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": _space_to_json(about.obs, episodes.obs.dtype),
        "action_space": _space_to_json(about.action, episodes.action.dtype),
        "dataset_id": path.name if inside is None else inside.as_posix(),
        "algorithm_name": ", ".join(agents) or "unknown",
        "description": f"{about.env or 'an environment'}, {about.source or 'recorded'}, costs in infos",
        "minari_version": VERSION,
    }


def _folder(path: str | os.PathLike) -> Path:
    """The folder with the two files."""
    for place in (Path(path), root() / path):
        for folder in (place / "data", place):
            if (folder / "metadata.json").is_file():
                return folder
    raise DatasetError(f"{path} is no data set of Minari's: neither it nor {root() / path} has data/metadata.json")


def _episode(group: Any, names: list[str], where: str) -> dict[str, np.ndarray]:
    obs = array(group, "observations", where)
    action, reward, terminated, truncated = (
        array(group, key, where) for key in ("actions", "rewards", "terminations", "truncations")
    )
    steps = len(action)
    if len(obs) != steps + 1 or not steps:
        raise DatasetError(f"{where}: observations has {len(obs)} rows for {steps} actions; it needs one more")
    for name, flags in (("terminations", terminated), ("truncations", truncated)):
        if np.any(flags[:-1]):
            raise DatasetError(f"{where}: {name} is true in row {int(np.argmax(flags))}, before the last one")
    infos = group.get("infos", {})
    costs = [array(infos, name, f"{where}, infos") for name in names]
    for name, cost in zip(names, costs):
        if len(cost) not in (steps, steps + 1):
            raise DatasetError(f"{where}: infos/{name} has {len(cost)} rows for {steps} actions")
    end = np.zeros(steps, bool)
    end[-1] = True
    return {
        "obs": obs[:-1],
        "next_obs": obs[1:],
        "action": action,
        "reward": reward,
        "cost": np.stack([np.reshape(cost[-steps:], steps) for cost in costs], axis=1),  # the reset's comes first
        "terminated": terminated,
        "truncated": truncated,
        "end": end,
    }


def _cost_names(group: Any, key: str, where: str) -> list[str]:
    infos = list(group.get("infos", {}))
    if key in infos:
        return [key]
    several = sorted(name for name in infos if name.startswith(f"{key}_"))
    if not several:
        known = ", ".join(infos) or "nothing"
        raise DatasetError(f"{where}: infos/{key} missing; infos hold {known} (--cost-key names the cost)")
    return several


def _space(metadata: Any, name: str) -> Space:
    data = json.loads(metadata[name]) if isinstance(metadata[name], str) else metadata[name]
    if data["type"] == "Box":
        low, high = (np.array(data[end], float).ravel() for end in ("low", "high"))
        kind = data["dtype"] if data["dtype"] in ("uint8", "int32", "bool") else "float32"
        return Box(tuple(data["shape"]), low, high, kind)
    if data["type"] == "Discrete" and not data.get("start", 0):
        return Discrete(int(data["n"]))
    raise ValueError(f"{name} is a {data['type']}; only boxes (and discrete actions) are read")


def _space_to_json(space: Space, dtype: np.dtype) -> str:
    if isinstance(space, Discrete):
        if not isinstance(space.n, int):
            return json.dumps(
                {"type": "MultiDiscrete", "dtype": "int64", "nvec": list(space.n), "start": [0] * len(space.n)}
            )
        return json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": space.n})
    assert isinstance(space, Box)
    ends = [np.broadcast_to(np.reshape(end, space.shape if end.ndim else ()), space.shape) for end in bounds(space)]
    kind = str(dtype) if dtype != np.float16 else "float32"
    return json.dumps(
        {"type": "Box", "dtype": kind, "shape": list(space.shape), "low": ends[0].tolist(), "high": ends[1].tolist()}
    )
