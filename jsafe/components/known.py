"""What need not be learnt: rewards and costs that are known functions of states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.components.motion import MOVING, PLAIN, Motion, columns_of, known_motion
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec

Function = Callable[[Array, Array, Array], Array]

HAZARDS, GOAL = "hazards", "goal"
"""Parts of an observation with coordinates, two numbers for each object."""
GOAL_RADIUS = 0.3
"""Distance at which the goal of the Goal tasks counts as met, metres."""
BUTTONS, BOX = "buttons", "push_box"
OTHERWISE = (BUTTONS, BOX)
"""Parts of tasks whose goal is met otherwise than by coming near: it is pressed, or a box is pushed there."""
TOUCHED = ("vases", "pillars", "gremlins", BUTTONS)
"""Parts that cost when the robot touches them, round enough to be known by a distance between centres."""
OBSTACLES = (*TOUCHED, "sigwalls", BOX)
"""Parts whose costs follow from contacts: they are not known exactly. With a box to push hazards are wider."""
BUTTON_RADIUS = 0.2
"""Distance at which the robot touches a button with its side, metres: with its front it is earlier."""


class Known(NamedTuple):
    """Functions of `(obs [..., O], action [..., A], next_obs [..., O])`; None where it has to be learnt.

    Attributes:
      reward: `[...]`.
      cost: `[..., M]`; of one `column` alone `[..., 1]`.
      arrived: `next_obs -> bool [...]`: another problem follows from there, of which nothing is known. A plan whose
        reward is known earns no more from there on but, where ends of plans are valued, what a new problem is worth in
        the mean; what a policy imagines ends before it. (A learnt reward knows no bonus: steps in which a goal was met
        teach nothing.)
      column: The one of several costs that `cost` gives, the others have to be learnt; None: it gives all of them.
      drifting: `(next_obs, ahead) -> [...]`, beside `cost` what things may cost that were seen `ahead` steps ago.
      motion: What a model has to see and predict of observations.
    """

    reward: Function | None = None
    cost: Function | None = None
    arrived: Callable[[Array], Array] | None = None
    column: int | None = None
    drifting: Callable[[Array, Array | int], Array] | None = None
    motion: Motion = PLAIN

    def unknown(self, num_costs: int) -> tuple[int, ...]:
        """Which of the costs have to be learnt."""
        if self.cost is not None and self.column is None:
            return ()
        return tuple(m for m in range(num_costs) if m != self.column)

    def costs(self, learnt: Array, obs: Array, action: Array, next_obs: Array, ahead: Array | int = 1) -> Array:
        """All costs `[..., M]`, from the learnt ones of them; `next_obs` is so many steps `ahead` of what was seen."""
        if self.cost is None:
            return learnt
        told = self.cost(obs, action, next_obs)
        if self.drifting is not None:
            told = told + self.drifting(next_obs, ahead)[..., None]
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
    touch: float | None = None,
    drift: float = 0.0,
) -> Known:
    """The Goal and Button tasks on coordinates.

    Cost: `k 1[min_i ||hazard_i'|| <= radius + margin]` of the state after k repeated steps; with `touch` besides
    `k 1[min_i ||obstacle_i'|| <= touch]`, over vases, pillars, gremlins and the buttons but the one that is the goal;
    for gremlins, t steps ahead, `touch + t drift`: they may be anywhere around where they were seen.
    Reward (with `goal`): `||goal|| - ||goal'|| + 1[||goal'|| <= goal]`, and no more after that.

    Args:
      spec: Its `layout` says where hazards and the goal are, `action_repeat` is k.
      radius: Of a hazard, metres.
      margin: Distance to keep besides, metres.
      goal: Radius of the goal, metres; None: the reward is not known.
      column: The one of several costs that is of hazards.
      touch: Distance between centres at which the robot touches an obstacle, metres; None: there is none.
      drift: What a gremlin may move in a step (of k repeated ones), metres.

    Raises:
      ValueError: If the layout does not name what is needed, or names what a goal is met by otherwise (with `goal`),
        there is no such column, there are several costs and none is said to be of hazards, or contacts are to be known
        beside a column of hazards.
    """
    layout = columns_of(spec)
    for name in (HAZARDS,) if goal is None else (HAZARDS, GOAL):
        if name not in layout:
            asked = "" if column is None else f"known.column={column} says that a cost is of hazards, but "
            raise ValueError(
                f"{asked}the geometry of {name!r} is known from coordinates alone (observation='coordinates'); this "
                f"observation has {', '.join(layout) or 'no named parts'}: learn it (known='none')"
            )
    otherwise = set(OTHERWISE).difference(() if touch is None else (BUTTONS,))
    if goal is not None and not layout.keys().isdisjoint(otherwise):
        raise ValueError(
            f"the reward of this task is not that of coming near to a goal: its observation has {', '.join(layout)}; "
            "take known='cost', or learn all (known='none')"
        )
    if touch is not None and (column is not None or spec.num_costs != 1):
        beside = f"known.column={column} is of hazards alone" if column is not None else f"here are {spec.num_costs}"
        raise ValueError(f"known.touch={touch:g} makes one cost of all (costs='sum'), {beside}")
    if column is None and spec.num_costs != 1:
        raise ValueError(
            f"the environment has {spec.num_costs} costs: say with known.column which of them is of hazards, or learn "
            "all (known='none')"
        )
    if column is not None and column >= spec.num_costs:
        raise ValueError(f"known.column must be below the number of costs, {spec.num_costs}, got {column}")

    touched, reach = [name for name in TOUCHED if touch is not None and name in layout], touch or 0.0
    driving, resting = ([name for name in touched if (name in MOVING) == moves] for moves in (True, False))
    if touch is not None and not touched:
        raise ValueError(
            f"known.touch is of {', '.join(TOUCHED)}, and this observation has none of them: leave it out (None)"
        )
    if drift and not driving:
        raise ValueError(
            f"known.drift={drift:g} is of gremlins whose contacts are known (known.touch), and there are none: "
            "leave it out"
        )

    def drifting(next_obs, ahead):
        within = reach + drift * jnp.asarray(ahead)[..., None]  # of every object
        contacts = [(_distances(next_obs, layout[name]) <= within).any(axis=-1) for name in driving]
        return spec.action_repeat * sum(x.astype(jnp.float32) for x in contacts)

    def cost(obs, action, next_obs):
        near = (_distances(next_obs, layout[HAZARDS]).min(axis=-1) <= radius + margin).astype(jnp.float32)
        for name in resting:
            contact = _distances(next_obs, layout[name]) <= reach
            if name == BUTTONS:
                contact &= ~_is_goal(next_obs, layout)
            near += contact.any(axis=-1)
        return spec.action_repeat * near[..., None]

    known = Known(cost=cost, arrived=arrival(spec), drifting=drifting if driving else None)
    if goal is None:
        return known
    return known._replace(reward=_approach(layout[GOAL], goal), arrived=_near(layout[GOAL], goal))


def arrival(spec: EnvSpec) -> Callable[[Array], Array] | None:
    """`next_obs -> bool [...]`, whether the goal is met; None where coordinates do not tell."""
    layout = columns_of(spec)
    if GOAL not in layout or not layout.keys().isdisjoint(OTHERWISE):
        return None
    return _near(layout[GOAL], GOAL_RADIUS)


def _near(columns: tuple[int, int], radius: float) -> Callable[[Array], Array]:
    """Whether a goal is met by coming so near to it."""
    return lambda next_obs: _distances(next_obs, columns)[..., 0] <= radius


def _is_goal(obs: Array, layout: Mapping[str, tuple[int, int]]) -> Array:
    """Which of the buttons stands where the goal is, `[..., K]`: they are at least 0.4 m apart."""
    apart = _pairs(obs, layout[BUTTONS]) - _pairs(obs, layout[GOAL])
    return jnp.linalg.norm(apart, axis=-1) <= BUTTON_RADIUS


def _approach(columns: tuple[int, int], radius: float) -> Function:
    """The reward of coming nearer to a goal, and of meeting it."""

    def reward(obs, action, next_obs):
        before, after = (_distances(x, columns)[..., 0] for x in (obs, next_obs))
        return before - after + (after <= radius)

    return reward


def _distances(obs: Array, columns: tuple[int, int]) -> Array:
    """Of all objects of a part, `[..., K]`."""
    return jnp.linalg.norm(_pairs(obs, columns), axis=-1)


def _pairs(obs: Array, columns: tuple[int, int]) -> Array:
    """Where the objects of a part are, `[..., K, 2]`."""
    return obs[..., slice(*columns)].reshape(*obs.shape[:-1], -1, 2)


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
    touch: float | None = number(None, above=0)
    """Distance between the centres of the robot and of a vase, pillar, gremlin or wrong button at which they count as
    touching, metres. It makes their costs known, about from above: Point's front touches a vase from 0.3 m on, a
    gremlin from 0.29, a button from 0.26, its side from 0.2. None: they have to be learnt."""

    drift: float = number(0.0, low=0)
    """What a gremlin may move in a step, metres: where to is not observed, so that a plan keeps clear of wherever one
    may be by then. They drive at 0.35 m/s: 0.007, or 0.035 where every action holds for five steps."""

    def told(self, goal: float | None = None) -> dict[str, Any]:
        """What `goal_geometry` is told."""
        return {name: getattr(self, name) for name in ("radius", "margin", "column", "touch", "drift")} | {"goal": goal}


@part("known", "auto")
@dataclasses.dataclass(frozen=True)
class Auto(Geometry):
    """What coordinates tell: the cost, where they show hazards and no other obstacle (or `touch` says how near those
    are touched); when a goal is met, where that is by coming near it (or, with `touch`, by pressing a button); and on
    request the reward, there."""

    reward: bool = False
    """Whether such a goal's reward counts as known: the way come nearer, and 1 within 0.3 m (a button: 0.2 m). Say no
    for a task of your own that pays otherwise. Steps in which a goal was met teach nothing: a learnt reward knows no
    bonus, and little of what is near the goal."""
    still: bool = False
    """Whether things count as standing still, gremlins and a box to push apart: the model predicts how the robot moves
    in its own frame, and where hazards and goals are seen follows (`jsafe.components.motion`)."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Known:
        """A `Known`.

        Raises:
          ValueError: For a `column` that does not exist, a `touch` or `drift` of nothing, or any of them without
            coordinates of hazards.
        """
        layout = columns_of(spec)
        arrived, meets = arrival(spec), GOAL_RADIUS
        if self.touch is not None and GOAL in layout and BUTTONS in layout:
            arrived, meets = _near(layout[GOAL], BUTTON_RADIUS), BUTTON_RADIUS
        known = Known(arrived=arrived)
        if self.reward and arrived is not None:
            known = known._replace(reward=_approach(layout[GOAL], meets))
        unknown = set(OBSTACLES).difference(() if self.touch is None else TOUCHED)
        alone = layout.keys().isdisjoint(unknown) and spec.num_costs == 1
        asked = self.touch is not None or self.column is not None or self.drift > 0
        if asked or (alone and HAZARDS in layout):
            told = goal_geometry(spec, **self.told())
            known = known._replace(cost=told.cost, drifting=told.drifting, column=self.column)
        if self.still:
            learns = known.reward is None or bool(known.unknown(spec.num_costs))
            known = known._replace(motion=known_motion(spec, sees_all=learns))
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
