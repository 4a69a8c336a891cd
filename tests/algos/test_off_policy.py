"""Every off-policy learner through one table, and on a task whose constrained optimum is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jsafe.algos.off_policy.parts import make_rule

import jsafe
from jsafe import registry
from jsafe.components import rules
from jsafe.components.actors import deterministic_actor
from jsafe.data import make_collector
from jsafe.envs.toy import ToyEnv
from jsafe.runs.session import run
from jsafe.testing import check_learner, random_batch
from jsafe.types import env_spec

TINY = {"hidden": (8, 8), "sequences": 4, "num_envs": 4, "sequence_length": 4, "frame_stack": 2}
NAMES = [name for name in registry.names() if registry.get(name).family == "off_policy"]


@pytest.fixture
def quick_compiles():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name, quick_compiles):
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actor": "td4"}, "did you mean 'td3'"),
        ({"rule": "pidd"}, "did you mean 'pid'"),
        ({"cost_limit_per_step": 0.1}, "give one of cost_limit"),
        ({"cost_limit": -1.0}, "cost_limit must be at least 0, got -1.0"),
        ({"cost_limit": ()}, "cost_limit must not be empty"),
        ({"cost_replicas": 0}, "rule='none'"),
        ({"actor": "beta", "compat": "omnisafe"}, "no meaning with actor='beta'"),
        ({"policy_delay": 0}, "policy_delay must be positive, got 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive or None"),
        ({"pid_smoothing": 1.0}, r"pid_smoothing must be in \[0, 1\)"),
        ({"limit_margin": 1.0}, r"limit_margin must be in \[0, 1\)"),
        ({"rule_warmup_steps": -1}, "rule_warmup_steps must be at least 0"),
    ],
)
def test_bad_options_of_the_assembly(options, message):
    with pytest.raises(ValueError, match=message):
        jsafe.off_policy(jsafe.EnvSpec(5, 2), **options)


def test_every_preset_builds():
    spec = jsafe.EnvSpec(5, 2, num_costs=2)
    for name in NAMES:
        for preset in registry.get(name).presets:
            learner = jsafe.make(name, spec, preset=preset)
            assert learner.config.limit_name == ("cost_limit" if learner.config.cost_limit else "cost_limit_per_step")
    released = jsafe.make("sac_pid", spec, preset="omnisafe").config
    assert (released.actor, released.rule, released.temperature) == ("gaussian", "pid", "fixed")
    assert released.actor_learning_rate == 1e-4


SMALL = {"hidden": (8, 8), "sequences": 4, "num_envs": 4, "updates": 1}


@pytest.mark.parametrize(
    ("actor", "rule", "options"),
    [
        ("td3", "crpo", {"cost_limit": 0.0}),
        ("seditor", "pid", {"cost_limit_per_step": 0.0}),
        ("gaussian", "augmented", {"cost_limit": 0.0, "cost_replicas": 2}),
    ],
)
def test_any_rule_weighs_any_actor(actor, rule, options, quick_compiles):
    """Costs above the limit raise the weight of the costs."""
    learner = jsafe.off_policy(jsafe.EnvSpec(5, 2), actor=actor, rule=rule, rule_warmup_steps=0, **SMALL, **options)
    assert (learner.config.actor, learner.config.rule) == (actor, rule)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    stats = batch.episodes._replace(cost=np.float32([40]), count=np.float32(2))
    update = jax.jit(learner.update)
    seen = []
    for i in range(3):
        state, metrics = update(state, batch._replace(episodes=stats), jax.random.key(i))
        seen.append(float(metrics["rule/multiplier"]))
    if rule == "crpo":
        assert seen[0] > 1e6  # costs alone
    else:
        assert seen[0] < seen[1] < seen[2]


def test_plain_dual_ascent_moves_by_rate_times_violation():
    rate = {"multiplier_optimizer": "sgd", "multiplier_learning_rate": 0.01, "initial_multiplier": 0.2}
    rule = make_rule(jsafe.off_policy(jsafe.EnvSpec(5, 2), **rate).config, 1)
    state = rule.update(rule.init(), np.float32([35]), np.float32([25]))
    np.testing.assert_allclose(state.parameter, [0.2 + 0.01 * 10], rtol=1e-6)
    state = rule.update(state, np.float32([24]), np.float32([25]))
    np.testing.assert_allclose(state.parameter, [0.3 - 0.01], rtol=1e-6)


@pytest.mark.parametrize(
    ("actor", "rule"),
    [("seditor", "ipo"), ("beta", "crpo"), ("gaussian", "none"), ("ddpg", "ipo"), ("td3", "augmented")],
)
def test_names_combine_for_several_costs(actor, rule):
    learner = jsafe.off_policy(jsafe.EnvSpec(5, 2, num_costs=2), actor=actor, rule=rule, **SMALL)
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    after, metrics = jax.eval_shape(learner.update, state, random_batch(learner, key), key)
    shapes, wanted = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (after, state))
    assert shapes == wanted
    assert metrics["rule/multiplier"].shape == ()


def test_actors_and_rules_of_ones_own(quick_compiles):
    spec = jsafe.EnvSpec(5, 2)
    actor = deterministic_actor(5, 2, hidden=(4,), exploration_noise=0.0, slow=False)
    rule = rules.lagrange(1, learning_rate=0.1, init=2.0, transform="clamp", optimizer=optax.identity())
    learner = jsafe.off_policy(spec, actor=actor, rule=rule, **SMALL, rule_warmup_steps=0, limit_margin=0.2)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    stats = batch.episodes._replace(cost=np.float32([60]), count=np.float32(2))
    after, metrics = jax.jit(learner.update)(state, batch._replace(episodes=stats), jax.random.key(2))
    assert float(metrics["rule/multiplier"]) == 2.0
    np.testing.assert_allclose(after.rule.parameter, [2 + 0.1 * (30 - 0.8 * 25)])
    assert after.target_actor == ()
    assert after.params["log_alpha"] == {}
    assert after.params["actor"]["kernel_0"].shape == (5, 4)


def test_the_episodic_constraint(quick_compiles):
    """The rule sees the mean cost of the last episodes, iterations without an end take no place, and it starts late."""
    learner = jsafe.make(
        "ddpg_lag", jsafe.EnvSpec(5, 2, horizon=50), **SMALL, unroll=4, cost_window=4, rule_warmup_steps=48
    )
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))._replace(learn=np.bool_(False))
    update = jax.jit(learner.update)
    finished = [(0, 0), (30, 1), (0, 0), (90, 2), (80, 2), (0, 0), (10, 1)]
    rate = float(batch.fresh.total[0] / batch.fresh.count)
    wanted = [50 * rate, 30, 30, 40, 42.5, 42.5, 36]  # the last: (10 + 80 + 90) / 5
    for i, ((cost, count), mean) in enumerate(zip(finished, wanted, strict=True)):
        stats = batch.episodes._replace(cost=np.float32([cost]), count=np.float32(count))
        before = state.rule.parameter
        state, metrics = update(state, batch._replace(episodes=stats), jax.random.key(i))
        assert float(metrics["rule/cost_episodic"]) == pytest.approx(mean, rel=1e-5)
        assert (float(state.rule.parameter[0]) > float(before[0])) == (16 * (i + 1) > 48 and mean > 25)


def test_the_replay_on_the_device_changes_nothing(quick_compiles):
    ends = []
    for on_device in (False, True):
        env = ToyEnv(num_envs=4, seed=3, horizon=20)
        options = {**SMALL, "updates": 2, "initial_rows": 30, "random_steps": 16, "replay_on_device": on_device}
        learner = jsafe.make("ddpg_lag", env_spec(env), **options)
        steps = run(learner, make_collector(env, learner, seed=0), key=jax.random.key(1), total_steps=160)
        ends.append(jax.device_get(list(steps)[-1].state))
    assert ends[0].updates > 0
    jax.tree.map(np.testing.assert_array_equal, *ends)


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


TEXTBOOK = {
    "hidden": (32, 32),
    "num_envs": 16,
    "unroll": 4,
    "sequences": 64,
    "initial_rows": 500,
    "random_steps": 500,
    "rule_warmup_steps": 500,
    "learning_rate": 1e-3,
    "actor_learning_rate": 1e-3,
    "gamma": 0.9,
    "tau": 0.02,
    "updates": 8,
    "initial_multiplier": 0.5,
    "multiplier_learning_rate": 3e-3,
}
SAC_PID = {"preset": "textbook", "pid_kp": 0.02, "pid_ki": 1e-3, "pid_kd": 0.02, "target_entropy_per_dim": -2.0}


@pytest.mark.parametrize("name", ["td3_lag", "ddpg_lag", "sac_pid"])
def test_learns_the_toy_optimum_of_an_episode(name):
    """The same task with the limit on an episode of 20 steps; the multiplier finds its optimum, 1."""
    env = ToyEnv(num_envs=16, seed=3, horizon=20)
    extra = {**SAC_PID, "initial_temperature": 0.05} if name == "sac_pid" else {}
    learner = jsafe.make(name, env_spec(env), **TEXTBOOK, **extra, cost_limit=5.0)
    collector = make_collector(env, learner, seed=0)
    for step in run(learner, collector, key=jax.random.key(1), total_steps=32_000):
        last = step
    best = env.optimum(0.25)
    assert last.episodes["episode/cost"] == pytest.approx(5, abs=0.8)
    assert last.episodes["episode/return"] / 20 == pytest.approx(best.reward, abs=0.05)
    assert float(last.metrics["rule/multiplier"]) == pytest.approx(best.multiplier[0], abs=0.15)


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
