"""A process that steps a slice of a batch of ours; run as a script by `jsafe.envs.team`."""

from __future__ import annotations

import mmap
import multiprocessing.reduction
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # in place of this folder, whose modules are not for the top level
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from jsafe.envs import registry
from jsafe.envs.outside import worker
from jsafe.envs.team import ARRAYS


def serve(conn: Any) -> None:
    """Answers commands until `close`; every answer is ("ok", value)."""
    setup = conn.recv()
    sys.path[:] = [*sys.path, *(place for place in setup["path"] if place not in sys.path)]
    if setup["task"] is not None:
        registry.register_as(setup["id"], setup["task"])
    options = setup["options"]
    start, stop = setup["rows"][0], setup["rows"][-1] + 1
    env = registry.plain(setup["id"], stop - start, setup["seed"] + start, setup["num_threads"], **options)
    conn.send(("ok", None))
    ours: dict[str, np.ndarray] = {}
    while True:
        command, *args = conn.recv()
        answer: Any = None
        if command == "memory":
            handle = multiprocessing.reduction.recv_handle(conn)
            places, length = worker.slots(args[0])
            arrays = worker.views(mmap.mmap(handle, length), places)
            os.close(handle)
            ours = {name: array[start:stop] for name, array in arrays.items()}
        elif command == "step":
            out = env.step(ours["actions"], **({} if args[0] is None else {"mask": args[0]}))
            for name in ARRAYS:
                ours[name][:] = getattr(out, name)
            for name, value in out.info.items():
                ours[f"info/{name}"][:] = value
        elif command == "close":
            env.close()
            return
        else:
            name, args, kwargs = args
            try:
                answer = getattr(env, name)(*args, **kwargs), None
            except Exception as error:
                answer = None, error
        conn.send(("ok", answer))


if __name__ == "__main__":
    worker.main(serve)
