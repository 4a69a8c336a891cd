"""`jsafe.load`: a policy that acts, from a run folder or from any of its files."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np

from jsafe.deploy import policy_file, writing
from jsafe.deploy.policy_file import Policy
from jsafe.deploy.program import program
from jsafe.errors import unknown
from jsafe.runs import evaluation
from jsafe.runs.checkpoint import Which
from jsafe.runs.folder import read


def load(where: str | os.PathLike, deterministic: bool = True, seed: int = 0, checkpoint: Which = None) -> Policy:
    """A trained policy: `policy(obs)` is its action, in the environment's units and within its bounds.

    Stacked frames, recurrent states and safety budgets are kept inside; `policy.reset()` starts an episode. The
    environment is not needed: a run says what its observations and actions are.

    Args:
      where: A run folder (its newest checkpoint), a file of `jsafe export` (`.npz`, `.onnx`, `.stablehlo`), or
        `zoo:NAME`, a policy that comes with the library (`jsafe.deploy.zoo.names()`).
      deterministic: Take the most likely action rather than a sample; files know nothing else.
      seed: Of samples.
      checkpoint: Of a run folder, `best` or an iteration in place of the newest.

    Returns:
      A `Policy`; `policy.about` says where it comes from. Observations may come one by one or as a batch.

    Raises:
      RunError: If there is no run.
      CheckpointError: If there is no readable checkpoint.
      ValueError: If a file is no policy, of an unknown kind, or asked for samples.

    Example:
      >>> policy = jsafe.load("runs/seditor")
      >>> action = policy(obs[0])
      >>> policy.reset()
    """
    if str(where).startswith("zoo:"):
        from jsafe.deploy import zoo

        where = zoo.path(str(where).removeprefix("zoo:"))
    path = Path(where)
    if path.suffix not in _READERS and path.is_file():
        raise ValueError(unknown("kind of policy file", path.suffix or path.name, _READERS))
    if not is_file(path):
        return _from_run(path, deterministic, seed, checkpoint)
    if checkpoint is not None:
        raise ValueError(f"checkpoint={checkpoint!r} is for a run folder; {path} holds one policy")
    if not deterministic:
        raise ValueError(f"{path} knows the most likely actions only; samples need the run folder")
    try:
        return _READERS[path.suffix](path)
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a policy of `jsafe export`: {error}") from error


def is_file(where: str | os.PathLike) -> bool:
    """Whether `load` takes it for a policy file, or one of the zoo, rather than for a run folder."""
    return str(where).startswith("zoo:") or (Path(where).suffix in _READERS and not Path(where).is_dir())


def _from_run(folder: Path, deterministic: bool, seed: int, checkpoint: Which) -> Policy:
    learner, loaded = evaluation.restore(folder, checkpoint, imports=False)
    made = program(learner, learner.policy(loaded.state), deterministic)
    function, root, calls = jax.jit(made.function), jax.random.key(seed), itertools.count()

    def run(inputs):
        outputs = function(inputs, jax.random.fold_in(root, np.uint32(0 if deterministic else next(calls))))
        return {name: np.asarray(value) for name, value in outputs.items()}

    return Policy(writing.describe(read(folder, imports=False), made, learner.spec, loaded.extra["env_steps"]), run)


def _from_onnx(path: Path) -> Policy:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("onnxruntime is not installed: pip install 'jsafe[export]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["jsafe"])
    return Policy(about, lambda inputs: dict(zip(about["outputs"], session.run(about["outputs"], inputs), strict=True)))


def _from_stablehlo(path: Path) -> Policy:
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    ((shapes,), _) = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    order = sorted(shapes, key=lambda name: (not name.startswith("obs"), name))
    inputs = [[name, list(shapes[name].shape[1:]), str(shapes[name].dtype)] for name in order]

    def run(inputs):
        return {name: np.asarray(value) for name, value in exported.call(inputs).items()}

    return Policy({"inputs": inputs}, run)


_READERS = {".npz": policy_file.load, ".onnx": _from_onnx, ".stablehlo": _from_stablehlo}
