"""A bandit whose data end at 0.2: learners that stay near the data stop there, one that does not runs away."""

import dataclasses

import jax
import numpy as np
import pytest

import jsafe
from jsafe.testing import random_batch

SMALL = {"hidden": (32,), "batch_size": 128, "updates": 1200, "learning_rate": 3e-3}
CRITICS = {"critic.critics.costs": False, "critic.candidates": 4}


def learned(name, **options):
    """The action after learning from uniform actions in [-0.4, 0.2] that earn what they are."""
    learner = jsafe.offline(jsafe.EnvSpec(1, 1), **options) if name is None else None
    learner = learner or jsafe.make(name, jsafe.EnvSpec(1, 1), preset="jsafe", **options)
    batch = random_batch(learner._replace(feed=dataclasses.replace(learner.feed, updates=1)), jax.random.key(0))
    shape = learner.feed.shape
    action = np.random.default_rng(0).uniform(-0.4, 0.2, (*shape, 1)).astype(np.float32)
    seen = np.zeros((*shape, 1), np.float32)
    steps = batch.steps._replace(
        obs=seen,
        next_obs=seen,
        action=action,
        reward=action[..., 0],
        cost=np.zeros((*shape, 1), np.float32),
        terminated=np.ones(shape, bool),
        truncated=np.zeros(shape, bool),
        weight=np.ones(shape, np.float32),
    )
    state = jax.jit(learner.init)(jax.random.key(1))
    state, _ = jax.jit(learner.update)(state, batch._replace(steps=steps), jax.random.key(2))
    act = jax.jit(learner.act, static_argnums=4)
    return float(act(learner.policy(state), (), seen[0, :1], jax.random.key(3), True).action[0, 0])


@pytest.mark.parametrize(("phi", "low", "high"), [(0.05, 0.1, 0.26), (0.0, 0.05, 0.22)])
def test_bcq_takes_the_best_action_of_the_data_and_no_better_one(phi, low, high):
    assert low < learned("bcq", **SMALL, **{"policy.phi": phi}) < high


def test_without_the_data_as_a_bound_the_same_critics_are_believed():
    """A deterministic policy climbs them to the edge of the box."""
    climb = {"policy": "deterministic", "critic": "bootstrapped", "improve": "climb", "improve.imitation": 0.0}
    assert learned(None, **SMALL, **CRITICS, **climb) > 0.9
