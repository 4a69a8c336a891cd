"""Every off-policy learner through one table, and on a task whose constrained optimum is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import registry
from jsafe.collect import make_collector
from jsafe.testing import ToyEnv, check_learner, env_spec, random_batch
from jsafe.train import run

TINY = {"hidden": (8, 8), "sequences": 4, "num_envs": 4, "sequence_length": 4, "frame_stack": 2}
NAMES = [name for name in registry.names() if registry.get(name).family == "off_policy"]


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    learner = jsafe.make(name, jsafe.EnvSpec(5, 2, num_costs=1 + (name == "seditor")), **TINY)
    check_learner(learner, jax.random.key(0))


def test_several_updates_per_call_scan():
    learner = jsafe.make("seditor", jsafe.EnvSpec(5, 2), **TINY, updates=3)
    state, _ = check_learner(learner, jax.random.key(0))
    assert int(state.updates) == 6


def test_seeds_and_limits_vmap_without_recompiling():
    learner = jsafe.make("sac_lag", jsafe.EnvSpec(5, 2), **TINY)
    batch = random_batch(learner, jax.random.key(1))
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    states = states._replace(hyper=states.hyper._replace(cost_limit=jnp.array([[0.0], [0.1], [1.0]])))
    update = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))
    after, metrics = update(states, batch, jax.random.key(2))
    assert metrics["loss/critic"].shape == (3,)
    rho = np.asarray(after.rule.parameter[:, 0] - states.rule.parameter[:, 0])
    cost = float(batch.fresh.total[0] / batch.fresh.count)
    np.testing.assert_array_equal(np.sign(rho), np.sign(cost - np.array([0.0, 0.1, 1.0])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost_limit_per_step": -1.0}, "cost_limit_per_step must be at least 0, got -1.0"),
        ({"cost_limit_per_step": (0.1, 0.2)}, "has 2 values, the environment 1 costs"),
        ({"gama": 0.9}, "did you mean 'gamma'"),
        ({"gamma": 1.5}, "gamma must be in"),
        ({"gamma": "high"}, "seditor.gamma must be float"),
        ({"edit": "ad"}, "did you mean 'add'"),
        ({"preset": "lapto"}, "did you mean 'laptop'"),
        ({"sequences": 7}, "multiple of num_envs"),
        ({"hidden": 3}, "must be a sequence"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        jsafe.make("seditor", jsafe.EnvSpec(5, 2), **options)


def test_unknown_algorithm_names_the_closest():
    with pytest.raises(ValueError, match="did you mean 'seditor'"):
        jsafe.make("seditr", jsafe.EnvSpec(5, 2))


def test_presets_only_change_what_they_say():
    algorithm = registry.get("seditor")
    paper = registry.make_config(algorithm, "paper")
    laptop = registry.make_config(algorithm, "laptop")
    assert paper == algorithm.config()
    changed = {f.name for f in dataclasses.fields(paper) if getattr(paper, f.name) != getattr(laptop, f.name)}
    assert changed == set(algorithm.presets["laptop"])


LEARN = {
    "hidden": (32, 32),
    "num_envs": 16,
    "unroll": 4,
    "sequences": 32,
    "frame_stack": 1,
    "initial_rows": 500,
    "learning_rate": 1e-3,
    "gamma": 0.9,
    "tau": 0.02,
    "initial_temperature": 0.05,
    "initial_multiplier": 0.5,
    "target_min_prob": 0.02,
    "updates": 4,
}


@pytest.mark.parametrize("name", ["seditor", "sac_lag", "sac"])
def test_learns_the_toy_optimum(name):
    """Speed limit with cost = speed^2 and limit 0.25: the best mean speed is 0.5; without the limit it is 1."""
    limit = 0.25
    env = ToyEnv(num_envs=16, seed=3, horizon=20)
    learner = jsafe.make(name, env_spec(env), **LEARN, cost_limit_per_step=limit)
    collector = make_collector(env, learner, seed=0)
    for step in run(learner, collector, key=jax.random.key(1), total_steps=45_000):
        last = step
    stats = last.episodes
    reward = stats["episode/return"] / stats["episode/length"]
    best = env.optimum(limit)
    if name == "sac":
        assert reward > 0.85
    else:
        assert stats["episode/cost_rate"] == pytest.approx(limit, abs=0.05)
        assert reward > 0.8 * best.reward
        assert reward < best.reward + 0.05
