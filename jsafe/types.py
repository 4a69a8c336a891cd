"""Shared types: the seams between the rooms of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax

from jsafe import spaces
from jsafe.spaces import Space

Array = jax.Array
Key = jax.Array
Params = Any
Metrics = dict[str, jax.Array]
AnyArray = Any
"""A numpy array on the host, a jax array in the program."""
Obs = Any
"""Arrays with leading batch axes, one for each leaf of the observation space (a single array for a `Box`)."""


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What a learner has to know of an environment. `EnvSpec(60, 2)`: 60 numbers in, 2 out.

    Args:
      obs: Space of one observation (before frame stacking), or the width of a flat one.
      action: Space of one action, or the number of components of a continuous one. Continuous policies act in
        `[-1, 1]^A`, whatever the bounds; collectors map that to the environment's box.
      num_costs: Number of separate cost signals M.
      horizon: Longest episode, in environment steps.
      layout: `(name, start, stop)` of each named part of a flat observation; empty where nothing is known.
      action_repeat: Steps of the simulation in one environment step, at most.
      start: The first observation of every episode, where it is always the same; else empty.
      safe: `(component, lowest, highest)` of the components of a flat observation that decide whether a state is safe,
        where they do; else empty.

    Raises:
      ValueError: If a field is not a space or a positive integer.
    """

    obs: Space
    action: Space
    num_costs: int
    horizon: int
    layout: tuple[tuple[str, int, int], ...]
    action_repeat: int
    start: tuple[float, ...]
    safe: tuple[tuple[int, float, float], ...]

    def __init__(
        self,
        obs: Space | int,
        action: Space | int,
        num_costs: int = 1,
        horizon: int = 1000,
        layout: Sequence[tuple[str, int, int]] = (),
        action_repeat: int = 1,
        start: Sequence[float] = (),
        safe: Sequence[tuple[int, float, float]] = (),
    ):
        for name, given in (("obs", obs), ("action", action)):
            try:
                object.__setattr__(self, name, spaces.space(given))
            except ValueError as error:
                raise ValueError(f"EnvSpec.{name}: {error}") from None
        for name, value in (("num_costs", num_costs), ("horizon", horizon), ("action_repeat", action_repeat)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"EnvSpec.{name} must be an integer of at least 1, got {value!r}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "layout", tuple((name, int(first), int(stop)) for name, first, stop in layout))
        object.__setattr__(self, "start", tuple(map(float, start)))
        object.__setattr__(self, "safe", tuple((int(i), float(low), float(high)) for i, low, high in safe))

    @property
    def obs_dim(self) -> int:
        """Width of a flat observation.

        Raises:
          ValueError: If observations are not flat vectors: those need an encoder.
        """
        if not (isinstance(self.obs, spaces.Box) and self.obs.flat):
            raise ValueError(f"observations are {self.obs}, not a flat vector: give the learner an encoder")
        return self.obs.width

    @property
    def act_dim(self) -> int:
        """Number of components of a continuous action.

        Raises:
          ValueError: If actions are choices.
        """
        if not isinstance(self.action, spaces.Box):
            raise ValueError(f"actions are {self.action}, not continuous")
        return self.action.width

    @property
    def action_width(self) -> int:
        """Width of an action as critics take it: its components, or the columns of one-hot choices.

        Raises:
          ValueError: If actions are structured.
        """
        if isinstance(self.action, spaces.Tree):
            raise ValueError(f"actions must be a Box or a Discrete, got {self.action}")
        return self.action.width


_PLAIN = ("num_costs", "horizon", "layout", "action_repeat", "start", "safe")


def spec_to_json(spec: EnvSpec) -> dict[str, Any]:
    """Plain values; `spec_from_json` reads them back."""
    rest = {name: getattr(spec, name) for name in _PLAIN}
    rest["safe"] = [[i, repr(low), repr(high)] for i, low, high in spec.safe]  # JSON has no infinity
    return {"obs": spaces.to_json(spec.obs), "action": spaces.to_json(spec.action), **rest}


def spec_from_json(data: Mapping[str, Any]) -> EnvSpec:
    """The inverse of `spec_to_json`.

    Raises:
      ValueError: If it is not the form of a spec.
    """
    try:
        obs, action = (spaces.from_json(data[name]) for name in ("obs", "action"))
        return EnvSpec(obs, action, **{name: data[name] for name in _PLAIN})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the description of an EnvSpec: {data!r} ({error})") from None


def env_spec(env: Any) -> EnvSpec:
    """The part of an environment's `spec` that a learner is built from."""
    spec = env.spec
    obs, action = getattr(spec, "obs", None) or spec.obs_dim, getattr(spec, "action", None) or spec.act_dim
    slices = getattr(spec, "obs_slices", None) or {}
    layout = tuple((name, start, stop) for name, (start, stop) in slices.items())
    known: dict[str, Any] = {"action_repeat": 1, "start": (), "safe": ()}
    told: dict[str, Any] = {name: getattr(spec, name, default) for name, default in known.items()}
    return EnvSpec(obs, action, spec.num_costs, spec.horizon, layout, **told)


# ---- acting ------------------------------------------------------------------------------------------------------


class ActOutput(NamedTuple):
    """What a policy returns for a batch of observations `[N, ...]`.

    `action` is `[N, A]` in `[-1, 1]`, or int32 choices. Gaussian policies may leave that box, and the update wants what
    was drawn: evaluation, films, `jsafe.load`, exports and the replay clip, rollouts do not. `log_prob` is `[N]`;
    `extras` holds whatever else the update or a curious user wants (SEditor: the `proposal` before the edit); `memory`
    goes into the next call.
    """

    action: Array
    log_prob: Array
    extras: dict[str, Array]
    memory: Any = ()


class PolicyState(NamedTuple):
    """All that acting needs: what `Learner.policy` returns.

    `params` of the actor; `obs_stats` (`ops.stats.RunningStats`) where observations are normalised, else `()`;
    `transform`, the parameters of the feed's `CMDPTransform`, else `()`.
    """

    params: Params
    obs_stats: Any = ()
    transform: Any = ()


class Memory(NamedTuple):
    """What a policy carries from one step to the next: `()`, stacked frames, a recurrent state, a plan.

    Attributes:
      init: `N -> memory` of N environments at the start of their episodes; leaves `[N, ...]`.
      reset: `(memory, started [N] bool) -> memory`: where an episode has started, as `init` gives it.
      sees_all: Whether it has to see observations that random actions are taken on; a plan does not.
    """

    init: Callable[[int], Any]
    reset: Callable[[Any, AnyArray], Any]
    sees_all: bool = True


NO_MEMORY = Memory(init=lambda num_envs: (), reset=lambda memory, started: memory)
"""The memory of a policy that sees the observation alone."""


# ---- batches -----------------------------------------------------------------------------------------------------


class Steps(NamedTuple):
    """Rows of experience, time-major `[T, N, ...]`: row t holds what was seen, what was done, and what followed.

    Attributes:
      obs: What the policy saw (after a transform, before normalisation); a tree for structured observations.
      action: `[T, N, A]` as the policy gave it, or int32 choices.
      reward: `[T, N]`, received for the action.
      cost: `[T, N, M]`, likewise.
      terminated: `[T, N]` bool: the action ended the task for good, nothing is bootstrapped.
      truncated: `[T, N]` bool: the episode was cut after the action; its value goes on.
      next_obs: What followed, the final observation where the episode ended; None: row t + 1 (see the feed).
      weight: `[T, N]` float32, 0 for rows that are no steps (see the feed); None: all count.
      extras: `log_prob [T, N]` and whatever else the feed promises.
    """

    obs: Obs
    action: AnyArray
    reward: AnyArray
    cost: AnyArray
    terminated: AnyArray
    truncated: AnyArray
    next_obs: Obs | None
    weight: AnyArray | None
    extras: dict[str, AnyArray]


class CostStats(NamedTuple):
    """Sums and a count, never means: exact to add over devices. `total` is `[M]`, `count` (of steps) a scalar."""

    total: AnyArray
    count: AnyArray


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended in a batch, undiscounted, in environment units; `cost` is `[M]`."""

    total_return: AnyArray
    cost: AnyArray
    length: AnyArray
    count: AnyArray


class Measured(NamedTuple):
    """What the environments did while a batch was collected: raw costs of the fresh steps, finished episodes."""

    rows: CostStats
    episodes: EpisodeStats


class Batch(NamedTuple):
    """What `Learner.update` takes.

    Attributes:
      steps: Rows with the leading axes of `Feed.shape`.
      measured: Sums and counts of this iteration, for the constraint rule.
      ready: Bool scalar: False while a replay fills; `steps` are then zeros.
      memory: The policy's memory at row 0, `[N, ...]` (fresh rollouts of policies that have one).
    """

    steps: Steps
    measured: Measured
    ready: AnyArray
    memory: Any = ()


@runtime_checkable
class Feed(Protocol):
    """What a collector has to produce; see `jsafe.feeds`."""

    @property
    def num_envs(self) -> int:
        """Environments that are stepped; 0: a data set is read."""

    @property
    def batch_option(self) -> str:
        """Name of the option that sets the last of the leading axes, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of `Steps`; devices share the last of them."""

    @property
    def steps_per_batch(self) -> int:
        """Environment steps behind one batch; gradient updates where none is stepped."""

    def divided(self, processes: int) -> Feed:
        """The part of one of several processes."""

    def stored_bytes(self, spec: EnvSpec, total_steps: int) -> int:
        """Memory that is kept between batches."""


# ---- learners ----------------------------------------------------------------------------------------------------


class InitFn(Protocol):
    """`key -> state`."""

    def __call__(self, key: Key, /) -> Any: ...


class UpdateFn(Protocol):
    """`(state, batch, key) -> (state, metrics)`."""

    def __call__(self, state: Any, batch: Batch, key: Key, /) -> tuple[Any, Metrics]: ...


class PolicyFn(Protocol):
    """`state -> PolicyState`."""

    def __call__(self, state: Any, /) -> PolicyState: ...


class ActFn(Protocol):
    """`(policy_state, memory, obs [N, ...], key, deterministic) -> ActOutput`."""

    def __call__(
        self, policy_state: PolicyState, memory: Any, obs: Obs, key: Key, deterministic: bool = False, /
    ) -> ActOutput: ...


class Estimates(NamedTuple):
    """What critics expect of the policy from some states on: discounted sums of raw rewards and costs.

    Attributes:
      reward: `[N]`.
      cost: `[N, M]`, or `[N, 0]` where costs are not learnt.
      gamma: Discount of the reward.
      cost_gamma: Discount of the costs.
    """

    reward: Array
    cost: Array
    gamma: Array
    cost_gamma: Array


class EstimateFn(Protocol):
    """`(state, memory, obs [N, ...], action [N, A]) -> Estimates`; memory as it is before it sees `obs`."""

    def __call__(self, state: Any, memory: Any, obs: Obs, action: Any, /) -> Estimates: ...


class Learner(NamedTuple):
    """An algorithm as a handful of pure functions; jit, vmap or pmap them as you like.

    Attributes:
      init: `key -> state`.
      update: `(state, batch, key) -> (state, metrics)`; keeps the tree, shapes and dtypes of the state.
      policy: `state -> PolicyState`, the small part that acting needs.
      act: `(policy_state, memory, obs, key, deterministic) -> ActOutput`.
      memory: How the policy's memory starts and is reset; `NO_MEMORY` for most.
      feed: What a collector has to produce.
      config: The frozen dataclass the learner was built from.
      spec: The `EnvSpec` it was built for.
      estimate: `(state, memory, obs, action) -> Estimates`, what its critics say; None where it has none to ask.
    """

    init: InitFn
    update: UpdateFn
    policy: PolicyFn
    act: ActFn
    memory: Memory
    feed: Feed
    config: Any
    spec: EnvSpec
    estimate: EstimateFn | None = None


Built = TypeVar("Built", covariant=True)


@runtime_checkable
class Part(Protocol[Built]):
    """The frozen options of a rule, a step, an actor ..., and how they become its functions."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Built:
        """The functions, for an environment and the mapped axis to reduce over."""


class Weights(NamedTuple):
    """How an objective mixes reward and costs: `reward * R - sum(cost * C)`; `reward` is a scalar, `cost` is `[M]`."""

    reward: Array
    cost: Array


class RuleUpdateFn(Protocol):
    """`(state, J_cost [M], limit [M]) -> state`; both in one unit."""

    def __call__(self, state: Any, J_cost: Array, limit: Array, /) -> Any: ...


class RuleWeightsFn(Protocol):
    """`(state, J_cost [M], limit [M]) -> Weights`."""

    def __call__(self, state: Any, J_cost: Array, limit: Array, /) -> Weights: ...


class ConstraintRule(NamedTuple):
    """Turns measured cost into weights (Lagrange multiplier, PID controller, barrier, switch ...).

    Attributes:
      init: `() -> state`.
      update: `(state, J_cost [M], limit [M]) -> state`; `J_cost` and `limit` in the same unit.
      weights: `(state, J_cost [M], limit [M]) -> Weights`.
    """

    init: Callable[[], Any]
    update: RuleUpdateFn
    weights: RuleWeightsFn


class TransformStep(NamedTuple):
    """What a `CMDPTransform` makes of one step of N environments.

    `z` continues (already reset where the episode ended), `z_final` is the value before that reset: the one that
    belongs to the final observation, from which a truncated step bootstraps.
    """

    z: Array
    z_final: Array
    reward: Array
    terminated: Array


class CMDPTransform(NamedTuple):
    """A change of the problem that carries a small state `z [N, ...]` per environment (a budget, a counter).

    The functions work on numpy and on jax arrays alike, so that host collectors and compiled rollouts share them.
    `params` is `PolicyState.transform` (a budget, say; it may change between iterations).
    The learner sees transformed data only: `act` and the batch get `augment(obs, z)`, `next_obs` is
    `augment(final_obs, z_final)`, `reward` and `terminated` are those of `step`. Episode statistics and `cost` stay
    raw. Where `step` terminates an episode that the environment would go on with, the collector resets it.

    Attributes:
      extra_obs: Columns that `augment` appends.
      init: `(params, N) -> z`, at the start of a run; numpy arrays where the parameters are.
      augment: `(obs [..., O], z) -> [..., O + extra_obs]`.
      step: `(params, z, reward [N], cost [N, M], terminated [N], truncated [N]) -> TransformStep`.
    """

    extra_obs: int
    init: Callable[[Any, int], Any]
    augment: Callable[[Any, Any], Any]
    step: Callable[..., TransformStep]
