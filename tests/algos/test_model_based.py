"""Every learner that plans through one table, what a plan remembers, and a task whose constrained optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsafe
from jsafe import options, registry
from jsafe.algos.model_based import value as value_learners
from jsafe.algos.model_based.assembly import search
from jsafe.algos.model_based.value import SAC, Value
from jsafe.algos.off_policy import assembly as off_policy_assembly
from jsafe.components.dynamics import Dynamics, Ensemble, Heads, Prediction, ensemble
from jsafe.components.known import Known
from jsafe.components.planners import ARC, CEM, Planner
from jsafe.components.rules import Lagrange
from jsafe.components.scores import Returns
from jsafe.data import make_collector
from jsafe.envs.api import Spec
from jsafe.envs.toy import ToyEnv
from jsafe.envs.toy.base import Moved, Toy
from jsafe.spaces import Box
from jsafe.testing import check_learner, random_batch
from jsafe.train import run
from jsafe.types import Batch, env_spec

TINY = {"hidden": (8, 8), "num_envs": 4, "updates": 2, "unroll": 5, "initial_rows": 20, "random_steps": 0}
PLANNERS = tuple(name for name in registry.names() if hasattr(registry.get(name).config, "planner"))
NAMES = (*PLANNERS, "mbpo_lag")


def small(name, **more):
    """Options that make an algorithm tiny."""
    config = registry.get(name).config
    nets = config.dynamics.size
    if name == "mbpo_lag":
        return {**TINY, "sequences": 2 * nets, "num_envs": 8, "initial_rows": 16, "dynamics.hidden": (8, 8), **more}
    planner = {"planner.samples": 12, "planner.iterations": 2, "planner.horizon": 3}
    planner |= {"planner.elites": 3} if isinstance(config.planner, CEM) else {"planner.enough": 3}
    value = {"value.updates": 2, "value.hidden": (8,)} if hasattr(config.value, "updates") else {}
    return {**TINY, "sequences": 4 * nets, "particles": nets, **planner, **value, **more}


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_keeps_its_promises(name):
    """Those whose programs differ by a score alone from others are only traced."""
    learner = jsafe.make(name, jsafe.EnvSpec(5, 2, 1 + (name == "safe_loop")), **small(name))
    if name not in ("cce_pets", "rce_pets", "loop"):
        check_learner(learner, jax.random.key(0))
        return
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    after, _ = jax.eval_shape(learner.update, state, random_batch(learner, key), key)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


def test_the_names_are_what_the_papers_say():
    made = {name: registry.get(name).config for name in NAMES if name in PLANNERS}
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
    for name in ("mbpo_lag", *PLANNERS):
        algorithm = registry.get(name)
        for preset in (None, *algorithm.presets):
            config = registry.make_config(algorithm, preset)
            learner = algorithm.build(config, spec)
            assert options.from_json(type(config), options.to_json(config)) == config
            if name in PLANNERS:
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
    assert set(out.extras) == {"return", "feasible", "cost/0", "cost/1", "plan"}
    assert out.extras["plan"].shape == (3, 5, 2, 5)  # environments, nets, steps, observation


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


def spy(monkeypatch, seen):
    """In the place of the update of every off-policy learner: it keeps the rows that it was given."""
    make = off_policy_assembly.assemble

    def update(state, batch, key):
        jax.debug.callback(lambda steps: seen.append(jax.device_get(steps)), batch.steps)
        return state, {}

    def spied(config, spec, axis_name=None):
        return make(config, spec, axis_name)._replace(update=update)

    monkeypatch.setattr(off_policy_assembly, "assemble", spied)


@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_the_rows_of_the_value_learner(compat, monkeypatch):
    """Windows of one net make a minibatch. Released LOOP leaves rows out in which a goal was met."""
    learner, seen = jsafe.make("pets", jsafe.EnvSpec(5, 2), **small("pets")), []
    spy(monkeypatch, seen)
    batch = random_batch(learner, jax.random.key(1))
    nets, steps = 5, batch.steps
    value = SAC(updates=7).build(jsafe.EnvSpec(5, 2), None, compat, nets)
    value.update(value.init(jax.random.key(0)), batch, jax.random.key(0))
    jax.effects_barrier()
    (rows,) = seen
    assert rows.reward.shape == (7, 2, 4)
    weight = np.where(steps.extras["jump"], 0, steps.weight) if compat == "omnisafe" else steps.weight
    for i in range(7):
        np.testing.assert_array_equal(rows.reward[i], steps.reward[i // nets][:, i % nets :: nets])
        np.testing.assert_array_equal(rows.weight[i], weight[i // nets][:, i % nets :: nets])
    assert steps.extras["jump"].any()


@pytest.mark.parametrize("remembered", [1000.0, 1.0])
def test_what_a_new_problem_is_worth(remembered, monkeypatch):
    """The mean value of the observations that follow goals that were met; where a minibatch has more of them than are
    remembered, its own."""
    monkeypatch.setattr(value_learners, "REMEMBERED", remembered)
    learner = jsafe.make("pets", jsafe.EnvSpec(5, 2), **small("pets", sequences=40))
    spy(monkeypatch, [])
    value = SAC(updates=7).build(jsafe.EnvSpec(5, 2), None, "paper", 5)
    state, pooled = value.init(jax.random.key(0)), []
    for i in (1, 2):
        batch = random_batch(learner, jax.random.key(i))
        obs, new = batch.steps.obs[0], batch.steps.extras["jump"][0, 0] & (batch.steps.weight[0, 0] > 0)
        state, _ = value.update(state, batch, jax.random.key(0))
        params = value.params(state)
        pooled = pooled if remembered > 1 else []
        pooled += np.asarray(value.end(params, obs[1], jnp.zeros((len(new), 2))))[new].tolist()
        np.testing.assert_allclose(value.afresh(params), np.mean(pooled), rtol=1e-5)
    assert len(pooled) > 1


def test_arrival_is_paid_for_once():
    """A goal met within a plan: its bonus, and from there on what a new problem is worth; else the worth of the end."""
    spec = jsafe.EnvSpec(1, 1)
    known = Known(lambda o, a, n: a[..., 0] + (n[..., 0] > 1), lambda o, a, n: 0 * n[..., :1], lambda n: n[..., 0] > 1)

    def predict(model, obs, action):
        return Prediction(action, jnp.zeros_like(action))

    dynamics = Dynamics(1, Heads(False, 0), *(lambda *x: None,) * 5, predict)
    value = Value(*(lambda *x: None,) * 4, lambda params, final, last: 10 * final[:, 0], lambda params: 7.0, 1)

    def plan(mean, evaluate, proposals, key, explore):
        return evaluate(jnp.array([[[0.6], [0.1]], [[0.6], [0.1]]]), key)

    run = search(
        spec, dynamics, known, Planner(2, 0, plan), Returns().build(spec), value,
        particles=1, noise="common", released=False, discount=0.5,
    )  # fmt: skip
    params = {"model": (), "limit": jnp.ones(1), "kappa": jnp.ones(1), "value": ()}
    judged = run(params, jnp.zeros((2, 1)), jnp.zeros(1), jax.random.key(0), False)
    arrives, does_not = 0.6 + 0.5 * (0.6 + 1) + 0.25 * 7, 0.1 + 0.5 * 0.1 + 0.25 * 10 * 0.2
    np.testing.assert_allclose(judged.returns, [arrives, does_not], rtol=1e-6)


@pytest.mark.parametrize(("name", "stack", "length"), [("td3_lag", 1, 2), ("seditor", 2, 4)])
def test_imagined_windows(name, stack, length, monkeypatch):
    """A quarter of the windows is replayed; the others follow from replayed observations, by policy and model."""
    spec, seen = jsafe.EnvSpec(3, 2), []
    spy(monkeypatch, seen)
    given = {"hidden": (4,), "num_envs": 4, "sequences": 16, "sequence_length": length, "updates": 1}
    known = Known(
        lambda o, a, n: n[..., 0] - o[..., 0] + a[..., 1],
        lambda o, a, n: (n[..., :1] > 0) * 1.0,
        lambda n: n[..., 2] > 1.0,
    )
    learner = jsafe.imagining(
        spec, name, frame_stack=stack, rollout=6, known=known, **given, **{"dynamics.hidden": (8,)}
    )
    key = jax.random.key(0)
    batch = random_batch(learner, jax.random.key(1))
    jax.block_until_ready(jax.jit(learner.update)(jax.jit(learner.init)(key), batch, key))
    jax.effects_barrier()
    (steps,) = seen
    for field in ("obs", "reward", "cost", "weight", "terminated"):
        np.testing.assert_array_equal(getattr(steps, field)[:, :4], getattr(batch.steps, field)[:, ::4])
    made = jax.tree.map(lambda x: x[:, 4:], steps)
    starts = batch.steps.obs[0][np.arange(12 * (length - 1) // 6) * 16 // (12 * (length - 1) // 6)]
    np.testing.assert_array_equal(made.obs[0, : len(starts)], starts)
    newest = made.obs[..., -3:]
    reward = newest[1:, :, 0] - newest[:-1, :, 0] + made.action[:-1, :, 1]
    np.testing.assert_allclose(made.reward[:-1], reward, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.cost[:-1, :, 0], newest[1:, :, 0] > 0)
    np.testing.assert_array_equal(made.reward[-1], 0)
    if stack == 2:
        np.testing.assert_array_equal(made.obs[1:, :, :3], made.obs[:-1, :, 3:])
    # Pieces of a trajectory: what ends one window starts the next of the same start.
    np.testing.assert_array_equal(made.obs[-1, : len(starts)], made.obs[0, len(starts) : 2 * len(starts)])
    assert not made.terminated.any()
    # The step that meets a goal is no step, nor is any after it.
    count, times = len(starts), np.arange(7)
    for j in range(count):
        path = np.concatenate([newest[:-1, j::count].swapaxes(0, 1).reshape(6, 3), newest[-1:, -count + j]])
        met = [bool((path[1 : min(t + 1, 6) + 1, 2] > 1.0).any()) for t in times]
        weight = np.concatenate([made.weight[:-1, j::count].T.reshape(6), made.weight[-1:, -count + j]])
        np.testing.assert_array_equal(weight, batch.steps.weight[0, j * 16 // count] * ~np.array(met))
    assert 0 < made.weight.mean() < batch.steps.weight[0].mean()


def test_violations_absorb():
    """The value of a violation: below what any safe life can be worth, also when it comes at the last moment."""
    spec = jsafe.EnvSpec(3, 2)
    given = {**small("mbpo_lag"), "hidden": (4,), "rollout": 2, "violation": "absorbing", "gamma": 0.9, "updates": 1}
    learner = jsafe.imagining(spec, "ddpg_lag", **given)
    state = jax.jit(learner.init)(jax.random.key(0))
    batch = random_batch(learner, jax.random.key(1))
    after, _ = jax.jit(learner.update)(state, batch, jax.random.key(2))
    low, high = batch.steps.reward.min(), batch.steps.reward.max()
    np.testing.assert_allclose([after.least, after.most], [low, high])
    worst = (high - low) / 0.9**2 - high
    best_unsafe = high * (1 - 0.9**2) / (1 - 0.9) - 0.9**2 * worst / (1 - 0.9)
    np.testing.assert_allclose(best_unsafe, low / (1 - 0.9), rtol=1e-5)


def test_two_devices_equal_one(monkeypatch):
    """On the same rows, by plain gradient descent: Adam hides a wrong scale. Without the collectives they do not."""
    monkeypatch.setattr(optax, "scale_by_adam", optax.identity)
    spec = jsafe.EnvSpec(3, 2, num_costs=2)
    given = small("cap_pets", sequences=20, **{"dynamics.learning_rate": 0.05, "rule.optimizer": "sgd"})
    whole = jsafe.make("cap_pets", spec, **given)
    batch, key = random_batch(whole, jax.random.key(1)), jax.random.key(2)
    parts = jax.tree.map(lambda x: np.stack(np.split(x, 2, axis=2)), batch.steps)
    measured = jax.tree.map(lambda x: np.stack([0.25 * x, 0.75 * x]), batch.measured)
    split = Batch(parts, measured, np.array([True, True]))
    state = jax.jit(whole.init)(jax.random.key(0))
    one = jax.jit(whole.update)(state, batch, key)[0]

    def mapped():
        half = jsafe.make("cap_pets", spec, axis_name="d", **given)  # anew: what was traced is remembered
        update = jax.vmap(lambda batch: half.update(state, batch, key)[0], axis_name="d")
        return jax.tree.map(lambda x: x[0], jax.jit(update)(split))

    def furthest(a, b):
        return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)) if x.size)

    assert furthest(one.dynamics.params, state.dynamics.params) > 1e-3
    assert furthest(mapped(), one) < 1e-4
    monkeypatch.setattr(ensemble, "psum", lambda x, axis_name: x)
    assert furthest(mapped().dynamics, one.dynamics) > 1e-3


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
        planner=CEM(horizon=3, samples=96, elites=6, iterations=3, init_var=0.5),
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
