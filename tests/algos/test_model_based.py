"""Every learner that plans through one table, what a plan remembers, and a task whose constrained optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import options, registry
from jsafe.algos.model_based.value import SAC
from jsafe.components.dynamics import Ensemble
from jsafe.components.known import Known
from jsafe.components.planners import ARC, CEM
from jsafe.components.rules import Lagrange
from jsafe.data import make_collector
from jsafe.envs.api import Spec
from jsafe.envs.toy import ToyEnv
from jsafe.envs.toy.base import Moved, Toy
from jsafe.spaces import Box
from jsafe.testing import check_learner, random_batch
from jsafe.train import run
from jsafe.types import env_spec

TINY = {"hidden": (8, 8), "num_envs": 4, "updates": 2, "unroll": 5, "initial_rows": 20, "random_steps": 0}
NAMES = [name for name in registry.names() if registry.get(name).family == "model_based"]


def small(name, **more):
    """Options that make an algorithm tiny."""
    config = registry.get(name).config
    nets = config.dynamics.size
    planner = {"planner.samples": 12, "planner.iterations": 2, "planner.horizon": 3}
    planner |= {"planner.elites": 3} if isinstance(config.planner, CEM) else {"planner.enough": 3}
    value = {"value.updates": 2, "value.hidden": (8,)} if hasattr(config.value, "updates") else {}
    return {**TINY, "sequences": 4 * nets, "particles": nets, **planner, **value, **more}


@pytest.fixture(autouse=True)
def quick_compiles():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    learner = jsafe.make(name, jsafe.EnvSpec(5, 2, 1 + (name == "safe_loop")), **small(name))
    check_learner(learner, jax.random.key(0))


def test_the_names_are_what_the_papers_say():
    made = {name: registry.get(name).config for name in NAMES}
    kinds = {name: (c.planner.kind, c.score.kind, c.value.kind, c.rule.kind) for name, c in made.items()}
    assert kinds == {
        "pets": ("cem", "returns", "none", "none"),
        "cce_pets": ("cem", "constrained", "none", "none"),
        "rce_pets": ("cem", "constrained", "none", "none"),
        "cap_pets": ("cem", "penalised", "none", "lagrange"),
        "loop": ("arc", "returns", "sac", "none"),
        "safe_loop": ("arc", "constrained", "sac", "none"),
    }
    assert [made[name].score.over for name in ("cce_pets", "rce_pets", "safe_loop")] == ["mean", "max", "max"]


def test_every_preset_builds_and_survives_json():
    spec = jsafe.EnvSpec(29, 2, layout=(("goal", 7, 9), ("hazards", 9, 25)), action_repeat=5)
    for name in NAMES:
        algorithm = registry.get(name)
        for preset in (None, *algorithm.presets):
            config = registry.make_config(algorithm, preset)
            learner = algorithm.build(config, spec)
            assert options.from_json(type(config), options.to_json(config)) == config
            assert learner.memory.init(2).mean.shape == (2, config.planner.horizon, 2)
            assert config.dynamics.build(spec).size == config.dynamics.size
    released = registry.make_config(registry.get("safe_loop"), "omnisafe")
    assert (released.planner.kappa, released.planner.init_var, released.compat) == (10_000 / 7, 0.075, "omnisafe")
    assert registry.make_config(registry.get("loop"), "omnisafe").value.temperature.decay == 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planner": "cme"}, "did you mean 'cem'"),
        ({"score": "constraint"}, "did you mean 'constrained'"),
        ({"value": "sacc"}, "did you mean 'sac'"),
        ({"known": "cost"}, "learn it"),
        ({"particles": 7}, "particles must be a multiple of the nets, 5, got 7"),
        ({"sequences": 12}, "sequences must be a multiple of the nets, 5, got 12"),
        ({"rule": "lagrange"}, "only score='penalised' has"),
        ({"frame_stack": 2}, "frame_stack must be 1"),
        ({"feed.jumps": False}, "must not learn where goals jump"),
        ({"cost_limit_per_step": 0.1}, "one per episode"),
        ({"cost_limit": (1.0, 2.0)}, "limit.value has 2 values"),
        ({"value": "sac", "value.updates": 1000}, "value.updates must be at most"),
        ({"kappa": 3.0}, "belongs to the planner 'arc', and the planner here is 'cem'"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.model_based(jsafe.EnvSpec(5, 2), **changes)


@pytest.mark.parametrize(
    ("planner", "score", "value", "rule"),
    [
        (ARC(horizon=2, samples=6, enough=2, iterations=1), "penalised", "none", Lagrange(normalize="none")),
        (CEM(horizon=2, samples=6, elites=2, iterations=1), "constrained", SAC(updates=2), "none"),
        (CEM(horizon=2, samples=6, elites=2, iterations=1), "penalised", "none", "pid"),
    ],
)
def test_names_combine_for_several_costs(planner, score, value, rule):
    spec = jsafe.EnvSpec(5, 2, num_costs=2)
    given = {**TINY, "sequences": 10, "particles": 10, "noise": "common"}
    learner = jsafe.model_based(spec, planner=planner, score=score, value=value, rule=rule, **given)
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    after, metrics = jax.eval_shape(learner.update, state, random_batch(learner, key), key)
    shapes, wanted = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (after, state))
    assert shapes == wanted
    assert metrics["cost/1/multiplier"].shape == ()
    policy = jax.eval_shape(learner.policy, state)
    out = jax.eval_shape(lambda p, m, o: learner.act(p, m, o, key), policy, learner.memory.init(3), jnp.zeros((3, 5)))
    assert out.action.shape == (3, 2)
    assert set(out.extras) == {"return", "feasible", "cost/0", "cost/1"}


@pytest.fixture(scope="module")
def planner():
    """A learner that plans, its initial policy and its compiled act."""
    learner = jsafe.make("cce_pets", jsafe.EnvSpec(5, 2), **small("cce_pets"))
    policy_state = jax.jit(lambda key: learner.policy(learner.init(key)))(jax.random.key(0))
    return learner, policy_state, jax.jit(learner.act, static_argnums=4)


def test_a_plan_is_shifted_and_forgotten_at_an_episodes_start(planner):
    learner, policy_state, act = planner
    obs = jnp.array(np.random.default_rng(0).standard_normal((3, 5)), jnp.float32)
    first = act(policy_state, learner.memory.init(3), obs, jax.random.key(0), False)
    assert float(jnp.abs(first.memory.mean).max()) > 0.01
    part = learner.config.planner
    shifted = part.shifted(first.memory.mean[0])
    np.testing.assert_array_equal(shifted[:-1], first.memory.mean[0, 1:])
    np.testing.assert_array_equal(shifted[-1], 0.0)
    np.testing.assert_array_equal(CEM(last="repeat").shifted(first.memory.mean[0])[-1], first.memory.mean[0, -1])
    anew = learner.memory.reset(first.memory, np.array([False, True, False]))
    np.testing.assert_array_equal(anew.mean[1], 0.0)
    np.testing.assert_array_equal(anew.mean[0], first.memory.mean[0])
    np.testing.assert_array_equal(anew.steps, [1, 0, 1])
    again, other = (act(policy_state, m, obs, jax.random.key(1), False) for m in (anew, first.memory))
    same = [np.array_equal(a, b) for a, b in zip(again.action, other.action)]
    assert same == [True, False, True]
    keeps = jsafe.make("cce_pets", jsafe.EnvSpec(5, 2), **small("cce_pets"), compat="omnisafe")
    kept = keeps.memory.reset(first.memory, np.array([True, True, True]))
    np.testing.assert_array_equal(kept.mean, first.memory.mean)


def test_environments_do_not_share_their_noise(planner):
    learner, policy_state, act = planner
    obs = jnp.zeros((3, 5))
    for deterministic in (False, True):
        out = act(policy_state, learner.memory.init(3), obs, jax.random.key(0), deterministic)
        assert len({tuple(np.asarray(row)) for row in out.action}) == 3


def test_jumps_reach_the_model_and_resuming_is_exact():
    """A collector in the middle of episodes is saved, and goes on with the same plans."""
    options = small("cce_pets", initial_rows=10, random_steps=8)

    def started():
        env = ToyEnv(num_envs=4, seed=3, horizon=7)
        learner = jsafe.make("cce_pets", env_spec(env), **options)
        return learner, make_collector(env, learner, seed=0)

    learner, collector = started()
    steps = list(run(learner, collector, key=jax.random.key(1), total_steps=40))
    assert float(jnp.abs(collector.memory.mean).max()) > 0
    told = collector.episodes()
    assert {"plan/return", "plan/feasible", "plan/cost/0"} <= set(told)
    state, saved = jax.device_get(steps[-1].state), collector.state_dict()
    ends = []
    for fresh in (False, True):
        if fresh:
            learner, collector = started()
            collector.load_state_dict(saved)
        more = run(
            learner, collector, key=jax.random.key(1), total_steps=80, state=state, iteration=steps[-1].iteration
        )
        ends.append(jax.device_get((list(more)[-1].state, collector.memory)))
    jax.tree.map(np.testing.assert_array_equal, *ends)
    assert ends[0][0].updates > 0


def test_random_steps_take_no_plans():
    env = ToyEnv(num_envs=4, seed=3, horizon=7)
    learner = jsafe.make("cce_pets", env_spec(env), **small("cce_pets", random_steps=1000))
    collector = make_collector(env, learner._replace(act=None), seed=0)
    collector.collect(None, jax.random.key(0))
    assert collector.env_steps == 20


def with_cost(batch, cost, count=1.0):
    """The batch with episodes of that total cost."""
    measured = batch.measured
    episodes = measured.episodes._replace(cost=np.float32([cost]), count=np.float32(count))
    return batch._replace(measured=measured._replace(episodes=episodes))


def test_ignorance_weighs_more_while_costs_are_above_the_limit():
    """`kappa <- clip(kappa + eta (J - d), 0, 1)` after iterations in which an episode ended."""
    rule = Lagrange(init=0.0, learning_rate=0.1, optimizer="sgd", upper_bound=1.0, normalize="none")
    given = small("cap_pets", rule=rule, **{"limit.window": 1})
    learner = jsafe.make("cap_pets", jsafe.EnvSpec(5, 2), **given)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))._replace(ready=np.bool_(False))
    update = jax.jit(learner.update)
    kappa = 0.0
    for cost, count in ((4.0, 1), (9.0, 0), (2.0, 1), (0.0, 1), (30.0, 1), (0.5, 1)):
        state, metrics = update(state, with_cost(batch, cost, count), jax.random.key(2))
        kappa = np.clip(kappa + 0.1 * (cost - 1.0), 0, 1) if count else kappa
        assert float(metrics["cost/0/multiplier"]) == pytest.approx(kappa, abs=1e-6)
        assert float(learner.policy(state).params["kappa"][0]) == pytest.approx(kappa, abs=1e-6)


def test_limits_vmap_without_recompiling(planner):
    """A plan under a limit of nothing keeps its predicted cost below that of a plan without a limit."""
    learner, policy_state, _ = planner
    limits = jnp.array([[-1e6], [1e6]])
    many = policy_state._replace(params={**policy_state.params, "limit": limits})
    axes = policy_state._replace(params={name: 0 if name == "limit" else None for name in policy_state.params})
    obs = jnp.zeros((16, 5))
    act = jax.jit(jax.vmap(lambda p: learner.act(p, learner.memory.init(16), obs, jax.random.key(0)), in_axes=(axes,)))
    info = act(many).extras
    assert (info["feasible"] == jnp.array([[0.0], [1.0]])).all()
    assert info["cost/0"][0].mean() < info["cost/0"][1].mean()
    assert info["return"][1].mean() > info["return"][0].mean()


def test_the_rows_of_the_value_learner():
    """Released LOOP leaves rows out in which a goal was met; the paper's takes all of them."""
    given = small("loop", **{"value.updates": 7})
    losses = {}
    for compat in ("paper", "omnisafe"):
        learner = jsafe.make("loop", jsafe.EnvSpec(5, 2), **given, compat=compat)
        state = jax.jit(learner.init)(jax.random.key(0))
        batch = random_batch(learner, jax.random.key(1))
        jump = batch.steps.extras["jump"]
        worse = batch.steps._replace(reward=np.where(jump, 50.0, batch.steps.reward).astype(np.float32))
        update = jax.jit(learner.update)
        seen = [update(state, batch._replace(steps=s), jax.random.key(2))[1] for s in (batch.steps, worse)]
        losses[compat] = [float(metrics["loss/critic_reward"]) for metrics in seen]
        assert float(seen[0]["model/nll"]) == float(seen[1]["model/nll"])  # the model learns from neither
    assert jump.any()


class Integrator(Toy):
    """`v' = v + 0.2 u`, reward `v'`, cost `1[v' > 1/2]`: best to go up to 1/2 and stay there."""

    def __init__(self, num_envs, seed=0):
        spec = Spec("Integrator", Box((1,)), Box((1,), -1.0, 1.0), 1, 20, ("cost_speed",), {"speed": (0, 1)}, 0.1)
        super().__init__(spec, num_envs, seed, {"speed": np.zeros(num_envs)}, fresh_draws=1, step_draws=1)

    def _fresh(self, draws):
        return {"speed": 0.2 * draws[:, 0] - 0.1}

    def _move(self, actions, draws):
        speed = np.clip(self._state["speed"] + 0.2 * actions[:, 0], -1, 1)
        return Moved(speed, (speed > 0.5)[:, None].astype(float), np.zeros(len(speed), bool), {"speed": speed})

    def _observe(self):
        return self._state["speed"][:, None].copy()


def test_a_speed_limit_is_used_up():
    """The constrained optimum from rest is 0.2 + 0.4 + 18 times 0.5; the cost is known, speed and reward are not."""
    env = Integrator(8)
    learner = jsafe.model_based(
        env_spec(env),
        planner=CEM(horizon=3, samples=64, elites=8, iterations=4, init_var=0.5),
        known=Known(cost=lambda obs, action, following: (following > 0.5).astype(jnp.float32)),
        dynamics=Ensemble(size=3, hidden=(32, 32), learning_rate=3e-3),
        particles=3,
        sequences=96,
        num_envs=8,
        unroll=25,
        updates=100,
        initial_rows=200,
        random_steps=400,
        cost_limit=1.0,
    )
    collector = make_collector(env, learner, seed=0)
    *_, step = run(learner, collector, key=jax.random.key(0), total_steps=2000)
    policy_state = learner.policy(step.state)
    told = jsafe.data.evaluate(Integrator(8), learner, policy_state, 16, jax.random.key(1), seed=7)
    assert told["cost"].mean() <= 1.0
    assert told["return"].mean() > 0.9 * 9.6
