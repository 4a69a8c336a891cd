"""TraC: no critic at all. Segments that earn much within the limit are made likelier, all others less likely.

    z    = beta sum_t gamma^t (|pi_0(s_t) - a_t|^2 - |pi(s_t) - a_t|^2)                     over a segment
    L_pi = -mean w l [y log sig(z) + (1 - y) log(1 - sig(z))]
    y    = 1 for the better half of the segments within the limit, 0 for the other half and for those beyond it

First the policy is cloned (`clone_updates`); `pi_0` is that clone. Segments have q T rows, and their limit is k q. No
value is estimated, hence no unit to get wrong: costs are sums over segments.

Source: Gong, Kumar & Varakantham 2025, Offline safe reinforcement learning using trajectory classification, AAAI, arXiv
2412.15429, and the authors' code. Differences: segments are drawn anew and compared within the minibatch (theirs: a
million drawn before, compared with each other); those that run past the end of an episode are shorter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
from optax import scale_by_adam

from jsafe.algos.offline import fitting
from jsafe.components.limits import CostLimit
from jsafe.components.optim import descend
from jsafe.feeds import Dataset
from jsafe.nets.perceptron import fan_in_uniform, mlp
from jsafe.ops import preference
from jsafe.ops.precision import Precision, with_precision
from jsafe.ops.stats import pmean
from jsafe.options import Options, number, traced, traced_values
from jsafe.registry import Algorithm, Preset, register
from jsafe.types import NO_MEMORY, ActOutput, Array, EnvSpec, Key, Learner, Params, PolicyState, Steps

SEGMENTS = Dataset(batch_size=96)
"""The minibatch of the paper."""


@dataclasses.dataclass(frozen=True)
class TraCConfig(Options):
    """Options of TraC; the defaults are the paper's.

    Raises:
      ValueError: For a value that is not allowed, naming the field.
    """

    hidden: tuple[int, ...] = number((256, 256), low=1)
    """Hidden widths of the policy."""
    dropout: float = number(0.25, low=0, below=1)
    """Share of hidden units that are left out while learning."""
    share: float = number(0.25, above=0, high=1)
    """q, the length of a segment as a share of the longest episode."""
    beta: float = traced(0.1, above=0)
    """Scale of z."""
    gamma: float = traced(0.99, low=0, high=1)
    """Discount within a segment."""
    floor: float = number(0.7, low=0, high=1)
    """Least weight of a segment."""
    clone_updates: int = number(30_000, low=0)
    """Updates of plain behaviour cloning, whose result is `pi_0`."""
    learning_rate: float = traced(1e-4, above=0)
    """Adam's."""
    rate_warmup: int = number(10_000, low=0)
    """Updates over which the rate rises from a tenth."""
    limit: CostLimit = CostLimit()
    """What the costs may be, per episode."""
    feed: Dataset = SEGMENTS
    """What is drawn from the data set; the length of its windows follows from `share`."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""

    SHORT: ClassVar[dict[str, str | Callable[[Any], dict[str, Any]]]] = {
        "cost_limit": lambda value: {"limit.value": value, "limit.per": "episode"},
        "cost_limit_per_step": lambda value: {"limit.value": value, "limit.per": "step"},
        **{name: f"feed.{name}" for name in ("batch_size", "updates", "filter", "fraction")},
    }


class TraCState(NamedTuple):
    """Policy, the clone it is compared with, Adam's state, limits `[M]`, traced numbers, and gradient steps so far."""

    params: Params
    reference: Params
    opt_state: Any
    limit: Array
    numbers: Any
    updates: Array


def assemble(config: TraCConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Builds the learner.

    Args:
      config: Options.
      spec: What the environment is like; observations are flat, actions continuous.
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner` that is fed with windows `[K, L, B, ...]` of a data set.

    Collectives: `pmean` of gradients and metrics. Segments are compared with those of the same device.
    """
    config.limit.values(spec.num_costs)
    net = mlp(spec.obs_dim, spec.act_dim, config.hidden, act="relu", kernel_init=fan_in_uniform())
    adam, length = scale_by_adam(), max(2, round(config.share * spec.horizon))
    feed = dataclasses.replace(config.feed, length=length)

    def policy(params: Params, obs: Array, key: Key | None) -> Array:
        """`tanh(f(s))`, with dropout where there is a key."""
        h = net.embed(params, obs)
        for i in range(len(config.hidden)):
            h = jax.nn.relu(h)
            if key is not None and config.dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - config.dropout, h.shape)
                h = jnp.where(kept, h / (1 - config.dropout), 0.0)
            layer = params[f"dense_{i + 1}"]
            h = h @ layer["kernel"] + layer["bias"]
        return jnp.tanh(h)

    def miss(params, steps, key):
        """`|pi(s) - a|^2 [L, B]` of the rows that count."""
        return steps.weight * jnp.square(policy(params, steps.obs, key) - steps.action).sum(axis=-1)

    def clone_loss(params, state, steps, key):
        rows = miss(params, steps, key)
        return rows.sum() / jnp.maximum(steps.weight.sum(), 1.0), jnp.zeros(2)

    def contrast_loss(params, state, steps, key):
        labels = labels_of(state, steps)
        fade = state.numbers.gamma ** jnp.arange(length)[:, None]
        gain = miss(state.reference, steps, None) - miss(params, steps, key)
        z = state.numbers.beta * (fade * gain).sum(axis=0)
        loss = preference.contrastive_loss(z, labels).mean()
        return loss, jnp.stack([labels.desired.mean(), (labels.desired == (z > 0)).mean()])

    def labels_of(state, steps: Steps) -> preference.Labels:
        """Of the segments of a minibatch, by their sums."""
        episodic = config.limit.per_episode(config.limit.aim(state.limit), spec.horizon)
        weight = cast(Array, steps.weight)  # rows of a data set have one
        cost = (weight[..., None] * steps.cost).sum(axis=0)
        return preference.label_segments(
            (weight * steps.reward).sum(axis=0), cost, episodic * config.share, config.floor
        )

    def gradient_step(state, inputs):
        steps, key = inputs
        cloning = state.updates < config.clone_updates

        def loss(params):
            given = params, state, steps, key
            return jax.lax.cond(cloning, lambda: clone_loss(*given), lambda: contrast_loss(*given))

        (value, (desired, right)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        direction, opt_state = adam.update(pmean(grads, axis_name), state.opt_state, state.params)
        warm = jnp.minimum(state.updates / max(config.rate_warmup, 1), 1.0)
        params = descend(state.params, direction, state.numbers.learning_rate * (0.1 + 0.9 * warm))
        reference = jax.tree.map(lambda new, old: jnp.where(cloning, new, old), params, state.reference)
        state = state._replace(params=params, reference=reference, opt_state=opt_state, updates=state.updates + 1)
        return state, {"loss/actor": value, "segments/desired": desired, "segments/right": right}

    def init(key):
        params = net.init(key)
        return TraCState(
            params=params,
            reference=jax.tree.map(jnp.copy, params),
            opt_state=adam.init(params),
            limit=config.limit.array(spec.num_costs),
            numbers=traced_values(config),
            updates=jnp.zeros((), jnp.int32),
        )

    def update(state, batch, key):
        state, metrics = fitting.minibatches(gradient_step, state, batch.steps, key, axis_name)
        return state, metrics | config.limit.columns(state.limit)

    def act(policy_state, memory, obs, key, deterministic=False):
        action = policy(policy_state.params, obs, None)
        return ActOutput(action, jnp.zeros(action.shape[0]), {}, memory)

    update, act = (with_precision(function, config.matmul_precision) for function in (update, act))
    return Learner(init, update, lambda state: PolicyState(state.params), act, NO_MEMORY, feed, config, spec)


register(
    Algorithm(
        name="trac",
        family="offline",
        config=TraCConfig(),
        build=assemble,
        presets={
            "jsafe": Preset(
                "Sixteen segments per update, a third of the updates for cloning.",
                {"batch_size": 16, "learning_rate": 3e-4, "rate_warmup": 1_000},
                100_000,
            )
        },
        paper="Gong, Kumar & Varakantham 2025, Offline safe reinforcement learning using trajectory classification, "
        "arXiv 2412.15429",
        summary="Makes segments that earn much within the limit likelier, without any critic.",
        recommended="jsafe",
        module=__name__,
    )
)
