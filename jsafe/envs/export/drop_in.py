"""A `safety_gymnasium` on this engine, for training code that imports the official package: importing this installs it.

    import jsafe.envs.export.drop_in           # before OmniSafe, SafePO, FSRL ... are imported
    python -m jsafe.envs.export.drop_in train.py --their-options   # or without a line of code

From there on `import safety_gymnasium` gives `make`, `vector.make`, the vector environments and the wrappers of that
package (1.0.0) with the same ids, seeds, spaces and six results. A batch is stepped by one engine, however it is asked
for. What is not there: tasks and agents of one's own from its base classes (see `jsafe.envs.register`), the multi-agent
tasks, and pictures with `render_mode="human"`.
"""

from __future__ import annotations

import importlib.machinery
import runpy
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from jsafe.envs.export import wrappers
from jsafe.envs.export.as_gymnasium import as_gymnasium
from jsafe.envs.export.gymnasium_classes import Single, Vector
from jsafe.envs.registry import list_ids
from jsafe.errors import closest

NAME = "safety_gymnasium"
VERSION = "1.0.0"
"""Of the package that it stands in for."""


def make(
    id: str,
    max_episode_steps: int | None = None,
    autoreset: bool | None = None,
    disable_env_checker: bool | None = None,
    render_mode: str | None = None,
    **options: Any,
) -> Any:
    """One environment with six results.

    Args:
      id: For instance `SafetyPointGoal1-v0`.
      max_episode_steps: Truncates episodes earlier than the task does.
      autoreset: Start the next episode in the step in which one ends.
      disable_env_checker: Nothing is checked anyway.
      render_mode: None or `rgb_array`.
      **options: For `jsafe.envs.make`; an empty `config` is accepted.

    Raises:
      ValueError: If the id or an option is unknown.
    """
    del disable_env_checker
    env: Any = as_gymnasium(_known(id), safety=True, render_mode=render_mode, **_ours(options))
    if max_episode_steps is not None:
        env = wrappers.SafeTimeLimit(env, max_episode_steps)
    return wrappers.SafeAutoResetWrapper(env) if autoreset else env


def vector_make(
    env_id: str,
    num_envs: int = 1,
    asynchronous: bool = True,
    wrappers: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
    disable_env_checker: bool | None = None,
    **options: Any,
) -> Any:
    """A batch of environments with six results; new episodes start in the step in which others end.

    Args:
      env_id: For instance `SafetyPointGoal1-v0`.
      num_envs: N.
      asynchronous: Without effect: one engine steps all, on several threads.
      wrappers: Around each environment.
      disable_env_checker: Nothing is checked anyway.
      **options: As for `make`.
    """
    del asynchronous, disable_env_checker
    if not wrappers:
        return as_gymnasium(_known(env_id), safety=True, num_envs=num_envs, **_ours(options))
    around = [wrappers] if callable(wrappers) else list(wrappers)

    def one() -> Any:
        env = make(env_id, **options)
        for wrap in around:
            env = wrap(env)
        return env

    return together([one] * num_envs)


def together(env_fns: Sequence[Callable[[], Any]], **_: Any) -> Any:
    """The environments that functions make, as a batch: of one engine where they are ours and alike.

    Args:
      env_fns: One for each environment. Wrapped by at most `SafeRescaleAction`, alike; anything else is an error.

    Raises:
      ValueError: If they differ, or are wrapped by something else.
    """
    made = [make_one() for make_one in env_fns]
    rescale, bare = [], []
    for env in made:
        chain = []
        while isinstance(env, wrappers.SafeRescaleAction):
            chain.append(env)
            env = env.env
        rescale.append(chain)
        bare.append(env)
    if not all(isinstance(env, Single) for env in bare):
        kinds = sorted({type(env).__name__ for env in bare})
        raise ValueError(f"a batch can be made of plain environments and SafeRescaleAction, got {', '.join(kinds)}")
    recipes = [env.recipe for env in bare]
    if any(recipe != recipes[0] for recipe in recipes):
        raise ValueError(f"the environments of a batch must be alike, got {recipes[0]} and others")
    ends = [[(each.min_action.tolist(), each.max_action.tolist()) for each in chain] for chain in rescale]
    if any(end != ends[0] for end in ends):
        raise ValueError("the environments of a batch must rescale their actions alike")
    arguments: list[Any] = [*recipes[0], len(made), "same_step"]
    batch = Vector(*arguments)
    for env in made[1:]:
        env.close()
    return _Rescaled(batch, rescale[0]) if rescale[0] else batch


class _Rescaled:
    """A batch that takes rescaled actions; everything else is the batch's."""

    def __init__(self, batch: Vector, chain: Sequence[wrappers.SafeRescaleAction]):
        self._batch, self._chain = batch, chain
        self.single_action_space = chain[0].action_space
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, batch.num_envs)

    def step(self, actions: Any) -> Any:
        """Six batched things."""
        for each in self._chain:
            actions = each.rescale(actions)
        return self._batch.step(actions)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._batch, name)


def _known(id: str) -> str:
    if id not in list_ids():
        raise ValueError(f"unknown environment {id!r}{closest(id, list_ids())}")
    return id


def _ours(options: dict[str, Any]) -> dict[str, Any]:
    """What `jsafe.envs.make` takes of the official constructor's options."""
    options = dict(options)
    if config := options.pop("config", None):
        raise ValueError(f"config changes the task, which this engine does not take from there: {sorted(config)}")
    for name in ("camera_name", "camera_id", "width", "height", "apply_api_compatibility"):
        options.pop(name, None)  # of pictures, and of other interfaces
    return options


def modules() -> dict[str, types.ModuleType]:
    """The modules that stand in, by name."""
    names = {name: value for name, value in vars(wrappers).items() if name.startswith(("Saf", "Gymnasium2"))}
    vectors = {"SafetyAsyncVectorEnv": together, "SafetySyncVectorEnv": together, "VectorEnv": Vector}
    content: dict[str, dict[str, Any]] = {
        f"{NAME}.wrappers": names,
        f"{NAME}.vector": {"make": vector_make, "SafetyVectorEnv": Vector, **vectors},
        f"{NAME}.vector.async_vector_env": vectors,
        f"{NAME}.vector.sync_vector_env": vectors,
        f"{NAME}.utils": {},
        f"{NAME}.utils.registration": {"make": make, "registry": dict.fromkeys(list_ids())},
    }
    top = {"make": make, "registry": dict.fromkeys(list_ids()), "__version__": VERSION, "__path__": []}
    made = {name: types.ModuleType(name, __doc__) for name in (NAME, *content)}
    for name, module in made.items():
        vars(module).update(content.get(name, top))
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(made[parent], last, module)
            module.__path__ = []
    return made


def install() -> None:
    """Puts the modules where `import safety_gymnasium` finds them, and `SafetyPointGoal1Gymnasium-v0` and the like
    where `gymnasium.make` does; twice is harmless.

    Raises:
      RuntimeError: If the official package is imported already.
    """
    present = sys.modules.get(NAME)
    if present is not None and getattr(present, "__doc__", None) != __doc__:
        raise RuntimeError("safety_gymnasium is imported already: import jsafe.envs.export.drop_in before it")
    if present is None:
        sys.modules.update(modules())
    for id in list_ids():
        stem, dash, version = id.rpartition("-")
        if id.startswith("Safety") and f"{stem}Gymnasium{dash}{version}" not in gymnasium.registry:
            entry = "jsafe.envs.export.as_gymnasium:as_gymnasium"
            gymnasium.register(f"{stem}Gymnasium{dash}{version}", entry_point=entry, kwargs={"id": id})


install()

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m jsafe.envs.export.drop_in SCRIPT [arguments]")
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
