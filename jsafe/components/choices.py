"""How a policy acts that may ask its critics: the seam `choice`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.generators.base import Generator
from jsafe.components.transforms.remaining import remaining_budget
from jsafe.components.valuations.base import Valuation, pick, weighed
from jsafe.ops import cmdp
from jsafe.options import Options, number, part
from jsafe.types import Array, CMDPTransform, EnvSpec, Key, Params, Weights


class ActParams(NamedTuple):
    """What acting may need: parameters of the policy and of the critics, the rule's weights, and the discount."""

    policy: Params
    valuation: Params
    weights: Weights
    gamma: Array


class Choice(NamedTuple):
    """How to act.

    Attributes:
      act: `(generator, valuation, params, obs [N, O], more [N, E], key, deterministic) -> action [N, A]`; `more` are
        the columns that the transform appends.
      asks: Whether it asks the critics.
      transform: Applied by whoever acts, or None.
    """

    act: Callable[[Generator, Valuation, ActParams, Array, Array, Key, bool], Array]
    asks: bool = False
    transform: CMDPTransform | None = None


@part("choice", "policy")
@dataclasses.dataclass(frozen=True)
class OfPolicy(Options):
    """A sample of the policy; its best guess where the action is to be certain."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Choice:
        """A `Choice` that asks nobody."""
        del spec, axis_name

        def act(generator, valuation, params, obs, more, key, deterministic):
            if deterministic:
                return generator.mode(params.policy, obs)
            return generator.draw(params.policy, obs, generator.noise(key, 1, obs.shape[0]))[0]

        return Choice(act)


@dataclasses.dataclass(frozen=True)
class OfCandidates(Options):
    """Base: one of n samples, chosen by the critics. Where the action is to be certain, the samples have noise that was
    drawn once for all, the same for all observations."""

    candidates: int = number(100, low=1)
    """n."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Choice:
        """A `Choice` that asks the critics."""
        del spec, axis_name

        def act(generator, valuation, params, obs, more, key, deterministic):
            draw_key, pick_key = jax.random.split(key)
            certain = generator.noise(jax.random.key(0), self.candidates, 1) if deterministic else None
            noise = generator.noise(draw_key, self.candidates, obs.shape[0]) if certain is None else certain
            action = generator.draw(params.policy, obs, noise)
            values = valuation.values(params.valuation, obs, action)
            return pick(action, self.index(values, params.weights, pick_key, deterministic))

        return Choice(act, asks=True)

    def index(self, values: Values, weights: Weights, key: Key, deterministic: bool) -> Array:
        """`[N]`, which candidate."""
        raise NotImplementedError


@part("choice", "best")
@dataclasses.dataclass(frozen=True)
class Best(OfCandidates):
    """The candidate of the largest `w_r Q_r - w_c . Q_c`, weights from the constraint rule.

    Source: Fujimoto, Meger & Precup 2019 (arXiv 1812.02900); 100 candidates: the authors' code.
    """

    def index(self, values: Values, weights: Weights, key: Key, deterministic: bool) -> Array:
        """The best."""
        return jnp.argmax(weighed(values, weights), axis=0)


@part("choice", "softmax")
@dataclasses.dataclass(frozen=True)
class Softmax(OfCandidates):
    """A candidate with the probability `softmax((w_r Q_r - w_c . Q_c) / beta)`; the likeliest where it is certain.

    Source: Wang et al. 2020 (arXiv 2006.15134), the critic weighted policy.
    """

    beta: float = number(1.0, above=0)
    """Temperature, in the unit of the reward."""

    def index(self, values: Values, weights: Weights, key: Key, deterministic: bool) -> Array:
        """A draw."""
        score = weighed(values, weights) / self.beta
        return jnp.argmax(score, axis=0) if deterministic else jax.random.categorical(key, score, axis=0)


@part("choice", "safest")
@dataclasses.dataclass(frozen=True)
class Safest(OfCandidates):
    """The candidate of the least cost value.

    Source: Zheng et al. 2024 (FISOR, arXiv 2401.10700), with 16 candidates.
    """

    candidates: int = number(16, low=1)
    """n."""

    def index(self, values: Values, weights: Weights, key: Key, deterministic: bool) -> Array:
        """The safest."""
        return jnp.argmin(values.cost.sum(axis=-1), axis=0)


@part("choice", "switch")
@dataclasses.dataclass(frozen=True)
class Switch(Options):
    """Of the heads' actions the best among those whose expected cost is within what is left, else the cheapest.

        b = max(k - C_t, 0) (1 - gamma^(T-t)) / ((1 - gamma) (T - t))

    The best of `Q_c(s, a_h) < b` for all costs by `Q_r`; if there is none, the least `sum_m Q_m`. `C_t` and t are kept
    by a transform of the environment, so that one training serves every limit.

    Source: CAPS (AAAI 2025), the authors' code.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Choice:
        """A `Choice` that asks the critics, with a transform."""
        del axis_name

        def act(generator, valuation, params, obs, more, key, deterministic):
            action = generator.draw(params.policy, obs, generator.noise(key, generator.heads, obs.shape[0]))
            values: Any = valuation.values(params.valuation, obs, action)
            left = jnp.maximum(more[:, :-1], 0.0)
            steps = jnp.maximum(more[:, -1:], 1.0)
            budget = cmdp.discounted(left, params.gamma, steps)
            fits = (values.cost < budget).all(axis=-1)
            best = jnp.argmax(jnp.where(fits, values.reward, -jnp.inf), axis=0)
            cheapest = jnp.argmin(values.cost.sum(axis=-1), axis=0)
            return pick(action, jnp.where(fits.any(axis=0), best, cheapest))

        return Choice(act, asks=True, transform=remaining_budget(spec.num_costs))
