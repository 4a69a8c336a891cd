"""Imagined windows for any off-policy learner: a model of the environment beside it, which multiplies its experience.

One call of `update` (once the replay is full enough) takes a step of the model on each minibatch, lets the policy act
in the model from replayed observations, puts what follows in the place of most of the replayed windows, and updates the
learner inside. Its rule sees what real episodes cost, and nothing else. Where it is known when a goal is met and drawn
anew, nothing is imagined from there on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import registry
from jsafe.algos.model_based.config import check_feed
from jsafe.algos.off_policy import assembly
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.compat import Released
from jsafe.components.dynamics import Dynamics, Ensemble, Heads, transitions
from jsafe.components.dynamics.propagation import imagined
from jsafe.components.known import Auto, Known
from jsafe.components.memories import Frames
from jsafe.components.reward_normalizer import NoNormalizer
from jsafe.ops.stats import psum
from jsafe.options import Options, number, replace, seam
from jsafe.types import Array, EnvSpec, Learner, Part, Steps

SAC_LAG = OffPolicyConfig()
"""The textbook's, under a limit of 25 per episode."""


def _inside(short: str | Callable[[Any], Any]) -> str | Callable[[Any], Any]:
    """A short name of the learner inside."""
    if callable(short):
        return lambda value: {f"inner.{name}": given for name, given in short(value).items()}
    return f"inner.{short}"


@dataclasses.dataclass(frozen=True)
class ImaginationConfig(Options):
    """An off-policy learner and what it imagines.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    inner: OffPolicyConfig = SAC_LAG
    """The learner; its feed says how experience is collected and how many windows an update takes."""
    dynamics: Part = seam("dynamics", Ensemble(size=4), Dynamics)
    """The model."""
    known: Part = seam("known", Auto(), Known)
    """What need not be learnt."""
    rollout: int = number(3, low=1, high=1000)
    """Steps that are imagined from each start: a multiple of the transitions of a window."""
    real_share: float = number(0.25, low=0, below=1)
    """Share of the windows that stay as they were replayed."""
    violation: Literal["constraint", "absorbing"] = "constraint"
    """What a step with a cost means: `constraint`: what it means to the learner; `absorbing`: besides, the episode ends
    there, at a value so low that any action after which a violation within `rollout` steps cannot be avoided is worse
    than any other (SMBPO)."""
    harm: float = number(0.5, low=0)
    """Cost above which a step is a violation, for `absorbing`."""

    SHORT: ClassVar[dict[str, Any]] = {name: _inside(short) for name, short in OffPolicyConfig.SHORT.items()}

    def __post_init__(self):
        super().__post_init__()
        check_feed(dataclasses.replace(self.inner.feed, jumps=True), getattr(self.dynamics, "size", 1))
        steps = self.inner.feed.sequence_length - 1
        if self.rollout % steps:
            raise ValueError(
                f"rollout must be a multiple of inner.feed.sequence_length - 1 = {steps}, got {self.rollout}"
            )
        if self.violation == "absorbing" and (
            self.inner.gamma >= 1 or not isinstance(self.inner.normalizer, NoNormalizer)
        ):
            raise ValueError(
                "violation='absorbing' needs inner.gamma below 1 and rewards as they are: got "
                f"gamma={self.inner.gamma!r}, normalizer={self.inner.normalizer!r}"
            )


class ImaginationState(NamedTuple):
    """The state of the learner inside, of the model, and the least and largest of 0 and the replayed rewards so far."""

    inner: Any
    dynamics: Any
    least: Array
    most: Array


def assemble(config: ImaginationConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds an off-policy learner that imagines.

    Args:
      config: Options.
      spec: What the environment is like; observations are flat, actions continuous.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If a part does not fit the environment.

    Returns:
      A `Learner`, with the metrics of the learner inside and those of the model.

    Collectives: those of the learner inside and of the model; the largest and the least reward of all devices.
    Source: Janner et al. 2019 (arXiv 1906.08253), algorithm 2; Thomas, Luo & Ma 2021 (arXiv 2202.07789), equation 2,
      for `absorbing`.
    """
    known: Known = config.known.build(spec, axis_name)
    part: Any = config.dynamics
    given = {"heads": Heads.beside(known, spec.num_costs)} if isinstance(part, Released) else {}
    dynamics: Dynamics = part.build(spec, axis_name, **given)
    inner = assembly.assemble(config.inner, spec, axis_name)
    feed = dataclasses.replace(config.inner.feed, jumps=True)
    stack, length = feed.frame_stack, feed.sequence_length

    def dream(policy_state, model, steps, count, key):
        """Imagined windows `[T, count, ...]` from the first rows of replayed ones."""
        pieces = config.rollout // (length - 1)
        starts = spread(steps.weight.shape[1], -(-count // pieces))
        obs, weight = steps.obs[0, starts], steps.weight[0, starts]

        def policy(obs, key, t):
            frames: Any = ()
            if stack > 1:  # pushing the newest of them makes them what they are
                frames = Frames(jnp.roll(obs.reshape(len(starts), stack, -1), 1, axis=1), jnp.zeros(len(starts), bool))
                obs = obs.reshape(len(starts), stack, -1)[:, -1]
            return jnp.clip(inner.act(policy_state, frames, obs, key, False).action, -1.0, 1.0)

        seen, action, learnt = imagined(dynamics, model, obs, config.rollout, policy, key, redraw=True, stack=stack)
        newest = seen[..., -spec.obs_dim :]
        heads, step = dynamics.heads, (newest[:-1], action, newest[1:])
        reward = learnt[..., 0] if known.reward is None else known.reward(*step)
        ahead = jnp.arange(1, config.rollout + 1)[:, None]
        cost = known.costs(learnt[..., int(heads.reward) : heads.width], *step, ahead)
        weight = jnp.broadcast_to(weight, seen.shape[:2])
        if known.arrived is not None:
            # Real steps are what teaches the worth of meeting a goal; behind it the model would go on for nothing.
            unmet = jnp.cumsum(known.arrived(newest[1:]), axis=0) == 0
            weight = weight * jnp.concatenate([unmet, unmet[-1:]])
        rows = Steps(
            obs=seen,
            action=padded(action),
            reward=padded(reward),
            cost=padded(cost),
            terminated=jnp.zeros(seen.shape[:2], bool),
            truncated=jnp.zeros(seen.shape[:2], bool),
            next_obs=None,
            weight=weight,
            extras={},
        )
        windows = [jax.tree.map(lambda x, i=i: x[i * (length - 1) :][:length], rows) for i in range(pieces)]
        joined = jax.tree.map(lambda *each: jnp.concatenate(each, axis=1)[:, :count], *windows)
        # The last row of a window is there to bootstrap from.
        return joined._replace(reward=joined.reward.at[-1].set(0.0), cost=joined.cost.at[-1].set(0.0))

    def mixed(policy_state, model, steps, key):
        """A minibatch in which most windows are imagined."""
        width = steps.weight.shape[1]
        real = round(config.real_share * width)
        kept = jax.tree.map(lambda x: x[:, spread(width, real)], steps._replace(extras={}))
        made = dream(policy_state, model, steps, width - real, key)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)], axis=1), kept, made)

    def absorbing(steps, least, most, gamma):
        """Windows in which violations end the episode."""
        worst = (most - least) / gamma**config.rollout - most
        harmed = (steps.cost > config.harm).any(axis=-1)
        return steps._replace(
            reward=jnp.where(harmed, -worst / (1.0 - gamma), steps.reward),
            terminated=steps.terminated | harmed,
            truncated=steps.truncated & ~harmed,
        )

    def init(key):
        inner_key, model_key = jax.random.split(key)
        return ImaginationState(inner.init(inner_key), dynamics.init(model_key), jnp.zeros(()), jnp.zeros(()))

    def learn(state, batch, key):
        steps = batch.steps if feed.updates > 1 else jax.tree.map(lambda x: x[None], batch.steps)
        rows = transitions(dynamics, steps, stack)
        model, told = jax.lax.scan(dynamics.update, dynamics.observe(state.dynamics, rows), rows)
        policy_state, known_model = inner.policy(state.inner), dynamics.model(model)
        keys = jax.random.split(key, feed.updates)
        made = jax.vmap(lambda steps, key: mixed(policy_state, known_model, steps, key))(steps, keys)
        least, most = state.least, state.most
        if config.violation == "absorbing":
            least, most = jnp.minimum(least, steps.reward.min()), jnp.maximum(most, steps.reward.max())
            if axis_name is not None:
                least, most = jax.lax.pmin(least, axis_name), jax.lax.pmax(most, axis_name)
            made = absorbing(made, least, most, state.inner.numbers.gamma)
        made = made if feed.updates > 1 else jax.tree.map(lambda x: x[0], made)
        metrics = {name: x.mean() for name, x in told.items()}
        return state._replace(dynamics=model, least=least, most=most), made, metrics

    def update(state, batch, key):
        model_key, inner_key = jax.random.split(key)
        if axis_name is not None:
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))
        ready = psum(jnp.logical_not(batch.ready).astype(jnp.int32), axis_name) == 0
        given = batch.steps._replace(extras={})
        shapes = jax.eval_shape(learn, state, batch, model_key)[2]
        state, steps, metrics = jax.lax.cond(
            ready,
            lambda s: learn(s, batch, model_key),
            lambda s: (
                s,
                jax.tree.map(jnp.asarray, given),
                jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes),
            ),
            state,
        )
        new, seen = inner.update(state.inner, batch._replace(steps=steps), inner_key)
        return state._replace(inner=new), seen | metrics

    return inner._replace(
        init=init, update=update, policy=lambda state: inner.policy(state.inner), feed=feed, config=config
    )


def spread(width: int, count: int) -> Array:
    """`count` of the numbers below `width`, evenly spread: windows come sorted by environment."""
    return jnp.arange(count) * width // max(count, 1)


def padded(x: Array) -> Array:
    """With a row of zeros at the end."""
    return jnp.concatenate([x, jnp.zeros_like(x[:1])])


def imagining(
    spec: EnvSpec, name: str = "sac_lag", *, preset: str | None = None, axis_name: str | None = None, **options: Any
) -> Learner:
    """A named off-policy learner that imagines.

    Args:
      spec: What the environment is like.
      name: Of an off-policy algorithm.
      preset: Of that algorithm.
      axis_name: Mapped axis to reduce over.
      **options: Of `ImaginationConfig`, those of the learner inside behind `inner.` where they are not unique.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name or option, or a value that is not allowed.

    Example:
      >>> learner = jsafe.imagining(jsafe.EnvSpec(29, 2), "td3_lag", rollout=2, real_share=0.5, sequences=60)
    """
    algorithm = registry.get(name)
    if algorithm.family != "off_policy":
        raise ValueError(f"an off-policy algorithm imagines, {name!r} is {algorithm.family}")
    inner = registry.make_config(algorithm, preset)
    nested = {"inner": inner, "rollout": inner.feed.sequence_length - 1} | options
    return assemble(replace(ImaginationConfig(), nested, "imagining"), spec, axis_name)
