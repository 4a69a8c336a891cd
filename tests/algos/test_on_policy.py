"""Every on-policy learner through one table, unusual combinations, and what the options promise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import registry
from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.components import steps
from jsafe.ops import stats
from jsafe.options import from_json, paths, to_json
from jsafe.testing import check_learner, random_batch
from jsafe.types import ConstraintRule, EpisodeStats, Weights

TINY = {"num_envs": 4, "steps_per_epoch": 64, "hidden": (8,), "minibatch": 32, "passes": 2}
SPEC = jsafe.EnvSpec(5, 2, horizon=16)
NAMES = [name for name in registry.names() if registry.get(name).family == "on_policy"]
KEY = jax.random.key(0)

# Rows of OmniSafe's configuration files: step, rule, transform, passes, minibatch, target_kl, early stop, critic rate.
FIRST, SECOND = (64, 0.02, True, 3e-4), (128, 0.01, None, 1e-3)
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
    "ipo": ("ppo", "ipo", "identity", 10, *FIRST),
    "p3o": ("p3o", "none", "identity", 10, *FIRST),
    "on_crpo": ("trpo", "crpo", "identity", 10, *SECOND),
    "ppo_saute": ("ppo", "none", "saute", 40, *FIRST),
    "trpo_saute": ("trpo", "none", "saute", 10, *SECOND),
    "ppo_simmer_pid": ("ppo", "none", "simmer", 40, *FIRST),
    "trpo_simmer_pid": ("trpo", "none", "simmer", 10, *SECOND),
    "ppo_early_terminated": ("ppo", "none", "early_termination", 40, *FIRST),
    "trpo_early_terminated": ("trpo", "none", "early_termination", 10, *SECOND),
}


def test_all_names_are_there():
    assert sorted([*TABLE, "appo"]) == NAMES


@pytest.mark.parametrize("name", TABLE)
def test_configurations_are_the_released_ones(name):
    algorithm = registry.get(name)
    config = registry.make_config(algorithm, "omnisafe")
    step = config.step
    row = (step.kind, config.rule.kind, config.transform.kind, step.passes, step.minibatch)
    assert (*row, step.target_kl, getattr(step, "early_stop", None), step.critics.learning_rate) == TABLE[name]
    assert config.compat == "omnisafe"
    assert config.limit.window == (50 if name == "policy_gradient" else 100)
    assert config.normalize_reward == config.normalize_cost == (name in ("ipo", "pdo"))
    assert getattr(config.rule, "upper_bound", None) == (2.0 if name in ("focops", "cup") else None)
    assert config.steps_per_epoch == 20_000
    assert algorithm.presets["omnisafe"].total_steps == 10_000_000
    assert algorithm.config.compat == "paper"


@pytest.mark.parametrize("name", NAMES)
def test_algorithms_are_told_and_saved(name):
    algorithm = registry.get(name)
    assert len(algorithm.paper) > 20
    assert algorithm.module.startswith("jsafe.algos.on_policy.")
    for preset in (None, *algorithm.presets):
        config = registry.make_config(algorithm, preset)
        assert from_json(OnPolicyConfig, to_json(config)) == config
        assert hash(config)
        assert preset is None or len(algorithm.presets[preset].summary) > 10
    options = paths(algorithm.config).items()
    values = [path for path, field in options if "seam" not in field.metadata and ".encoder." not in path]
    assert len(values) <= 46
    mine = {"clip", "damping", "kappa", "kp", "distance", "unsafe_reward"}
    wanted = {part for step in (config.step, config.rule, config.transform) for part in vars(step)} & mine
    assert {path.rpartition(".")[2] for path in values} & mine == wanted


@functools.cache
def made(name):
    return jsafe.make(name, SPEC, **TINY)


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    learner = made(name)
    state, metrics = check_learner(learner, KEY)
    assert int(state.iteration) == 2
    assert metrics["update/passes"] >= 1
    extra = 1 if learner.config.transform.kind in ("saute", "simmer") else 0
    assert state.params.actor["layers"][0]["w"].shape == (SPEC.obs_dim + extra, 8)
    names = {"policy/kl", "policy/std", "policy/entropy", "loss/actor", "loss/critic_reward", "loss/critic_cost"}
    names |= {"rule/reward_weight"} | {f"cost/0/{what}" for what in ("episodic", "per_step", "limit", "multiplier")}
    assert names <= set(metrics)


# A limit that never binds: the constrained algorithm, and the one that it then is (with the options of its own).
FAR = 1e7
TWINS = dict.fromkeys(("ppo_lag", "cppo_pid", "appo", "p3o", "ipo", "cup", "ppo_early_terminated"), "ppo")
TWINS |= dict.fromkeys(("trpo_lag", "trpo_pid", "on_crpo", "trpo_early_terminated", "cpo", "pcpo"), "trpo")
TWINS |= {"pdo": "policy_gradient", "focops": "focops", "rcpo": "natural_pg"}
NOISY = {"num_envs": 4, "steps_per_epoch": 64, "hidden": (8,), "minibatch": 4, "passes": 2}
"""Minibatches of four rows: a constraint that looks at their means acts on noise."""


def test_every_constrained_algorithm_has_a_twin():
    constrained = {name for name in NAMES if registry.get(name).config.constrained}
    budgets = {f"{step}_{transform}" for step in ("ppo", "trpo") for transform in ("saute", "simmer_pid")}
    assert constrained == set(TWINS) | budgets  # with a budget in the observation the networks are others


@functools.cache
def twin(name, **options):
    learner = jsafe.make(name, SPEC, **{**options, **NOISY})
    return learner, jax.jit(learner.update)


@pytest.mark.parametrize("name", TWINS)
def test_a_limit_that_never_binds_equals_the_unconstrained_twin(name):
    """Same actor after two updates on the same data, in which costs are far below the limit."""
    shared = {"cup": {"target_kl": 0.01}, "appo": {"standardize": "none"}}.get(name, {})
    ours, update = twin(name, cost_limit=FAR, **shared)
    theirs, plain = twin(TWINS[name], **shared, **({"rule": "none"} if name == "focops" else {}))
    one, two = ours.init(KEY), theirs.init(KEY)
    for i in range(2):
        batch = random_batch(ours, jax.random.key(i))
        one, _ = update(one, batch, KEY)
        two, _ = plain(two, batch, jax.random.fold_in(KEY, 0) if name == "cup" else KEY)  # the key of its first stage
    for a, b in zip(jax.tree.leaves(one.params.actor), jax.tree.leaves(two.params.actor)):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["p3o", "ipo", "ppo_lag", "cup", "cpo", "pcpo", "appo"])
def test_a_limit_that_is_exceeded_does_act(name):
    """The control of the test above."""
    one, two = (twin(name, cost_limit=limit) for limit in (FAR, 0.0))
    batch = random_batch(one[0], jax.random.key(0))
    a, b = (update(learner.init(KEY), batch, KEY)[0].params.actor["layers"][0]["w"] for learner, update in (one, two))
    assert np.abs(a - b).max() > 1e-5


COMBINATIONS = [
    {"step": "focops", "rule": "pid", "transform": "saute"},
    {"step": "cpo", "rule": "augmented", "transform": "early_termination", "compat": "omnisafe"},
    {"step": "cup", "rule": "crpo", "estimator": "vtrace", "standardize": "mix"},
    {"step": "p3o", "rule": "lagrange", "transform": "simmer", "estimator": "gae_rtg", "compat": "omnisafe"},
    {"step": "pcpo", "rule": "pid", "normalize_reward": True, "normalize_cost": True, "estimator": "plain"},
    {"step": "appo", "rule": "ipo", "compat": "omnisafe", "normalize_obs": False, "standardize": "none"},
    {"step": "trpo", "rule": "lagrange", "cost_limit_per_step": 0.05, "limit.margin": 0.1, "cost_penalty": 0.1},
]


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: "-".join(map(str, list(o.values())[:3])))
def test_combinations_that_omnisafe_lacks(options):
    learner = jsafe.on_policy(SPEC, **{**TINY, **options})
    _, metrics = check_learner(learner, KEY)
    if options.get("rule") == "ipo":
        assert metrics["cost/0/multiplier"] > 0
    assert ("cost/0/limit_per_step" in metrics) == ("cost_limit_per_step" in options)


def half_and_half(num_costs):
    """A rule in the caller's own words: half of the weight for the reward, the rest shared by violated costs."""

    def weights(state, J_cost, limit):
        bad = (J_cost > limit).astype(jnp.float32)
        return Weights(jnp.float32(0.5), 0.5 * bad / num_costs)

    return ConstraintRule(lambda: jnp.zeros(()), lambda state, J_cost, limit: state + 1, weights)


@pytest.mark.parametrize("how", ["on_policy", "make", "config", "part"])
def test_a_rule_of_ones_own_works_inside_ppo(how):
    rule = half_and_half(1)

    @dataclasses.dataclass(frozen=True)
    class Mine:
        share: float = 0.5

        def build(self, spec, axis_name=None):
            return half_and_half(spec.num_costs)

    if how == "on_policy":
        learner = jsafe.on_policy(SPEC, step=steps.PPO(clip=0.1), rule=rule, **TINY)
    elif how == "make":
        learner = jsafe.make("ppo_lag", SPEC, rule=rule, **TINY)
    elif how == "config":
        config = registry.make_config(registry.get("ppo"), **TINY)
        learner = registry.get("ppo").build(dataclasses.replace(config, rule=rule), SPEC)
    else:
        learner = jsafe.on_policy(SPEC, rule=Mine(), **TINY)
        assert learner.config.rule.share == 0.5
    state, metrics = check_learner(learner, KEY)
    assert int(state.rule) == 2
    assert metrics["cost/0/multiplier"] in (0.0, 1.0)
    assert learner.config.constrained
    with pytest.raises(ValueError, match="make your part a frozen dataclass and register it"):
        to_json(learner.config)  # it could not be read back


@pytest.mark.parametrize("name", ["ppo_lag", "cpo", "ppo_saute", "on_crpo", "appo"])
def test_several_constraints(name):
    learner = jsafe.make(name, jsafe.EnvSpec(5, 2, num_costs=3, horizon=16), **TINY, cost_limit=(1.0, 2.0, 0.5))
    state, metrics = check_learner(learner, KEY)
    assert state.limit.tolist() == [1.0, 2.0, 0.5]
    assert [float(metrics[f"cost/{i}/limit"]) for i in range(3)] == [1.0, 2.0, 0.5]


@functools.cache
def ppo_lag(**options):
    learner = jsafe.make("ppo_lag", SPEC, **{**TINY, **options})
    return learner, jax.jit(learner.update)


def batch_with(cost, length=16.0, count=4.0):
    """A random batch whose finished episodes had this mean cost."""
    episodes = EpisodeStats(np.float32(0), np.array([cost * count], np.float32), np.float32(length * count), count)
    batch = random_batch(ppo_lag()[0], jax.random.key(1))
    return batch._replace(measured=batch.measured._replace(episodes=episodes))


def test_the_multiplier_moves_before_the_policy_and_with_the_cost():
    learner, update = ppo_lag()
    state = learner.init(KEY)
    for cost, expected in ((30.0, 0.001 + 0.035), (20.0, 0.0)):
        after, metrics = update(state, batch_with(cost), KEY)
        assert after.rule.parameter == pytest.approx([expected], rel=1e-3, abs=1e-6)
        assert metrics["cost/0/multiplier"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert metrics["cost/0/episodic"] == cost


def test_a_margin_lowers_what_the_rule_aims_at():
    learner, update = ppo_lag(**{"limit.margin": 0.2, "rule.optimizer": "sgd"})
    after, metrics = update(learner.init(KEY), batch_with(22.0), KEY)
    assert after.rule.parameter == pytest.approx([0.001 + 0.035 * (22.0 - 0.8 * 25.0)], rel=1e-4)
    assert metrics["cost/0/limit"] == 25.0


def test_a_limit_per_step_is_measured_on_the_fresh_rows():
    learner, update = ppo_lag(**{"cost_limit_per_step": 0.05, "rule.optimizer": "sgd"})
    batch = batch_with(1000.0)
    after, metrics = update(learner.init(KEY), batch, KEY)
    rate = float(batch.measured.rows.total[0] / batch.measured.rows.count)
    assert metrics["cost/0/per_step"] == pytest.approx(rate, rel=1e-5)
    assert after.rule.parameter == pytest.approx([max(0.001 + 0.035 * (rate - 0.05), 0)], rel=1e-4)


def test_plain_dual_ascent_moves_by_rate_times_violation():
    config = registry.make_config(registry.get("trpo_lag"), "jsafe")
    rule = config.rule.build(SPEC)
    state = rule.update(rule.init(), np.float32([40]), np.float32([25]))
    np.testing.assert_allclose(state.parameter, [0.001 + 0.002 * 15], rtol=1e-5)


def test_the_authors_focops():
    config = registry.make_config(registry.get("focops"), "authors")
    assert config.standardize == "all"
    rule = config.rule.build(SPEC)
    state = rule.update(rule.init(), np.float32([40]), np.float32([25]))
    weights = rule.weights(state, None, None)
    assert (weights.reward, weights.cost[0]) == (1.0, pytest.approx(0.01 * 15))
    assert rule.update(rule.init(), np.float32([1e4]), np.float32([25])).parameter == 2.0


def test_a_batch_without_finished_episodes_is_measured_by_its_rate():
    learner, update = ppo_lag()
    batch = batch_with(0.0, count=0.0)
    _, metrics = update(learner.init(KEY), batch, KEY)
    rows = batch.measured.rows
    assert metrics["cost/0/episodic"] == pytest.approx(float(16 * rows.total[0] / rows.count), rel=1e-5)


def test_episodes_that_outlast_an_epoch_are_told_at_the_start():
    spec = jsafe.EnvSpec(5, 2, horizon=1000)
    with pytest.warns(UserWarning, match="measured late, and not in every epoch"):
        jsafe.make("ppo_lag", spec, **TINY)
    with pytest.warns(UserWarning, match="no episode of 1000 steps is ever finished.*raise steps_per_epoch to 4000"):
        jsafe.make("cpo", spec, preset="omnisafe", **TINY)


@pytest.mark.filterwarnings("error")
def test_nothing_is_told_where_nothing_is_wrong():
    spec = jsafe.EnvSpec(5, 2, horizon=1000)
    jsafe.make("ppo_lag", spec, preset="omnisafe")
    jsafe.make("ppo", spec, **TINY)
    jsafe.make("ppo_lag", spec, **TINY, cost_limit_per_step=0.025)


def test_the_actors_rate_falls_over_the_run_and_still_moves_it_at_the_end():
    learner, update = ppo_lag(schedule_steps=64 * 10)
    state = learner.init(KEY)
    for iteration, share in ((0, 1.0), (5, 0.5), (9, 0.1), (10, 0.1), (1000, 0.1)):
        after, metrics = update(state._replace(iteration=jnp.array(iteration)), batch_with(1.0), KEY)
        assert metrics["update/learning_rate"] == pytest.approx(3e-4 * share, rel=1e-5)
        assert not np.array_equal(after.params.actor["log_std"], state.params.actor["log_std"])
    learner, update = ppo_lag()  # the length of the run is not known: the rate stays
    _, metrics = update(state._replace(iteration=jnp.array(1000)), batch_with(1.0), KEY)
    assert metrics["update/learning_rate"] == pytest.approx(3e-4)


def test_statistics_move_after_the_update():
    """The first batch is acted on and trained on unscaled; then the statistics are those of its observations."""
    learner, update = ppo_lag()
    state, batch = learner.init(KEY), batch_with(1.0)
    steps = batch.steps._replace(obs=batch.steps.obs + 3, next_obs=batch.steps.next_obs + 3)
    after, metrics = update(state, batch._replace(steps=steps), KEY)
    np.testing.assert_allclose(after.obs_stats.mean, steps.obs.mean((0, 1)), rtol=1e-5)
    assert after.obs_stats.count == 64
    obs = steps.obs.reshape(-1, 5)
    act = functools.partial(learner.act, memory=(), obs=obs, key=KEY, deterministic=True)
    means = [
        act(policy)[0] for policy in (learner.policy(after)._replace(params=state.params.actor), learner.policy(state))
    ]
    assert not np.allclose(*means)
    # What the new statistics do to the policy that acted, before any gradient: the deviations are 1 at the start.
    kl = 0.5 * np.square(means[0] - means[1]).sum(-1).mean()
    assert metrics["policy/kl_statistics"] == pytest.approx(kl, rel=1e-3)


def test_seeds_and_limits_vmap_without_recompiling():
    learner, _ = ppo_lag()
    states = jax.vmap(learner.init)(jax.random.split(KEY, 3))
    states = states._replace(limit=jnp.array([[10.0], [25.0], [40.0]]))
    update = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))
    after, metrics = update(states, batch_with(30.0), KEY)
    assert metrics["policy/kl"].shape == (3,)
    assert np.asarray(after.rule.parameter[:, 0] > 0.001).tolist() == [True, True, False]
    alone, _ = ppo_lag()[1](jax.tree.map(lambda x: x[1], states), batch_with(30.0), KEY)
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(after.params)):
        np.testing.assert_allclose(a, b[1], rtol=1e-4, atol=1e-6)


def test_traced_numbers_are_read_from_the_state():
    """A swept number changes the update, not the program: every traced option of the parts and of the config."""
    learner, update = ppo_lag()
    state, batch = learner.init(KEY), batch_with(30.0)
    plain = update(state, batch, KEY)[0]
    programs = update._cache_size()
    step, estimator = state.step, state.estimator
    for changed in (
        state._replace(step=step._replace(numbers=step.numbers._replace(learning_rate=jnp.float32(0)))),
        state._replace(step=step._replace(numbers=step.numbers._replace(clip=jnp.float32(1e-4)))),
        state._replace(step=step._replace(fit=step.fit._replace(learning_rate=jnp.float32(0)))),
        state._replace(estimator=estimator._replace(gamma=jnp.float32(0))),
        state._replace(rule=state.rule._replace(numbers=state.rule.numbers._replace(learning_rate=jnp.float32(1)))),
        state._replace(numbers=state.numbers._replace(cost_penalty=jnp.float32(1))),
    ):
        after = update(changed, batch, KEY)[0]
        same = jax.tree.map(np.array_equal, after.params, plain.params)
        assert not all(jax.tree.leaves(same))
    assert update._cache_size() == programs


def feasible(**options):
    """Whether CPO finds a gap of one cost per 16-step episode repairable within its trust region."""
    learner = jsafe.make("cpo", SPEC, **TINY, target_kl=0.5, **options)
    batch = random_batch(learner, jax.random.key(1))
    episodes = EpisodeStats(np.float32(0), np.array([104.0], np.float32), np.float32(64), np.float32(4))
    batch = batch._replace(measured=batch.measured._replace(episodes=episodes))
    _, metrics = jax.jit(learner.update)(learner.init(KEY), batch, KEY)
    return float(metrics["update/feasible"])


def test_units_of_the_constraint():
    """It is, in the surrogate's unit per step; not in episodic ones, as released."""
    assert feasible() == 1.0
    assert feasible(compat="omnisafe") == 0.0


@pytest.mark.parametrize("step", ["cpo", "pcpo"])
def test_scaled_costs_do_not_change_the_constraint(step):
    """With `normalize_cost` surrogate and gap are scaled alike: costs and limit ten times as large change nothing."""
    moved = []
    for unit in (1.0, 10.0):
        learner = jsafe.on_policy(SPEC, step=step, normalize_cost=True, cost_limit=1.5 * unit, **TINY)
        batch = random_batch(learner, jax.random.key(1))
        episodes = EpisodeStats(np.float32(0), np.array([8.0 * unit], np.float32), np.float32(64), np.float32(4))
        rows = batch.steps._replace(cost=unit * batch.steps.cost)
        batch = batch._replace(steps=rows, measured=batch.measured._replace(episodes=episodes))
        state, _ = jax.jit(learner.update)(learner.init(KEY), batch, KEY)
        moved.append(state.params.actor["layers"][0]["w"] - learner.init(KEY).params.actor["layers"][0]["w"])
    assert np.abs(moved[0]).max() > 1e-4
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-2 * np.abs(moved[0]).max())


def test_a_penalty_is_one_of_raw_costs_but_as_released_of_scaled_ones():
    means = {}
    for compat in ("paper", "omnisafe"):
        learner = jsafe.on_policy(
            SPEC, compat=compat, cost_penalty=10.0, normalize_cost=True, gamma=0.0, critic_learning_rate=1e-12, **TINY
        )
        batch = random_batch(learner, jax.random.key(1))
        rows = batch.steps._replace(cost=100 * batch.steps.cost, reward=0 * batch.steps.reward)
        _, metrics = jax.jit(learner.update)(learner.init(KEY), batch._replace(steps=rows), KEY)
        means[compat] = float(metrics["loss/critic_reward"])  # the mean square of the penalties: values are near 0
    cost = 100 * np.asarray(batch.steps.cost)
    assert means["paper"] == pytest.approx(np.square(10 * cost).mean(), rel=1e-2)
    scaled = np.clip((cost - cost.mean()) / cost.std(ddof=1), -5, 5)
    assert means["omnisafe"] == pytest.approx(np.square(10 * scaled).mean(), rel=5e-2)


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


def test_feed_of_the_collector():
    learner = jsafe.make("ppo_simmer_pid", SPEC)
    assert (learner.feed.num_envs, learner.feed.length, learner.feed.reset_each_epoch) == (20, 1000, False)
    assert learner.feed.transform.extra_obs == 1
    assert jsafe.make("ppo", SPEC).feed.transform is None
    assert jsafe.make("ppo", SPEC, preset="omnisafe").feed.reset_each_epoch
    params = learner.policy(learner.init(KEY)).transform
    assert params.start == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "pppo"}, "did you mean 'ppo'"),
        ({"rule": "lagrang"}, "did you mean 'lagrange'"),
        ({"transform": "saut"}, "did you mean 'saute'"),
        ({"estimator": "gaee"}, "did you mean 'gae'"),
        ({"policy": "gausian"}, "did you mean 'gaussian'"),
        ({"compat": "omni"}, "did you mean 'omnisafe'"),
        ({"num_env": 4}, "did you mean 'num_envs'"),
        ({"damping": 0.1}, "belongs to the step 'cpo'|belongs to the step 'natural_pg'"),
        ({"step": "cpo", "clip": 0.1}, "belongs to the step"),
        ({"step": "trpo", "entropy_coef": 0.1}, "belongs to the step"),
        ({"cost_limit": (1.0, 2.0)}, "has 2 values, the environment has 1 costs"),
        ({"cost_limit": -1.0}, "value must be at least 0, got -1.0"),
        ({"cost_limit": 0.0, "transform": "saute"}, "cost_limit must be at least 1e-06"),
        ({"steps_per_epoch": 7}, "must be a multiple of num_envs"),
        ({"gamma": 1.5}, "gamma must be at least 0 and at most 1"),
        ({"gamma": 1.0, "step": "cup"}, "gamma must be below 1"),
        ({"schedule_steps": 0}, "schedule_steps must be at least 1"),
        ({"rule": "pid", "kp": -1.0}, "kp must be at least 0"),
        ({"hidden": 3}, "must be a sequence"),
        ({"hidden": (0,)}, "hidden must be at least 1"),
        ({"rule": 3}, "rule must be a rule"),
        ({"step": "ipo", "compat": "omnisafe"}, "step='ppo' with rule='ipo'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        jsafe.on_policy(SPEC, **{**{k: v for k, v in TINY.items() if k not in ("minibatch", "passes")}, **options})


def test_second_order_steps_bring_their_defaults():
    assert jsafe.on_policy(SPEC, step="cpo").config.step.minibatch == 128
    assert jsafe.on_policy(SPEC, step="ppo").config.step.minibatch == 64


# Two devices, one batch: a vmapped axis stands for the devices, and a full-batch minibatch makes the order irrelevant.
DEVICES = {**TINY, "minibatch": 64, "step.optimizer": "sgd", "critic_learning_rate": 0.05}
SPLIT_CASES = [
    {"step": "ppo", "rule": "lagrange", "normalize_cost": True},
    {"step": "p3o", "rule": "pid", "cost_limit": 4.0},
    {"step": "ipo", "cost_limit": 4.0},
    {"step": "appo", "rule": "augmented", "cost_limit": 4.0},
    {"step": "focops", "rule": "crpo", "compat": "omnisafe"},
    {"step": "cup", "rule": "augmented"},
    {"step": "cpo", "cost_limit": 3.0},
    {"step": "pcpo", "rule": "ipo", "cost_limit": 3.0},
]


def split_update(options):
    """`(one, many)`: states after two updates on one device, and on two with half of the environments each."""
    rate = {} if options["step"] in ("cpo", "pcpo") else {"learning_rate": 0.05}
    whole = jsafe.on_policy(SPEC, **{**DEVICES, **rate, **options})
    half = jsafe.on_policy(SPEC, axis_name="d", **{**DEVICES, **rate, **options})
    update, sharded = jax.jit(whole.update), jax.jit(jax.vmap(half.update, in_axes=(None, 0, None), axis_name="d"))
    one = many = whole.init(KEY)
    for i in range(2):
        batch = random_batch(whole, jax.random.key(3 + i))
        # Three tenths of what was measured belongs to one device, the rest to the other.
        first = jax.tree.map(lambda x: (x * 0.3).astype(np.float32), batch.measured)
        second = jax.tree.map(lambda x, y: x - y, batch.measured, first)
        rows = [jax.tree.map(lambda x, i=i: x[:, 2 * i : 2 * i + 2], batch.steps) for i in range(2)]
        parts = [batch._replace(steps=part, measured=share) for part, share in zip(rows, (first, second))]
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
    room = {"psum": "jsafe.components.normalizers.psum", "pmean": "jsafe.components.steps.base.pmean"}[name]
    monkeypatch.setattr(room, getattr(stats, name))
    with pytest.raises(AssertionError):
        split_update(SPLIT_CASES[0])


def test_configs_are_frozen_and_hashable():
    config = registry.make_config(registry.get("cpo"), cost_limit=[1, 2])
    assert hash(config)
    assert config.limit.value == (1.0, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.compat = "omnisafe"
