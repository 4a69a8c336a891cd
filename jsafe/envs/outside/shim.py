"""Runs safety-gymnasium 1.0.0 on Python, MuJoCo, numpy and Gymnasium versions that it does not import on.

The package pins Python < 3.11, mujoco 2.3.3, gymnasium 0.28.1 and pygame 2.1.0. Where it is installed without its
dependencies (`pip install --no-deps safety-gymnasium==1.0.0 xmltodict`, beside mujoco, gymnasium, imageio and pyyaml),
`load` imports it with these changes, none of which touches its tasks:

- dataclass fields whose default is a numpy array (an error since Python 3.11) get a default factory;
- modules that need a removed part of Gymnasium, a window or another package, and that a task never calls, are left
  empty: wrappers, vector environments, keyboard viewer, multi-agent tasks; `glfw` where it is missing;
- its registry is a dictionary: id -> entry point, arguments, step limit. The step limit is kept by the caller;
- `MjModel.joint` and `jnt` accept an array of one index again (a TypeError in MuJoCo 3), and `float` in the agents'
  module accepts an array of one number (a TypeError in numpy 2.4).

This file is read by worker processes of other interpreters too: numpy and the standard library only.
"""

import contextlib
import dataclasses
import importlib
import inspect
import sys
import types

import numpy as np

_EMPTY = {
    "safety_gymnasium.wrappers": (),
    "safety_gymnasium.vector": (),
    "safety_gymnasium.utils.registration": ("make", "register"),
    "safety_gymnasium.utils.keyboard_viewer": ("KeyboardViewer",),
    "safety_gymnasium.tasks.safe_multi_agent.safe_mujoco_multi": ("make_ma",),
}


@dataclasses.dataclass
class Entry:
    """How the package makes one of its environments."""

    entry_point: str
    kwargs: dict
    max_episode_steps: int


REGISTRY: dict = {}
"""Entries by id, once `load` was called."""


def _register(id, entry_point=None, kwargs=None, max_episode_steps=None, **_):
    REGISTRY[id] = Entry(entry_point, dict(kwargs or {}), max_episode_steps)


def _module(name, attributes):
    module = types.ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, None)
    if "register" in attributes:
        vars(module)["register"] = _register
    return module


@contextlib.contextmanager
def _array_defaults():
    """Makes `dataclasses.dataclass` accept arrays as defaults."""
    original = dataclasses.dataclass

    def dataclass(cls=None, /, **options):
        def wrap(cls):
            for name in inspect.get_annotations(cls):
                value = cls.__dict__.get(name)
                if isinstance(value, np.ndarray):
                    setattr(cls, name, dataclasses.field(default_factory=value.copy))
            return original(cls, **options)

        return wrap if cls is None else wrap(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _patch_mujoco():
    import mujoco

    for name in ("joint", "jnt"):
        original = getattr(mujoco.MjModel, name)
        if not getattr(original, "takes_arrays", False):
            setattr(mujoco.MjModel, name, _taking_arrays(original))


def _taking_arrays(original):
    def joint(self, *key):
        return original(self, *(int(k[0]) if isinstance(k, np.ndarray) and k.size == 1 else k for k in key))

    vars(joint)["takes_arrays"] = True
    return joint


def _scalar(value=0.0):
    return float(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value)


def load():
    """Imports the package and returns its registry `{id: Entry}`; ImportError if it, or what it needs, is missing."""
    if REGISTRY:
        return REGISTRY
    for name, attributes in _EMPTY.items():
        sys.modules.setdefault(name, _module(name, attributes))
    try:
        import glfw  # noqa: F401
    except ImportError:
        sys.modules["glfw"] = types.ModuleType("glfw")
    with _array_defaults():
        importlib.import_module("safety_gymnasium.builder")
    _patch_mujoco()
    vars(importlib.import_module("safety_gymnasium.bases.base_agent"))["float"] = _scalar
    return REGISTRY


def make(id, **kwargs):
    """Makes an environment of the package: (environment with its 6-tuple step, step limit).

    Raises:
      ValueError: If the package has no such environment.
    """
    entries = load()
    if id not in entries:
        raise ValueError(f"safety_gymnasium has no environment {id!r}")
    entry = entries[id]
    module, _, name = entry.entry_point.partition(":")
    factory = getattr(importlib.import_module(module), name)
    return factory(**{**entry.kwargs, **kwargs}), entry.max_episode_steps
