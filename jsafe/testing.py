"""Random batches, and a check that every learner has to pass."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from jsafe import spaces
from jsafe.data import coroutine
from jsafe.feeds import Dataset, Replay, Rollouts
from jsafe.types import Batch, CostStats, EpisodeStats, Feed, Learner, Measured, Steps


def random_batch(learner: Learner, key: jax.Array) -> Batch:
    """A random but valid batch of the shape that `learner.update` expects, as numpy arrays.

    Rewards are standard normal, costs 0 or 1, episodes end in about a tenth of the steps; observations and actions
    are random values of their spaces. Fresh rollouts have actions and log-probabilities of the initial policy, its
    memory carried along and reset where an episode ended.

    Raises:
      ValueError: For a feed of one's own whose rows are not known; `random_rows.register(MyFeed)` tells them.
    """
    init_key, act_key, numpy_key = jax.random.split(key, 3)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(numpy_key)).tolist())
    steps, memory = random_rows(learner.feed, learner, rng, (init_key, act_key))
    rows, num_costs = learner.feed.steps_per_batch, learner.spec.num_costs
    if getattr(learner.feed, "num_envs", 1) == 0:  # nothing is measured
        nothing = np.zeros(num_costs, np.float32), np.float32(0)
        episodes = EpisodeStats(np.float32(0), nothing[0].copy(), np.float32(0), np.float32(0))
        return Batch(steps, Measured(CostStats(*nothing), episodes), np.bool_(True), memory)
    fresh = CostStats(rng.binomial(rows, 0.1, num_costs).astype(np.float32), np.float32(rows))
    count = np.float32(max(int((steps.terminated | steps.truncated).sum()), 1))
    length = np.float32(min(float(rows / count), learner.spec.horizon)) * count
    episodes = EpisodeStats(steps.reward.sum(dtype=np.float32), fresh.total, length, count)
    return Batch(steps, Measured(fresh, episodes), np.bool_(True), memory)


@functools.singledispatch
def random_rows(
    feed: Feed, learner: Learner, rng: np.random.Generator, keys: tuple[jax.Array, jax.Array]
) -> tuple[Steps, Any]:
    """Random rows as a feed promises them, and the policy's memory at row 0 (`()` if the feed has none).

    Args:
      feed: `learner.feed`; its type chooses the implementation (`random_rows.register`).
      learner: Whose `spec` the rows fit.
      rng: For everything but what the learner draws.
      keys: For the initial state and for the actions.
    """
    raise ValueError(f"no random rows are known for a feed of type {type(feed).__name__}: see random_rows.register")


@random_rows.register
def _(feed: Replay, learner: Learner, rng: np.random.Generator, keys: Any) -> tuple[Steps, Any]:
    shape = feed.shape
    weight = (rng.random(shape) >= 0.1).astype(np.float32)
    ended = _before_zero(weight)
    terminated = ended & (rng.random(shape) < 0.5)
    real = _followed(weight)
    steps = Steps(
        obs=None,
        action=None,
        reward=(real * rng.standard_normal(shape)).astype(np.float32),
        cost=real[..., None] * (rng.random((*shape, learner.spec.num_costs)) < 0.1).astype(np.float32),
        terminated=terminated,
        truncated=ended & ~terminated,
        next_obs=None,
        weight=weight,
        extras={},
    )
    if feed.jumps:
        steps = steps._replace(extras={"jump": (real > 0) & (rng.random(shape) < 0.1)})
    obs, action = _observations(learner, rng, shape, feed.frame_stack), _actions(learner, rng, shape)
    # The action of a final observation is zero, as in a replay.
    action *= (weight.reshape(*shape, *(1,) * (action.ndim - len(shape)))).astype(action.dtype)
    return steps._replace(obs=obs, action=action), ()


@random_rows.register
def _(
    feed: Rollouts, learner: Learner, rng: np.random.Generator, keys: tuple[jax.Array, jax.Array]
) -> tuple[Steps, Any]:
    shape = feed.shape
    ended = rng.random(shape) < 0.1
    terminated = ended & (rng.random(shape) < 0.5)
    steps = Steps(
        obs=_observations(learner, rng, shape),
        action=None,
        reward=rng.standard_normal(shape).astype(np.float32),
        cost=(rng.random((*shape, learner.spec.num_costs)) < 0.1).astype(np.float32),
        terminated=terminated,
        truncated=ended & ~terminated,
        next_obs=None,
        weight=None,
        extras={},
    )
    return _acted(learner, steps, *keys, rng)


@random_rows.register
def _(feed: Dataset, learner: Learner, rng: np.random.Generator, keys: Any) -> tuple[Steps, Any]:
    shape, spec = feed.shape, learner.spec
    terminated = rng.random(shape) < 0.05
    weight = np.ones(shape, np.float32)
    if feed.length > 1:  # a row behind the end of the episode has no weight
        weight[:, 1:] = np.cumprod(rng.random((shape[0], shape[1] - 1, shape[2])) > 0.1, axis=1)
    recorded = dataclasses.replace(feed, transform=None)
    raw = learner._replace(feed=recorded)

    def values(*more: int) -> np.ndarray:
        return rng.standard_normal((*shape, *more)).astype(np.float32)

    def costs() -> np.ndarray:
        return rng.integers(0, 2, (*shape, spec.num_costs)).astype(np.float32)

    known = {
        "initial_obs": lambda: _observations(raw, rng, shape),
        "return_to_go": values,
        "cost_to_go": lambda: 10 * costs(),
        "episode_return": values,
        "episode_cost": lambda: 10 * costs(),
        "step": lambda: rng.integers(0, spec.horizon, shape).astype(np.int32),
    }
    steps = Steps(
        obs=_observations(raw, rng, shape),
        action=_actions(learner, rng, shape),
        reward=values(),
        cost=costs(),
        terminated=terminated,
        truncated=~terminated & (rng.random(shape) < 0.05),
        next_obs=_observations(raw, rng, shape),
        weight=weight,
        extras={name: known[name]() for name in feed.extras},
    )
    return steps, ()


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


def _observations(learner: Learner, rng: np.random.Generator, shape: tuple[int, ...], stack: int = 1) -> Any:
    """As a collector hands them over: floats in float32, frames joined along the last axis, transformed."""
    spec, transform = learner.spec, getattr(learner.feed, "transform", None)
    if transform is not None:
        return rng.standard_normal((*shape, spec.obs_dim + transform.extra_obs)).astype(np.float32)
    frames = [coroutine.received(spaces.sample(spec.obs, rng, shape)) for _ in range(stack)]
    return jax.tree.map(lambda *each: np.concatenate(each, axis=-1) if stack > 1 else each[0], *frames)


def _actions(learner: Learner, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    action = learner.spec.action
    if isinstance(action, spaces.Discrete):
        return spaces.sample(action, rng, shape)
    return rng.uniform(-1, 1, (*shape, learner.spec.act_dim)).astype(np.float32)


def _acted(
    learner: Learner, steps: Steps, init_key: jax.Array, act_key: jax.Array, rng: np.random.Generator
) -> tuple[Steps, Any]:
    """The rows with actions and log-probabilities of the initial policy, next observations, and its first memory."""
    length, num_envs = shape = learner.feed.shape
    policy_state = learner.policy(learner.init(init_key))
    first = learner.memory.init(num_envs)
    ended = steps.terminated | steps.truncated

    def scanned(memory, row):
        obs, ended, step = row
        out = learner.act(policy_state, memory, obs, jax.random.fold_in(act_key, step), False)
        return learner.memory.reset(out.memory, ended), (out.action, out.log_prob)

    if coroutine.has_memory(learner):
        _, acted = jax.lax.scan(scanned, first, (steps.obs, ended, np.arange(length)))
    else:  # all at once: a scan would be compiled in every call
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps.obs)
        out = learner.act(policy_state, learner.memory.init(length * num_envs), flat, act_key, False)
        acted = [x.reshape(*shape, *x.shape[1:]) for x in (out.action, out.log_prob)]
    action, log_prob = map(np.array, acted)
    last = jax.tree.map(lambda x: x[0], _observations(learner, rng, (1, num_envs)))
    next_obs = jax.tree.map(lambda x, end: np.concatenate([x[1:], end[None]]), steps.obs, last)
    steps = steps._replace(action=action, next_obs=next_obs, extras={"log_prob": log_prob})
    return steps, jax.tree.map(np.array, first)


def check_learner(learner: Learner, key: jax.Array, *, updates: int = 2) -> tuple[Any, dict[str, Any]]:
    """Checks the promises that every learner makes; returns the last state and metrics.

    `init`, then jitted updates with a donated state on random batches: the state keeps its tree, shapes and dtypes,
    has no two leaves in one buffer (donation), stays finite, and is traced once; metrics are finite scalars with fixed
    `group/name` keys; `act` returns finite arrays of the right shapes, and repeats itself when deterministic; its
    memory keeps its shapes, and starts anew where it is reset and nowhere else.

    Raises:
      AssertionError: Naming the promise that was broken.
    """
    init_key, *keys = jax.random.split(key, 1 + 2 * updates)
    state = jax.jit(learner.init)(init_key)
    shapes = _shapes(state)
    traces: list[None] = []

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
    stack = getattr(learner.feed, "frame_stack", 1)
    obs = _observations(learner, rng, (n,))  # one frame: the memory stacks
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
    fresh = learner.memory.reset(again.memory, np.ones(n, bool))
    anew = act(policy_state, fresh, obs, key, True)
    assert np.array_equal(again.action, anew.action), "memory.reset does not start an episode as memory.init does"
    kept = learner.memory.reset(again.memory, np.zeros(n, bool))
    for before, after in zip(jax.tree.leaves(again.memory), jax.tree.leaves(kept), strict=True):
        assert np.array_equal(before, after), "memory.reset changes the memory where no episode has started"


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _check_finite(what: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.issubdtype(np.asarray(leaf).dtype, np.floating):
            assert np.isfinite(leaf).all(), f"{what}{jax.tree_util.keystr(path)} is not finite"
