"""Files of a trained policy: `.npz` for numpy, `.onnx`, `.stablehlo`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

import jsafe
from jsafe.components.limits import limit_of
from jsafe.curves.csv_table import write_whole
from jsafe.deploy.instructions import listing
from jsafe.deploy.program import Program, program
from jsafe.errors import unknown
from jsafe.options import to_json
from jsafe.runs import evaluation
from jsafe.runs.checkpoint import Which
from jsafe.runs.folder import RunError, read
from jsafe.types import EnvSpec, spec_to_json

FORMAT = 1
"""Of the descriptions."""
KEY = 0
"""Seed of the key that actions are computed with; deterministic ones do not look at it."""


def export(folder: str | os.PathLike, output: str | os.PathLike, checkpoint: Which = None) -> Path:
    """Writes the policy of a run's newest checkpoint to a file: its most likely actions, in the environment's units.

    Memory goes in and out: see `jsafe.deploy.program.Program` for the names of inputs and outputs. `jsafe.load` reads
    all three kinds of file and keeps the memory itself.

    Args:
      folder: The run folder.
      output: The file: `.npz` (read by `jsafe/deploy/policy_file.py`, which needs numpy alone), `.onnx` (any number of
        rows; needs the extra `export`), or `.stablehlo` (`jax.export`, for CPU, CUDA and TPU).
      checkpoint: `best`, or an iteration, in place of the newest checkpoint.

    Raises:
      ValueError: For another kind of file, or a policy that the kind has no words for.
      RunError: If there is no run, or the file cannot be written.
      CheckpointError: If there is no readable checkpoint.

    Example:
      >>> path = jsafe.deploy.export("runs/seditor", "policy.npz")
    """
    path = Path(output)
    check_output(path)
    learner, loaded = evaluation.restore(folder, checkpoint, imports=False)
    made = program(learner, learner.policy(loaded.state))
    about = describe(read(folder, imports=False), made, learner.spec, loaded.extra["env_steps"])
    try:
        data = WRITERS[path.suffix](made, about)
    except ValueError:
        raise
    except Exception as error:  # of JAX, of the converter
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise ValueError(f"this policy cannot be exported as {path.suffix}: {reason}") from error
    try:
        write_whole(path, data)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def check_output(path: Path) -> None:
    """Raises ValueError for a kind of file that there is not, or without a folder to put it in."""
    if path.suffix not in WRITERS:
        raise ValueError(unknown("kind of policy file", path.suffix or path.name, WRITERS))
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")


def describe(run: Any, made: Program, spec: EnvSpec, env_steps: int) -> dict[str, Any]:
    """What a policy is and where it comes from, in plain values."""
    limit = limit_of(run.options)
    return {
        "format": FORMAT,
        "jsafe": jsafe.__version__,
        "algorithm": run.algorithm,
        "env": run.config.env,
        "env_options": dict(run.config.env_options),
        "env_steps": int(env_steps),
        "seed": run.config.seed,
        "costs": run.config.costs,
        "cost_names": list(run.cost_names),
        "limit": None if limit is None else to_json(limit),
        "spec": spec_to_json(spec),
        "inputs": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in made.inputs],
        "outputs": list(made.outputs),
    }


def _shapes(made: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Of the inputs, for any number of rows."""
    (rows,) = jax.export.symbolic_shape("n")
    return {leaf.name: jax.ShapeDtypeStruct((rows, *leaf.shape), leaf.dtype) for leaf in made.inputs}


def npz(made: Program, about: dict[str, Any]) -> bytes:
    """The parameters and a program for numpy; see `jsafe.deploy.policy_file`."""
    listed = listing(lambda inputs: made.function(inputs, jax.random.key(KEY)), _shapes(made))
    return pack({**about, "numbers": listed.numbers, "program": listed.program}, listed.arrays)


def pack(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """An `.npz` file, the same bytes whenever it is made."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez stamps the time of day
        for name, array in {"about": np.asarray(json.dumps(about)), **arrays}.items():
            one = BytesIO()
            np.lib.format.write_array(one, np.asarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, one.getvalue(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def onnx(made: Program, about: dict[str, Any]) -> bytes:
    """An ONNX model, made by jax2onnx, with the description in its metadata under `jsafe`.

    Raises:
      ValueError: If jax2onnx is missing.
    """
    try:
        import jax2onnx
    except ImportError:
        raise ValueError("jax2onnx is not installed: pip install 'jsafe[export]', or export to .npz") from None
    names = [leaf.name for leaf in made.inputs]

    def function(*inputs):
        outputs = made.function(dict(zip(names, inputs, strict=True)), jax.random.key(KEY))
        return tuple(outputs[name] for name in made.outputs)

    # Traced here, and without what no output needs: jax2onnx has words for less, and replaces some functions of JAX.
    shapes = _shapes(made)
    traced = jax.make_jaxpr(function)(*(shapes[name] for name in names))
    needed, _ = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(made.outputs), instantiate=True)
    plain = core.jaxpr_as_fun(core.ClosedJaxpr(needed, traced.consts))
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of types that it does not need
    model: Any = jax2onnx.to_onnx(
        lambda *inputs: tuple(plain(*inputs)),
        inputs=[shapes[name] for name in names],
        model_name="jsafe",
        input_names=names,
        output_names=list(made.outputs),
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = "jsafe", json.dumps(about)
    return model.SerializeToString()


def stablehlo(made: Program, about: dict[str, Any]) -> bytes:
    """What `jax.export` serialises, for any number of rows; its argument is a dict of the inputs by name."""
    del about
    function = jax.jit(lambda inputs: made.function(inputs, jax.random.key(KEY)))
    with _nameless_sources():
        exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(_shapes(made))
    return bytes(exported.serialize())


@contextlib.contextmanager
def _nameless_sources() -> Iterator[None]:
    """Keeps the paths of this machine's source files, which debuggers would read, out of what is lowered."""
    name = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, name)
    jax.config.update(name, ".*")
    try:
        yield
    finally:
        jax.config.update(name, before)


WRITERS: dict[str, Callable[[Program, dict[str, Any]], bytes]] = {".npz": npz, ".onnx": onnx, ".stablehlo": stablehlo}
"""Kinds of file."""
