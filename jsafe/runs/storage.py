"""How trees are stored: plain values as JSON, their arrays beside it in numpy's format, both sealed by checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BROKEN = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file may raise."""


def described(state: Any) -> tuple[dict[str, tuple[tuple[int, ...], str]], Any]:
    """Shape and dtype of every leaf by its path, and the tree."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    described = {jax.tree_util.keystr(path): (tuple(np.shape(leaf)), _dtype(leaf)) for path, leaf in leaves}
    return described, structure


def _dtype(leaf: Any) -> str:
    return str(leaf.dtype) if hasattr(leaf, "dtype") else str(np.asarray(leaf).dtype)


def encode_state(state: Any, arrays: list[np.ndarray]) -> list[dict[str, Any]]:
    """JSON form of a learner's state, leaf by leaf, with its arrays put into `arrays`."""
    shapes, _ = described(state)
    leaves = jax.device_get([_plain_key(leaf) for leaf in jax.tree.leaves(state)])
    entries = []
    for (path, (shape, dtype)), leaf, original in zip(shapes.items(), leaves, jax.tree.leaves(state)):
        kind = "jax" if isinstance(original, jax.Array) else "scalar" if np.ndim(leaf) == 0 else "array"
        value = {"$": kind, **_store(np.asarray(leaf), arrays)}
        if _is_key(original):
            value = {"$": "key", "impl": str(jax.random.key_impl(original)), **_store(np.asarray(leaf), arrays)}
        entries.append({"path": path, "shape": list(shape), "dtype": dtype, "value": value})
    return entries


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain_key(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _store(array: np.ndarray, arrays: list[np.ndarray]) -> dict[str, Any]:
    """Puts an array into the file; types that numpy's format lacks (bfloat16 ...) travel as raw bytes."""
    if array.dtype.hasobject:
        raise TypeError("an array of Python objects cannot be stored in a checkpoint")
    entry = {"i": len(arrays), "dtype": str(array.dtype), "shape": list(array.shape)}
    if array.dtype.kind == "V" and array.dtype.names is None:
        array = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    arrays.append(array)
    return entry


def encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON form of nested dicts, lists, tuples and plain values, with arrays put into `arrays`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        return {"$": "dict", "items": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    if type(value) in (list, tuple):
        items = [encode(item, arrays) for item in value]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if _is_key(value):
        data = np.asarray(jax.random.key_data(value))
        return {"$": "key", "impl": str(jax.random.key_impl(value)), **_store(data, arrays)}
    if isinstance(value, np.ndarray):
        return {"$": "array", **_store(value, arrays)}
    if isinstance(value, (np.generic, jax.Array)):
        return {"$": "scalar" if isinstance(value, np.generic) else "jax", **_store(np.asarray(value), arrays)}
    raise TypeError(f"a checkpoint holds arrays, plain values, dicts, lists and tuples, got {type(value).__name__}")


def decode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What `encode` was given, from its JSON form and the arrays of the file."""
    if isinstance(tree, list):
        return [decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["$"]
    if kind == "dict":
        return {decode(key, arrays): decode(item, arrays) for key, item in tree["items"]}
    if kind == "tuple":
        return tuple(decode(item, arrays) for item in tree["items"])
    array = arrays[f"arr_{tree['i']}"]
    if str(array.dtype) != tree["dtype"]:
        array = np.frombuffer(array.tobytes(), jnp.dtype(tree["dtype"])).reshape(tree["shape"]).copy()
    if kind == "array":
        return array
    if kind == "scalar":
        return array[()]
    # A copy, since a device array may share the memory of a numpy array, and the state will be donated.
    device = jnp.array(array, copy=True)
    return jax.random.wrap_key_data(device, impl=tree["impl"]) if kind == "key" else device


def load_npz(path: Path, expected: str) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      ValueError: If its checksum is not the `expected` one.
    """
    data = path.read_bytes()
    if checksum(data) != expected:
        raise ValueError(f"{path.name} is damaged, or of another run: its checksum is not the manifest's")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def checksum(data: bytes | memoryview) -> str:
    """A short hash that no damage leaves as it is."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def sealed(description: dict[str, Any]) -> bytes:
    """JSON with a checksum of the rest as its last entry."""
    body = {name: value for name, value in description.items() if name != "checksum"}
    plain = json.loads(json.dumps(body))
    return (json.dumps({**plain, "checksum": checksum(_canonical(plain))}, indent=1) + "\n").encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """The description that `sealed` wrote.

    Raises:
      ValueError: If it was changed since.
    """
    description = json.loads(data)
    if not isinstance(description, dict):
        raise ValueError("not a table")
    body = {name: value for name, value in description.items() if name != "checksum"}
    if description.get("checksum") != checksum(_canonical(body)):
        raise ValueError("it was damaged or changed since it was written: its checksum does not fit")
    return body


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def npz(arrays: list[np.ndarray], **named: np.ndarray) -> memoryview:
    """A file of arrays: those of a list as `arr_0`, `arr_1` ..."""
    buffer = io.BytesIO()  # not straight into the file: a zip writer that meets a full disk leaves a mess of errors
    np.savez(buffer, *arrays, **named)  # type: ignore[arg-type]
    return buffer.getbuffer()


def write_through(path: Path, data: bytes | memoryview) -> None:
    """Writes a file, down to the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Makes a rename in `path` survive a power cut; a no-op where folders cannot be opened (Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: str | os.PathLike) -> int:
    """Free bytes on the disk that holds `folder`, which need not exist yet."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def tree_bytes(tree: Any) -> int:
    """Bytes that the arrays of a tree take in a file."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if isinstance(leaf, (np.ndarray, jax.Array)))
