"""Every offline learner through one table, and what the assembly promises."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import options, registry
from jsafe.algos.offline.config import OfflineConfig
from jsafe.components.generators import CVAE, Gaussian
from jsafe.components.improvements import Improved, Improvement
from jsafe.components.rules import Lagrange
from jsafe.components.valuations import in_unit
from jsafe.nets.transformer import transformer
from jsafe.runs.checkpoint import Checkpoints, load_state
from jsafe.testing import check_learner, random_batch

TINY = {"hidden": (8,), "batch_size": 6, "updates": 2}
NAMES = [name for name in registry.names() if registry.get(name).family == "offline"]
SAME = {"bc", "bc_safe", "bc_risky", "bc_boundary", "bc_frontier", "bcq", "crr"}
"""Nothing but parts of others in the table: `bc_conditioned`, `bcq_lag`, `ccrr` less a column or the costs."""
TABLE = {name: {} for name in NAMES if name not in SAME} | {
    "bc_conditioned": {"normalize_obs": True},
    "bcq_lag": {"cost_estimate": "initial", "critic.candidates": 3},
    "trac": {"clone_updates": 3},
    "cdt": {"context": 3},
}


@pytest.mark.parametrize("name", TABLE)
def test_every_learner_keeps_its_promises(name):
    spec = jsafe.EnvSpec(5, 2, num_costs=2, horizon=50)
    state, metrics = check_learner(jsafe.make(name, spec, **TINY, **TABLE[name]), jax.random.key(0))
    assert int(state.updates) == 4
    assert float(metrics["cost/1/limit"]) == 25.0


@pytest.mark.parametrize(
    ("parts", "more"),
    [
        ({"policy": "gaussian", "critic": "expectile", "weight": "exp", "rule": "lagrange"}, {}),
        ({"policy": CVAE(phi=0.1), "critic": "expectile", "improve": "climb", "rule": "pid"}, {"choice": "best"}),
        ({"policy": "deterministic", "critic": "bootstrapped", "improve": "climb"}, {"cosine_updates": 3}),
        ({"policy": "diffusion", "critic": "expectile", "weight": "exp"}, {}),
    ],
)
def test_new_combinations_come_free(parts, more):
    """IQL under a multiplier; an auto-encoder's candidates judged by expectiles; TD3 with cloning; IDQL."""
    check_shapes(jsafe.offline(jsafe.EnvSpec(5, 2, num_costs=2, horizon=50), **parts, **TINY, **more))


def test_the_state_of_every_learner_survives_a_checkpoint(tmp_path):
    class Nothing:
        def journal(self):
            return None

        def journal_keep(self):
            return 0

        def state_dict(self):
            return {}

    rng = np.random.default_rng(0)
    for name in NAMES:
        learner = jsafe.make(name, jsafe.EnvSpec(5, 2, num_costs=2, horizon=50), **TINY)
        shapes = jax.eval_shape(learner.init, jax.random.key(0))
        state = jax.tree.map(lambda x: rng.integers(0, 9, x.shape).astype(x.dtype), shapes)
        Checkpoints(tmp_path / name).save(3, state, Nothing())
        loaded = load_state(tmp_path / name, shapes)
        jax.tree.map(np.testing.assert_array_equal, loaded.state, state)


def check_shapes(learner):
    """An update keeps the tree, the shapes and the dtypes of the state; nothing is compiled."""
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    after, metrics = jax.eval_shape(learner.update, state, random_batch(learner, key), key)
    shapes, wanted = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (after, state))
    assert shapes == wanted
    assert all(x.shape == () for x in metrics.values())
    return metrics


@pytest.mark.parametrize("name", sorted(SAME))
def test_their_kin_have_the_same_seams(name):
    check_shapes(jsafe.make(name, jsafe.EnvSpec(5, 2, num_costs=2, horizon=50), **TINY))


@pytest.mark.parametrize("name", ["bcq", "bcq_lag", "ccrr", "coptidice", "crr", "vae_bc"])
def test_released_behaviour_has_the_same_seams(name):
    check_shapes(jsafe.make(name, jsafe.EnvSpec(5, 2), preset="omnisafe", **TINY))


def test_every_preset_builds_and_survives_json():
    for name in NAMES:
        algorithm = registry.get(name)
        assert algorithm.recommended == "jsafe"
        for preset in (None, *algorithm.presets):
            config = registry.make_config(algorithm, preset)
            algorithm.build(config, jsafe.EnvSpec(5, 2))
            assert options.from_json(type(config), options.to_json(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "gausian"}, "did you mean 'gaussian'"),
        ({"critic": "expectil"}, "did you mean 'expectile'"),
        ({"weight": "exp"}, "weight='exp' needs the advantage of actions, which critic='none' lacks"),
        ({"weight": "feasible", "critic": "expectile"}, "needs the reach of actions"),
        ({"weight": "ratio", "critic": "bootstrapped"}, "needs the ratio of actions"),
        ({"weight": "exp", "critic": "bootstrapped", "improve": "climb"}, "weighs no recorded actions"),
        ({"improve": "climb"}, "improve='climb' needs critics of actions"),
        ({"choice": "best"}, "choice='best' needs critics of actions"),
        ({"rule": "lagrange"}, "rule='lagrange' needs critics of the costs"),
        ({"rule": "lagrange", "critic": "dice"}, "rule='lagrange' needs critics of the costs"),
        ({"rule": "lagrange", "critic": "reach", "improve": "climb"}, "needs critics of the costs"),
        ({"critic": "penalised", "improve": "climb_feasible"}, "policy='supported', not policy='deterministic'"),
        ({"critic": "bootstrapped", "improve": "climb_in_support"}, "needs a model of the recorded actions"),
        ({"critic": "expectile", "weight": "heads"}, "weight='heads' is for 2 losses, policy='deterministic' has 1"),
        ({"critic": "expectile", "weight": "exp", "policy": Gaussian(heads=3)}, "has 3"),
        ({"feed.length": 5}, "feed.length must be 1"),
        ({"critic": "dice", "limit_unit": "cut"}, "a unit of its own"),
        ({"gamma": 1.0}, "gamma must be below 1"),
        ({"gama": 0.9}, "did you mean 'gamma'"),
        ({"cost_limit": (1.0, 2.0)}, "limit.value has 2 values, the environment has 1 costs"),
        ({"policy": Gaussian(log_std_low=-1.0), "log_std_high": -2.0}, "log_std_low must be at most"),
        ({"critic": "dice", "critic.multiplier": 0.0}, "its logarithm is learned"),
        ({"policy": "cvae", "policy.phi": 3.0}, "phi must be at least 0 and at most 2, got 3.0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.offline(jsafe.EnvSpec(5, 2), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden": (128, 64)}, "equal widths"), ({"heads": 7}, "multiples of heads"), ({"context": 1}, "at least 2")],
)
def test_bad_options_of_cdt(changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.make("cdt", jsafe.EnvSpec(5, 2), **changes)


def test_only_flat_observations_and_continuous_actions():
    from jsafe.spaces import Box, Discrete

    with pytest.raises(ValueError, match="flat vectors, got Box"):
        jsafe.make("bc", jsafe.EnvSpec(Box((8, 8, 3), 0, 255, "uint8"), 2))
    with pytest.raises(ValueError, match="not continuous"):
        jsafe.make("bc", jsafe.EnvSpec(5, Discrete(3)))


def test_an_improvement_of_ones_own():
    """An object of the right shape: no file of the library is touched."""

    def loss(params, context, frozen, state, key):
        action = context.generator.mode(params, context.rows.obs)
        return Improved(jnp.square(action - 0.5).sum(axis=-1).mean(), {"loss/own": jnp.zeros(())}, state)

    learner = jsafe.offline(
        jsafe.EnvSpec(5, 2), improve=Improvement(loss), learning_rate=0.02, **TINY | {"updates": 80}
    )
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    state, _ = jax.jit(learner.update)(state, batch, jax.random.key(2))
    out = learner.act(learner.policy(state), (), batch.steps.obs[0], jax.random.key(3), True)
    np.testing.assert_allclose(out.action, 0.5, atol=0.1)


def constant_batch(learner, *, reward=0.0, cost=0.0):
    """Rows of one state and one action, without an end."""
    batch = random_batch(learner, jax.random.key(1))
    steps = batch.steps
    return batch._replace(
        steps=steps._replace(
            obs=np.zeros_like(steps.obs),
            next_obs=np.zeros_like(steps.obs),
            reward=np.full_like(steps.reward, reward),
            cost=np.full_like(steps.cost, cost),
            terminated=np.zeros_like(steps.terminated),
        )
    )


def test_the_limit_is_told_per_episode_and_converted_once():
    """25 in 1000 steps, less a margin of a fifth, is 2.0 as a discounted sum; the estimate is converted back alike."""
    learner = jsafe.make("ccrr", jsafe.EnvSpec(3, 1, horizon=1000), **TINY, **{"limit.margin": 0.2})
    state = jax.jit(learner.init)(jax.random.key(0))
    _, metrics = jax.jit(learner.update)(state, constant_batch(learner, cost=1.0), jax.random.key(2))
    assert float(metrics["cost/0/critic_limit"]) == pytest.approx(2.0, rel=1e-5)
    assert float(metrics["cost/0/limit"]) == 25.0
    assert float(metrics["cost/0/estimated"]) == pytest.approx(10 * float(metrics["cost/0/critic"]), rel=1e-4)


@pytest.mark.parametrize(
    ("unit", "value"), [("endless", 2.5), ("cut", 2.5 * (1 - 0.99**1000)), ("episode", 25.0), ("step", 0.025)]
)
def test_units_of_a_limit(unit, value):
    assert float(in_unit(jnp.float32(25.0), unit, jnp.float32(0.99), 1000)) == pytest.approx(value, rel=1e-4)


def test_seeds_and_limits_vmap_without_recompiling():
    """Plain dual ascent on one batch: multipliers rise exactly where the estimate is above the limit."""
    learner = jsafe.make("ccrr", jsafe.EnvSpec(3, 1, horizon=10), **TINY, gamma=0.5, **{"rule.learning_rate": 0.1})
    batch = constant_batch(learner, cost=1.0)
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    states = states._replace(limit=jnp.float32([[-10.0], [0.0], [10.0]]))
    update = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))
    after, metrics = update(states, batch, jax.random.key(2))
    assert metrics["loss/critic_cost"].shape == (3,)
    multiplier = np.asarray(after.rule.parameter[:, 0])
    assert multiplier[2] == 0
    assert multiplier[0] > 0.3  # 0.1 per update and unit of violation, 2 at a limit of -10
    assert multiplier[0] > multiplier[1] >= 0


def test_the_rule_waits_for_its_warm_up():
    learner = jsafe.make("ccrr", jsafe.EnvSpec(3, 1, horizon=10), **TINY, rule_warmup=3, cost_limit=0.0)
    state = jax.jit(learner.init)(jax.random.key(0))
    state = state._replace(limit=jnp.float32([-10.0]))
    update, batch = jax.jit(learner.update), constant_batch(learner, cost=1.0)
    state, _ = update(state, batch, jax.random.key(2))
    assert float(state.rule.parameter[0]) == 0
    state, _ = update(state, batch, jax.random.key(2))
    assert float(state.rule.parameter[0]) > 0  # the fourth update is the first with a step of the rule


def test_a_cosine_lets_the_rate_fall_to_nothing():
    learner = jsafe.make("bc", jsafe.EnvSpec(3, 1), **TINY, cosine_updates=2)
    state = jax.jit(learner.init)(jax.random.key(0))
    update, batch = jax.jit(learner.update), random_batch(learner, jax.random.key(1))
    first, _ = update(state, batch, jax.random.key(2))
    second, _ = update(first, batch, jax.random.key(2))
    moved = [jax.tree.leaves(x.params["policy"])[0] for x in (state, first, second)]
    assert not np.array_equal(moved[0], moved[1])
    np.testing.assert_array_equal(moved[1], moved[2])


def test_estimates_are_of_raw_rewards():
    """Critics of rewards times 0.1, asked through the interface that all learners share."""
    learner = jsafe.make("caps", jsafe.EnvSpec(3, 1, horizon=10), **TINY)
    state = jax.jit(learner.init)(jax.random.key(0))
    obs, action = jnp.ones((4, 5)), jnp.zeros((4, 1))  # with the two columns of what is left
    found = jax.jit(learner.estimate)(state, (), obs, action)
    assert (found.reward.shape, found.cost.shape) == ((4,), (4, 1))
    plain = jsafe.make("caps", jsafe.EnvSpec(3, 1, horizon=10), **TINY, reward_scale=1.0)
    np.testing.assert_allclose(found.reward, 10 * plain.estimate(state, (), obs, action).reward, rtol=1e-5)
    assert jsafe.make("bc", jsafe.EnvSpec(3, 1)).estimate is None
    assert jsafe.make("fisor", jsafe.EnvSpec(3, 1)).estimate is None


def test_what_a_learner_asks_its_data_for():
    spec = jsafe.EnvSpec(5, 2)
    asked = {name: jsafe.make(name, spec).feed for name in ("bc", "bc_safe", "bc_conditioned", "coptidice", "caps")}
    assert asked["bc"].extras == ()
    assert asked["coptidice"].extras == ("initial_obs",)
    assert asked["bc_conditioned"].extras == ("episode_cost",)
    assert asked["bc_safe"].filter == "safe"
    assert asked["bc_safe"].filter_limit is None  # the learner's own limit
    assert asked["caps"].transform.extra_obs == 2
    assert jsafe.make("ccrr", spec, cost_estimate="initial").feed.extras == ("initial_obs",)


def test_cdt_asks_for_the_best_return_within_the_limit():
    """Of the episodes that were drawn; the cheapest ones' where none is within it."""
    learner = jsafe.make("cdt", jsafe.EnvSpec(3, 1, horizon=10), **TINY, context=2, heads=1, cost_limit=5.0)
    state = jax.jit(learner.init)(jax.random.key(0))
    update, batch = jax.jit(learner.update), random_batch(learner, jax.random.key(1))

    def after(state, cost, earned):
        extras = {"episode_cost": np.float32([cost])[..., None], "episode_return": np.float32([earned])}
        extras = {name: np.broadcast_to(value, batch.steps.extras[name].shape) for name, value in extras.items()}
        told = batch.steps._replace(extras=batch.steps.extras | extras)
        state, metrics = update(state, batch._replace(steps=told), jax.random.key(2))
        return state, float(metrics["policy/target_return"])

    found = []
    cheapest_last = [9.0, 7.0, 7.0, 8.0, 20.0, 30.0]
    for cost, earned in (
        (cheapest_last, [9.0, 1.0, 2.0, 9.0, 9.0, 9.0]),
        ([8.0] * 6, [9.0] * 6),
        ([5.0, 4.0, 0.0, 6.0, 6.0, 6.0], [-3.0, -4.0, -5.0, 9.0, 9.0, 9.0]),
        ([1.0] * 6, [-9.0] * 6),
    ):
        state, target = after(state, cost, earned)
        found.append(target)
    assert found == [2.0, 2.0, -3.0, -3.0]
    np.testing.assert_array_equal(learner.policy(state).transform.wish, [-3.0])


def test_cdt_acts_on_the_window_that_it_learns_from():
    """Step by step with its memory, as from the whole window at once; what came before the window is forgotten."""
    spec = jsafe.EnvSpec(3, 2, horizon=10)
    learner = jsafe.make("cdt", spec, hidden=(8,), heads=2, context=3, batch_size=2, updates=1)
    state = jax.jit(learner.init)(jax.random.key(0))
    params, act = learner.policy(state), jax.jit(learner.act, static_argnums=4)
    memory, rng = learner.memory.init(1), np.random.default_rng(0)
    seen = rng.normal(size=(5, 1, 3)).astype(np.float32)
    told = np.stack([np.linspace(9, 5, 5), 10.0 - np.arange(5), np.linspace(30, 20, 5)], axis=-1).astype(np.float32)
    actions = []
    for t in range(5):
        out = act(params, memory, np.concatenate([seen[t], told[t : t + 1]], axis=-1), jax.random.key(1), True)
        actions.append(out.action)
        memory = out.memory
    net = transformer(3, 2, 1, 10, width=8, blocks=1, heads=2, dropout=0.1)
    last = slice(2, 5)
    whole = net.apply(
        state.params,
        0.1 * told[None, last][..., [2, 0]],
        np.swapaxes(seen, 0, 1)[:, last],
        np.stack(actions, axis=1)[:, last],
        np.arange(5)[None, last],
        np.ones((1, 3), bool),
        None,
    )
    np.testing.assert_allclose(actions[4], np.clip(whole.action[:, -1, :2], -1, 1), atol=1e-5)


def test_a_name_is_what_its_paper_means_by_it():
    """The papers' numbers, where they could slip."""
    by = {name: registry.get(name).config for name in NAMES}
    assert all(
        isinstance(config, OfflineConfig)
        for name, config in by.items()
        if name in TABLE and name not in {"trac", "cdt"}
    )
    assert (by["bcq"].policy.phi, by["bcq"].critic.candidates, by["bcq"].choice.candidates) == (0.05, 10, 100)
    assert (by["bcq"].critic.critics.blend, by["bcq"].policy.kl_weight, by["bcq"].policy.z_max) == (0.75, 0.5, 0.5)
    assert (by["crr"].critic.samples, by["crr"].weight.beta, by["crr"].weight.cap) == (4, 1.0, 20.0)
    assert (by["coptidice"].gamma, by["coptidice"].critic.alpha, by["coptidice"].critic.eps) == (0.995, 0.01, 0.01)
    assert dataclasses.replace(by["bcq_lag"].rule, init=0.0) == Lagrange(init=0.0, learning_rate=1e-3, optimizer="sgd")
