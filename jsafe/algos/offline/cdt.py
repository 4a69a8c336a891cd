"""CDT: a causal transformer that is told what is still to be earned and to be spent, and acts as if it came true.

    tokens of a step   R_t = sum_{i >= t} r_i,  C_t = sum_{i >= t} c_i,  s_t,  a_t;  the last L steps
    L    = -mean log pi(a_t | .. s_t) - alpha mean H(pi) + w mean BCE(c_t > 0 | .. a_t)
    L_a  = log alpha (H - H_target)
    act:   R_0 = R*, C_0 = k, each less what has come since

R* is `target_return`; by default the return of the best recorded episode within the limit, as far as episodes have been
drawn.

Source: Liu et al. 2023, Constrained decision transformer for offline safe reinforcement learning, ICML, arXiv
2302.07351, and OSRL (03a4586). Differences: no augmented episodes (theirs: returns that nobody had, in a fifth of the
rows); episodes count alike (theirs: drawn with a probability like max(0, 70 - C): `reach=70`); costs to go are scaled
like returns, and go in as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from jsafe.algos.offline import fitting
from jsafe.components import memories
from jsafe.components.limits import CostLimit
from jsafe.components.optim import clip_norm, descend
from jsafe.components.temperature import Learned, Temperature, temperature
from jsafe.components.transforms.remaining import RemainingParams, remaining_budget
from jsafe.distributions import gaussian
from jsafe.feeds import Dataset
from jsafe.nets.transformer import transformer
from jsafe.ops.precision import Precision, with_precision
from jsafe.ops.stats import pmean
from jsafe.options import Options, number, seam, traced, traced_values
from jsafe.registry import Algorithm, Preset, register
from jsafe.types import ActOutput, Array, EnvSpec, Key, Learner, Params, Part, PolicyState, Steps

WINDOWS = Dataset(batch_size=2048, length=10)
"""The minibatch of the paper: windows of ten steps."""
LOG_STD = (-20.0, 2.0)
"""Bounds of the log deviation."""


@dataclasses.dataclass(frozen=True)
class CDTConfig(Options):
    """Options of CDT; the defaults are the paper's.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    hidden: tuple[int, ...] = number((128, 128, 128), low=1)
    """A block of the transformer for each; all are equally wide."""
    heads: int = number(8, low=1)
    """Heads of the attention; a divisor of the width."""
    dropout: float = number(0.1, low=0, below=1)
    """Share of units that are left out while learning."""
    scale: float = number(0.1, above=0)
    """Of returns and costs to go, before they meet the network."""
    target_return: float | None = number(None)
    """R*, the return that it is asked for; None: the best of an episode within the limit."""
    reach: float | None = number(None, above=0)
    """Episodes weigh `max(0, 1 - C / reach)`; None: all alike."""
    cost_weight: float = number(0.02, low=0)
    """w, of foretelling whether a step costs something."""
    temperature: Part = seam("temperature", Learned(init=0.1), Temperature)
    """How the entropy is weighed."""
    learning_rate: float = traced(1e-4, above=0)
    """AdamW's, and Adam's of the temperature."""
    weight_decay: float = traced(1e-4, low=0)
    """Of the network."""
    max_grad_norm: float | None = number(0.25, above=0)
    """Of the network's gradient."""
    rate_warmup: int = number(500, low=0)
    """Updates over which the rate rises from 0."""
    limit: CostLimit = CostLimit()
    """What the costs may be; what it asks for, no gradient depends on it."""
    feed: Dataset = WINDOWS
    """What is drawn from the data set; `length` is the number of steps that it looks back on, its own one included."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""

    SHORT: ClassVar[dict[str, str | Callable[[Any], dict[str, Any]]]] = {
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        "context": "feed.length",
        **{name: f"feed.{name}" for name in ("batch_size", "updates", "filter", "fraction")},
    }

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.hidden)) != 1 or self.hidden[0] % self.heads:
            raise ValueError(
                f"hidden must be equal widths, multiples of heads ({self.heads}), one for each block, got {self.hidden}"
            )
        if self.feed.length < 2:
            raise ValueError(f"feed.length must be at least 2, got {self.feed.length}")


class Wish(NamedTuple):
    """The best episode so far: by how much it exceeds the limits, and what it earned (scalars)."""

    excess: Array
    earned: Array


class CDTState(NamedTuple):
    """Network and log temperature, their optimisers' states, the best episode, limits `[M]`, traced numbers, gradient
    steps so far."""

    params: Params
    log_alpha: Array
    opt_state: Any
    wish: Wish
    limit: Array
    numbers: Any
    updates: Array


def assemble(config: CDTConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds the learner.

    Args:
      config: Options.
      spec: What the environment is like; observations are flat, actions continuous.
      axis_name: Mapped axis to reduce over.

    Raises:
      ValueError: If the number of limits does not fit, or observations are not flat.

    Returns:
      A `Learner` that is fed with windows `[K, L, B, ...]` of a data set, and remembers the last L steps when it acts.

    Collectives: `pmean` of gradients and metrics, `pmin` and `pmax` of the best episode.
    """
    fitting.check_flat(spec)
    config.limit.values(spec.num_costs)
    m, width, length = spec.num_costs, spec.act_dim, config.feed.length
    net = transformer(
        spec.obs_dim,
        width,
        m,
        spec.horizon,
        width=config.hidden[0],
        blocks=len(config.hidden),
        heads=config.heads,
        dropout=config.dropout,
    )
    alpha, adam = config.temperature.build(spec, axis_name).serving(("actor",)), optax.scale_by_adam()
    extras = ("return_to_go", "cost_to_go", "step", "episode_return", "episode_cost")
    feed = dataclasses.replace(config.feed, extras=extras, transform=remaining_budget(m, wish=True))
    memory = memories.window({"told": (1 + m,), "obs": (spec.obs_dim,), "action": (width,), "step": ()}, length)

    def policy_of(out: Array) -> gaussian.Gaussian:
        return gaussian.Gaussian(out[..., :width], jnp.clip(out[..., width:], *LOG_STD))

    def losses(params, log_alpha, steps: Steps, key: Key):
        """Of B windows, `[B, L, ...]`."""
        told = jnp.concatenate([steps.extras["return_to_go"][..., None], steps.extras["cost_to_go"]], axis=-1)
        weight = cast(Array, steps.weight)  # rows of a data set have one
        real = weight > 0
        if config.reach is not None:
            weight = weight * jnp.maximum(0.0, 1 - steps.extras["episode_cost"].sum(axis=-1) / config.reach)

        def mean(rows):
            return (weight * rows).sum() / jnp.maximum(weight.sum(), 1e-6)

        out = net.apply(params, config.scale * told, steps.obs, steps.action, steps.extras["step"], real, key)
        policy = policy_of(out.action)
        log_prob, entropy = gaussian.log_prob(policy, steps.action), gaussian.entropy(policy)
        missed = optax.sigmoid_binary_cross_entropy(out.cost, (steps.cost > 0).astype(jnp.float32)).sum(axis=-1)
        told_apart = {
            "loss/actor": -mean(log_prob),
            "loss/foretold_cost": mean(missed),
            "policy/entropy": mean(entropy),
        }
        loss = -mean(log_prob) - temperature(log_alpha) * mean(entropy) + config.cost_weight * mean(missed)
        return loss + mean(alpha.loss(log_alpha, -entropy)), told_apart

    def episodic(state) -> Array:
        return config.limit.per_episode(config.limit.aim(state.limit), spec.horizon)

    def wished(state, steps: Steps) -> Wish:
        """The best of the episodes drawn by now: the least beyond the limits, then the largest return."""
        excess = jnp.maximum(steps.extras["episode_cost"] - episodic(state), 0.0).sum(axis=-1)
        least = jnp.minimum(state.wish.excess, excess.min())
        least = least if axis_name is None else jax.lax.pmin(least, axis_name)
        earned = jnp.where(excess <= least, steps.extras["episode_return"], -jnp.inf).max()
        earned = earned if axis_name is None else jax.lax.pmax(earned, axis_name)
        return Wish(least, jnp.maximum(earned, jnp.where(state.wish.excess <= least, state.wish.earned, -jnp.inf)))

    def gradient_step(state, inputs):
        steps, key = inputs
        steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
        moved = (state.params, state.log_alpha)
        grads, metrics = jax.grad(lambda p: losses(p[0], p[1], steps, key), has_aux=True)(moved)
        of_net, of_alpha = pmean(grads, axis_name)
        grads = (clip_norm(of_net, config.max_grad_norm), of_alpha)
        (step, alpha_step), opt_state = adam.update(grads, state.opt_state, moved)
        step = jax.tree.map(lambda u, p: u + state.numbers.weight_decay * p, step, state.params)
        rate = state.numbers.learning_rate * jnp.minimum((state.updates + 1) / max(config.rate_warmup, 1), 1.0)
        state = state._replace(
            params=descend(state.params, step, rate),
            log_alpha=alpha.project(state.log_alpha - state.numbers.learning_rate * alpha_step),
            opt_state=opt_state,
            wish=wished(state, steps),
            updates=state.updates + 1,
        )
        return state, metrics

    def init(key):
        params, log_alpha = net.init(key), alpha.init()
        return CDTState(
            params=params,
            log_alpha=log_alpha,
            opt_state=adam.init((params, log_alpha)),
            wish=Wish(jnp.float32(jnp.inf), jnp.float32(-jnp.inf)),
            limit=config.limit.array(m),
            numbers=traced_values(config),
            updates=jnp.zeros((), jnp.int32),
        )

    def update(state, batch, key):
        state, metrics = fitting.minibatches(gradient_step, state, batch.steps, key, axis_name)
        told = {"policy/temperature": temperature(state.log_alpha), "policy/target_return": target(state)}
        return state, metrics | config.limit.columns(state.limit) | told

    def target(state) -> Array:
        """R*; 0 before the first update."""
        wish = state.wish.earned if config.target_return is None else jnp.float32(config.target_return)
        return jnp.where(jnp.isfinite(wish), wish, 0.0)

    def policy(state):
        asked = RemainingParams(episodic(state), jnp.float32(spec.horizon), target(state)[None])
        return PolicyState(state.params, (), asked)

    def act(policy_state, memory, obs, key, deterministic=False):
        seen, left, time, wish = jnp.split(obs, (spec.obs_dim, spec.obs_dim + m, spec.obs_dim + m + 1), axis=-1)
        told = config.scale * jnp.concatenate([wish, jnp.maximum(left, 0.0)], axis=-1)
        nothing = jnp.zeros((obs.shape[0], width))
        row = {"told": told, "obs": seen, "action": nothing, "step": spec.horizon - time[:, 0]}
        memory, real = memories.append(memory, row)
        past = memory.rows
        step = past["step"].astype(jnp.int32)
        out = net.apply(policy_state.params, past["told"], past["obs"], past["action"], step, real, None)
        choice = policy_of(out.action[:, -1])
        action = jnp.clip(choice.mean if deterministic else gaussian.sample(choice, key), -1.0, 1.0)
        done = past | {"action": past["action"].at[:, -1].set(action)}
        return ActOutput(action, jnp.zeros(action.shape[0]), {}, memory._replace(rows=done))

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, policy, act, memory, feed, config, spec)


register(
    Algorithm(
        name="cdt",
        family="offline",
        config=CDTConfig(),
        build=assemble,
        presets={
            "jsafe": Preset(
                "Two blocks of 64 and minibatches of 128 windows.",
                {"hidden": (64, 64), "heads": 4, "batch_size": 128, "learning_rate": 1e-3},
                50_000,
            )
        },
        paper="Liu et al. 2023, Constrained decision transformer for offline safe reinforcement learning, ICML, "
        "arXiv 2302.07351",
        summary="A transformer that is told what to earn and what it may spend.",
        recommended="jsafe",
        module=__name__,
    )
)
