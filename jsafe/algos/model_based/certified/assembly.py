"""Assembles CRABS."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.algos.model_based.certified.config import CrabsConfig
from jsafe.algos.model_based.certified.parts import Parts
from jsafe.algos.model_based.certified.stages import Stages
from jsafe.algos.model_based.certified.state import (
    CERTIFICATE,
    GUARDED,
    INITIAL,
    TRIAL,
    Core,
    Counts,
    CrabsState,
)
from jsafe.components.barriers import Scale, guard
from jsafe.components.temperature import temperature
from jsafe.ops.precision import with_precision
from jsafe.ops.stats import pmean, psum
from jsafe.options import traced_values
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Learner, PolicyState


def assemble(config: CrabsConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds a CRABS learner.

    Args:
      config: Options.
      spec: Of an environment that says what is safe and where it begins (`spec.safe`, `spec.start`).
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the environment says neither.

    Returns:
      A `Learner`; one `update` is an epoch.

    Collectives: `psum` of the gradients of critics, actor, temperature and models, of observation statistics and of
      violations. Every device searches for failures with the same random numbers.
    """
    parts = Parts(config, spec, axis_name)
    stages = Stages(parts)

    def init(key):
        actor_key, critic_key, barrier_key, model_key = jax.random.split(key, 4)
        critic, target, critic_adam = parts.fresh_critics(critic_key)
        params = {"actor": parts.actor.init(actor_key), "critic": critic, "log_alpha": parts.heat.init()}
        certificate, models = parts.barrier.init(barrier_key), parts.dynamics.init(model_key)
        copies = jax.tree.map(jnp.copy, (certificate, params["actor"], parts.dynamics.model(models)))
        zero = jnp.zeros((), jnp.int32)
        return CrabsState(
            phase=jnp.zeros((), jnp.int32),
            params=params,
            target=target,
            opt_state={
                "actor": parts.adam.init(params["actor"]),
                "critic": critic_adam,
                "log_alpha": parts.adam.init(params["log_alpha"]),
                "adversary": parts.adversary.init(params["actor"]),
                "barrier": parts.certify.optimizer().init(certificate),
            },
            models=models,
            barrier=certificate,
            scale=Scale(jnp.zeros(spec.obs_dim), jnp.ones(spec.obs_dim)),
            core=Core(*copies),
            search=parts.certify.blank(spec.obs_dim),
            freq=jnp.float32(1.0),
            debt=jnp.float32(0.0),
            numbers=traced_values(config),
            counts=jax.tree.map(
                jnp.copy, Counts(zero, jnp.float32(0), jnp.float32(0), jnp.float32(0), zero, jnp.float32(0))
            ),
        )

    def when(condition, stage, state):
        """A stage where it is due; otherwise the state as it is, and zeros for its metrics."""
        names = jax.eval_shape(stage, state)[1]
        return jax.lax.cond(
            condition, stage, lambda s: (s, {name: jnp.zeros(x.shape, x.dtype) for name, x in names.items()}), state
        )

    def update(state, batch, key):
        common, prove_key = jax.random.split(key)
        local = common if axis_name is None else jax.random.fold_in(common, jax.lax.axis_index(axis_name))
        ready = psum(jnp.logical_not(batch.ready).astype(jnp.int32), axis_name) == 0
        steps = batch.steps
        if config.feed.updates == 1:
            steps = jax.tree.map(lambda x: x[None], steps)
        state = stages.proceed(state, batch.measured)
        phase = jnp.where(ready, state.phase, INITIAL)  # without data nothing can have been learned
        state = state._replace(phase=phase)
        state, model_metrics = when(ready & (phase >= TRIAL), lambda s: stages.learn_models(s, steps), state)
        acts = (phase == INITIAL) | (phase == GUARDED)
        state, learned = when(ready & acts, lambda s: stages.improve(s, steps, local, common), state)
        state, proved = when(ready & (phase >= CERTIFICATE), lambda s: stages.prove(s, prove_key), state)
        counts = state.counts
        told = {
            "crabs/phase": state.phase,
            "crabs/found": counts.found,
            "crabs/freq": state.freq,
            "crabs/volume": stages.volume(state, common),
            "crabs/violations": counts.violations,
            "crabs/pretrain_violations": counts.pretrain_violations,
            "temperature/actor": temperature(state.params["log_alpha"]),
        }
        metrics = model_metrics | learned | proved | {name: jnp.float32(value) for name, value in told.items()}
        return state, pmean(metrics, axis_name)

    def policy(state):
        params = {"phase": state.phase, "actor": state.params["actor"], "core": state.core, "scale": state.scale}
        return PolicyState(params)

    def act(policy_state, memory, obs, key, deterministic=False):
        params, rows = policy_state.params, jnp.arange(obs.shape[0])
        core, scale = params["core"], params["scale"]
        mean = parts.mean_action(params["actor"], obs)
        proposal = mean
        guarded = params["phase"] == GUARDED
        if not deterministic:
            sample_key, random_key = jax.random.split(key)
            sampled = parts.actor.draw(params["actor"], parts.scaled(obs), sample_key, False).action
            wider = jnp.clip(mean + config.noise * (sampled - mean), -1.0, 1.0)
            uniform = jax.random.uniform(random_key, mean.shape, minval=-1.0, maxval=1.0)
            kind = (rows % 3)[:, None]
            exploring = jnp.where(kind == 0, wider, jnp.where(kind == 1, uniform, sampled))
            tried = jnp.where((rows % 2)[:, None] == 0, mean, sampled)
            proposal = jnp.where(guarded, exploring, jnp.where(params["phase"] == INITIAL, sampled, tried))
        u = parts.worst(core.model, lambda s: parts.barrier.value(core.barrier, scale, s))
        safe, _ = guard(u, obs, proposal, parts.mean_action(core.actor, obs), config.candidates)
        return ActOutput(jnp.where(guarded, safe, proposal), jnp.zeros(obs.shape[0]), {}, memory)

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, policy, act, NO_MEMORY, config.feed, config, spec)
