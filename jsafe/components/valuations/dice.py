"""COptiDICE's valuation: not values of actions, but how much more often a better policy would be in a row."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jsafe.components.compat import Compat, Released
from jsafe.components.valuations.base import Judgement, Valuation, Valued
from jsafe.nets.perceptron import Layers, ensemble, fan_in_uniform, mlp
from jsafe.ops import dice
from jsafe.ops.fdivergence import DIVERGENCES
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("valuation", "dice")
@dataclasses.dataclass(frozen=True)
class Dice(Layers, Released):
    """Stationary distribution correction under cost limits.

        e     = r - lam . c + gamma d nu(s') - nu(s),    w = relu(f'^-1(e / alpha))
        L_nu  = (1 - gamma) mean nu(s0) + mean (w e - alpha f(w))
        ell_m = (1 - gamma) chi_m(s0) + w (c_m + gamma d chi_m(s') - chi_m(s)),   v_m = B softmax_B(ell_m / tau_m)
        L_chi = sum_m mean v_m ell_m,    L_tau = sum_m tau_m (eps - KL(v_m)),    UB_m = mean v_m w c_m
        L_lam = -sum_m lam_m (UB_m - k_m / T)

    `lam = clip(exp(l), 0, 1000)`, `tau = exp(t) + 1e-6`, from `l = t = 0`. With `eps` 0 the bound is the plain estimate
    `mean w c`, and `chi` and `tau` are not there. Limits are in the normalised unit: cost per step. The multiplier is
    its own: it goes with the rule `none`. `w` is the weight `ratio` of recorded actions.

    The networks' slopes are held at `penalty_slope` with the weight `gradient_penalty`, between initial and recorded
    observations.

    Source: Lee et al. 2022 (arXiv 2204.08957), and the authors' code. With `compat="omnisafe"` the
      reward, the cost and the termination of every row meet the values of every other (there arrays `[B, 1]` meet
      arrays `[B]`); the multiplier sees `mean w c` instead of the bound; `lam` and `tau` are learned as they are, not
      their logarithms; slopes have no penalty.
    """

    alpha: float = number(0.01, above=0)
    """Weight of the divergence from the data, in the unit of the reward."""
    divergence: Literal["soft_chi2", "chi2", "kl"] = "soft_chi2"
    """f."""
    eps: float = number(0.01, low=0)
    """KL radius of the upper bound; 0: the plain estimate."""
    gradient_penalty: float = number(1e-5, low=0)
    """Weight of the penalty on slopes."""
    penalty_slope: float = number(5.0, low=0)
    """Slope up to which there is none."""
    multiplier: float = number(1.0, low=0)
    """Start of the multipliers (as released by OmniSafe they may be 0)."""

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Valuation:
        """A `Valuation` with the groups `nu`, `multiplier` and, with `eps`, `chi` and `tau`."""
        released = compat == "omnisafe"
        layers: dict[str, Any] = {"act": self.activation, "kernel_init": fan_in_uniform()}
        net = mlp(spec.obs_dim, 1, self.hidden, **layers)
        chi_nets = ensemble(net, spec.num_costs)
        f, m, alpha, bounded = DIVERGENCES[self.divergence], spec.num_costs, self.alpha, self.eps > 0
        if not released and self.multiplier == 0:
            raise ValueError("multiplier must be above 0 (its logarithm is learned), got 0.0")

        def init(key):
            keys = jax.random.split(key)
            start = jnp.full((m,), self.multiplier, jnp.float32)
            params = {"nu": net.init(keys[0]), "multiplier": start if released else jnp.log(start)}
            if bounded:
                params |= {"chi": chi_nets.init(keys[1]), "tau": jnp.full((m,), float(released), jnp.float32)}
            return params

        def multiplier(params):
            return jnp.clip(params["multiplier"] if released else jnp.exp(params["multiplier"]), 0.0, 1e3)

        def nu(params, obs):
            return net.apply(params["nu"], obs)[..., 0]

        def chi(params, obs):
            return chi_nets.apply(params["chi"], obs, None)[..., 0].T

        def signals(x):
            """As released every row meets all others: `[B, 1, ...] -> [B, B, ...]`, beside values of `[1, B, ...]`."""
            return jnp.repeat(x[:, None], x.shape[0], axis=1) if released else x

        def estimates(x):
            return jnp.repeat(x[None], x.shape[0], axis=0) if released else x

        def residual(params, context):
            rows = context.rows
            lam = jax.lax.stop_gradient(multiplier(params))
            here, there = (estimates(nu(params, obs)) for obs in (rows.obs, rows.next_obs))
            return dice.residual(signals(rows.reward), signals(rows.cost), lam, here, there, signals(context.discount))

        def slope_penalty(function, params, context, key):
            rows = context.rows
            u = jax.random.uniform(key, (rows.obs.shape[0], 1))
            between = u * rows.initial_obs + (1.0 - u) * rows.obs
            slope = jax.vmap(jax.jacrev(lambda x: function(params, x[None])[0]))(between)
            norm = jnp.sqrt(jnp.square(slope).sum(axis=-1) + 1e-12)
            return self.gradient_penalty * jnp.square(jax.nn.relu(norm - self.penalty_slope)).mean(axis=0).sum()

        def of_bound(params, context, w, cost):
            """`L_chi + L_tau`, and the weights of the upper bound."""
            rows, gamma = context.rows, context.gamma
            here, there, first = (estimates(chi(params, x)) for x in (rows.obs, rows.next_obs, rows.initial_obs))
            ell = dice.flow(w, cost, here, there, first, signals(context.discount), gamma)
            tau = params["tau"] if released else jnp.exp(params["tau"]) + 1e-6
            bound = jax.lax.stop_gradient(dice.worst_case(ell, tau, axis_name))
            of_chi = (bound.weights * ell).mean(axis=tuple(range(ell.ndim - 1))).sum()
            metrics = {"loss/chi": of_chi, "dice/tau": tau.mean(), "dice/divergence": bound.divergence.mean()}
            return of_chi + (tau * (self.eps - bound.divergence)).sum(), bound.weights, metrics

        def loss(params, slow, context, key):
            rows = context.rows
            e, cost = residual(params, context), signals(rows.cost)
            w = jax.lax.stop_gradient(dice.ratio(e, alpha, f))
            total = dice.nu_loss(nu(params, rows.initial_obs), e, w, alpha, context.gamma, f)
            metrics = {"loss/nu": total}
            costs = w[..., None] * cost
            metrics["dice/plain_cost"] = costs.mean()
            if bounded:
                more, weights, seen = of_bound(params, context, w, cost)
                total, metrics = total + more, metrics | seen
                if not released:
                    costs = weights * costs
            if self.gradient_penalty and not released:
                total += slope_penalty(nu, params, context, key)
                if bounded:
                    total += slope_penalty(chi, params, context, jax.random.fold_in(key, 1))
            own, lam = costs.mean(axis=tuple(range(costs.ndim - 1))), multiplier(params)
            total -= lam @ jax.lax.stop_gradient(own - context.limit)
            metrics |= {f"cost/{i}/multiplier": lam[i] for i in range(m)}
            return Valued(total, metrics, (), own)

        def judge(params, slow, context, key):
            w = dice.ratio(residual(params, context), alpha, f)
            return Judgement(ratio=w.mean(axis=0) if released else w)

        def project(params):
            if not released:
                return params
            held = {"multiplier": jnp.clip(params["multiplier"], 0.0, 1e3)}
            return params | held | ({"tau": jnp.maximum(params["tau"], 1e-6)} if bounded else {})

        return Valuation(init, loss, judge, knows=("ratio",), unit="step", needs=("initial_obs",), project=project)
