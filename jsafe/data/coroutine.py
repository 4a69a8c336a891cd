"""What collectors and evaluation share: calling a policy, its action box, stacked frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.types import CMDPTransform, EnvSpec, Key, TransformStep

IDENTITY = CMDPTransform(
    extra_obs=0,
    init=lambda params, n: np.zeros((n, 0), np.float32),
    augment=lambda obs, z: obs,
    step=lambda params, z, reward, cost, terminated, truncated: TransformStep(z, z, reward, terminated),
)
"""The transform that changes nothing."""


@functools.partial(jax.jit, static_argnums=(0, 5))
def act(
    function: Callable, policy_state: Any, obs: np.ndarray, key: Key, step: int, deterministic: bool
) -> tuple[jax.Array, jax.Array]:
    """Actions `[N, A]` and log-probabilities `[N]` in one compiled call, compiled once per policy function.

    The key of a step is made inside, and what else the policy returns is never computed, because each call to the
    device costs more than the arithmetic.

    Args:
      function: `Learner.act`.
      policy_state: What `Learner.policy` returned.
      obs: `[N, O]`.
      key: Key of the whole iteration.
      step: Number of the step in the iteration (a numpy integer, so that it is traced).
      deterministic: Take the most likely action.
    """
    out = function(policy_state, obs, jax.random.fold_in(key, step), deterministic)
    return out.action, out.log_prob


class Act(NamedTuple):
    """Asks for `(actions [N, A], log-probabilities [N])` of observations `[N, O]` in step `step` of the iteration."""

    obs: np.ndarray
    step: int


class Advance(NamedTuple):
    """Asks for the result of one step with these actions, `[N, A]` in the environment's units."""

    actions: np.ndarray


class Restart(NamedTuple):
    """Asks for the observations after a reset of the environments in `mask [N]`; of all if it is None."""

    mask: np.ndarray | None = None


def serve(work: Generator, env: Any, act: Callable[[Act], Any]) -> Any:
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


class ActionBox:
    """The affine map from the policy's `[-1, 1]^A` to an environment's box (float64; not clipped)."""

    def __init__(self, spec: Any):
        low, high = np.array(spec.action_low, np.float64), np.array(spec.action_high, np.float64)
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    def __call__(self, action: np.ndarray) -> np.ndarray:
        return self._middle + self._half * action


class FrameStack:
    """The last S observations of N environments, oldest first; an episode starts with S copies of its first one.

    Args:
      obs: First observations `[N, O]`.
      frames: Number of frames S.
    """

    def __init__(self, obs: np.ndarray, frames: int):
        self._frames = np.repeat(np.asarray(obs, np.float32)[:, None], frames, axis=1)

    @classmethod
    def restore(cls, frames: np.ndarray) -> FrameStack:
        """The stack whose `frames` were saved."""
        stack = cls(frames[:, -1], 1)
        stack._frames = np.array(frames, np.float32)
        return stack

    @property
    def newest(self) -> np.ndarray:
        """`[N, O]` float32; a view that later calls leave as it is."""
        return self._frames[:, -1]

    @property
    def stacked(self) -> np.ndarray:
        """`[N, S * O]` float32; a view that later calls leave as it is (a device may still be reading it)."""
        return self._frames.reshape(len(self._frames), -1)

    @property
    def frames(self) -> np.ndarray:
        """`[N, S, O]` float32; a view that later calls leave as it is."""
        return self._frames

    def push(self, obs: np.ndarray, ended: np.ndarray) -> None:
        """Adds observations `[N, O]`; where `ended [N]`, they are the first ones of a new episode."""
        obs = obs.astype(np.float32)
        if self._frames.shape[1] == 1:
            self._frames = obs[:, None]
            return
        self._frames = np.concatenate([self._frames[:, 1:], obs[:, None]], axis=1)
        if ended.any():
            self._frames[ended] = obs[ended, None]


def transform_params(policy_state: Any) -> Any:
    """The parameters of the learner's `CMDPTransform` as numpy arrays; None if it has none."""
    return jax.device_get(getattr(policy_state, "transform", None))


def check_spec(env: Any, spec: EnvSpec, num_envs: int | None = None) -> None:
    """Raises ValueError if a learner built for `spec` (and `num_envs` environments) does not fit `env`."""
    for name in ("obs_dim", "act_dim", "num_costs"):
        have, want = getattr(env.spec, name), getattr(spec, name)
        if have != want:
            raise ValueError(f"{name} of environment {env.spec.id!r} is {have}, but the learner was built for {want}")
    if num_envs is not None and env.num_envs != num_envs:
        raise ValueError(f"env.num_envs is {env.num_envs}, but the learner's data asks for num_envs={num_envs}")
