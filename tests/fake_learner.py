"""A learner that learns nothing in particular, quickly: for tests of the loop and of checkpoints."""

import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import registry
from jsafe.feeds import Replay
from jsafe.options import Options
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Learner, PolicyState


@dataclasses.dataclass(frozen=True)
class Inner(Options):
    widths: tuple[int, ...] = (3, 2)


@dataclasses.dataclass(frozen=True)
class FakeConfig(Options):
    """Options of the fake."""

    rate: float = 0.1
    """Step size."""
    num_envs: int = 2
    unroll: int = 5
    diverge_at: int = -1
    """Iteration whose loss becomes NaN."""
    poison_at: int = -1
    """Iteration that puts NaN into the state while its metrics stay finite."""
    inner: Inner = Inner()


class FakeState(NamedTuple):
    weights: Any
    half: jax.Array
    key: jax.Array
    updates: jax.Array
    weak: jax.Array


TRACES: list[str] = []


def build(config: FakeConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    feed = Replay(config.num_envs, config.unroll, sequences=4, sequence_length=3, replay_rows=60, initial_rows=30)

    def init(key):
        weights = {"w": 0.1 * jax.random.normal(key, (spec.obs_dim, spec.act_dim))}
        return FakeState(weights, jnp.ones(3, jnp.bfloat16) / 3, key, jnp.int32(0), jnp.asarray(1.0))

    def update(state, batch, key):
        TRACES.append("update")
        noise = jax.random.normal(key, state.weights["w"].shape)
        drift = jnp.tanh(batch.steps.obs.mean((0, 1)) + batch.steps.reward.mean())[:, None]
        weights = {"w": jnp.clip(state.weights["w"] + config.rate * (noise + drift), -3, 3)}
        count = state.updates + 1
        weights = jax.tree.map(lambda w: jnp.where(count == config.poison_at, jnp.nan, w), weights)
        loss = jnp.where(count == config.diverge_at, jnp.nan, jnp.square(weights["w"]).mean())
        loss = jnp.where(count == config.poison_at, 0.0, loss)
        state = FakeState(weights, state.half * 0.9, jax.random.fold_in(state.key, 1), count, state.weak * 1.01)
        return state, {"loss/fake": loss, "cost/0/limit_per_step": jnp.float32(0.25), "cost/0/multiplier": state.weak}

    def act(policy_state, memory, obs, key, deterministic=False):
        mean = jnp.tanh(obs @ policy_state.params["w"])
        noise = 0.0 if deterministic else 0.3 * jax.random.normal(key, mean.shape)
        return ActOutput(jnp.clip(mean + noise, -1, 1), jnp.zeros(obs.shape[:1]), {}, memory)

    return Learner(init, update, lambda state: PolicyState(state.weights), act, NO_MEMORY, feed, config, spec)


FAKE = registry.Algorithm(
    name="fake",
    family="off_policy",
    config=FakeConfig(),
    build=build,
    presets={"fast": registry.Preset("Large steps.", {"rate": 1.0})},
    paper="none",
    summary="Moves at random.",
    module=__name__,
)
with contextlib.suppress(ValueError):  # imported twice
    registry.register(FAKE)
