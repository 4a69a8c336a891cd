"""The state of a collector, put together from those of several processes, or divided among them.

A job of P processes gives each of them N / P of the N environments, in order. Everything that a collector stores
belongs to one environment, so that the parts together are the state of one collector of N environments, and a
checkpoint does not depend on how many processes wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Tree = dict[str, Any]


def merge(parts: Sequence[Tree]) -> Tree:
    """The state (`state_dict`) of one collector from those of the processes, in their order.

    The last episodes of all processes are kept, newest last, with the process of each (`window_of`).

    Raises:
      ValueError: If a value is neither one per environment nor the same in all processes, naming it.
    """
    sizes = [len(part["tracker"]["running"]) for part in parts]
    special = ("env_steps", "tracker", "replay")
    merged = {name: _join([part[name] for part in parts], sizes, name) for name in parts[0] if name not in special}
    merged["env_steps"] = sum(part["env_steps"] for part in parts)
    merged["tracker"] = _merge_trackers([part["tracker"] for part in parts])
    if "replay" in parts[0]:
        replays = [part["replay"] for part in parts]
        ends = [np.asarray(replay["chunk_ends"]) for replay in replays]
        longest = max(map(len, ends))
        # A chunk that one process needs no longer ended before its oldest row: at 0, say.
        padded = [np.concatenate([np.zeros((longest - len(end), end.shape[1]), end.dtype), end]) for end in ends]
        merged["replay"] = {
            **{name: np.concatenate([replay[name] for replay in replays]) for name in ("total", "age", "journaled")},
            "chunk_ends": np.concatenate(padded, axis=1),
            "tail": merge_chunks([replay["tail"] for replay in replays]),
        }
    return merged


def split(state: Tree, index: int, count: int) -> Tree:
    """The part of process `index` of `count` from the state of one collector of all environments.

    With as many processes as have written it, every process gets back what it gave to `merge`.

    Raises:
      ValueError: If the processes cannot share the environments equally.
    """
    n = len(state["tracker"]["running"])
    if n % count:
        raise ValueError(f"{n} environments cannot be shared equally by {count} processes")
    start, stop = n // count * index, n // count * (index + 1)
    special = ("env_steps", "tracker", "replay")
    part = {name: _cut(value, start, stop, n, name) for name, value in state.items() if name not in special}
    part["env_steps"] = state["env_steps"] // count
    tracker = state["tracker"]
    owner = np.asarray(tracker.get("window_of", np.zeros(len(tracker["window"]), int)))
    if tracker.get("processes", 1) != count:
        owner = np.arange(len(owner)) % count
    part["tracker"] = {
        "running": tracker["running"][start:stop],
        "window": tracker["window"][owner == index],
        "finished": tracker["finished"][start:stop],
        **{name: tracker[name] if index == 0 else 0 for name in ("count", "bad")},
    }
    if "replay" in state:
        replay = state["replay"]
        part["replay"] = {
            **{name: replay[name][start:stop] for name in ("total", "age", "journaled")},
            "chunk_ends": np.asarray(replay["chunk_ends"])[:, start:stop],
            "tail": split_chunk(replay["tail"], index, count),
        }
    return part


def merge_chunks(chunks: Sequence[Tree | None]) -> Tree | None:
    """One journal chunk of all environments from those of the processes; None if none of them has rows."""
    given = [chunk for chunk in chunks if chunk is not None]
    if not given:
        return None
    if len(given) < len(chunks):
        raise ValueError("some processes have new rows in their replay, and others have none")
    return {name: np.concatenate([chunk[name] for chunk in given]) for name in given[0]}


def split_chunk(chunk: Tree, index: int, count: int) -> Tree:
    """The rows of process `index` of `count` in a journal chunk of all environments."""
    n = len(chunk["start"])
    start, stop = n // count * index, n // count * (index + 1)
    ends = np.concatenate([[0], np.cumsum(chunk["count"])])
    rows = slice(ends[start], ends[stop])
    counters = {name: chunk[name][start:stop] for name in ("start", "count")}
    return {**counters, **{name: value[rows] for name, value in chunk.items() if name not in counters}}


def merge_envs(states: Sequence[Tree], num_envs: int) -> Tree:
    """The state of one engine from those of several with `num_envs` environments each."""
    return _join(list(states), [num_envs] * len(states), "env")


def cut_env(state: Tree, rows: slice, num_envs: int) -> Tree:
    """The state of an engine with the environments in `rows` only, from that of one with `num_envs` of them."""
    return _cut(state, rows.start, rows.stop, num_envs, "env")


def _merge_trackers(parts: Sequence[Tree]) -> Tree:
    owner = np.concatenate([np.full(len(part["window"]), i) for i, part in enumerate(parts)])
    age = np.concatenate([np.arange(len(part["window"]), 0, -1) for part in parts])
    order = np.argsort(-age, kind="stable")  # the newest of each process last, in turn
    return {
        "running": np.concatenate([part["running"] for part in parts]),
        "window": np.concatenate([part["window"] for part in parts])[order],
        "window_of": owner[order],
        "processes": len(parts),
        "finished": np.concatenate([part["finished"] for part in parts]),
        **{name: sum(part[name] for part in parts) for name in ("count", "bad")},
    }


def _join(values: list[Any], sizes: list[int], path: str) -> Any:
    first, name = values[0], path.rpartition(".")[2]
    if isinstance(first, dict):
        return {key: _join([value[key] for value in values], sizes, f"{path}.{key}") for key in first}
    if isinstance(first, list | tuple):
        return [_join(list(each), sizes, f"{path}.{i}") for i, each in enumerate(zip(*values, strict=True))]
    if name == "num_envs" and np.ndim(first) == 0:
        return sum(values)
    if name == "seed" and np.ndim(first) == 0:  # of the first environment
        return first
    if all(np.ndim(value) and len(value) == size for value, size in zip(values, sizes)):
        return np.concatenate(values)
    if any(np.ndim(value) or value != first for value in values):
        raise ValueError(f"{path} of the collector's state is neither one value per environment nor the same in all")
    return first


def _cut(value: Any, start: int, stop: int, n: int, path: str) -> Any:
    name = path.rpartition(".")[2]
    if isinstance(value, dict):
        return {key: _cut(inner, start, stop, n, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner, start, stop, n, f"{path}.{i}") for i, inner in enumerate(value)]
    if np.ndim(value) == 0:
        return stop - start if name == "num_envs" else value + start if name == "seed" else value
    if len(value) != n:
        raise ValueError(f"{path} of the collector's state has {len(value)} entries for {n} environments")
    return value[start:stop]
