"""Random batches, and a check that every learner has to pass."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jsafe import spaces
from jsafe.feeds import Replay
from jsafe.types import Batch, CostStats, EpisodeStats, Learner, Measured, Steps


def random_batch(learner: Learner, key: jax.Array) -> Batch:
    """A random but valid batch of the shape that `learner.update` expects, as numpy arrays.

    Rewards are standard normal, costs 0 or 1, episodes end in about a tenth of the steps; observations and actions
    are random values of their spaces. Where the feed wants log-probabilities (any but `Replay`), actions come from the
    initial policy, its memory carried along, and reset where an episode ended.
    """
    init_key, act_key, numpy_key = jax.random.split(key, 3)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(numpy_key)).tolist())
    shape, spec = learner.feed.shape, learner.spec
    replayed = isinstance(learner.feed, Replay)
    weight = (rng.random(shape) >= 0.1).astype(np.float32) if replayed else None
    ended = _before_zero(weight) if replayed else rng.random(shape) < 0.1
    terminated = ended & (rng.random(shape) < 0.5)
    real = 1.0 if weight is None else _followed(weight)
    reward = (real * rng.standard_normal(shape)).astype(np.float32)
    cost = (rng.random((*shape, spec.num_costs)) < 0.1).astype(np.float32)
    cost = cost if weight is None else cost * _followed(weight)[..., None]
    steps = Steps(
        obs=_observations(learner, rng, shape),
        action=_actions(learner, rng, shape),
        reward=reward,
        cost=cost,
        terminated=terminated,
        truncated=ended & ~terminated,
        next_obs=None,
        weight=weight,
        extras={},
    )
    memory: Any = ()
    if not replayed:
        steps, memory = _acted(learner, steps, init_key, act_key, rng)
    rows = learner.feed.steps_per_batch
    fresh = CostStats(rng.binomial(rows, 0.1, spec.num_costs).astype(np.float32), np.float32(rows))
    count = np.float32(max(ended.sum(), 1))
    length = np.float32(min(rows / count, spec.horizon)) * count
    episodes = EpisodeStats(reward.sum(dtype=np.float32), fresh.total, length, count)
    return Batch(steps, Measured(fresh, episodes), np.bool_(True), memory)


def _before_zero(weight: np.ndarray) -> np.ndarray:
    """Rows of a window after which the episode ended: the next row is no step."""
    ended = np.zeros(weight.shape, bool)
    ended[..., :-1, :] = (weight[..., 1:, :] == 0) & (weight[..., :-1, :] == 1)
    return ended


def _followed(weight: np.ndarray) -> np.ndarray:
    """1 for the rows of a window whose reward is known: steps, but for the last row."""
    known = weight.copy()
    known[..., -1, :] = 0
    return known


def _observations(learner: Learner, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    stack = getattr(learner.feed, "frame_stack", 1)
    transform = getattr(learner.feed, "transform", None)
    if stack == 1 and transform is None:
        return spaces.sample(learner.spec.obs, rng, shape)
    width = learner.spec.obs_dim * stack + (transform.extra_obs if transform is not None else 0)
    return rng.standard_normal((*shape, width)).astype(np.float32)


def _actions(learner: Learner, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    action = learner.spec.action
    if isinstance(action, spaces.Discrete):
        return spaces.sample(action, rng, shape)
    return rng.uniform(-1, 1, (*shape, action.width)).astype(np.float32)


def _acted(learner: Learner, steps: Steps, init_key: jax.Array, act_key: jax.Array, rng: np.random.Generator) -> Any:
    """The rows with actions and log-probabilities of the initial policy, next observations, and its first memory."""
    length, num_envs = learner.feed.shape
    policy_state = learner.policy(learner.init(init_key))
    started = memory = learner.memory.init(num_envs)

    def scanned(memory, row):
        obs, ended, step = row
        out = learner.act(policy_state, memory, obs, jax.random.fold_in(act_key, step), False)
        return learner.memory.reset(out.memory, ended), (out.action, out.log_prob)

    ended = steps.terminated | steps.truncated
    _, (action, log_prob) = jax.lax.scan(scanned, memory, (steps.obs, ended, np.arange(length)))
    last = jax.tree.map(lambda x: x[0], _observations(learner, rng, (1, num_envs)))
    next_obs = jax.tree.map(lambda x, end: np.concatenate([x[1:], end[None]]), steps.obs, last)
    extras = {"log_prob": np.array(log_prob)}
    steps = steps._replace(action=np.array(action), next_obs=next_obs, extras=extras)
    return steps, jax.tree.map(np.array, started)


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
    n = 3
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    stack, transform = getattr(learner.feed, "frame_stack", 1), getattr(learner.feed, "transform", None)
    if transform is None:
        obs = spaces.sample(learner.spec.obs, rng, (n,))  # the memory stacks frames
    else:
        obs = rng.standard_normal((n, learner.spec.obs_dim + transform.extra_obs)).astype(np.float32)
    memory = learner.memory.init(n)
    assert stack == 1 or jax.tree.leaves(memory), "a learner that is fed stacked frames needs a memory that stacks them"
    act = jax.jit(learner.act, static_argnums=4)
    for deterministic in (False, True):
        out = act(policy_state, memory, obs, key, deterministic)
        assert out.action.shape == _actions(learner, rng, (n,)).shape, f"action has shape {out.action.shape}"
        assert out.log_prob.shape == (n,), f"log_prob has shape {out.log_prob.shape}"
        assert _shapes(out.memory) == _shapes(memory), "act changed the tree, a shape or a dtype of the memory"
        _check_finite("act", out)
    again = act(policy_state, memory, obs, jax.random.fold_in(key, 1), True)
    assert np.array_equal(out.action, again.action), "a deterministic action depends on the key"
    reset = learner.memory.reset(out.memory, np.ones(n, bool))
    for fresh, kept in zip(jax.tree.leaves(memory), jax.tree.leaves(reset)):
        assert fresh.shape == kept.shape, "memory.reset changed the shape of the memory"


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _check_finite(what: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.issubdtype(np.asarray(leaf).dtype, np.floating):
            assert np.isfinite(leaf).all(), f"{what}{jax.tree_util.keystr(path)} is not finite"
