"""Minibatch descent on an objective, with critics along: the steps of the PPO kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jsafe import distributions
from jsafe.components.compat import Compat
from jsafe.components.steps.base import (
    ActorCritic,
    ConstraintView,
    Outputs,
    PolicyBatch,
    Step,
    minibatch_pass,
    pack_batch,
)
from jsafe.options import traced
from jsafe.types import Array, EnvSpec


class LossFn(Protocol):
    """`(outputs, minibatch, view, numbers, mean, whole) -> loss`, to be minimised; see `ops.policy_losses`."""

    def __call__(
        self, out: Outputs, batch: PolicyBatch, view: ConstraintView, numbers: Any, mean: Callable, whole: Any, /
    ) -> Array: ...


class Objective(NamedTuple):
    """What the actor descends on.

    A function of an expectation that is not linear must not be taken of a minibatch's mean, whose noise drowns what it
    looks at: `whole` takes it of the whole batch.

    Attributes:
      loss: On a minibatch.
      whole: `(outputs, batch, view, numbers, mean) -> whole`, on all rows before each pass; handed to `loss` (`()`
        where there is none).
    """

    loss: LossFn
    whole: Callable[..., Any] | None = None


@dataclasses.dataclass(frozen=True)
class FirstOrder(Step):
    """Options of the steps that descend on minibatches."""

    learning_rate: float = traced(3e-4, above=0)
    """Of the actor."""
    decay: Literal["linear", "none"] = "linear"
    """`linear`: the actor's rate falls linearly over the run, to a last step of one iteration's share. It needs to know
    the length of the run (`schedule_steps`); otherwise the rate stays."""
    early_stop: bool = True
    """After each pass: stop all passes, the critics' too, once the mean divergence exceeds `target_kl`."""
    entropy_coef: float = traced(0.0, low=0)
    """Weight of the entropy that is added to the objective."""

    def objective(self, compat: Compat) -> Objective:
        """What the actor minimises."""
        raise NotImplementedError

    def update(self, spec: EnvSpec, axis_name: str | None, compat: Compat) -> Callable[..., Any]:
        """Passes on the objective."""
        return self.descend(self.objective(compat))

    def descend(
        self,
        objective: Objective,
        *,
        train_critics: bool = True,
        wanted: Callable[[ConstraintView], Array] = lambda view: jnp.ones((), bool),
    ) -> Callable[..., Any]:
        """Passes over the batch for the actor and, with `train_critics`, the critics; none where it is not `wanted`.

        Collectives: `pmean` of gradients (and inside `mean` of the objective) and of the KL divergence.
        """

        def update(descent, params, state, batch, view, key):
            numbers, fit = descent.numbers, descent.fit
            rows, unpack = pack_batch(batch, descent.networks.policy.segment)
            rate = numbers.learning_rate * view.remaining if self.decay == "linear" else numbers.learning_rate

            def minibatch_update(carry, minibatch_rows, whole):
                params, state = carry
                minibatch = unpack(minibatch_rows)

                def loss(params):
                    out = descent.evaluate(params.actor, minibatch)
                    value = objective.loss(out, minibatch, view, numbers, descent.mean, whole)
                    value = value - numbers.entropy_coef * descent.mean(distributions.entropy(out.dist))
                    if not train_critics:
                        return value
                    return value + descent.critic_loss(params.critics, minibatch.seen, minibatch.target).sum()

                grads = jax.grad(loss)(params)
                actor, actor_state = descent.descend(params.actor, grads.actor, state.actor, rate, 1)
                state = state._replace(actor=actor_state)
                if not train_critics:
                    return ActorCritic(actor, params.critics), state
                critics, critics_state = descent.descend(
                    params.critics, grads.critics, state.critics, fit.learning_rate, batch.target.shape[1]
                )
                return ActorCritic(actor, critics), state._replace(critics=critics_state)

            def look(out):
                """The divergence, and what the objective wants to know, of all rows: one look serves both."""
                kl = descent.mean(distributions.kl(batch.old, out.dist)) if self.early_stop else jnp.zeros(())
                return kl, objective.whole(out, batch, view, numbers, descent.mean) if objective.whole else ()

            def running(carry):
                i, (kl, _), _ = carry
                return (i < self.passes) & (kl <= numbers.target_kl)

            def body(carry):
                i, (_, whole), inner = carry
                inner = minibatch_pass(
                    lambda c, x: minibatch_update(c, x, whole),
                    inner,
                    rows,
                    jax.random.fold_in(key, i),
                    descent.segments,
                    descent.axis_name,
                )
                looks = self.early_stop or objective.whole
                return i + 1, look(descent.evaluate(inner[0].actor, batch)) if looks else seen, inner

            seen = look(descent.outputs(batch.old, batch))  # the parameters are those of the old policy still
            first = jnp.where(wanted(view), 0, self.passes)
            done, _, (params, state) = jax.lax.while_loop(running, body, (first, seen, (params, state)))
            metrics = {"update/passes": jnp.float32(done - first), "update/learning_rate": rate}
            return params, state, metrics | descent.metrics(params, batch)

        return update


@dataclasses.dataclass(frozen=True)
class Clipped(FirstOrder):
    """`FirstOrder` with PPO's clip."""

    clip: float = traced(0.2, above=0)
    """Largest change of the ratio that still pays."""
