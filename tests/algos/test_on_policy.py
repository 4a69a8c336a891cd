"""Every on-policy learner through one table, unusual combinations, and what the options promise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import registry
from jsafe.algos.on_policy.assembly import _rule
from jsafe.algos.on_policy.config import SECOND_ORDER
from jsafe.ops import stats
from jsafe.options import from_json, to_json
from jsafe.testing import check_learner, random_batch
from jsafe.types import EpisodeStats

TINY = {"num_envs": 4, "steps_per_epoch": 64, "hidden": (8,), "minibatch": 32, "passes": 2, "cg_iterations": 4}
SPEC = jsafe.EnvSpec(5, 2, horizon=16)
NAMES = [name for name in registry.names() if registry.get(name).family == "on_policy"]
KEY = jax.random.key(0)

# Rows of OmniSafe's configuration files: step, rule, transform, passes, minibatch, target_kl, early stop, critic rate.
FIRST, SECOND = (64, 0.02, True, 3e-4), (128, 0.01, False, 1e-3)
TABLE = {
    "policy_gradient": ("policy_gradient", "none", "identity", 10, *FIRST),
    "natural_pg": ("natural_pg", "none", "identity", 10, *SECOND),
    "trpo": ("trpo", "none", "identity", 10, *SECOND),
    "ppo": ("ppo", "none", "identity", 40, *FIRST),
    "ppo_lag": ("ppo", "lagrange", "identity", 40, *FIRST),
    "trpo_lag": ("trpo", "lagrange", "identity", 10, *SECOND),
    "rcpo": ("natural_pg", "lagrange", "identity", 10, *SECOND),
    "pdo": ("policy_gradient", "lagrange", "identity", 40, *FIRST),
    "cppo_pid": ("ppo", "pid", "identity", 40, *FIRST),
    "trpo_pid": ("trpo", "pid", "identity", 10, *SECOND),
    "cpo": ("cpo", "none", "identity", 10, *SECOND),
    "pcpo": ("pcpo", "none", "identity", 10, *SECOND),
    "focops": ("focops", "lagrange", "identity", 40, *FIRST),
    "cup": ("cup", "lagrange", "identity", 40, 64, 0.01, True, 3e-4),
    "ipo": ("ipo", "none", "identity", 10, *FIRST),
    "p3o": ("p3o", "none", "identity", 10, *FIRST),
    "on_crpo": ("trpo", "crpo", "identity", 10, *SECOND),
    "ppo_saute": ("ppo", "none", "saute", 40, *FIRST),
    "trpo_saute": ("trpo", "none", "saute", 10, *SECOND),
    "ppo_simmer_pid": ("ppo", "none", "simmer", 40, *FIRST),
    "trpo_simmer_pid": ("trpo", "none", "simmer", 10, *SECOND),
    "ppo_early_terminated": ("ppo", "none", "early_termination", 40, *FIRST),
    "trpo_early_terminated": ("trpo", "none", "early_termination", 10, *SECOND),
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Most of the time here goes into compiling programs that run once or twice."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_all_names_are_there():
    assert sorted(TABLE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_the_released_ones(name):
    algorithm = registry.get(name)
    config = registry.make_config(algorithm, "omnisafe")
    row = (config.step, config.rule, config.transform, config.passes, config.minibatch)
    assert (*row, config.target_kl, config.early_stop, config.critic_lr) == TABLE[name]
    assert config.compat == "omnisafe"
    assert config.cost_window == (50 if name == "policy_gradient" else 100)
    assert config.normalize_reward == config.normalize_cost == (name in ("ipo", "pdo"))
    assert config.multiplier_bound == (2.0 if name in ("focops", "cup") else None)
    assert config.steps_per_epoch == 20_000
    assert algorithm.config().compat == "paper"
    assert from_json(algorithm.config, to_json(config)) == config
    assert len(algorithm.paper) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    learner = jsafe.make(name, SPEC, **TINY)
    state, metrics = check_learner(learner, KEY)
    assert int(state.iteration) == 2
    assert metrics["update/passes"] >= 1
    extra = 1 if learner.config.transform in ("saute", "simmer") else 0
    first = jax.tree.leaves(state.params.actor["layers"][0]["w"])[0]
    assert first.shape == (SPEC.obs_dim + extra, 8)


COMBINATIONS = [
    {"step": "focops", "rule": "pid", "transform": "saute"},
    {"step": "cpo", "rule": "augmented", "transform": "early_termination", "compat": "omnisafe"},
    {"step": "cup", "rule": "crpo", "estimator": "vtrace", "standardize": "mix"},
    {"step": "p3o", "rule": "lagrange", "transform": "simmer", "estimator": "gae_rtg", "compat": "omnisafe"},
    {"step": "pcpo", "rule": "pid", "normalize_reward": True, "normalize_cost": True, "estimator": "plain"},
    {"step": "ipo", "compat": "omnisafe", "normalize_obs": False, "standardize": "none"},
]


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: "-".join(map(str, list(o.values())[:3])))
def test_combinations_that_omnisafe_lacks(options):
    learner = jsafe.on_policy(SPEC, **{**TINY, **options})
    _, metrics = check_learner(learner, KEY)
    if options["step"] == "ipo":
        assert metrics["rule/multiplier_0"] > 0


@pytest.mark.parametrize("name", ["ppo_lag", "cpo", "ppo_saute", "on_crpo"])
def test_several_constraints(name):
    learner = jsafe.make(name, jsafe.EnvSpec(5, 2, num_costs=3, horizon=16), **TINY, cost_limit=(1.0, 2.0, 0.5))
    state, metrics = check_learner(learner, KEY)
    assert state.hyper.cost_limit.tolist() == [1.0, 2.0, 0.5]
    assert {f"cost/episodic_{i}" for i in range(3)} <= set(metrics)


@functools.cache
def ppo_lag():
    learner = jsafe.make("ppo_lag", SPEC, **TINY)
    return learner, jax.jit(learner.update)


def batch_with(cost, length=16.0, count=4.0):
    """A random batch whose finished episodes had this mean cost."""
    episodes = EpisodeStats(np.float32(0), np.array([cost * count], np.float32), np.float32(length * count), count)
    return random_batch(ppo_lag()[0], jax.random.key(1))._replace(episodes=episodes)


def test_the_multiplier_moves_before_the_policy_and_with_the_cost():
    learner, update = ppo_lag()
    state = learner.init(KEY)
    for cost, expected in ((30.0, 0.001 + 0.035), (20.0, 0.0)):
        after, metrics = update(state, batch_with(cost), KEY)
        assert after.rule.parameter == pytest.approx([expected], rel=1e-3, abs=1e-6)
        assert metrics["rule/multiplier_0"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert metrics["cost/episodic_0"] == cost


def test_plain_dual_ascent_moves_by_rate_times_violation():
    learner = jsafe.make("trpo_lag", SPEC, **TINY, preset="jsafe")
    rule = _rule(learner.config, 1)
    state = rule.update(rule.init(), np.float32([40]), np.float32([25]))
    np.testing.assert_allclose(state.parameter, [0.001 + 0.002 * 15], rtol=1e-5)


def test_a_batch_without_finished_episodes_is_measured_by_its_rate():
    learner, update = ppo_lag()
    batch = batch_with(0.0, count=0.0)
    _, metrics = update(learner.init(KEY), batch, KEY)
    assert metrics["cost/episodic_0"] == pytest.approx(16 * batch.cost.mean(), rel=1e-5)


def test_the_actors_rate_decays_and_the_critics_does_not():
    learner, update = ppo_lag()
    state = learner.init(KEY)._replace(iteration=jnp.array(500))
    after, _ = update(state, batch_with(1.0), KEY)
    same = jax.tree.map(np.array_equal, after.params.actor, state.params.actor)
    assert all(jax.tree.leaves(same))
    assert not np.array_equal(after.params.critics[0]["w"], state.params.critics[0]["w"])


def test_statistics_move_after_the_update():
    """The first batch is acted on and trained on unscaled; then the statistics are those of its observations."""
    learner, update = ppo_lag()
    state, batch = learner.init(KEY), batch_with(1.0)
    shifted = batch._replace(obs=batch.obs + 3, next_obs=batch.next_obs + 3)
    after, _ = update(state, shifted, KEY)
    np.testing.assert_allclose(after.obs_stats.mean, shifted.obs.mean((0, 1)), rtol=1e-5)
    assert after.obs_stats.count == 64
    obs = np.zeros((2, 5), np.float32)
    out = learner.act(learner.policy(after)._replace(actor=state.params.actor), obs, KEY, True)
    raw = learner.act(learner.policy(state), obs, KEY, True)
    assert not np.allclose(out.action, raw.action)


def test_seeds_and_limits_vmap_without_recompiling():
    learner, _ = ppo_lag()
    states = jax.vmap(learner.init)(jax.random.split(KEY, 3))
    hyper = states.hyper._replace(cost_limit=jnp.array([[10.0], [25.0], [40.0]]))
    update = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))
    after, metrics = update(states._replace(hyper=hyper), batch_with(30.0), KEY)
    assert metrics["policy/kl"].shape == (3,)
    assert np.asarray(after.rule.parameter[:, 0] > 0.001).tolist() == [True, True, False]
    alone, _ = ppo_lag()[1](jax.tree.map(lambda x: x[1], states), batch_with(30.0), KEY)
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(after.params)):
        np.testing.assert_allclose(a, b[1], rtol=1e-4, atol=1e-6)


def test_units_of_the_constraint():
    """A gap of one cost per 16-step episode is repairable within a trust region per step, not in episodic units."""
    feasible = {}
    for compat in ("paper", "omnisafe"):
        learner = jsafe.make("cpo", SPEC, **TINY, compat=compat, target_kl=0.5)
        batch = random_batch(learner, jax.random.key(1))
        episodes = EpisodeStats(np.float32(0), np.array([104.0], np.float32), np.float32(64), np.float32(4))
        _, metrics = jax.jit(learner.update)(learner.init(KEY), batch._replace(episodes=episodes), KEY)
        feasible[compat] = float(metrics["update/feasible"])
    assert feasible == {"paper": 1.0, "omnisafe": 0.0}


def test_the_margin_integrates_the_violation():
    """A cost of 3 per episode against a limit of 2.9: within reach of one step, but not with a large margin."""
    learner = jsafe.make("cpo", SPEC, **TINY, margin_lr=100.0, cost_limit=2.9)
    batch = random_batch(learner, jax.random.key(1))
    cost, count = np.array([30.0], np.float32), np.float32(10)
    batch = batch._replace(episodes=batch.episodes._replace(cost=cost, count=count, length=count * 20))
    update = jax.jit(learner.update)
    start = learner.init(KEY)
    state, metrics = update(start, batch, KEY)
    assert float(metrics["cost/margin_0"]) == pytest.approx(10, rel=1e-4)
    assert float(metrics["update/feasible"]) == 0
    state, _ = update(state, batch, KEY)
    assert float(state.margin[0]) == pytest.approx(20, rel=1e-4)
    safe = batch._replace(episodes=batch.episodes._replace(cost=cost - 30 / 29))
    state, _ = update(state, safe, KEY)
    assert float(state.margin[0]) == pytest.approx(20 - 100 * (2.9 - (3 - 3 / 29)), rel=1e-3)
    state, metrics = update(start._replace(hyper=start.hyper._replace(margin_lr=jnp.float32(0))), batch, KEY)
    assert (float(state.margin[0]), float(metrics["update/feasible"])) == (0, 1)


def test_trust_region_in_released_units_is_larger():
    """OmniSafe averages the divergence over action components, so the sum may reach A times the target."""
    kl = {}
    for compat in ("paper", "omnisafe"):
        options = {**TINY, "cg_iterations": 10, "compat": compat, "target_kl": 1e-5}
        learner = jsafe.on_policy(SPEC, step="natural_pg", damping=1e-4, **options)
        batch = random_batch(learner, jax.random.key(1))
        _, metrics = jax.jit(learner.update)(learner.init(KEY), batch, KEY)
        kl[compat] = float(metrics["policy/kl"])
    assert kl["paper"] == pytest.approx(1e-5, rel=0.15)
    assert kl["omnisafe"] == pytest.approx(2e-5, rel=0.15)


def test_released_discount_of_costs():
    """With compat="omnisafe" the cost critic's target is discounted like the reward's."""
    values = {}
    for compat in ("paper", "omnisafe"):
        learner = jsafe.make("ppo_lag", SPEC, **TINY, compat=compat, gamma=0.0, cost_gamma=0.9)
        batch = random_batch(learner, jax.random.key(1))
        _, metrics = jax.jit(learner.update)(learner.init(KEY), batch, KEY)
        values[compat] = float(metrics["loss/value_cost"])
    assert values["paper"] > 1.1 * values["omnisafe"]


def test_data_of_the_collector():
    learner = jsafe.make("ppo_simmer_pid", SPEC)
    assert (learner.data.num_envs, learner.data.length, learner.data.reset_each_epoch) == (20, 1000, False)
    assert learner.data.transform.extra_obs == 1
    assert jsafe.make("ppo", SPEC).data.transform is None
    assert jsafe.make("ppo", SPEC, preset="omnisafe").data.reset_each_epoch
    params = learner.policy(learner.init(KEY)).transform
    assert params.start == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "pppo"}, "did you mean 'ppo'"),
        ({"rule": "lagrang"}, "did you mean 'lagrange'"),
        ({"transform": "saut"}, "did you mean 'saute'"),
        ({"compat": "omni"}, "did you mean 'omnisafe'"),
        ({"learning_rate": 1.0}, "unknown option"),
        ({"cost_limit": (1.0, 2.0)}, "has 2 values, the environment has 1 costs"),
        ({"cost_limit": -1.0}, "cost_limit must be at least 0, got -1.0"),
        ({"cost_limit": 0.0, "transform": "saute"}, "cost_limit must be at least 1e-06"),
        ({"steps_per_epoch": 7}, "must be a multiple of num_envs"),
        ({"gamma": 1.5}, "gamma must be in"),
        ({"gamma": 1.0, "step": "cup"}, "gamma must be below 1"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"pid_kp": -1.0}, "pid_kp must be at least 0"),
        ({"pid_smoothing": 1.0}, "pid_smoothing must be in"),
        ({"hidden": 3}, "must be a sequence"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        jsafe.on_policy(SPEC, **{**TINY, **options})


def test_second_order_steps_bring_their_defaults():
    assert jsafe.on_policy(SPEC, step="cpo").config.minibatch == 128
    assert jsafe.on_policy(SPEC, step="ppo").config.minibatch == 64
    assert {"cpo", "trpo"} <= set(SECOND_ORDER)


# Two devices, one batch: a vmapped axis stands for the devices, and a full-batch minibatch makes the order irrelevant.
DEVICES = {**TINY, "minibatch": 64, "optimizer": "sgd", "actor_lr": 0.05, "critic_lr": 0.05}
SPLIT_CASES = [
    {"step": "ppo", "rule": "lagrange", "normalize_cost": True},
    {"step": "p3o", "rule": "pid"},
    {"step": "ipo", "cost_limit": 4.0},
    {"step": "focops", "rule": "crpo", "compat": "omnisafe"},
    {"step": "cup", "rule": "augmented"},
    {"step": "cpo", "cost_limit": 3.0},
    {"step": "pcpo", "rule": "ipo", "cost_limit": 3.0},
]


def split_update(options):
    """`(one, many)`: states after two updates on one device, and on two with half of the environments each."""
    whole = jsafe.on_policy(SPEC, **{**DEVICES, **options})
    half = jsafe.on_policy(SPEC, axis_name="d", **{**DEVICES, **options})
    update, sharded = jax.jit(whole.update), jax.jit(jax.vmap(half.update, in_axes=(None, 0, None), axis_name="d"))
    one = many = whole.init(KEY)
    for i in range(2):
        batch = random_batch(whole, jax.random.key(3 + i))
        # Three of the batch's episodes end on one device, the rest on the other.
        first = jax.tree.map(lambda x: (x * 0.3).astype(np.float32), batch.episodes)
        second = jax.tree.map(lambda x, y: x - y, batch.episodes, first)
        parts = [jax.tree.map(lambda x, i=i: x[:, 2 * i : 2 * i + 2], batch._replace(episodes=None)) for i in range(2)]
        parts = [part._replace(episodes=episodes) for part, episodes in zip(parts, (first, second))]
        one, metrics = update(one, batch, KEY)
        states, split_metrics = sharded(many, jax.tree.map(lambda *x: np.stack(x), *parts), KEY)
        for leaf in jax.tree.leaves((states, split_metrics)):
            np.testing.assert_allclose(leaf[0], leaf[1], rtol=1e-6, atol=1e-7)
        many = jax.tree.map(lambda x: x[0], states)
    return (one, metrics), (many, jax.tree.map(lambda x: x[0], split_metrics))


@pytest.mark.parametrize("options", SPLIT_CASES, ids=lambda o: o["step"])
def test_two_devices_equal_one(options):
    one, many = split_update(options)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(many)):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", ["psum", "pmean"])
def test_two_devices_differ_without_a_collective(name, monkeypatch):
    """Negative control: without one kind of reduction, the devices drift apart."""
    monkeypatch.setattr(stats, name, lambda x, axis_name: x)
    if name == "pmean":
        monkeypatch.setattr("jsafe.components.steps.pmean", stats.pmean)
    with pytest.raises(AssertionError):
        split_update(SPLIT_CASES[0])


def test_configs_are_frozen_and_hashable():
    config = registry.make_config(registry.get("cpo"), cost_limit=[1, 2])
    assert hash(config)
    assert config.cost_limit == (1.0, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gamma = 0.5
