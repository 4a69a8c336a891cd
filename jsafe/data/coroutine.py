"""What collectors and evaluation share: calling a policy with its memory, and what actions are to an environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.data.api import BadValueError
from jsafe.types import ActFn, CMDPTransform, EnvSpec, Key, Learner, Obs, TransformStep, env_spec

IDENTITY = CMDPTransform(
    extra_obs=0,
    init=lambda params, n: np.zeros((n, 0), np.float32),
    augment=lambda obs, z: obs,
    step=lambda params, z, reward, cost, terminated, truncated: TransformStep(z, z, reward, terminated),
)
"""The transform that changes nothing."""


@functools.partial(jax.jit, static_argnums=(0, 1, 8, 9))
def act(
    function: ActFn,
    reset: Callable[[Any, Any], Any],
    policy_state: Any,
    memory: Any,
    started: np.ndarray,
    obs: Obs,
    key: Key,
    step: int,
    deterministic: bool,
    tell: bool = False,
) -> tuple[jax.Array, Any, Any]:
    """Actions, log-probabilities `[N]` and the next memory in one compiled call, compiled once per policy function.

    The memory is reset and the key of a step made inside, and what else the policy returns is never computed, because
    each call to the device costs more than the arithmetic.

    Args:
      function: `Learner.act`.
      reset: `Learner.memory.reset`.
      policy_state: What `Learner.policy` returned.
      memory: What the last call returned, or `Learner.memory.init(N)`.
      started: `[N]` booleans: where an episode starts with this observation.
      obs: `[N, ...]`.
      key: Key of the whole iteration.
      step: Number of the step in the iteration (a numpy integer, so that it is traced).
      deterministic: Take the most likely action.
      tell: Return the policy's extras in the place of the log-probabilities, for those who want to see them.
    """
    out = function(policy_state, reset(memory, started), obs, jax.random.fold_in(key, step), deterministic)
    return out.action, out.extras if tell else out.log_prob, after(out.action, out.memory)


def after(action: jax.Array, memory: Any) -> Any:
    """The memory as it is, but computed after the action.

    XLA's runtime on the CPU hands outputs that do not depend on each other to several threads, which for the small
    programs of a policy takes longer than all their arithmetic. A condition that is always true, which the compiler
    cannot know, makes them depend.
    """
    if not jax.tree.leaves(memory):
        return memory
    first = action.reshape(-1)[0]
    if jnp.issubdtype(first.dtype, jnp.floating):
        first = jax.lax.bitcast_convert_type(first.astype(jnp.float32), jnp.int32)
    always = (first | 1) != 0
    return jax.tree.map(lambda x: jnp.where(always, x, ~x if x.dtype == bool else x + 1), memory)


class Act(NamedTuple):
    """Asks for what `act` returns, in step `step` of the iteration."""

    obs: Obs
    memory: Any
    started: np.ndarray
    step: int


class Advance(NamedTuple):
    """Asks for the result of one step with these actions, `[N, ...]` in the environment's units."""

    actions: np.ndarray


class Restart(NamedTuple):
    """Asks for the observations after a reset of the environments in `mask [N]`; of all if it is None."""

    mask: np.ndarray | None = None


def serve(work: Generator[Any, Any, Any], env: Any, act: Callable[[Act], Any]) -> Any:
    """Does what a generator asks for (`Act`, `Advance`, `Restart`) until it returns; returns what it returned."""
    try:
        request = next(work)
        while True:
            if isinstance(request, Act):
                answer = act(request)
            elif isinstance(request, Advance):
                answer = env.step(request.actions)
            else:
                answer = env.reset() if request.mask is None else env.reset(mask=request.mask)
            request = work.send(answer)
    except StopIteration as done:
        return done.value


def numpy_rng(key: Key) -> np.random.Generator:
    """A numpy generator that depends on nothing but `key`."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())


class Actions:
    """What a policy's actions are to an environment.

    Continuous ones, `[-1, 1]^A`, are mapped affinely to the environment's box (in float64); choices stay as they are.

    Args:
      env: Batched environment.

    Raises:
      ValueError: If actions are structured, or a box has no bounds.
    """

    def __init__(self, env: Any):
        space = env_spec(env).action
        if isinstance(space, spaces.Tree):
            raise ValueError(f"actions must be a Box or a Discrete, got {space}")
        self.space = space
        self._num_envs = env.num_envs
        self._box = isinstance(self.space, spaces.Box)
        self.shape = (self.space.width,) if self._box else self.space.shape
        """Of one action, as the policy gives it."""
        self.dtype = np.dtype(np.float32 if self._box else np.int32)
        """Of stored actions."""
        if isinstance(self.space, spaces.Box):
            low, high = spaces.bounds(self.space)
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ValueError(f"the bounds of actions must be finite, got {low.tolist()} and {high.tolist()}")
            self._middle, self._half = (low + high) / 2, (high - low) / 2

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """`[N, ...]` in the environment's units (not clipped)."""
        if not self._box:
            return action
        scaled = self._middle + self._half * action
        return scaled if len(self.space.shape) == 1 else scaled.reshape(len(action), *self.space.shape)

    def clipped(self, action: Any) -> np.ndarray:
        """As numpy, within `[-1, 1]`: Gaussian policies leave it."""
        return np.asarray(action).clip(-1, 1) if self._box else np.asarray(action)

    def random(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform ones, `[N, ...]`."""
        if self._box:
            return rng.uniform(-1, 1, (self._num_envs, *self.shape))
        return spaces.sample(self.space, rng, (self._num_envs,))


def check_actions(action: np.ndarray, lengths: np.ndarray) -> None:
    """Raises BadValueError where a policy's actions `[N, ...]` are not finite; `lengths [N]`: steps of the episodes."""
    if action.dtype.kind != "f" or (good := np.isfinite(action)).all():
        return
    at = tuple(np.argwhere(~good)[0])
    env = int(at[0])
    raise BadValueError("action", env, int(lengths[env]) + 1, float(action[at]), "the policy has diverged")


def received(obs: Obs) -> Obs:
    """Observations as a learner gets them: floats in float32, whole numbers as they are."""
    if isinstance(obs, np.ndarray):
        return obs.astype(np.float32, copy=False) if obs.dtype.kind == "f" else obs
    return jax.tree.map(received, obs)


def received_dtype(leaf: spaces.Box | spaces.Discrete) -> np.dtype:
    """The type in which `received` hands over a leaf of a space."""
    return np.dtype(np.float32 if leaf.dtype.startswith("float") else leaf.dtype)


def has_memory(learner: Learner) -> bool:
    """Whether the policy carries anything from step to step."""
    return bool(jax.tree.leaves(jax.eval_shape(lambda: learner.memory.init(1))))


def transform_params(policy_state: Any) -> Any:
    """The parameters of the feed's `CMDPTransform` as numpy arrays; `()` if there is none."""
    return jax.device_get(getattr(policy_state, "transform", ()))


def check_spec(env: Any, spec: EnvSpec, num_envs: int | None = None) -> None:
    """Raises ValueError if a learner built for `spec` (and `num_envs` environments) does not fit `env`."""
    have = env_spec(env)
    for what, here, wanted in (("observations", have.obs, spec.obs), ("actions", have.action, spec.action)):
        line = spaces.difference(here, wanted)
        if line:
            raise ValueError(f"the space of {what} of environment {env.spec.id!r} does not fit the learner: {line}")
    if have.num_costs != spec.num_costs:
        raise ValueError(
            f"num_costs of environment {env.spec.id!r} is {have.num_costs}, but the learner was built for "
            f"{spec.num_costs}"
        )
    if num_envs is not None and env.num_envs != num_envs:
        raise ValueError(f"env.num_envs is {env.num_envs}, but the learner's feed asks for num_envs={num_envs}")
