"""Second-order policy steps: natural gradient, TRPO, CPO and PCPO.

All work on the actor's flattened parameters and the full batch. The network is linearised once; a Fisher product is
then one tangent and one cotangent product, `J' F J v`, exact for the Hessian of `KL(old || new)` at the old policy.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jsafe.components.steps import ActorCritic, PolicyStep, Trainer, fit_critics
from jsafe.distributions import gaussian as gaussian
from jsafe.distributions.gaussian import Gaussian
from jsafe.ops import second_order as algebra
from jsafe.ops.stats import pmean
from jsafe.types import Array

Kind = Literal["natural", "trust_region", "cpo", "pcpo"]


class _Direction(NamedTuple):
    """A proposed parameter step, and whether its line search asks for a better reward and for less cost."""

    step: Array
    wants_reward: Array
    wants_cost: bool


def second_order(
    trainer: Trainer,
    kind: Kind,
    *,
    passes: int,
    cg_iterations: int = 15,
    kl_per_dim: bool = False,
    omnisafe: bool = False,
) -> PolicyStep:
    """One step of the actor within a KL trust region, then `passes` of minibatch regression for the critics.

    With `g` the gradient of `mean(ratio A)` (the rule's mix), `b_i` that of `mean(ratio A_c,i)`, `H` the Fisher
    matrix plus `hyper.damping`, `delta = hyper.target_kl`:

    - `natural`: `sqrt(2 delta / g'H^-1 g) H^-1 g`, taken as it is.
    - `trust_region`: the same, halved in (by 0.8, 15 tries) until the surrogate does not fall and `KL <= delta`.
    - `cpo`: `ops.second_order.cpo_program`, 20 tries; the reward has to hold only where all constraints hold already,
      each cost surrogate may rise by its slack at most.
    - `pcpo`: the TRPO step, projected (`ops.second_order.pcpo_program`), 200 tries, no test on the reward.

    Args:
      trainer: Networks, optimiser, minibatch size of the critics.
      kind: Which.
      passes: Passes of the critics.
      cg_iterations: Conjugate-gradient iterations for each inverse.
      kl_per_dim: Divide the KL divergence and the Fisher matrix by the number of action components (OmniSafe).
      omnisafe: PCPO takes `H g` in place of `H^-1 g`, and CPO's and PCPO's search does not shrink a step whose KL
        is not finite, as released.

    Collectives: `pmean` of gradients, Fisher products and of all that the line search looks at.

    Source: Kakade 2001; Schulman et al. 2015 (arXiv 1502.05477); Achiam et al. 2017 (arXiv 1705.10528); Yang et al.
    2020 (arXiv 2010.03152).
    """
    actor, mean = trainer.networks.actor, trainer.mean
    constrained = kind in ("cpo", "pcpo")

    def step(params, state, batch, view, hyper, key):
        theta, unravel = ravel_pytree(params.actor)
        rows, dims = batch.action.shape
        share = 1.0 / dims if kl_per_dim else 1.0
        delta = hyper.target_kl

        def policy(theta):
            dist = actor.apply(unravel(theta), batch.obs)
            return Gaussian(dist.mean, jnp.broadcast_to(dist.log_std, dist.mean.shape))

        def surrogates(dist):
            """`[1 + M]`: the mixed objective, then each cost."""
            ratio = jnp.exp(gaussian.log_prob(dist, batch.action) - batch.log_prob)
            signals = jnp.concatenate([batch.advantage[:, None], batch.advantage_cost], axis=1)
            return pmean(jnp.mean(ratio[:, None] * signals, axis=0), trainer.axis_name)

        old, tangent = jax.linearize(policy, theta)
        cotangent = jax.linear_transpose(tangent, theta)

        def fisher(v):
            metric = gaussian.fisher_metric(old, tangent(v))
            product = cotangent(jax.tree.map(lambda x: x * (share / rows), metric))[0]
            return pmean(product, trainer.axis_name) + hyper.damping * v

        def solve(b):
            return algebra.conjugate_gradient(fisher, b, iterations=cg_iterations)

        def gradient(row):
            pulled = jax.grad(lambda dist: surrogates(dist)[row])(old)
            return pmean(cotangent(pulled)[0], trainer.axis_name)

        g = gradient(0)
        x = solve(g)
        q = x @ fisher(x)
        natural = algebra.natural_scale(q, delta) * x
        extra = {}
        if not constrained:
            direction = _Direction(natural, jnp.ones((), bool), False)
        else:
            c = view.gap
            m = c.shape[0]
            b = jnp.stack([gradient(1 + i) for i in range(m)])
            p = jnp.stack([solve(row) for row in b])  # H^-1 b_i
            r, S = p @ g, p @ b.T
            S = 0.5 * (S + S.T)
            if kind == "cpo":
                plan = algebra.cpo_program(q, r, S, c, delta)
                move = plan.reward * x - plan.cost @ p
                direction = _Direction(move, plan.feasible & jnp.all(c < 0), True)
                extra = {"update/feasible": plan.feasible.astype(jnp.float32)}
            else:
                scale = algebra.natural_scale(q, delta)
                start = scale * (fisher(x) if omnisafe else x)
                nu = algebra.pcpo_program(scale * r, S, c)
                direction = _Direction(start - nu @ p, jnp.zeros((), bool), True)
                extra = {"update/projection": nu.sum()}

        before = surrogates(old)

        def attempt(scale):
            dist = policy(theta + scale * direction.step)
            change = surrogates(dist) - before
            kl = share * mean(gaussian.kl(old, dist))
            accepted = jnp.isfinite(kl) & jnp.isfinite(change).all() & (kl <= delta)
            accepted &= ~direction.wants_reward | (change[0] >= 0)
            if direction.wants_cost:
                accepted &= jnp.all(change[1:] <= jnp.maximum(-view.gap, 0.0))
            return accepted, kl

        if kind == "natural":
            scale = jnp.where(jnp.isfinite(direction.step).all(), 1.0, 0.0)
        else:
            tries = {"trust_region": 15, "cpo": 20, "pcpo": 200}[kind]
            shrink = not (omnisafe and constrained)
            scale, _ = algebra.line_search(attempt, factor=0.8, tries=tries, shrink_on_nan=shrink)
        moved = jnp.where(scale > 0, theta + scale * direction.step, theta)
        params = ActorCritic(unravel(moved), params.critics)
        params, state = fit_critics(trainer, params, state, batch, hyper, key, passes)
        metrics = {
            "update/passes": jnp.float32(passes),
            "update/step_scale": scale,
            "update/gradient_norm": jnp.linalg.norm(g),
            "update/xHx": q,
            **extra,
            **trainer.metrics(params, batch),
        }
        return params, state, metrics

    return PolicyStep(trainer.init, step)
