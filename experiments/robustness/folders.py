"""Small runs, and what a run has left in its folder, read without the library."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WALL_COLUMNS = ("time/wall_seconds", "time/steps_per_second")
TOY = "Toy-SpeedLimit-v0"
OUTSIDE = "gymnasium:misbehaving:Robust-ok-v0"

_SMALL = {
    "on": "--num-envs 4 --steps-per-epoch 200 --passes 2 --minibatch 50 --hidden 8 --total-steps 1000 "
    "--log-interval 200",
    "off": "--num-envs 4 --unroll 5 --sequences 8 --updates 2 --hidden 8 --initial-rows 80 --replay-rows 60 "
    "--random-steps 40 --total-steps 1000 --log-interval 200",
    "seditor": "--num-envs 4 --unroll 5 --sequences 8 --sequence-length 4 --hidden 8 --frame-stack 2 "
    "--initial-rows 80 --replay-rows 60 --total-steps 1000 --log-interval 200",
}
_FAMILY = {"sac": "off", "td3": "off", "ddpg": "off", "seditor": "seditor"}


def small(algorithm: str, env: str = TOY, **options: Any) -> list[str]:
    """`train` with networks and batches so small that a run takes a second, and other options in underscores."""
    words = ["train", algorithm, "--env", env, *_SMALL[_FAMILY.get(algorithm.split("_")[0], "on")].split()]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if flag in words:
            at = words.index(flag)
            del words[at : at + 2]
        words += [flag, str(value)] if not isinstance(value, bool) else [flag if value else f"--no-{flag[2:]}"]
    return words


def curve(run: Path) -> list[dict[str, str]]:
    """Rows of progress.csv without the columns of the wall clock."""
    try:
        with open(run / "progress.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [{name: value for name, value in row.items() if name not in WALL_COLUMNS} for row in rows]


def checkpoints(run: Path) -> list[int]:
    """Iterations of the complete checkpoints, oldest first."""
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


_OWN = re.compile(
    r"elapsed|wall|second|time|chunk|journal|sha|crc|checksum|digest|saved|host|pid|^arrays$", re.IGNORECASE
)


def stored(run: Path, number: int = -1) -> dict[str, Any]:
    """Everything in a checkpoint by name, but for clocks, checksums, and how the replay is cut into files."""
    numbers = checkpoints(run)
    if not numbers:
        return {}
    folder = run / "checkpoints" / f"{numbers[number]:08d}"
    arrays: dict[str, Any] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays |= {name: (str(file[name].dtype), file[name].shape, file[name].tobytes()) for name in file.files}
    found, named = {"iteration": numbers[number]}, set()

    def walk(value: Any, path: str, own: bool) -> None:
        if isinstance(value, dict) and isinstance(value.get("i"), int) and f"arr_{value['i']}" in arrays:
            named.add(f"arr_{value['i']}")
            if not re.search("chunk|journal", path, re.IGNORECASE):
                found[path] = arrays[f"arr_{value['i']}"]
        elif isinstance(value, dict):
            for name, item in value.items():
                walk(item, f"{path}/{name}", own or bool(_OWN.search(name)))
        elif isinstance(value, list):
            pair = len(value) == 2 and isinstance(value[0], str)
            for k, item in enumerate(value):
                walk(item, f"{path}/{value[0] if pair else k}", own or (pair and bool(_OWN.search(value[0]))))
        elif not own:
            found[path] = value

    for path in sorted(folder.glob("*.json")):
        walk(json.loads(path.read_text()), path.stem, False)
    return found | {name: array for name, array in arrays.items() if name not in named and name.startswith("arr_")}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names under which two trees of `stored`, or two rows, differ."""

    def same(a: Any, b: Any) -> bool:
        return a == b or (a != a and b != b)  # NaN, where no episode has ended, is as good as another

    return [
        name for name in {**one, **other} if name not in one or name not in other or not same(one[name], other[name])
    ]


def same_run(one: Path, other: Path) -> list[str]:
    """What differs between the curves and the newest checkpoints of two runs."""
    rows, others = curve(one), curve(other)
    found = [f"{len(others)} rows for {len(rows)}"] if len(rows) != len(others) else []
    for row, like in zip(rows, others):
        found += [f"row {row.get('env_steps')}: {name}" for name in differences(row, like)]
    found += [f"checkpoint: {name}" for name in differences(stored(one), stored(other))]
    return found if rows else ["no rows", *found]
