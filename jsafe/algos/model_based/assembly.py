"""The assembler of learners that plan: dynamics x planner x score (x value learner), on replayed transitions.

One call of `update` (once the replay is full enough) makes the model know the scale of its inputs, takes a step of the
model on each minibatch, updates the value learner where there is one, and moves the rule. Acting is a plan: a search
over sequences of actions, one compiled program for all environments; the plan of the last step is the policy's memory.

What `compat="omnisafe"` changes, part by part:

| | paper | omnisafe |
|---|---|---|
| model | trained bounds of the log variance, constant inputs not scaled | fixed bounds, divided by `max(std, 1e-12)` |
| CEM | biased variance of the elites, plans forgotten at an episode's end | unbiased, kept |
| ARC | training executes a weighed candidate | always the mean |
| value of a plan's end | `min Q(s_H, pi(s_H))` | `Q_1(s_H, a_{H-1})`, counts one reward twice |
| the actor's proposals | rollouts in random nets, the first deterministic | one rollout in the first net, copied |
| penalty | spread of observations, each candidate its own | and of the learnt reward, candidates mixed up |
| largest cost | of a particle over the plan | of any particle, step by step |
| rows of the value learner | all | those in which no goal was met |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.algos.model_based.config import ModelBasedConfig
from jsafe.algos.model_based.value import Value
from jsafe.components import compat, normalizers, rules
from jsafe.components.dynamics import Dynamics, Heads, transitions
from jsafe.components.dynamics.propagation import expected, imagined, simulator
from jsafe.components.known import Known
from jsafe.components.planners import Planner
from jsafe.components.rules import NoRule
from jsafe.components.scores import Aim, Score
from jsafe.ops.precision import with_precision
from jsafe.ops.stats import psum
from jsafe.options import replace
from jsafe.types import ActOutput, Array, ConstraintRule, EnvSpec, Learner, Memory, Part, PolicyState


class ModelBasedState(NamedTuple):
    """Everything that an update changes.

    `dynamics` and `value` are the states of those parts (`()` without a value learner); `limit [M]` may be swept.
    `updates` counts minibatches of the model, `iteration` calls of `update`.
    """

    dynamics: Any
    value: Any
    rule: Any
    episodes: Any
    limit: Array
    updates: Array
    iteration: Array


class PlanMemory(NamedTuple):
    """The plan of the last step.

    Attributes:
      mean: `[N, H, A]`.
      steps: `[N]` int32, steps since the episode began: they seed the search of a deterministic policy.
      info: `[N]` each, what the last search has found; collectors show it as `plan/*`.
    """

    mean: Array
    steps: Array
    info: dict[str, Array]


def plans(spec: EnvSpec, planner: Planner) -> Memory:
    """The memory of a policy that plans."""
    names = ["return", "feasible", *(f"cost/{m}" for m in range(spec.num_costs))]

    def init(num_envs: int) -> PlanMemory:
        mean = jnp.zeros((num_envs, planner.horizon, spec.act_dim))
        return PlanMemory(mean, jnp.zeros(num_envs, jnp.int32), {name: jnp.zeros(num_envs) for name in names})

    def reset(memory: PlanMemory, started: Array) -> PlanMemory:
        started = jnp.asarray(started)
        mean = memory.mean if planner.keeps else jnp.where(started[:, None, None], 0.0, memory.mean)
        return memory._replace(mean=mean, steps=jnp.where(started, 0, memory.steps))

    return Memory(init, reset, sees_all=False)


def search(
    spec: EnvSpec, dynamics: Dynamics, known: Known, planner: Planner, score: Score, value: Value | None, **options: Any
) -> Any:
    """`(params, mean [H, A], obs [O], key, explore) -> Planned`, of one environment.

    Args:
      spec: What the environment is like.
      dynamics, known, planner, score, value: Built parts.
      **options: `particles` of each net, `noise` and `released`; see `simulator`.
    """
    released = options["released"]
    simulate = simulator(dynamics, known, spec.num_costs, **options)

    def proposed(params, obs, key):
        """The actor's own rollouts `[H, n, A]`: the first one deterministic."""
        count = 1 if released else planner.proposals
        first = jnp.arange(count)[:, None] == 0

        def policy(obs, key, t):
            assert value is not None
            drawn = value.propose(params["value"], obs, key, False)
            return drawn if released else jnp.where(first, value.propose(params["value"], obs, key, True), drawn)

        nets = jnp.zeros(1, jnp.int32) if released else None
        start = jnp.broadcast_to(obs, (count, *obs.shape))
        _, actions, _ = imagined(dynamics, params["model"], start, planner.horizon, policy, key, nets=nets)
        return jnp.broadcast_to(actions, (planner.horizon, planner.proposals, spec.act_dim))

    def run(params, mean, obs, key, explore):
        propose_key, plan_key = jax.random.split(key)
        aim = Aim(params["limit"], params["kappa"])

        def evaluate(actions, key):
            rollout = simulate(params["model"], obs, actions, key)
            terminal: Array | float = 0.0
            if value is not None:
                last = jnp.broadcast_to(actions[-1], (*rollout.reward.shape, actions.shape[-1]))
                flat = (x.reshape(-1, x.shape[-1]) for x in (rollout.final, last))
                worth = value.end(params["value"], *flat).reshape(rollout.reward.shape)
                terminal = rollout.left * worth + rollout.afresh * value.afresh(params["value"])
            return score.judge(rollout, terminal, aim, planner.enough)

        proposals = proposed(params, obs, propose_key) if value is not None and planner.proposals else None
        return planner.plan(mean, evaluate, proposals, plan_key, explore)

    return run


def assemble(config: ModelBasedConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds a learner that plans from its parts.

    Args:
      config: Options.
      spec: What the environment is like; observations are flat, actions continuous.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the number of limits does not fit, a part does not fit the environment, or a rule has nothing to
        move.

    Returns:
      A `Learner`.

    Collectives: `psum` of the model's gradients, moments and counts, of costs and episode sums and of `ready` (all
      devices have to be); those of the value learner.
    Source: Chua et al. 2018 (arXiv 1805.12114); the papers of the planners and scores.
    """
    feed, limit, released = config.feed, config.limit, config.compat == "omnisafe"
    limit.values(spec.num_costs)
    known: Known = config.known.build(spec, axis_name)
    heads = Heads.beside(known, spec.num_costs)

    def built(name, **told):
        part: Any = getattr(config, name)
        given = {"compat": config.compat, **told} if isinstance(part, compat.Released) else {}
        return part.build(spec, axis_name, **given)

    dynamics: Dynamics = built("dynamics", heads=heads)
    planner: Planner = built("planner")
    score: Score = built("score", steps=planner.horizon)
    value: Value | None = built("value", nets=dynamics.size)
    rule: ConstraintRule = config.rule.build(spec, axis_name)
    if not (score.uses_kappa or isinstance(config.rule, NoRule)):
        raise ValueError("a rule moves the weight of the model's ignorance, which only score='penalised' has")
    plan = search(
        spec,
        dynamics,
        known,
        planner,
        score,
        value,
        particles=config.particles // dynamics.size,
        noise=config.noise,
        released=released,
        discount=config.discount,
    )

    def init(key):
        model_key, value_key = jax.random.split(key)
        return ModelBasedState(
            dynamics=dynamics.init(model_key),
            value=() if value is None else value.init(value_key),
            rule=rule.init(),
            episodes=normalizers.window_init(limit.window, spec.num_costs),
            limit=limit.array(spec.num_costs),
            updates=jnp.zeros((), jnp.int32),
            iteration=jnp.zeros((), jnp.int32),
        )

    def learn(state, batch, key):
        """All updates of the model and of the value learner, and their metrics."""
        rows = transitions(dynamics, batch.steps)
        rows = rows if feed.updates > 1 else jax.tree.map(lambda x: x[None], rows)
        model, told = jax.lax.scan(dynamics.update, dynamics.observe(state.dynamics, rows), rows)
        metrics = {name: x.mean() for name, x in told.items()}
        state = state._replace(dynamics=model, updates=state.updates + feed.updates)
        if value is not None:
            new, seen = value.update(state.value, batch, key)
            state, metrics = state._replace(value=new), metrics | seen
        return state, metrics

    def update(state, batch, key):
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        window, costs = normalizers.measure_ended(state.episodes, batch.measured, limit.window, spec.horizon, axis_name)
        aim = limit.aim(state.limit)
        ready, ended = psum((jnp.logical_not(batch.ready).astype(jnp.int32), batch.measured.episodes.count), axis_name)
        shapes = jax.eval_shape(learn, state, batch, key)[1]
        state, metrics = jax.lax.cond(
            ready == 0,
            lambda s: learn(s, batch, key),
            lambda s: (s, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)),
            state,
        )
        pace: dict[str, Any] = {"steps": feed.steps_per_batch * spec.action_repeat, "warmup": feed.random_steps}
        moved = rules.paced(
            rule, state.rule, costs.J_episodic, aim, iteration=state.iteration, interval=config.rule_interval, **pace
        )
        due = (ended > 0) | (config.rule_interval is not None)
        moved = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, state.rule)
        state = state._replace(episodes=window, rule=moved, iteration=state.iteration + 1)
        weights = rules.multiplier(rule.weights(moved, costs.J_episodic, aim))
        told = limit.metrics(costs.J_episodic, costs.per_step, state.limit, weights)
        return state, told | metrics | {"train/updates": state.updates.astype(jnp.float32)}

    def policy(state):
        aim = limit.aim(state.limit)
        kappa = rules.multiplier(rule.weights(state.rule, aim, aim))
        params = {"model": dynamics.model(state.dynamics), "limit": aim, "kappa": kappa}
        return PolicyState(params if value is None else params | {"value": value.params(state.value)})

    def act(policy_state, memory, obs, key, deterministic=False):
        count = obs.shape[0]
        if deterministic:
            fixed = jax.random.split(jax.random.key(0), count)
            keys = jax.vmap(jax.random.fold_in)(fixed, memory.steps)
        else:
            keys = jax.random.split(key, count)
        found = jax.vmap(lambda *each: plan(policy_state.params, *each, not deterministic))(memory.mean, obs, keys)
        after = PlanMemory(found.mean, memory.steps + 1, found.info)
        # Of use to a film alone: nobody else asks for extras, and what is not asked for is not computed.
        path = jax.vmap(lambda obs, mean: expected(dynamics, policy_state.params["model"], obs, mean))(obs, found.mean)
        return ActOutput(found.action, jnp.zeros(count), found.info | {"plan": path}, after)

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, policy, act, plans(spec, planner), feed, config, spec)


def model_based(
    spec: EnvSpec,
    *,
    planner: str | Part | Planner = "cem",
    score: str | Part | Score = "constrained",
    value: str | Part | Value | None = None,
    known: str | Part | Known = "auto",
    rule: str | Part | ConstraintRule = "none",
    axis_name: str | None = None,
    **options: Any,
) -> Learner:
    """Any planner with any score.

    Args:
      spec: What the environment is like.
      planner: The name of a kind of planner, a part (`CEM(samples=256)`), or a `Planner` of one's own.
      score: Likewise.
      value: Likewise, who values the ends of plans; None: nobody.
      known: Likewise, what need not be learnt.
      rule: Likewise, what moves the weight of the model's ignorance (`score="penalised"`).
      axis_name: Mapped axis to reduce over.
      **options: Other options of `ModelBasedConfig` and of its parts, as `jsafe.options.replace` takes them.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or a value that is not allowed.

    Example:
      >>> learner = jsafe.model_based(jsafe.EnvSpec(29, 2), planner="arc", value="sac", cost_limit=1.0)
    """
    changes = {"planner": planner, "score": score, "value": value or "none", "known": known, "rule": rule, **options}
    return assemble(replace(ModelBasedConfig(), changes, "model_based"), spec, axis_name)
