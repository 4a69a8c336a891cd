"""Random batches, and a check that every learner has to pass."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jsafe.types import CostStats, EnvSpec, EpisodeStats, Learner, ReplayData, RolloutBatch, SequenceBatch


def random_batch(learner: Learner, key: jax.Array) -> SequenceBatch | RolloutBatch:
    """A random but valid batch of the shape that `learner.update` expects, as numpy arrays.

    Observations and rewards are standard normal, costs 0 or 1, episodes end in about a tenth of the steps. Actions
    come from the initial policy where the batch stores its log-probabilities (`RolloutData`), else they are uniform.
    """
    init_key, act_key, numpy_key = jax.random.split(key, 3)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(numpy_key)).tolist())
    if isinstance(learner.data, ReplayData):
        return _random_sequences(learner.spec, learner.data, rng)
    spec, shape = learner.spec, (learner.data.length, learner.data.num_envs)
    width = _obs_width(learner)
    obs = rng.standard_normal((shape[0] + 1, shape[1], width)).astype(np.float32)
    policy_state = learner.policy(learner.init(init_key))
    out = learner.act(policy_state, obs[:-1].reshape(-1, width), act_key, False)
    terminated = rng.random(shape) < 0.05
    truncated = (rng.random(shape) < 0.05) & ~terminated
    reward = rng.standard_normal(shape).astype(np.float32)
    cost = (rng.random((*shape, spec.num_costs)) < 0.1).astype(np.float32)
    count = np.float32(max((terminated | truncated).sum(), 1))
    share = count / np.float32(shape[0] * shape[1])
    length = np.float32(min(1 / share, spec.horizon)) * count
    total = cost.sum((0, 1), dtype=np.float32)
    return RolloutBatch(
        obs=obs[:-1].copy(),
        action=np.array(out.action).reshape(*shape, spec.act_dim),
        log_prob=np.array(out.log_prob).reshape(shape),
        reward=reward,
        cost=cost,
        terminated=terminated,
        truncated=truncated,
        next_obs=obs[1:].copy(),
        episodes=EpisodeStats(reward.sum(dtype=np.float32), total, length, count),
    )


def _random_sequences(spec: EnvSpec, data: ReplayData, rng: np.random.Generator) -> SequenceBatch:
    leading = (data.updates,) if data.updates > 1 else ()
    shape = (*leading, data.sequence_length, data.sequences)
    last = rng.random(shape) < 0.1
    first = np.zeros_like(last)
    first[..., 1:, :] = last[..., :-1, :]  # every row after a last one starts an episode
    first[..., 0, :] = (rng.random((*leading, data.sequences)) < 0.1) & ~last[..., 0, :]
    last &= ~first
    first[..., 1:, :] = last[..., :-1, :]
    discount = np.where(last & (rng.random(shape) < 0.5), 0, 1).astype(np.float32)
    reward = np.where(first, 0, rng.standard_normal(shape)).astype(np.float32)
    cost = np.where(first[..., None], 0, rng.random((*shape, spec.num_costs)) < 0.1).astype(np.float32)
    rows = data.num_envs * data.unroll
    fresh = CostStats(rng.binomial(rows, 0.1, spec.num_costs).astype(np.float32), np.float32(rows))
    ended = np.float32(rng.integers(3))
    return SequenceBatch(
        obs=rng.standard_normal((*shape, spec.obs_dim * data.frame_stack)).astype(np.float32),
        action=rng.uniform(-1, 1, (*shape, spec.act_dim)).astype(np.float32),
        reward=reward,
        cost=cost,
        discount=discount,
        first=first,
        last=last,
        fresh=fresh,
        episodes=EpisodeStats(np.float32(rng.normal()), ended * fresh.total, ended * spec.horizon, ended),
        learn=np.bool_(True),
    )


def check_learner(learner: Learner, key: jax.Array, *, updates: int = 2) -> tuple[Any, dict[str, Any]]:
    """Checks the promises that every learner makes; returns the last state and metrics.

    `init`, then jitted updates with a donated state on random batches: the state keeps its tree, shapes and dtypes,
    has no two leaves in one buffer (donation), stays finite, and is traced once; metrics are finite scalars with fixed
    `group/name` keys; `act` returns finite arrays of the right shapes, and repeats itself when deterministic.

    Raises:
      AssertionError: Naming the promise that was broken.
    """
    init_key, *keys = jax.random.split(key, 1 + 2 * updates)
    state = jax.jit(learner.init)(init_key)
    shapes = _shapes(state)
    traces = []

    def update(state, batch, key):
        traces.append(None)
        return learner.update(state, batch, key)

    jitted = jax.jit(update, donate_argnums=0)
    names = None
    for i in range(updates):
        state, metrics = jitted(state, random_batch(learner, keys[2 * i]), keys[2 * i + 1])
        assert _shapes(state) == shapes, "update changed the tree, a shape or a dtype of the state"
        _check_finite("state", state)
        _check_finite("metrics", metrics)
        assert names is None or sorted(metrics) == names, "metrics changed their keys"
        names = sorted(metrics)
        for name, value in metrics.items():
            assert np.shape(value) == (), f"metric {name!r} must be a scalar, got shape {np.shape(value)}"
            assert "/" in name, f"metric {name!r} must be named 'group/name'"
    assert len(traces) == 1, f"update was traced {len(traces)} times"
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(learner.init(init_key)) if leaf.size]
    assert len(set(buffers)) == len(buffers), "two leaves of the initial state share a buffer: donation would fail"
    _check_act(learner, learner.policy(state), keys[0])
    return state, metrics


def _check_act(learner: Learner, policy_state: Any, key: jax.Array) -> None:
    n, width = 3, _obs_width(learner)
    obs = np.asarray(jax.random.normal(key, (n, width)), np.float32)
    act = jax.jit(learner.act, static_argnums=3)
    for deterministic in (False, True):
        out = act(policy_state, obs, key, deterministic)
        assert out.action.shape == (n, learner.spec.act_dim), f"action has shape {out.action.shape}"
        assert out.log_prob.shape == (n,), f"log_prob has shape {out.log_prob.shape}"
        _check_finite("act", out)
    again = act(policy_state, obs, jax.random.fold_in(key, 1), True)
    assert np.array_equal(out.action, again.action), "a deterministic action depends on the key"


def _obs_width(learner: Learner) -> int:
    """Columns of the observations that `act` takes: frames are stacked, a transform appends its own."""
    transform = getattr(learner.data, "transform", None)
    extra = transform.extra_obs if transform is not None else 0
    return learner.spec.obs_dim * getattr(learner.data, "frame_stack", 1) + extra


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _check_finite(what: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.issubdtype(np.asarray(leaf).dtype, np.floating):
            assert np.isfinite(leaf).all(), f"{what}{jax.tree_util.keystr(path)} is not finite"
