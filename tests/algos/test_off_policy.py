"""Every off-policy learner through one table, and on a task whose constrained optimum is known."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsafe
from jsafe import options, registry
from jsafe.components import rules
from jsafe.components.actors import Deterministic
from jsafe.components.critics import Ensemble, Quantile
from jsafe.components.rules import Lagrange
from jsafe.components.temperature import Learned
from jsafe.data import make_collector
from jsafe.envs.toy import ToyEnv, ToyGrid
from jsafe.spaces import Discrete
from jsafe.testing import check_learner, random_batch
from jsafe.train import run
from jsafe.types import env_spec

TINY = {"hidden": (8, 8), "sequences": 4, "num_envs": 4, "sequence_length": 4, "frame_stack": 2, "updates": 1}
NAMES = [name for name in registry.names() if registry.get(name).family == "off_policy"]


def spec_of(name, num_costs=1):
    """Sizes that the algorithm can do with."""
    return jsafe.EnvSpec(5, Discrete(3) if "discrete" in name else 2, num_costs=num_costs)


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    learner = jsafe.make(name, spec_of(name, 1 + (name in ("seditor", "cvpo"))), **TINY)
    check_learner(learner, jax.random.key(0))


def test_several_updates_per_call_scan():
    learner = jsafe.make("seditor", jsafe.EnvSpec(5, 2), **{**TINY, "updates": 3})
    state, _ = check_learner(learner, jax.random.key(0))
    assert int(state.updates) == 6


def test_seeds_and_limits_vmap_without_recompiling():
    learner = jsafe.make("sac_lag", jsafe.EnvSpec(5, 2), **TINY, cost_limit_per_step=0.1, rule_warmup=0)
    batch = random_batch(learner, jax.random.key(1))
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    limits = np.array([0.0, 0.1, 1.0])
    states = states._replace(limit=jnp.float32(limits)[:, None])
    states = states._replace(rule=states.rule._replace(parameter=jnp.full((3, 1), 0.5)))
    after, metrics = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))(states, batch, jax.random.key(2))
    assert metrics["loss/critic_cost"].shape == (3,)
    moved = np.asarray(after.rule.parameter[:, 0]) - 0.5
    cost = float(batch.measured.rows.total[0] / batch.measured.rows.count)
    np.testing.assert_array_equal(np.sign(moved), np.sign(cost - limits))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_limit_per_step": -1.0}, "value must be at least 0, got -1.0"),
        ({"cost_limit_per_step": (0.1, 0.2)}, "limit.value has 2 values, the environment has 1 costs"),
        ({"gama": 0.9}, "did you mean 'gamma'"),
        ({"gamma": 1.5}, "gamma must be at least 0 and at most 1, got 1.5"),
        ({"gamma": "high"}, "gamma must be float"),
        ({"gamma": math.nan}, "gamma must be finite"),
        ({"actor.edit": "ad"}, "did you mean 'add'"),
        ({"preset": "lapto"}, "did you mean 'laptop'"),
        ({"sequences": 7}, "multiple of num_envs"),
        ({"sequence_length": 1}, "sequence_length must be at least 2 and at most 1e.09, got 1"),
        ({"hidden": 3}, "must be a sequence"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.make("seditor", jsafe.EnvSpec(5, 2), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": "gausian"}, "did you mean 'gaussian'"),
        ({"critics": "quantiles"}, "did you mean 'quantile'"),
        ({"rule": "pidd"}, "did you mean 'pid'"),
        ({"cost_limit": ()}, "must be a number or one for each cost"),
        ({"critics.cost_replicas": 0}, "rule='none'"),
        ({"actor": "beta", "compat": "omnisafe"}, "no meaning with actor='beta'"),
        ({"policy_delay": 0}, "policy_delay must be at least 1, got 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be above 0"),
        ({"rule": "pid", "rule.error_decay": 1.0}, "error_decay must be at least 0 and below 1"),
        ({"limit.margin": 1.0}, "margin must be at least 0 and below 1"),
        ({"rule_warmup": -1}, "rule_warmup must be at least 0"),
        ({"temperature.init": 0.1, "temperature.floor": 0.2}, "floor must be at most init"),
        ({"kp": 0.1}, "belongs to the rule 'pid', and the rule here is 'lagrange'"),
        ({"cost_estimate": "critics", "normalizer": "moving"}, "costs must not be normalised"),
        ({"actor": "variational", "rule": "none", "gamma": 1.0}, "gamma must be below 1"),
        ({"rule": "ipo", "cost_limit_per_step": 0.01}, "costs weigh the same whatever they are"),
    ],
)
def test_bad_options_of_the_assembly(changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.off_policy(jsafe.EnvSpec(5, 2), **changes)


def test_every_preset_builds_and_survives_json():
    for name in NAMES:
        spec, algorithm = spec_of(name, 2), registry.get(name)
        for preset in (None, *algorithm.presets):
            config = registry.make_config(algorithm, preset)
            algorithm.build(config, spec)
            assert options.from_json(type(config), options.to_json(config)) == config
    released = registry.make_config(registry.get("sac_pid"), "omnisafe")
    kinds = [getattr(type(getattr(released, part)), "kind", "") for part in ("actor", "rule", "temperature")]
    assert kinds == ["gaussian", "pid", "fixed"]
    assert released.actor_learning_rate == 1e-4


def test_a_name_is_what_the_field_means_by_it():
    """`sac` is SAC (Haarnoja et al. 2018), `sac_lag` SAC with a critic per cost and an episodic limit."""
    sac, lag = (registry.get(name).config for name in ("sac", "sac_lag"))
    assert sac == dataclasses.replace(lag, rule=rules.NoRule(), critics=Ensemble(cost_replicas=0))
    assert (sac.actor.hidden, sac.td_lambda, sac.tau, sac.gamma) == ((256, 256), 0.0, 0.005, 0.99)
    assert (sac.feed.frame_stack, sac.feed.sequence_length, sac.feed.sequences) == (1, 2, 256)
    assert sac.feed.updates == sac.feed.steps_per_batch
    assert sac.temperature == Learned(init=1.0, target=-1.0, soft="reward")
    assert (type(sac.normalizer).kind, lag.limit.per, lag.critics.cost_replicas) == ("none", "episode", 1)


def test_where_presets_differ_by_what_their_sources_say():
    """OmniSafe's files of the navigation tasks: DDPGLag goes on normalising costs; DDPG's controller starts at 0."""
    for name, cost, init in (
        ("ddpg_lag", True, 0.0),
        ("td3_lag", False, 0.0),
        ("ddpg_pid", False, 0.0),
        ("td3_pid", False, 0.001),
        ("sac_pid", False, 0.001),
    ):
        config = registry.make_config(registry.get(name), "omnisafe_navigation")
        assert (getattr(config.normalizer, "cost", False), config.rule.init) == (cost, init)


SMALL = {"hidden": (8, 8), "sequences": 4, "num_envs": 4, "updates": 1}


def with_cost(batch, cost, count=1.0):
    """The batch with episodes of that total cost."""
    measured = batch.measured
    episodes = measured.episodes._replace(cost=np.float32([cost]), count=np.float32(count))
    return batch._replace(measured=measured._replace(episodes=episodes))


@pytest.mark.parametrize(
    ("actor", "rule", "options"),
    [
        ("deterministic", "crpo", {"cost_limit": 0.0}),
        ("editor", "pid", {"cost_limit_per_step": 0.0}),
        ("gaussian", "augmented", {"cost_limit": 0.0, "critics.cost_replicas": 2}),
    ],
)
def test_any_rule_weighs_any_actor(actor, rule, options):
    """Costs above the limit raise the weight of the costs."""
    learner = jsafe.off_policy(jsafe.EnvSpec(5, 2), actor=actor, rule=rule, rule_warmup=0, **SMALL, **options)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = with_cost(random_batch(learner, jax.random.key(1)), 40, 2)
    update = jax.jit(learner.update)
    seen = []
    for i in range(3):
        state, metrics = update(state, batch, jax.random.key(i))
        seen.append((float(metrics["cost/0/multiplier"]), float(metrics["rule/reward_weight"])))
    if rule == "crpo":
        assert seen[2] == (1.0, 0.0)  # costs alone
    else:
        assert seen[0][0] < seen[1][0] < seen[2][0]


@pytest.mark.parametrize(
    ("actor", "critics", "rule"),
    [
        ("editor", "upper_bound", "ipo"),
        ("beta", "quantile", "crpo"),
        ("gaussian", "mean_variance", "none"),
        ("deterministic", "ensemble", "augmented"),
        ("variational", "quantile", "none"),
    ],
)
def test_names_combine_for_several_costs(actor, critics, rule):
    spec = jsafe.EnvSpec(5, 2, num_costs=2)
    learner = jsafe.off_policy(spec, actor=actor, critics=critics, rule=rule, **SMALL)
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    after, metrics = jax.eval_shape(learner.update, state, random_batch(learner, key), key)
    shapes, wanted = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (after, state))
    assert shapes == wanted
    assert metrics["cost/1/multiplier"].shape == ()


def test_actors_critics_and_rules_of_ones_own():
    """Parts as objects, and parts that somebody has built already."""
    spec = jsafe.EnvSpec(5, 2)
    actor = Deterministic(hidden=(4,), exploration_noise=0.0, slow=False).build(spec)
    rule = Lagrange(learning_rate=0.1, init=2.0, optimizer=optax.identity()).build(spec)
    small = {name: value for name, value in SMALL.items() if name != "hidden"}
    learner = jsafe.off_policy(
        spec, actor=actor, critics=Quantile(hidden=(4,)), rule=rule, **small, rule_warmup=0, **{"limit.margin": 0.2}
    )
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = with_cost(random_batch(learner, jax.random.key(1)), 60, 2)
    after, metrics = jax.jit(learner.update)(state, batch, jax.random.key(2))
    assert float(metrics["cost/0/multiplier"]) == 2.0
    np.testing.assert_allclose(after.rule.parameter, [2 + 0.1 * (30 - 0.8 * 25)])
    assert after.target_actor == ()
    assert after.params["log_alpha"] == {}
    assert after.params["actor"]["kernel_0"].shape == (5, 4)
    assert after.params["critic"]["cost"]["dense_1"]["bias"].shape == (1, 1, 20)


def test_the_episodic_constraint():
    """The rule sees the mean cost of the last episodes, iterations without an end take no place, and it starts late."""
    options = {"unroll": 4, "limit.window": 4, "rule_warmup": 48}
    learner = jsafe.make("ddpg_lag", jsafe.EnvSpec(5, 2, horizon=50), **SMALL, **options)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))._replace(ready=np.bool_(False))
    update = jax.jit(learner.update)
    finished = [(0, 0), (30, 1), (0, 0), (90, 2), (80, 2), (0, 0), (10, 1)]
    rate = float(batch.measured.rows.total[0] / batch.measured.rows.count)
    wanted = [50 * rate, 30, 30, 40, 42.5, 42.5, 36]  # the last: (10 + 80 + 90) / 5
    for i, ((cost, count), mean) in enumerate(zip(finished, wanted, strict=True)):
        before = state.rule.parameter
        state, metrics = update(state, with_cost(batch, cost, count), jax.random.key(i))
        assert float(metrics["cost/0/episodic"]) == pytest.approx(mean, rel=1e-5)
        assert (float(state.rule.parameter[0]) > float(before[0])) == (16 * (i + 1) > 48 and mean > 25)


@pytest.mark.parametrize("rule", ["crpo", "ipo", "augmented", "lagrange", "pid"])
def test_a_warm_up_holds_for_every_rule(rule):
    """Until its first step a rule has the weights of its start, whatever the costs; then it reacts."""
    spec = jsafe.EnvSpec(5, 2, action_repeat=2)
    learner = jsafe.make("ddpg_lag", spec, **SMALL, rule=rule, rule_warmup=60, cost_limit=1.0)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = with_cost(random_batch(learner, jax.random.key(1)), 60.0)._replace(ready=np.bool_(False))
    update = jax.jit(learner.update)
    weights = []
    for i in range(4):  # 16 times 2 steps each: the second call is the first with a step of the rule
        state, metrics = update(state, batch, jax.random.key(i))
        weights.append((float(metrics["rule/reward_weight"]), float(metrics["cost/0/multiplier"])))
    assert weights[0] == weights[1]
    assert weights[0][1] <= 1.1e-3
    assert weights[2][1] > weights[0][1]


@pytest.mark.parametrize(("interval", "steps"), [(None, [1, 1, 1]), (8, [2, 2, 2]), (40, [0, 0, 1]), (12, [1, 1, 2])])
def test_the_rule_keeps_its_pace_per_environment_step(interval, steps):
    rate = {"rule.optimizer": "sgd", "rule.learning_rate": 0.01, "rule.init": 0.2, "rule_warmup": 0}
    learner = jsafe.make("ddpg_lag", jsafe.EnvSpec(5, 2), **SMALL, **rate, rule_interval=interval)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = with_cost(random_batch(learner, jax.random.key(1)), 35.0)._replace(ready=np.bool_(False))
    update = jax.jit(learner.update)
    for i, count in enumerate(steps):  # 16 environment steps each, 10 above the limit
        before = float(state.rule.parameter[0])
        state, _ = update(state, batch, jax.random.key(i))
        assert float(state.rule.parameter[0]) == pytest.approx(before + 0.1 * count, rel=1e-6)


def test_rates_per_environment_step():
    """`rates="step"` with 4 steps per update: targets as after four updates, four times the rate of the temperature."""
    spec, ends = jsafe.EnvSpec(5, 2), []
    for rates in ("update", "step"):
        learner = jsafe.make("sac_lag", spec, **{**SMALL, "num_envs": 4, "unroll": 1}, rates=rates, tau=0.1)
        state = jax.jit(learner.init)(jax.random.key(0))
        start = state
        ends.append(jax.jit(learner.update)(state, random_batch(learner, jax.random.key(1)), jax.random.key(2))[0])
    alpha = [float(end.params["log_alpha"]["actor"]) for end in ends]
    assert alpha[1] == pytest.approx(4 * alpha[0], rel=1e-5)
    online, old = (tree["reward"]["kernel_0"] for tree in (ends[0].params["critic"], start.target))
    np.testing.assert_allclose(ends[0].target["reward"]["kernel_0"], old + 0.1 * (online - old), atol=1e-7)
    np.testing.assert_allclose(ends[1].target["reward"]["kernel_0"], old + (1 - 0.9**4) * (online - old), atol=1e-7)


def test_a_temperature_stops_at_its_floor_and_turns_at_once():
    """Entropy above any target: the temperature falls to its floor; below any: it rises with the first updates."""
    spec = jsafe.EnvSpec(5, 2)
    fall, rise = (
        jsafe.make(
            "sac_lag", spec, **SMALL, critic_learning_rate=0.1, **{"temperature.floor": 0.2, "temperature.target": t}
        )
        for t in (-50.0, 50.0)
    )
    state = jax.jit(fall.init)(jax.random.key(0))
    batch = random_batch(fall, jax.random.key(1))
    update, other = jax.jit(fall.update), jax.jit(rise.update)
    for i in range(25):
        state, metrics = update(state, batch, jax.random.key(i))
    assert float(metrics["temperature/actor"]) == pytest.approx(0.2, rel=1e-5)
    for i in range(20):
        state, metrics = other(state, batch, jax.random.key(i))
    assert float(metrics["temperature/actor"]) > 0.25


def test_the_critics_drive_the_rule():
    """One update by hand: J is the mean cost value of replayed actions that count, the limit d / T / (1 - gamma)."""
    spec = jsafe.EnvSpec(5, 2, horizon=20)
    options = {"cost_estimate": "critics", "gamma": 0.9, "rule_warmup": 0, "cost_limit": 5.0, "limit.margin": 0.1}
    rule = {"rule.optimizer": "sgd", "rule.learning_rate": 0.5, "rule.init": 3.0, "rule.normalize": "none"}
    learner = jsafe.make("sac_lag", spec, **SMALL, **options, **rule)
    state = jax.jit(learner.init)(jax.random.key(0))
    critics = learner.config.critics.build(spec)
    params = jax.tree.map(lambda x: x + 0.1, state.params["critic"])
    state = state._replace(params={**state.params, "critic": params})
    batch = random_batch(learner, jax.random.key(1))
    after, metrics = jax.jit(learner.update)(state, batch, jax.random.key(2))
    rows = batch.steps.weight[0] > 0
    h = critics.embed(params, batch.steps.obs[0])
    cost = np.asarray(critics.values(params, h, batch.steps.action[0]).cost)[rows].mean()
    aim = 0.9 * 5.0 / 20 / 0.1
    np.testing.assert_allclose(
        [metrics["cost/0/discounted"], metrics["cost/0/limit_discounted"]], [cost, aim], rtol=1e-5
    )
    np.testing.assert_allclose(after.rule.parameter, [3.0 + 0.5 * (cost - aim)], rtol=1e-5)


def test_matrix_products_keep_the_sign_of_small_differences():
    """The hinge of SEditor and every advantage rest on differences of nearly equal values. Products of operands with 10
    bits of mantissa (TensorFloat-32) lose their sign; those of float32 keep it, and the learners ask for them."""
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal((256, 1)), rng.standard_normal((2000, 256))
    moved = x + 1e-4 * rng.standard_normal(x.shape)
    exact = (moved @ weights - x @ weights)[:, 0]
    rounded, single = (
        (jnp.float32(cut(moved)) @ jnp.float32(cut(weights)) - jnp.float32(cut(x)) @ jnp.float32(cut(weights)))[:, 0]
        for cut in (mantissa_of_10_bits, lambda x: x)
    )
    assert (np.sign(single) == np.sign(exact)).mean() > 0.98
    assert (np.sign(rounded) == np.sign(exact)).mean() < 0.85

    spec, key = jsafe.EnvSpec(5, 2), jax.random.key(0)
    on_policy = {"num_envs": 2, "steps_per_epoch": 2000, "hidden": (8,)}
    wishes = (("float32", "HIGHEST"), ("tensorfloat32", "HIGH,"), ("default", None))
    both = (("seditor", TINY), ("cpo", on_policy))
    for (name, small), (precision, wanted) in itertools.product(both, wishes):
        learner = jsafe.make(name, spec, **small, matmul_precision=precision)
        state, batch = learner.init(key), random_batch(learner, key)
        text = jax.jit(learner.update).lower(state, batch, key).as_text().replace("]", ",")
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert products
        assert all((wanted in line) if wanted else ("HIGH" not in line) for line in products)


def mantissa_of_10_bits(x):
    """Rounded as tensor cores round their operands."""
    bits = np.float32(x).view(np.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(np.float32)


def test_the_replay_on_the_device_changes_nothing():
    ends = []
    for on_device in (False, True):
        env = ToyEnv(num_envs=4, seed=3, horizon=20)
        options = {**SMALL, "updates": 2, "initial_rows": 30, "random_steps": 16, "feed.replay_on_device": on_device}
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
    paper, laptop = (registry.make_config(algorithm, preset) for preset in ("paper", "laptop"))
    assert paper == algorithm.config
    old, new = (options.to_json(config) for config in (paper, laptop))
    changed = {line.partition(":")[0] for line in options.difference(old, new)}
    ours = {"actor.hidden", "critics.hidden", "feed.sequences", "feed.updates", "temperature.init", "temperature.floor"}
    assert changed == ours


LEARN = {
    "hidden": (32, 32),
    "num_envs": 16,
    "unroll": 4,
    "initial_rows": 500,
    "learning_rate": 1e-3,
    "gamma": 0.9,
    "tau": 0.02,
}
WINDOWS = {
    "sequences": 32,
    "frame_stack": 1,
    "updates": 4,
    "temperature.init": 0.05,
    "temperature.target": math.log(2) + math.log(0.02),
    "rule.init": 0.5,
    "cost_limit_per_step": 0.25,
}
TRANSITIONS = {"sequences": 64, "random_steps": 500, "rule_warmup": 500, "updates": 8, "cost_limit": 5.0}
SOFT = {"temperature.init": 0.05, "temperature.target": -2.0}
MULTIPLIER = {"rule.init": 0.5, "rule.learning_rate": 3e-3}
DUAL = {"rule.init": 0.5, "rule.learning_rate": 3e-3, "rule.penalty": 0.5}

TASKS = {
    "seditor": ("seditor", 45_000, WINDOWS),
    "sac_lag, as in SEditor's paper": ("sac_lag", 45_000, {"preset": "seditor_paper", **WINDOWS}),
    "td3_lag": ("td3_lag", 32_000, TRANSITIONS | MULTIPLIER),
    "ddpg_lag": ("ddpg_lag", 32_000, TRANSITIONS | MULTIPLIER),
    "sac_pid": ("sac_pid", 32_000, TRANSITIONS | SOFT | {"rule.kp": 0.02, "rule.ki": 1e-3, "rule.kd": 0.02}),
    "cal": ("cal", 32_000, TRANSITIONS | SOFT | DUAL),
    "wcsac, the mean": ("wcsac", 32_000, TRANSITIONS | SOFT | DUAL | {"critics.risk": 1.0}),
    "wcsac, quantiles": ("wcsac", 32_000, TRANSITIONS | SOFT | DUAL | {"preset": "quantile", "critics.risk": 1.0}),
    "cvpo": ("cvpo", 32_000, TRANSITIONS | {"actor.mean_radius": 0.05, "actor.std_radius": 0.01}),
}


def train(name, steps, changes):
    """The last step of a run on the speed limit with cost = speed^2: at 0.25 per step the best mean speed is 0.5."""
    env = ToyEnv(num_envs=16, seed=3, horizon=20)
    learner = jsafe.make(name, env_spec(env), **{**LEARN, **changes})
    for step in run(learner, make_collector(env, learner, seed=0), key=jax.random.key(1), total_steps=steps):
        last = step
    return last, env.optimum(0.25)


@pytest.mark.optimized
@pytest.mark.parametrize("task", TASKS)
def test_learns_the_toy_optimum(task):
    """0.25 per step is 5 per episode of 20; there the multiplier is 1."""
    last, best = train(*TASKS[task])
    reward, cost = (last.episodes[f"episode/{what}"] / 20 for what in ("return", "cost"))
    assert cost == pytest.approx(0.25, abs=0.05)
    assert 0.8 * best.reward < reward < best.reward + 0.05
    if task in ("td3_lag", "ddpg_lag", "sac_pid"):
        assert float(last.metrics["cost/0/multiplier"]) == pytest.approx(best.multiplier[0], abs=0.15)


@pytest.mark.optimized
def test_without_a_limit_the_toy_optimum_is_full_speed():
    last, _ = train("sac", 20_000, {**SOFT, "sequences": 64, "random_steps": 500, "updates": 8})
    assert last.episodes["episode/return"] / 20 > 0.85


@pytest.mark.optimized
def test_the_worst_tenth_of_outcomes_costs_more_than_the_mean():
    """With `risk` 0.1 the mean stays further below the limit, at some of the reward."""
    last, best = train("wcsac", 32_000, TRANSITIONS | SOFT | DUAL | {"critics.risk": 0.1})
    reward, cost = (last.episodes[f"episode/{what}"] / 20 for what in ("return", "cost"))
    assert cost < 0.24
    assert reward > 0.6 * best.reward


@pytest.mark.parametrize(("limit", "way"), [(1.0, "short"), (0.0, "long")])
def test_choices_take_the_way_that_the_limit_leaves(limit, way):
    """Through the forbidden cell in 4 steps, or around it in 8."""
    env = ToyGrid(num_envs=16, horizon=30)
    options = {"feed.initial_rows": 500, "random_steps": 2000, "rule_warmup": 1000, "updates": 8, "sequences": 64}
    heat = {"temperature.init": 0.05, "temperature.target": 0.05}
    rule = {"rule.optimizer": "sgd", "rule.learning_rate": 0.02, "rule.init": 0.1, "hidden": (32, 32)}
    rates = {"learning_rate": 1e-3, "gamma": 0.95, "tau": 0.02, "cost_limit": limit}
    learner = jsafe.make("sac_discrete_lag", env_spec(env), **options, **heat, **rule, **rates)
    for step in run(learner, make_collector(env, learner, seed=0), key=jax.random.key(1), total_steps=12_000):
        last = step
    assert last.episodes["episode/cost"] == pytest.approx(float(way == "short"), abs=0.1)
    assert last.episodes["episode/length"] < (6 if way == "short" else 10)
