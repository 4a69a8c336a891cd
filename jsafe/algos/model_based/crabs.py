"""CRABS: a policy improves inside a barrier certificate, which grows with it, so that training itself is safe.

    certificate   h(s) = softplus(f(s) - f(s0)) + B(s) - 1,  the safe set is {h < 0}
    worst next    u(s, a) = max_e h(m_e(s, a)) over the means of an ensemble of models
    certified     no s with h(s) < 0 and u(s, pi(s)) + eps > 0
    guard         the first of 100 actions on the way from the proposal to the certified policy's with u(s, a) <= 0

An epoch (one `update`) learns the models from all data, lets chains of states search for failures
(`components.certify`), improves the policy by soft actor-critic on the masked value `Q~ = Q if u <= 0 else -1000 - u`
with adversarial steps on `mean(u + eps)` over the failures in between, and trains h until no failure is found. Then
h, policy and models become the reference, under which the next epoch is guarded; if none is found h goes back to the
reference's. So policies that are not certified yet act only as far as the last certificate lets them.

It begins from nothing (the authors and OmniSafe load intermediate files), in phases that `crabs/phase` tells:

0. *initial policy*: soft actor-critic on `-mean(z^2)` of the bounded components z, scaled to the box, less a penalty
   for leaving it, until nothing has been violated for `quiet_steps`;
1. *trial*: that policy, frozen, acts by its mean in half of the environments and sampled in the others for
   `trial_steps`; a violation leads back to 0. Models and the scale of observations are learned;
2. *certificate*: h is trained with a wider margin, until one is found;
3. *training*, guarded, on the task's own reward.

Violations before 3 are counted as `crabs/pretrain_violations`, those after as `crabs/violations`.

| | the authors, OmniSafe | here |
|---|---|---|
| acceptance of MALA's moves | `|w|^2` in place of half of it | correct (`certify.squares=1` is theirs) |
| the policy's mean, where noise is added | squashed by tanh twice | once |
| models | gated networks of the next state | the ensemble of the planners, of the change |
| set without bounds (velocities) | open | ends at 10 standard deviations (`barrier.reach`) |
| scale of observations | of 1e6 steps of the initial policy | of all data when the trial ends |
| actor's loss | at s' (authors), at s (OmniSafe) | at s |
| guarded actor-critic | after 10 001 updates of the critic (authors) | after `critic_warmup`, critics anew |
| chains before the actor-critic | 2000 moves | they are where the last search left them |

Source: Luo & Ma 2021, Learning barrier certificates: towards safe RL with zero training-time violations
(arXiv 2108.01846), with the authors' code for what the paper leaves open.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe.components.actors import Actor, Gaussian
from jsafe.components.barriers import Barrier, Box, Scale, guard, safe_box, worst_next
from jsafe.components.certify import Certify, Search, Seen
from jsafe.components.dynamics import Dynamics, Ensemble, Heads, Model, transitions
from jsafe.components.dynamics.base import follow
from jsafe.components.optim import descend
from jsafe.components.temperature import Learned, Temperature, temperature
from jsafe.feeds import Replay
from jsafe.nets.perceptron import ensemble, mlp
from jsafe.ops.precision import Precision, with_precision
from jsafe.ops.stats import pmean, psum, running_init, running_update
from jsafe.options import Options, number, seam, traced, traced_values
from jsafe.registry import Algorithm, Preset, register
from jsafe.types import NO_MEMORY, ActOutput, Array, EnvSpec, Learner, Params, Part, PolicyState, Steps

INITIAL, TRIAL, CERTIFICATE, GUARDED = range(4)
"""Phases."""
UNSAFE = 1000.0
"""What an action is worth at most that may leave the certified set, less than nothing."""
FREQUENCY = (0.1, 10.0)
"""Fewest and most actor-critic steps per adversarial step."""


EPOCHS = Replay(
    num_envs=6,
    unroll=1000,
    updates=2000,
    sequences=1280,
    sequence_length=2,
    replay_rows=200_000,
    random_steps=10_000,
)
"""An epoch of the paper's size."""


@dataclasses.dataclass(frozen=True)
class CrabsConfig(Options):
    """Options of CRABS; the defaults are the published sizes, which take hours per epoch without an accelerator."""

    actor: Part = seam("actor", Gaussian(hidden=(64, 64)), Actor)
    """The policy; its own loss is not used."""
    barrier: Part = seam("barrier", Box(), Barrier)
    """The certificate."""
    certify: Part = seam("certificate", Certify(), Certify)
    """How it is looked for."""
    dynamics: Part = seam("dynamics", Ensemble(hidden=(256, 256, 256, 256)), Dynamics)
    """The models."""
    temperature: Part = seam("temperature", Learned(init=0.1), Temperature)
    """How the policy's entropy weighs."""
    feed: Replay = EPOCHS
    """How experience is collected and replayed; each of the E models learns from a share of the windows, the
    actor-critic from the first share."""

    critic_hidden: tuple[int, ...] = number((256, 256), low=1)
    """Hidden widths of the two critics."""
    gamma: float = traced(0.99, low=0, high=1)
    """Discount factor."""
    tau: float = traced(0.005, low=0, high=1)
    """Share of the critics mixed into their slow copies after an update."""
    learning_rate: float = traced(3e-4, above=0)
    """Adam's, of actor, critics and temperature."""
    adversary_learning_rate: float = traced(3e-4, above=0)
    """Adam's, of the actor's adversarial steps."""
    decay: float = number(1e-4, low=0)
    """L2 penalty of the adversarial steps."""
    critic_warmup: int = number(10_000, low=0)
    """Updates of the critics alone with which the guarded phase begins."""
    pretrain_margin: float = number(0.05, low=0)
    """eps while the first certificate is looked for."""
    quiet_steps: int = number(12_000, low=1)
    """Environment steps (all envs) without a violation after which the initial policy is tried."""
    trial_steps: int = number(12_000, low=1)
    """Environment steps of the trial: mean and sampled episodes of the initial policy have to be safe."""
    pretrain_penalty: float = number(10.0, low=0)
    """What leaving the safe box costs the initial policy, in reward."""
    candidates: int = number(100, low=2)
    """Actions that the guard tries."""
    noise: float = number(2.0, low=0)
    """Factor of the policy's noise in every third environment; another third acts at random, the last as the policy."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""

    SHORT: ClassVar[dict[str, Any]] = {
        "hidden": lambda value: dict.fromkeys(
            ("actor.hidden", "barrier.hidden", "dynamics.hidden", "critic_hidden"), value
        ),
        **{name: f"feed.{name}" for name in ("num_envs", "unroll", "sequences", "sequence_length", "updates")},
        **{name: f"feed.{name}" for name in ("frame_stack", "replay_rows", "initial_rows", "random_steps")},
    }

    def __post_init__(self):
        super().__post_init__()
        size = getattr(self.dynamics, "size", 1)
        if self.feed.sequences % size:
            raise ValueError(f"sequences must be a multiple of the models, {size}, got {self.feed.sequences}")
        if self.feed.sequence_length != 2 or self.feed.frame_stack != 1:
            raise ValueError(
                "sequence_length must be 2 and frame_stack 1: states are what the certificate is about, got "
                f"{self.feed.sequence_length} and {self.feed.frame_stack}"
            )


class Core(NamedTuple):
    """What guards: a certificate with the policy and the models for which it was found."""

    barrier: Params
    actor: Params
    model: Model


class Counts(NamedTuple):
    """Scalars: calls of `update`; steps without a violation; violations before and in the guarded phase (float32);
    actor-critic steps of the phase; certificates found."""

    iteration: Array
    quiet: Array
    pretrain_violations: Array
    violations: Array
    updates: Array
    found: Array


class CrabsState(NamedTuple):
    """Everything that an update changes.

    `params` and `opt_state` hold `actor`, `critic` and `log_alpha`, `opt_state` also `adversary` and `barrier`;
    `target` is the critics' slow copy; `models` the dynamics' state; `barrier` h's parameters under way; `scale` of
    its inputs; `core` the reference; `search` the chains; `freq` actor-critic steps per adversarial step, and `debt`
    those that are due.
    """

    phase: Array
    params: dict[str, Params]
    target: Params
    opt_state: dict[str, Any]
    models: Any
    barrier: Params
    scale: Scale
    core: Core
    search: Search
    freq: Array
    debt: Array
    numbers: Any
    counts: Counts


class Rows(NamedTuple):
    """Transitions of one minibatch, `[R, ...]`."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    weight: Array
    next_obs: Array


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
    which, middle, half = safe_box(spec, "crabs")
    actor, barrier, certify, heat = (
        getattr(config, name).build(spec, axis_name) for name in ("actor", "barrier", "certify", "temperature")
    )
    dynamics = config.dynamics.build(spec, axis_name, "paper", Heads(False, 0))  # type: ignore[call-arg]
    critics = ensemble(mlp(spec.obs_dim, 1, config.critic_hidden, late_dim=spec.act_dim, act="relu"), 2)
    start = jnp.array(spec.start, jnp.float32)
    adam = optax.scale_by_adam()
    adversary = optax.chain(optax.add_decayed_weights(config.decay), optax.scale_by_adam())

    # ---- functions of the parts ----------------------------------------------------------------------------------

    def scaled(obs):
        """Bounded components in units of the box, for policy and critics."""
        return obs.at[..., which].set((obs[..., which] - middle) / half)

    def mean_action(params, obs):
        return actor.draw(params, scaled(obs), jax.random.key(0), True).action

    def worst(model, value):
        """`u(s, a)`."""

        def predict(obs, action):
            both = (jnp.broadcast_to(x, (dynamics.size, *x.shape)) for x in (obs, action))
            return follow(obs, dynamics.predict(model, *both).mean)

        return worst_next(value, predict)

    def objective(model, scale, margin):
        """`(barrier params, actor params, obs) -> u(s, pi(s)) + eps`."""

        def at(params, policy, obs):
            u = worst(model, lambda s: barrier.value(params, scale, s))
            return u(obs, mean_action(policy, obs)) + margin

        return at

    def q_values(params, obs, action):
        """Of both critics, `[2, R]`."""
        return critics.apply(params, scaled(obs), action)[..., 0]

    # ---- state ---------------------------------------------------------------------------------------------------

    def fresh_critics(key):
        params = critics.init(key)
        return params, jax.tree.map(jnp.copy, params), adam.init(params)

    def init(key):
        actor_key, critic_key, barrier_key, model_key = jax.random.split(key, 4)
        critic, target, critic_adam = fresh_critics(critic_key)
        params = {"actor": actor.init(actor_key), "critic": critic, "log_alpha": heat.init()}
        certificate, models = barrier.init(barrier_key), dynamics.init(model_key)
        copies = jax.tree.map(jnp.copy, (certificate, params["actor"], dynamics.model(models)))
        zero = jnp.zeros((), jnp.int32)
        return CrabsState(
            phase=jnp.zeros((), jnp.int32),
            params=params,
            target=target,
            opt_state={
                "actor": adam.init(params["actor"]),
                "critic": critic_adam,
                "log_alpha": adam.init(params["log_alpha"]),
                "adversary": adversary.init(params["actor"]),
                "barrier": certify.optimizer().init(certificate),
            },
            models=models,
            barrier=certificate,
            scale=Scale(jnp.zeros(spec.obs_dim), jnp.ones(spec.obs_dim)),
            core=Core(*copies),
            search=certify.blank(spec.obs_dim),
            freq=jnp.float32(1.0),
            debt=jnp.float32(0.0),
            numbers=traced_values(config),
            counts=jax.tree.map(
                jnp.copy, Counts(zero, jnp.float32(0), jnp.float32(0), jnp.float32(0), zero, jnp.float32(0))
            ),
        )

    # ---- learning ------------------------------------------------------------------------------------------------

    def rows_of(steps: Steps, initial: Array) -> Rows:
        """The first model's share of a minibatch of windows; the initial policy has a reward of its own."""
        row = jax.tree.map(lambda x: x[0, :: dynamics.size], steps._replace(next_obs=None, extras={}))
        following = steps.obs[1, :: dynamics.size]
        z = (following[..., which] - middle) / half
        own = -jnp.square(z).mean(-1) - config.pretrain_penalty * (row.cost[..., 0] > 0)
        return Rows(row.obs, row.action, jnp.where(initial, own, row.reward), row.terminated, row.weight, following)

    def descent(state, name, grads):
        """One Adam step of some parameters on gradients of the local share."""
        direction, opt_state = adam.update(psum(grads, axis_name), state.opt_state[name])
        params = descend(state.params[name], direction, state.numbers.learning_rate)
        return state._replace(params={**state.params, name: params}, opt_state={**state.opt_state, name: opt_state})

    def judged(state, obs, action):
        """`u(s, a)` under the certificate as it is; below zero while there is none."""

        def u():
            return worst(dynamics.model(state.models), lambda s: barrier.value(state.barrier, state.scale, s))(
                obs, action
            )

        return jax.lax.cond(state.phase == GUARDED, u, lambda: jnp.full(obs.shape[:1], -1.0))

    def critic_step(state, rows, key):
        """Towards `r + gamma (min Q'(s', a') - alpha log pi)`, on rows after which the policy stays inside."""
        draw = actor.draw(state.params["actor"], scaled(rows.next_obs), key, False)
        alpha = temperature(state.params["log_alpha"])
        weight = rows.weight * (judged(state, rows.next_obs, draw.action) <= 0.0)
        soft = q_values(state.target, rows.next_obs, draw.action).min(0) - alpha * draw.log_probs["actor"]
        goal = jax.lax.stop_gradient(rows.reward + state.numbers.gamma * ~rows.terminated * soft)
        count = jnp.maximum(psum(weight.sum(), axis_name), 1.0)

        def critic_loss(params):
            return (weight * jnp.square(q_values(params, rows.obs, rows.action) - goal)).sum() / count

        loss, grads = jax.value_and_grad(critic_loss)(state.params["critic"])
        state = descent(state, "critic", grads)
        tau = state.numbers.tau
        target = jax.tree.map(lambda old, new: old + tau * (new - old), state.target, state.params["critic"])
        return state._replace(target=target), psum(loss, axis_name)

    def actor_step(state, rows, key):
        """Down the slope of `alpha log pi - Q~`, and the temperature after it."""
        alpha, count = temperature(state.params["log_alpha"]), jnp.maximum(psum(rows.weight.sum(), axis_name), 1.0)

        def actor_loss(params):
            draw = actor.draw(params, scaled(rows.obs), key, False)
            q = q_values(state.params["critic"], rows.obs, draw.action).min(0)
            u = judged(state, rows.obs, draw.action)
            masked = jnp.where(u <= 0.0, q, -UNSAFE - u)
            log_prob = draw.log_probs["actor"]
            return (rows.weight * (alpha * log_prob - masked)).sum() / count, log_prob

        def temperature_loss(log_alpha, log_prob):
            return (rows.weight * heat.loss(log_alpha, log_prob)).sum() / count

        (loss, log_prob), grads = jax.value_and_grad(actor_loss, has_aux=True)(state.params["actor"])
        state = descent(state, "actor", grads)
        state = descent(state, "log_alpha", jax.grad(temperature_loss)(state.params["log_alpha"], log_prob))
        params = {**state.params, "log_alpha": heat.project(state.params["log_alpha"])}
        return state._replace(params=params), psum(loss, axis_name)

    def adversarial_steps(state, key):
        """One move of the chains, and the steps that are due to make the policy better where the certificate fails."""
        model = dynamics.model(state.models)
        at = objective(model, state.scale, certify.margin)

        def value(s):
            return barrier.value(state.barrier, state.scale, s)

        search, seen = certify.advance(state.search, value, lambda s: at(state.barrier, state.params["actor"], s), key)
        inside = value(search.states) < 0.0

        def adversarial_loss(params):
            found = at(state.barrier, params, search.states)
            mask = (inside & (found > 0.0)).astype(jnp.float32)
            return (mask * found).sum() / jnp.maximum(mask.sum(), 1.0)

        def body(carry):
            params, opt_state, debt = carry
            direction, opt_state = adversary.update(jax.grad(adversarial_loss)(params), opt_state, params)
            return descend(params, direction, state.numbers.adversary_learning_rate), opt_state, debt - state.freq

        first = (state.params["actor"], state.opt_state["adversary"], state.debt + 1.0)
        policy, opt_state, debt = jax.lax.while_loop(lambda carry: carry[2] >= state.freq, body, first)
        params, opt_states = {**state.params, "actor": policy}, {**state.opt_state, "adversary": opt_state}
        return state._replace(params=params, opt_state=opt_states, search=search, debt=debt), seen

    # ---- stages of an update -------------------------------------------------------------------------------------

    def learn_models(state, steps):
        """A step of the models for every minibatch; during the trial the scale of observations, too."""
        stats = running_update(
            running_init(spec.obs_dim), steps.obs.reshape(-1, spec.obs_dim), axis_name, steps.weight.reshape(-1)
        )
        std = jnp.maximum(jnp.sqrt(stats.m2 / jnp.maximum(stats.count, 1.0)), 1e-3)
        trial = state.phase == TRIAL
        scale = jax.tree.map(lambda new, old: jnp.where(trial, new, old), Scale(stats.mean, std), state.scale)

        def body(models, minibatch):
            rows = transitions(dynamics, minibatch)
            return dynamics.update(dynamics.observe(models, rows), rows)

        models, metrics = jax.lax.scan(body, state.models, steps)
        return state._replace(models=models, scale=scale), {
            "model/squared_error": metrics["model/squared_error"].mean()
        }

    def improve(state, steps, local, common):
        """Actor-critic on every minibatch; in the guarded phase with adversarial steps in between."""
        initial = state.phase == INITIAL
        nothing = Seen(jnp.float32(0), jnp.float32(0))

        def body(state, inputs):
            minibatch, key, common = inputs
            critic_key, actor_key = jax.random.split(key)
            rows = rows_of(minibatch, initial)
            state, critic_loss = critic_step(state, rows, critic_key)
            state, actor_loss = jax.lax.cond(
                initial | (state.counts.updates >= config.critic_warmup),
                lambda s: actor_step(s, rows, actor_key),
                lambda s: (s, jnp.float32(0)),
                state,
            )
            state, seen = jax.lax.cond(initial, lambda s: (s, nothing), lambda s: adversarial_steps(s, common), state)
            state = state._replace(counts=state.counts._replace(updates=state.counts.updates + 1))
            return state, (critic_loss, actor_loss, seen)

        keys = [jax.random.split(key, config.feed.updates) for key in (local, common)]
        state, found = jax.lax.scan(body, state, (steps, *keys))
        critic_loss, actor_loss, seen = jax.tree.map(jnp.mean, found)
        return state, {"loss/critic": critic_loss, "loss/actor": actor_loss, "crabs/accept": seen.accepted}

    def prove(state, key):
        """Trains h until nothing fails, at most to the end of its patience; what was found becomes the reference."""
        begin_key, train_key, critic_key = jax.random.split(key, 3)
        first, policy, model = state.phase == CERTIFICATE, state.params["actor"], dynamics.model(state.models)
        reference, scale = state.core.barrier, state.scale
        at = objective(model, scale, jnp.where(first, config.pretrain_margin, certify.margin))

        def value(params, s):
            return barrier.value(params, scale, s)

        trained = certify.train(
            state.barrier,
            state.opt_state["barrier"],
            jax.lax.cond(
                first,
                lambda: certify.begin(lambda s: value(state.barrier, s), start, begin_key),
                lambda: state.search,
            ),
            start,
            value,
            lambda params, s: at(params, policy, s),
            train_key,
            lambda s: jnp.where(first, jnp.inf, value(reference, s)),
        )
        found, at_once = trained.clean >= certify.clean, trained.steps <= certify.clean
        freq = jnp.clip(state.freq * jnp.where(found, jnp.where(at_once, 2.0, 1.2), 0.5), *FREQUENCY)
        critic, target, critic_adam = fresh_critics(critic_key)

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

    def proceed(state, measured):
        """Counts what the last batch has violated, and says what phase comes after it."""
        rows = psum(measured.rows, axis_name)
        violations, counts, phase = rows.total.sum(), state.counts, state.phase
        quiet = jnp.where(violations > 0, 0.0, counts.quiet + rows.count)
        guarded = phase == GUARDED
        back = ((phase == TRIAL) | (phase == CERTIFICATE)) & (violations > 0)
        on = ((phase == INITIAL) & (quiet >= config.quiet_steps)) | ((phase == TRIAL) & (quiet >= config.trial_steps))
        counts = counts._replace(
            iteration=counts.iteration + 1,
            quiet=jnp.where(on | back, 0.0, quiet),
            pretrain_violations=counts.pretrain_violations + jnp.where(guarded, 0.0, violations),
            violations=counts.violations + jnp.where(guarded, violations, 0.0),
        )
        return state._replace(phase=jnp.where(back, INITIAL, phase + on).astype(jnp.int32), counts=counts)

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
        state = proceed(state, batch.measured)
        phase = jnp.where(ready, state.phase, INITIAL)  # without data nothing can have been learned
        state = state._replace(phase=phase)
        state, model_metrics = when(ready & (phase >= TRIAL), lambda s: learn_models(s, steps), state)
        acts = (phase == INITIAL) | (phase == GUARDED)
        state, learned = when(ready & acts, lambda s: improve(s, steps, local, common), state)
        state, proved = when(ready & (phase >= CERTIFICATE), lambda s: prove(s, prove_key), state)
        counts = state.counts
        told = {
            "crabs/phase": state.phase,
            "crabs/found": counts.found,
            "crabs/freq": state.freq,
            "crabs/volume": volume(state, common),
            "crabs/violations": counts.violations,
            "crabs/pretrain_violations": counts.pretrain_violations,
            "temperature/actor": temperature(state.params["log_alpha"]),
        }
        metrics = model_metrics | learned | proved | {name: jnp.float32(value) for name, value in told.items()}
        return state, pmean(metrics, axis_name)

    def volume(state, key):
        """Share of the chains' box that is inside the reference's set."""
        box = state.search.box
        z = jax.random.uniform(jax.random.fold_in(key, 1), (1000, spec.obs_dim), minval=-1.0, maxval=1.0)
        inside = barrier.value(state.core.barrier, state.scale, box.centre + box.half * z) < 0.0
        return inside.mean(dtype=jnp.float32) * (state.phase == GUARDED)

    # ---- acting --------------------------------------------------------------------------------------------------

    def policy(state):
        params = {"phase": state.phase, "actor": state.params["actor"], "core": state.core, "scale": state.scale}
        return PolicyState(params)

    def act(policy_state, memory, obs, key, deterministic=False):
        params, rows = policy_state.params, jnp.arange(obs.shape[0])
        core, scale = params["core"], params["scale"]
        mean = mean_action(params["actor"], obs)
        proposal = mean
        guarded = params["phase"] == GUARDED
        if not deterministic:
            sample_key, random_key = jax.random.split(key)
            sampled = actor.draw(params["actor"], scaled(obs), sample_key, False).action
            wider = jnp.clip(mean + config.noise * (sampled - mean), -1.0, 1.0)
            uniform = jax.random.uniform(random_key, mean.shape, minval=-1.0, maxval=1.0)
            kind = (rows % 3)[:, None]
            exploring = jnp.where(kind == 0, wider, jnp.where(kind == 1, uniform, sampled))
            tried = jnp.where((rows % 2)[:, None] == 0, mean, sampled)
            proposal = jnp.where(guarded, exploring, jnp.where(params["phase"] == INITIAL, sampled, tried))
        u = worst(core.model, lambda s: barrier.value(core.barrier, scale, s))
        safe, _ = guard(u, obs, proposal, mean_action(core.actor, obs), config.candidates)
        return ActOutput(jnp.where(guarded, safe, proposal), jnp.zeros(obs.shape[0]), {}, memory)

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, policy, act, NO_MEMORY, config.feed, config, spec)


LAPTOP = {
    "hidden": (64, 64),
    "certify.chains": 256,
    "certify.learning_rate": 1e-3,
    "certify.max_steps": 3000,
    "certify.renew": 100,
    "certify.clean": 400,
    "certify.draws": 2000,
    "critic_warmup": 1000,
    "quiet_steps": 6000,
    "trial_steps": 7200,
    "unroll": 100,
    "updates": 300,
    "random_steps": 1200,
    "initial_rows": 1200,
}

register(
    Algorithm(
        name="crabs",
        family="model_based",
        config=CrabsConfig(),
        build=assemble,
        presets={
            "paper": Preset("The published sizes: hours per epoch without an accelerator.", {}, 1_212_000),
            "laptop": Preset("Small networks, 256 chains, epochs of 600 steps: minutes on a laptop.", LAPTOP, 90_000),
        },
        paper="Luo & Ma 2021, Learning Barrier Certificates, arXiv 2108.01846",
        summary="Improves a policy inside a learned barrier certificate, which guards every action.",
        recommended="laptop",
        module=__name__,
    )
)
