"""The seam of dynamics: probabilistic models of what follows an action, in an ensemble of nets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.components.compat import Released
from jsafe.components.known import Known
from jsafe.components.motion import PLAIN, Motion
from jsafe.types import Array, Key, Metrics, Params, Steps


class Heads(NamedTuple):
    """What a model has to predict besides the change of the observation: the `reward`, and so many `costs`.

    `columns`: which of the environment's costs those are; None: all of them. `motion`: what it sees and predicts of
    observations.
    """

    reward: bool
    costs: int
    columns: tuple[int, ...] | None = None
    motion: Motion = PLAIN

    @classmethod
    def beside(cls, known: Known, num_costs: int) -> Heads:
        """What is not known."""
        columns = known.unknown(num_costs)
        return cls(known.reward is None, len(columns), columns, known.motion)

    @property
    def width(self) -> int:
        """Columns in front of the change of the observation."""
        return int(self.reward) + self.costs


class Model(NamedTuple):
    """All that predicting needs: the nets' `params`, and `centre` and `scale [O + A]` of their inputs
    (`[O + A + O]` where the changes are scaled, too)."""

    params: Params
    centre: Array
    scale: Array


class Prediction(NamedTuple):
    """Independent Gaussians of `[reward, costs, change of the observation]`: `mean` and `std`, `[E, R, D]`."""

    mean: Array
    std: Array


class Transitions(NamedTuple):
    """Rows that nets learn on, each net its own: `obs [E, R, O]` (all of it), `action [E, R, A]`, `target [E, R, D]`.

    `weight [E, R]` is 0 for rows that nothing is learnt from.
    """

    obs: Array
    action: Array
    target: Array
    weight: Array


class Dynamics(NamedTuple):
    """An ensemble of E models.

    Attributes:
      size: E.
      heads: What is predicted besides observations.
      init: `key -> state`.
      observe: `(state, transitions [..., E, R, ...]) -> state` that knows the scale of the inputs.
      loss: `(params, model, transitions, count [E], share) -> (loss, metrics)`: rows are averaged over `count`, what
        does not depend on rows is multiplied by `share`.
      update: `(state, transitions) -> (state, metrics)`: one step of its optimiser.
      model: `state -> Model`.
      predict: `(model, obs [E, R, O], action [E, R, A]) -> Prediction`.
    """

    size: int
    heads: Heads
    init: Callable[[Key], Any]
    observe: Callable[[Any, Transitions], Any]
    loss: Callable[..., tuple[Array, Metrics]]
    update: Callable[[Any, Transitions], tuple[Any, Metrics]]
    model: Callable[[Any], Model]
    predict: Callable[[Model, Array, Array], Prediction]


@dataclasses.dataclass(frozen=True)
class DynamicsPart(Released):
    """Base of dynamics: they are told what they have to predict."""

    def build(self, spec: Any, axis_name: str | None = None, compat: Any = "paper", heads: Heads | None = None) -> Any:
        """The functions, for these `heads` (by default: the reward and all costs)."""
        raise NotImplementedError


def transitions(dynamics: Dynamics, steps: Steps, stack: int = 1) -> Transitions:
    """The rows of replayed windows `[..., T, B, ...]`, dealt out to the nets: row i goes to net i mod E.

    A row teaches nothing where it is the final observation of an episode, or where what followed is another problem
    (`extras["jump"]`: a goal that was met and drawn anew).

    Args:
      dynamics: The ensemble.
      steps: The windows.
      stack: Frames that an observation is made of; the newest counts.

    Returns:
      `[..., E, (T - 1) B / E, ...]`.
    """
    heads, weight = dynamics.heads, cast(Array, steps.weight)
    axis = weight.ndim - 2

    def head(x, start=0):
        return jax.lax.slice_in_dim(x, start, weight.shape[axis] - 1 + start, axis=axis)

    learnt = head(weight)
    if "jump" in steps.extras:
        learnt = learnt * (1.0 - head(steps.extras["jump"]))
    newest = steps.obs[..., steps.obs.shape[-1] // stack * (stack - 1) :]
    obs, following = head(newest), head(newest, 1)
    columns = [head(steps.reward)[..., None]] if heads.reward else []
    if heads.costs:
        cost = head(steps.cost)
        columns += [cost if heads.columns is None else cost[..., np.array(heads.columns)]]
    # What does not count may be anything, also far away.
    target = jnp.where(
        learnt[..., None] > 0, jnp.concatenate([*columns, heads.motion.change(obs, following)], axis=-1), 0.0
    )

    def dealt(x):
        rows = x.reshape(*x.shape[:axis], -1, dynamics.size, *x.shape[axis + 2 :])
        return jnp.moveaxis(rows, axis + 1, axis)

    return Transitions(*map(dealt, (obs, head(steps.action), target, learnt)))
