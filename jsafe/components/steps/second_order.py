"""Second-order policy steps: one move of the actor within a trust region, then regression for the critics.

All work on the actor's flattened parameters and the full batch. The network is linearised once; a Fisher product is
then one tangent and one cotangent product, `J' F J v`, exact for the Hessian of `KL(old || new)` at the old policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jsafe import distributions, spaces
from jsafe.components.compat import Compat
from jsafe.components.steps.base import CriticFit, Step
from jsafe.ops import second_order as algebra
from jsafe.ops.stats import pmean
from jsafe.options import number, traced
from jsafe.types import Array, EnvSpec, Metrics


class Problem(NamedTuple):
    """What a direction is found from, in the actor's flattened parameters `[D]`.

    `g` is the gradient of `mean(ratio A)` (the rule's mix), `x = H^-1 g`, `q = x'Hx`; `delta` the radius of the trust
    region; `gap [M]` the constraints' values; `fisher` and `solve` apply `H` and its inverse; `gradient(1 + i)` is that
    of `mean(ratio A_c,i)`.
    """

    g: Array
    x: Array
    q: Array
    delta: Array
    gap: Array
    fisher: Callable[[Array], Array]
    solve: Callable[[Array], Array]
    gradient: Callable[[int], Array]

    def constraints(self) -> tuple[Array, Array, Array]:
        """`p [M, D]`, rows `H^-1 b_i`; `r [M] = p g`; `S [M, M] = p b'`."""
        b = jnp.stack([self.gradient(1 + i) for i in range(self.gap.shape[0])])
        p = jnp.stack([self.solve(row) for row in b])
        S = p @ b.T
        return p, p @ self.g, 0.5 * (S + S.T)


class Direction(NamedTuple):
    """A proposed parameter step `[D]`, whether its line search asks for a better reward and for less cost; metrics."""

    step: Array
    wants_reward: Array | bool
    wants_cost: bool
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class SecondOrder(Step):
    """Options of the trust-region steps.

    With `g` the gradient of `mean(ratio A)`, `b_i` that of `mean(ratio A_c,i)`, `H` the Fisher matrix plus `damping`,
    `delta = target_kl`: a member proposes a direction, shortened by factors of 0.8 until the divergence is within
    `delta` and what the member asks for is kept. As released the divergence and `H` are averaged over action
    components, so that the region is larger.
    """

    first_order: ClassVar[bool] = False
    tries: ClassVar[int] = 15
    """Of the line search; 0 takes the step as it is."""

    passes: int = number(10, low=1, high=10**6)
    """Of the critics' regression."""
    minibatch: int = number(128, low=1, high=10**8)
    """Rows per minibatch of the critics, over all devices."""
    target_kl: float = traced(0.01, above=0)
    """Radius of the trust region: `KL(old || new)`, summed over action components."""
    critics: CriticFit = CriticFit(learning_rate=1e-3)
    damping: float = traced(0.1, low=0)
    """Added to the diagonal of the Fisher matrix."""
    cg_iterations: int = number(15, low=1)
    """Most iterations of conjugate gradients, for each inverse."""

    def direction(self, problem: Problem, compat: Compat) -> Direction:
        """The proposed step."""
        raise NotImplementedError

    def update(self, spec: EnvSpec, axis_name: str | None, compat: Compat) -> Callable[..., Any]:
        """The step of the actor, then the critics.

        Collectives: `pmean` of gradients, Fisher products and of all that the line search looks at.
        """
        released = compat == "omnisafe"

        def update(descent, params, state, batch, view, key):
            numbers, mean = descent.numbers, descent.mean
            theta, unravel = ravel_pytree(params.actor)
            rows, delta = batch.log_prob.shape[0], numbers.target_kl
            share = 1.0 / spec.act_dim if released and isinstance(spec.action, spaces.Box) else 1.0

            def policy(theta):
                return distributions.expand(descent.policy(unravel(theta), batch))

            def surrogates(dist):
                """`[1 + M]`: the mixed objective, then each cost."""
                ratio = jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob)
                signals = jnp.concatenate([batch.advantage[:, None], batch.advantage_cost], axis=1)
                return pmean(jnp.mean(ratio[:, None] * signals, axis=0), axis_name)

            old, tangent = jax.linearize(policy, theta)
            cotangent = jax.linear_transpose(tangent, theta)

            def fisher(v):
                metric = distributions.fisher_metric(old, tangent(v))
                product = cotangent(jax.tree.map(lambda x: x * (share / rows), metric))[0]
                return pmean(product, axis_name) + numbers.damping * v

            def solve(b):
                return algebra.conjugate_gradient(fisher, b, iterations=self.cg_iterations)

            def gradient(row):
                pulled = jax.grad(lambda dist: surrogates(dist)[row])(old)
                return pmean(cotangent(pulled)[0], axis_name)

            g = gradient(0)
            x = solve(g)
            q = x @ fisher(x)
            problem = Problem(g, x, q, delta, view.gap, fisher, solve, gradient)
            direction = self.direction(problem, compat)
            before = surrogates(old)

            def attempt(scale):
                dist = policy(theta + scale * direction.step)
                change = surrogates(dist) - before
                kl = share * mean(distributions.kl(old, dist))
                accepted = jnp.isfinite(kl) & jnp.isfinite(change).all() & (kl <= delta)
                accepted &= jnp.logical_not(direction.wants_reward) | (change[0] >= 0)
                if direction.wants_cost:
                    accepted &= jnp.all(change[1:] <= jnp.maximum(-view.gap, 0.0))
                return accepted, kl

            if self.tries == 0:
                scale = jnp.where(jnp.isfinite(direction.step).all(), 1.0, 0.0)
            else:
                shrink = not (released and direction.wants_cost)
                scale, _ = algebra.line_search(attempt, factor=0.8, tries=self.tries, shrink_on_nan=shrink)
            moved = jnp.where(scale > 0, theta + scale * direction.step, theta)
            params = params._replace(actor=unravel(moved))
            params, state = descent.fit_critics(params, state, batch, key, self.passes)
            metrics = {
                "update/passes": jnp.float32(self.passes),
                "update/step_scale": scale,
                "update/gradient_norm": jnp.linalg.norm(g),
                "update/xHx": q,
                **direction.metrics,
            }
            return params, state, metrics | descent.metrics(params, batch)

        return update
