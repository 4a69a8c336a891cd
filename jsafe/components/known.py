"""What need not be learnt: rewards and costs that are known functions of states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec

Function = Callable[[Array, Array, Array], Array]

HAZARDS, GOAL = "hazards", "goal"
"""Parts of an observation with coordinates, two numbers for each object."""
GOAL_RADIUS = 0.3
"""Distance at which the goal of the Goal tasks counts as met, metres."""
OTHERWISE = ("buttons", "push_box")
"""Parts of tasks whose goal is met otherwise than by coming near: it is pressed, or a box is pushed there."""
OBSTACLES = ("vases", "pillars", "gremlins", "sigwalls", *OTHERWISE)
"""Parts whose costs follow from contacts: they are not known. With a box to push hazards are wider."""


class Known(NamedTuple):
    """Functions of `(obs [..., O], action [..., A], next_obs [..., O])`; None where it has to be learnt.

    Attributes:
      reward: `[...]`.
      cost: `[..., M]`; of one `column` alone `[..., 1]`.
      arrived: `next_obs -> bool [...]`: another problem follows from there, of which nothing is known. A plan whose
        reward is known earns no more from there on; what a policy imagines ends before it. (A learnt reward knows no
        bonus: steps in which a goal was met teach nothing.)
      column: The one of several costs that `cost` gives, the others have to be learnt; None: it gives all of them.
    """

    reward: Function | None = None
    cost: Function | None = None
    arrived: Callable[[Array], Array] | None = None
    column: int | None = None

    def unknown(self, num_costs: int) -> tuple[int, ...]:
        """Which of the costs have to be learnt."""
        if self.cost is not None and self.column is None:
            return ()
        return tuple(m for m in range(num_costs) if m != self.column)

    def costs(self, learnt: Array, obs: Array, action: Array, next_obs: Array) -> Array:
        """All costs `[..., M]`, from the learnt ones of them."""
        if self.cost is None:
            return learnt
        told = self.cost(obs, action, next_obs)
        if self.column is None:
            return told
        before, after = jnp.split(learnt, [self.column], axis=-1)
        return jnp.concatenate([before, told.astype(learnt.dtype), after], axis=-1)


def goal_geometry(
    spec: EnvSpec,
    *,
    radius: float = 0.2,
    margin: float = 0.0,
    goal: float | None = None,
    column: int | None = None,
) -> Known:
    """The Goal tasks on coordinates.

    Cost: `k 1[min_i ||hazard_i'|| <= radius + margin]` of the state after k repeated steps. Reward (with `goal`):
    `||goal|| - ||goal'|| + 1[||goal'|| <= goal]`, and no more after that.

    Args:
      spec: Its `layout` says where hazards and the goal are, `action_repeat` is k.
      radius: Of a hazard, metres.
      margin: Distance to keep besides, metres.
      goal: Radius of the goal, metres; None: the reward is not known.
      column: The one of several costs that is of hazards.

    Raises:
      ValueError: If the layout does not name what is needed, or names what a goal is met by otherwise (with `goal`),
        there is no such column, or there are several costs and none is said to be of hazards.
    """
    layout = {name: (start, stop) for name, start, stop in spec.layout}
    for name in (HAZARDS,) if goal is None else (HAZARDS, GOAL):
        if name not in layout:
            asked = "" if column is None else f"known.column={column} says that a cost is of hazards, but "
            raise ValueError(
                f"{asked}the geometry of {name!r} is known from coordinates alone (observation='coordinates'); this "
                f"observation has {', '.join(layout) or 'no named parts'}: learn it (known='none')"
            )
    if goal is not None and arrival(spec) is None:
        raise ValueError(
            f"the reward of this task is not that of coming near to a goal: its observation has {', '.join(layout)}; "
            "take known='cost', or learn all (known='none')"
        )
    if column is None and spec.num_costs != 1:
        raise ValueError(
            f"the environment has {spec.num_costs} costs: say with known.column which of them is of hazards, or learn "
            "all (known='none')"
        )
    if column is not None and column >= spec.num_costs:
        raise ValueError(f"known.column must be below the number of costs, {spec.num_costs}, got {column}")

    def cost(obs, action, next_obs):
        near = _distances(next_obs, layout[HAZARDS]).min(axis=-1) <= radius + margin
        return spec.action_repeat * near[..., None].astype(jnp.float32)

    if goal is None:
        return Known(cost=cost, arrived=arrival(spec))

    return Known(
        _approach(layout[GOAL], goal), cost, lambda next_obs: _distances(next_obs, layout[GOAL])[..., 0] <= goal
    )


def arrival(spec: EnvSpec) -> Callable[[Array], Array] | None:
    """`next_obs -> bool [...]`, whether the goal is met; None where coordinates do not tell."""
    layout = {name: (start, stop) for name, start, stop in spec.layout}
    if GOAL not in layout or not layout.keys().isdisjoint(OTHERWISE):
        return None
    return lambda next_obs: _distances(next_obs, layout[GOAL])[..., 0] <= GOAL_RADIUS


def _approach(columns: tuple[int, int], radius: float) -> Function:
    """The reward of coming nearer to a goal, and of meeting it."""

    def reward(obs, action, next_obs):
        before, after = (_distances(x, columns)[..., 0] for x in (obs, next_obs))
        return before - after + (after <= radius)

    return reward


def _distances(obs: Array, columns: tuple[int, int]) -> Array:
    """Of all objects of a part, `[..., K]`."""
    return jnp.linalg.norm(obs[..., slice(*columns)].reshape(*obs.shape[:-1], -1, 2), axis=-1)


@part("known", "none")
@dataclasses.dataclass(frozen=True)
class NothingKnown(Options):
    """Reward and costs are learnt with the dynamics."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Known:
        """Nothing."""
        del spec, axis_name
        return Known()


@dataclasses.dataclass(frozen=True)
class Geometry(Options):
    """Options of what is known from the geometry of hazards."""

    radius: float = number(0.2, above=0)
    """Of a hazard, metres."""
    margin: float = number(0.0, low=0)
    """Distance to keep besides, metres: SafeDreamer plans with 0.05. It is the cheap replacement of many particles."""
    column: int | None = number(None, low=0)
    """The one of several costs (`costs="separate"`) that is of hazards: the others are learnt."""

    def told(self, goal: float | None = None) -> dict[str, Any]:
        """What `goal_geometry` is told."""
        return {"radius": self.radius, "margin": self.margin, "goal": goal, "column": self.column}


@part("known", "auto")
@dataclasses.dataclass(frozen=True)
class Auto(Geometry):
    """What coordinates tell: the cost, where they show hazards and no other obstacle; when a goal is met, where that is
    by coming near it; and on request the reward, there."""

    reward: bool = False
    """Whether such a goal's reward counts as known. Steps in which a goal was met teach nothing: a learnt reward knows
    no bonus, and little of what is near the goal."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Known:
        """A `Known`.

        Raises:
          ValueError: For a `column` that does not exist, or without coordinates of hazards.
        """
        layout = {name: (start, stop) for name, start, stop in spec.layout}
        arrived = arrival(spec)
        known = Known(arrived=arrived)
        if self.reward and arrived is not None:
            known = known._replace(reward=_approach(layout[GOAL], GOAL_RADIUS))
        alone = layout.keys().isdisjoint(OBSTACLES) and spec.num_costs == 1
        if self.column is not None or (alone and HAZARDS in layout):
            known = known._replace(cost=goal_geometry(spec, **self.told()).cost, column=self.column)
        return known


@part("known", "cost")
@dataclasses.dataclass(frozen=True)
class KnownCost(Geometry):
    """The cost of hazards, from their coordinates.

    Source: OmniSafe's model-based wrapper; Huang et al. 2024 (SafeDreamer, arXiv 2307.07176) for the margin.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Known:
        """A `Known`."""
        return goal_geometry(spec, **self.told())


@part("known", "reward_and_cost")
@dataclasses.dataclass(frozen=True)
class KnownRewardAndCost(Geometry):
    """The cost of hazards and the reward of the goal, the bonus of reaching it included, from their coordinates."""

    goal: float = number(GOAL_RADIUS, above=0)
    """Radius of the goal, metres."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Known:
        """A `Known`."""
        return goal_geometry(spec, **self.told(self.goal))
