"""Gradient steps of CRABS: critics, policy and temperature, and the policy against the certificate's failures."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.algos.model_based.certified.parts import Parts
from jsafe.algos.model_based.certified.state import GUARDED, Rows
from jsafe.components.optim import descend
from jsafe.components.temperature import temperature
from jsafe.ops.stats import psum
from jsafe.types import Array, Steps

UNSAFE = 1000.0
"""What an action is worth at most that may leave the certified set, less than nothing."""


class GradientSteps:
    """`(state, rows, key) -> (state, loss)`, each; states are `CrabsState`."""

    def __init__(self, parts: Parts):
        self.parts = parts

    def rows_of(self, steps: Steps, initial: Array) -> Rows:
        """The first model's share of a minibatch of windows; the initial policy has a reward of its own."""
        p = self.parts
        row = jax.tree.map(lambda x: x[0, :: p.dynamics.size], steps._replace(next_obs=None, extras={}))
        following = steps.obs[1, :: p.dynamics.size]
        z = (following[..., p.which] - p.middle) / p.half
        own = -(p.weights * jnp.square(z)).mean(-1) - p.config.pretrain_effort * jnp.square(row.action).mean(-1)
        own -= p.config.pretrain_penalty * (row.cost[..., 0] > 0)
        return Rows(row.obs, row.action, jnp.where(initial, own, row.reward), row.terminated, row.weight, following)

    def descent(self, state, name, grads):
        """One Adam step of some parameters on gradients of the local share."""
        p = self.parts
        direction, opt_state = p.adam.update(psum(grads, p.axis_name), state.opt_state[name])
        params = descend(state.params[name], direction, state.numbers.learning_rate)
        return state._replace(params={**state.params, name: params}, opt_state={**state.opt_state, name: opt_state})

    def judged(self, state, obs, action):
        """`u(s, a)` under the certificate as it is; below zero while there is none."""
        p = self.parts

        def u():
            return p.worst(p.dynamics.model(state.models), lambda s: p.barrier.value(state.barrier, state.scale, s))(
                obs, action
            )

        return jax.lax.cond(state.phase == GUARDED, u, lambda: jnp.full(obs.shape[:1], -1.0))

    def critic_step(self, state, rows, key):
        """Towards `r + gamma (min Q'(s', a') - alpha log pi)`, on rows after which the policy stays inside."""
        p = self.parts
        draw = p.actor.draw(state.params["actor"], p.scaled(rows.next_obs), key, False)
        alpha = temperature(state.params["log_alpha"])
        weight = rows.weight * (self.judged(state, rows.next_obs, draw.action) <= 0.0)
        soft = p.q_values(state.target, rows.next_obs, draw.action).min(0) - alpha * draw.log_probs["actor"]
        goal = jax.lax.stop_gradient(rows.reward + state.numbers.gamma * ~rows.terminated * soft)
        count = jnp.maximum(psum(weight.sum(), p.axis_name), 1.0)

        def critic_loss(params):
            return (weight * jnp.square(p.q_values(params, rows.obs, rows.action) - goal)).sum() / count

        loss, grads = jax.value_and_grad(critic_loss)(state.params["critic"])
        state = self.descent(state, "critic", grads)
        tau = state.numbers.tau
        target = jax.tree.map(lambda old, new: old + tau * (new - old), state.target, state.params["critic"])
        return state._replace(target=target), psum(loss, p.axis_name)

    def actor_step(self, state, rows, key):
        """Down the slope of `alpha log pi - Q~`, and the temperature after it."""
        p = self.parts
        alpha, count = temperature(state.params["log_alpha"]), jnp.maximum(psum(rows.weight.sum(), p.axis_name), 1.0)

        def actor_loss(params):
            draw = p.actor.draw(params, p.scaled(rows.obs), key, False)
            q = p.q_values(state.params["critic"], rows.obs, draw.action).min(0)
            u = self.judged(state, rows.obs, draw.action)
            masked = jnp.where(u <= 0.0, q, -UNSAFE - u)
            log_prob = draw.log_probs["actor"]
            return (rows.weight * (alpha * log_prob - masked)).sum() / count, log_prob

        def temperature_loss(log_alpha, log_prob):
            return (rows.weight * p.heat.loss(log_alpha, log_prob)).sum() / count

        (loss, log_prob), grads = jax.value_and_grad(actor_loss, has_aux=True)(state.params["actor"])
        state = self.descent(state, "actor", grads)
        state = self.descent(state, "log_alpha", jax.grad(temperature_loss)(state.params["log_alpha"], log_prob))
        params = {**state.params, "log_alpha": p.heat.project(state.params["log_alpha"])}
        return state._replace(params=params), psum(loss, p.axis_name)

    def adversarial_steps(self, state, key):
        """One move of the chains, and the steps that are due to make the policy better where the certificate fails."""
        p = self.parts
        model = p.dynamics.model(state.models)
        at = p.objective(model, state.scale, p.certify.margin)

        def value(s):
            return p.barrier.value(state.barrier, state.scale, s)

        search, seen = p.certify.advance(
            state.search, value, lambda s: at(state.barrier, state.params["actor"], s), key
        )
        inside = value(search.states) < 0.0

        def adversarial_loss(params):
            found = at(state.barrier, params, search.states)
            mask = (inside & (found > 0.0)).astype(jnp.float32)
            return (mask * found).sum() / jnp.maximum(mask.sum(), 1.0), mask.sum() > 0.0

        def body(carry):
            params, opt_state, debt = carry
            grads, fails = jax.grad(adversarial_loss, has_aux=True)(params)
            direction, moved = p.adversary.update(grads, opt_state, params)
            new = (descend(params, direction, state.numbers.adversary_learning_rate), moved)
            # Where nothing fails the penalty of the weights alone would move it.
            kept = jax.tree.map(lambda a, b: jnp.where(fails, a, b), new, (params, opt_state))
            return *kept, debt - state.freq

        first = (state.params["actor"], state.opt_state["adversary"], state.debt + 1.0)
        policy, opt_state, debt = jax.lax.while_loop(lambda carry: carry[2] >= state.freq, body, first)
        params, opt_states = {**state.params, "actor": policy}, {**state.opt_state, "adversary": opt_state}
        return state._replace(params=params, opt_state=opt_states, search=search, debt=debt), seen
