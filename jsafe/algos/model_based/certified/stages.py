"""The stages of an epoch of CRABS: learn the models, improve the policy, prove it safe, go on to the next phase."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.algos.model_based.certified.parts import Parts
from jsafe.algos.model_based.certified.state import CERTIFICATE, GUARDED, INITIAL, TRIAL, Core
from jsafe.algos.model_based.certified.steps import GradientSteps
from jsafe.components.barriers import Scale
from jsafe.components.certify import Seen
from jsafe.components.critics import polyak
from jsafe.components.dynamics import transitions
from jsafe.ops.stats import psum, running_init, running_update

FREQUENCY = (0.1, 10.0)
"""Fewest and most actor-critic steps per adversarial step."""


class Stages:
    """`(state, ...) -> (state, metrics)`, each; states are `CrabsState`."""

    def __init__(self, parts: Parts):
        self.parts, self.steps = parts, GradientSteps(parts)

    def learn_models(self, state, steps):
        """A step of the models for every minibatch; during the trial the scale of observations, too."""
        p = self.parts
        stats = running_update(
            running_init(p.spec.obs_dim), steps.obs.reshape(-1, p.spec.obs_dim), p.axis_name, steps.weight.reshape(-1)
        )
        std = jnp.maximum(jnp.sqrt(stats.m2 / jnp.maximum(stats.count, 1.0)), 1e-3)
        trial = state.phase == TRIAL
        scale = jax.tree.map(lambda new, old: jnp.where(trial, new, old), Scale(stats.mean, std), state.scale)

        def body(models, minibatch):
            rows = transitions(p.dynamics, minibatch)
            return p.dynamics.update(p.dynamics.observe(models, rows), rows)

        models, metrics = jax.lax.scan(body, state.models, steps)
        return state._replace(models=models, scale=scale), {
            "model/squared_error": metrics["model/squared_error"].mean()
        }

    def improve(self, state, steps, local, common):
        """Actor-critic on every minibatch; in the guarded phase with adversarial steps in between."""
        p = self.parts
        initial = state.phase == INITIAL
        nothing = Seen(jnp.float32(0), jnp.float32(0))

        def body(state, inputs):
            minibatch, key, common = inputs
            critic_key, actor_key = jax.random.split(key)
            rows = self.steps.rows_of(minibatch, initial)
            state, critic_loss = self.steps.critic_step(state, rows, critic_key)
            state, actor_loss = jax.lax.cond(
                initial | (state.counts.updates >= p.config.critic_warmup),
                lambda s: self.steps.actor_step(s, rows, actor_key),
                lambda s: (s, jnp.float32(0)),
                state,
            )
            rate = jnp.where(initial, p.config.pretrain_average, 0.0)
            average = polyak(state.core.actor, state.params["actor"], rate)
            state = state._replace(core=state.core._replace(actor=average))
            state, seen = jax.lax.cond(
                initial, lambda s: (s, nothing), lambda s: self.steps.adversarial_steps(s, common), state
            )
            state = state._replace(counts=state.counts._replace(updates=state.counts.updates + 1))
            return state, (critic_loss, actor_loss, seen)

        keys = [jax.random.split(key, p.config.feed.updates) for key in (local, common)]
        state, found = jax.lax.scan(body, state, (steps, *keys))
        critic_loss, actor_loss, seen = jax.tree.map(jnp.mean, found)
        return state, {"loss/critic": critic_loss, "loss/actor": actor_loss, "crabs/accept": seen.accepted}

    def prove(self, state, key):
        """Trains h until nothing fails, at most to the end of its patience; what was found becomes the reference."""
        p = self.parts
        begin_key, train_key, critic_key = jax.random.split(key, 3)
        first, policy, model = state.phase == CERTIFICATE, state.params["actor"], p.dynamics.model(state.models)
        reference, scale = state.core.barrier, state.scale
        at = p.objective(model, scale, jnp.where(first, p.config.pretrain_margin, p.certify.margin))

        def value(params, s):
            return p.barrier.value(params, scale, s)

        trained = p.certify.train(
            state.barrier,
            state.opt_state["barrier"],
            jax.lax.cond(
                first,
                lambda: p.certify.begin(
                    lambda s: value(state.barrier, s), lambda s: at(state.barrier, policy, s), p.start, begin_key
                ),
                lambda: state.search,
            ),
            p.start,
            value,
            lambda params, s: at(params, policy, s),
            train_key,
            lambda s: jnp.where(first, jnp.inf, value(reference, s)),
        )
        found, at_once = trained.clean >= p.certify.clean, trained.steps <= p.certify.clean
        freq = jnp.clip(state.freq * jnp.where(found, jnp.where(at_once, 2.0, 1.2), 0.5), *FREQUENCY)
        critic, target, critic_adam = p.fresh_critics(critic_key)

        def either(which, new, old):
            return jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)

        begins = first & found
        opt_state = state.opt_state | {"barrier": trained.opt_state}
        state = state._replace(
            phase=jnp.where(begins, GUARDED, state.phase).astype(jnp.int32),
            core=either(found, Core(trained.params, policy, model), state.core),
            barrier=either(found | first, trained.params, reference),
            search=trained.search,
            freq=jnp.where(first, state.freq, freq),
            params=state.params | {"critic": either(begins, critic, state.params["critic"])},
            target=either(begins, target, state.target),
            opt_state=opt_state | {"critic": either(begins, critic_adam, opt_state["critic"])},
            counts=state.counts._replace(
                found=state.counts.found + found, updates=jnp.where(begins, 0, state.counts.updates)
            ),
        )
        return state, {"crabs/masked": trained.seen.masked, "crabs/steps": trained.steps.astype(jnp.float32)}

    def proceed(self, state, measured):
        """Counts what the last batch has violated, and says what phase comes after it."""
        p = self.parts
        rows = psum(measured.rows, p.axis_name)
        violations, counts, phase = rows.total.sum(), state.counts, state.phase
        quiet = jnp.where(violations > 0, 0.0, counts.quiet + rows.count)
        guarded = phase == GUARDED
        back = ((phase == TRIAL) | (phase == CERTIFICATE)) & (violations > 0)
        on = ((phase == INITIAL) & (quiet >= p.config.quiet_steps)) | (
            (phase == TRIAL) & (quiet >= p.config.trial_steps)
        )
        counts = counts._replace(
            iteration=counts.iteration + 1,
            quiet=jnp.where(on | back, 0.0, quiet),
            pretrain_violations=counts.pretrain_violations + jnp.where(guarded, 0.0, violations),
            violations=counts.violations + jnp.where(guarded, violations, 0.0),
        )
        # Until there is a certificate the core's policy is the average of phase 0: it is what the trial is for.
        tried = on & (phase == INITIAL)
        actor = jax.tree.map(lambda new, old: jnp.where(tried, new, old), state.core.actor, state.params["actor"])
        phase = jnp.where(back, INITIAL, phase + on).astype(jnp.int32)
        return state._replace(phase=phase, counts=counts, params={**state.params, "actor": actor})

    def volume(self, state, key):
        """Share of the chains' box that is inside the reference's set."""
        p = self.parts
        box = state.search.box
        z = jax.random.uniform(jax.random.fold_in(key, 1), (1000, p.spec.obs_dim), minval=-1.0, maxval=1.0)
        inside = p.barrier.value(state.core.barrier, state.scale, box.centre + box.half * z) < 0.0
        return inside.mean(dtype=jnp.float32) * (state.phase == GUARDED)
