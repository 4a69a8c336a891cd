"""N devices equal one device on the same data, for every policy step, rule and transform; and every collective counts.

Equality is checked on forced CPU devices. The controls run the same learners under `vmap` with an axis name, where
each collective can be switched off at run time: without any one of them, the result must be another one.
"""

import linecache
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsafe
from jsafe import registry
from jsafe.algos.off_policy import gradient as _off_policy
from jsafe.algos.offline import gradient as _offline
from jsafe.components.actors import beta as beta_actors
from jsafe.distributions import beta
from jsafe.feeds import Replay, Rollouts
from jsafe.scale import devices as parallel
from jsafe.testing import random_batch
from jsafe.types import Batch, CostStats, EpisodeStats, Measured

pytestmark = pytest.mark.filterwarnings("ignore:an epoch is 8 steps")
AXIS = parallel.AXIS
DEVICES = 4
SEEDS = (5, 6)
"""Of the two batches. Between them, line searches, switches and early stops go one way and the other."""
ON_POLICY = {
    "hidden": (4,),
    "num_envs": 8,
    "steps_per_epoch": 64,
    "step.passes": 2,
    "step.minibatch": 16,
    "step.optimizer": "sgd",
    "step.critics.learning_rate": 0.05,
    "cost_limit": 1.0,
}
OFF_POLICY = {
    "hidden": (4,),
    "num_envs": 4,
    "sequences": 8,
    "sequence_length": 3,
    "frame_stack": 1,
    "initial_rows": 10,
    "random_steps": 0,
    "replay_rows": 100,
    "updates": 1,
    "unroll": 5,
    "learning_rate": 0.05,
    "tau": 0.1,
    "cost_limit_per_step": 0.05,
    "rule_warmup": 0,
}
TRANSITIONS = {
    "num_costs": 2,
    "policy_delay": 1,
    "normalize_obs": True,
    "max_grad_norm": 1.0,
    "updates": 2,
}
PER_EPISODE = {"limit.value": 5.0, "limit.per": "episode"}
OFFLINE = {
    "hidden": (4,),
    "batch_size": 8,
    "updates": 2,
    "learning_rate": 0.05,
    "tau": 0.1,
    "gamma": 0.5,
    "cost_limit": 5.0,
}
FIRST = {"step.learning_rate": 0.05}
LAGRANGE = {"rule": "lagrange", "rule.init": 0.5}
CASES = {
    "ppo, pid": {**FIRST, "step": "ppo", "rule": "pid", "rule.init": 0.5, "step.early_stop": True},
    "policy gradient, lagrange, simmer": {
        **FIRST,
        **LAGRANGE,
        "step": "policy_gradient",
        "transform": "simmer",
        "normalize_reward": True,
        "normalize_cost": True,
        "step.early_stop": False,
    },
    "focops with pairs, augmented": {
        **FIRST,
        "step": "focops",
        "step.radius": 1e-4,  # within it are some rows, and others are not
        "rule": "augmented",
        "rule.init": 0.5,
        "compat": "omnisafe",
        "step.early_stop": False,
    },
    "p3o, two costs": {
        **FIRST,
        "step": "p3o",
        "step.max_grad_norm": 0.5,
        "step.early_stop": False,
        "num_costs": 2,
        "cost_limit": 14.7,
    },
    "ipo, saute": {**FIRST, "step": "ipo", "transform": "saute", "step.early_stop": False, "cost_limit": 14.0},
    "cup, lagrange": {**FIRST, **LAGRANGE, "step": "cup", "step.early_stop": True},
    "appo": {**FIRST, **LAGRANGE, "step": "appo", "step.early_stop": False},
    "natural gradient, crpo, early termination": {
        "step": "natural_pg",
        "rule": "crpo",
        "cost_limit": 12.0,  # 13.3 and 11.2 are measured
        "transform": "early_termination",
        "step.cg_iterations": 3,
    },
    "trpo, ipo": {"step": "trpo", "rule": "ipo", "step.cg_iterations": 3},
    "cpo, two costs": {"step": "cpo", "num_costs": 2, "step.cg_iterations": 3},
    "pcpo": {"step": "pcpo", "step.cg_iterations": 3},
    "seditor": {"name": "seditor", "num_costs": 2},
    "seditor, l2, two minibatches": {"name": "seditor", "actor.distance": "l2", "updates": 2},
    "sac_lag": {"name": "sac_lag", "preset": "seditor_paper"},
    "td3_lag": {"name": "td3_lag", **TRANSITIONS, "actor.smoothing_noise": 0.0, **PER_EPISODE},
    "cal, the critics drive the rule": {"name": "cal", **TRANSITIONS, "gamma": 0.5, "rule.learning_rate": 0.5},
    "cvpo, dual variables in the actor": {"name": "cvpo", **TRANSITIONS, "actor.mean_most": 1.0},
    "bcq_lag": {"name": "bcq_lag", "num_costs": 2, "normalize_obs": True, "rule.learning_rate": 0.5},
    "coptidice": {"name": "coptidice", "num_costs": 2, "critic.alpha": 1.0, "critic.gradient_penalty": 0.0},
    "cpq": {"name": "cpq", "critic.penalty_learning_rate": 0.1, "cost_limit": 0.5},
}


@pytest.fixture(autouse=True)
def comparable(monkeypatch):
    """Makes devices comparable: what is random depends on the row alone, and SGD shows a wrong scale.

    A draw from a Beta distribution becomes a quantile that depends on its concentrations, minibatches come in order,
    and SEditor's Adam is replaced. Programs are tiny: they are compiled without optimisations. Numbers have 64 bits: in
    32, rounding alone is worth up to 0.6 % of a conjugate gradient's step.
    """

    def draw(key, a, b):
        mean, deviation = a / (a + b), jnp.sqrt(a * b / (a + b + 1)) / (a + b)
        return 2 * jnp.clip(mean + jnp.sin(5 * jax.lax.stop_gradient(a - b)) * deviation, 0.01, 0.99) - 1

    monkeypatch.setattr(beta, "sample", draw)
    monkeypatch.setattr(jax.random, "bits", lambda key, shape: jnp.arange(shape[0], dtype=jnp.uint32))
    monkeypatch.setattr(jax.random, "normal", same_in_all_rows)
    monkeypatch.setattr(_offline, "scale_by_adam", lambda **_: optax.identity())
    monkeypatch.setattr(_off_policy, "scale_by_adam_epsilon_hat", lambda **_: optax.identity())
    settings = ("jax_disable_most_optimizations", "jax_enable_x64")
    before = {name: jax.config.read(name) for name in settings}
    for name in settings:
        jax.config.update(name, True)
    yield
    for name in settings:
        jax.config.update(name, before[name])


def wide(tree):
    """With floats of 64 bits."""

    def cast(x):
        return x.astype(np.float64) if getattr(x, "dtype", None) == np.float32 else x

    return jax.tree.map(cast, tree)


def same_in_all_rows(key, shape=(), dtype=jnp.float32):
    """Noise `[..., R, A]` that does not depend on the row."""
    del key
    axes = [n for i, n in enumerate(shape) if i != len(shape) - 2]
    noise = jnp.sin(3.0 * jnp.arange(float(np.prod(axes)))).reshape(axes)
    return jnp.broadcast_to(jnp.expand_dims(noise, -2) if len(shape) > 1 else noise, shape).astype(dtype)


def make(case, axis_name=None):
    options = dict(CASES[case])
    spec = jsafe.EnvSpec(3, 2, num_costs=options.pop("num_costs", 1), horizon=10)
    if "name" in options:
        name = options.pop("name")
        common = OFFLINE if registry.get(name).family == "offline" else OFF_POLICY
        return jsafe.make(name, spec, axis_name=axis_name, **{**common, **options})
    return jsafe.on_policy(spec, axis_name=axis_name, **{**ON_POLICY, **options})


def start(learner):
    """An initial state whose parameters are away from their (partly zero) initial values."""
    state = learner.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(state.params)
    rng = np.random.default_rng(1)
    leaves = [leaf + jnp.float32(0.4 * rng.standard_normal(leaf.shape)) for leaf in leaves]
    return wide(state._replace(params=jax.tree.unflatten(structure, leaves)))


def parts(learner, state, seed, devices):
    """One batch per device: different scales, and different numbers of finished episodes, on each."""
    batch = random_batch(learner, jax.random.key(seed))
    steps, axis = batch.steps, len(learner.feed.shape) - 1
    lane = np.arange(steps.reward.shape[axis], dtype=np.float32)
    replayed = isinstance(learner.feed, Replay)
    known = (steps.reward != 0) if replayed else True  # rows of a window that are no steps have no reward
    reward = (steps.reward * (1 + lane) + 0.3 * lane * known).astype(np.float32)
    steps = steps._replace(obs=steps.obs * (0.5 + 0.2 * lane[:, None]), reward=reward)
    if isinstance(learner.feed, Rollouts):
        flat = steps.obs.reshape(-1, steps.obs.shape[-1])
        out = learner.act(learner.policy(state), learner.memory.init(len(flat)), flat, jax.random.key(seed), False)
        log_prob = np.array(out.log_prob).reshape(reward.shape)
        next_obs = steps.next_obs * (0.5 + 0.2 * lane[:, None])
        action = np.array(out.action).reshape(steps.action.shape)
        steps = steps._replace(action=action, next_obs=next_obs, extras={"log_prob": log_prob})
    rng = np.random.default_rng(seed)
    pieces = []
    for device in range(devices):
        costs = np.float32(rng.integers(1, 20, learner.spec.num_costs) * (1 + device))
        count = np.float32((3, 0, 1, 2)[device])
        episodes = EpisodeStats(np.float32(count), costs * (count > 0), count * np.float32(6 + device), count)
        fresh = CostStats(costs * 0.1, np.float32(7 + 4 * device))
        ready = np.bool_(not replayed or seed == SEEDS[0] or device != 2)
        mine = jax.tree.map(lambda x, device=device: np.split(x, devices, axis)[device], steps)
        memory = jax.tree.map(lambda x, device=device: np.split(x, devices)[device], batch.memory)
        pieces.append(wide(Batch(mine, Measured(fresh, episodes), ready, memory)))
    return pieces


def whole(pieces):
    """The same rows in one batch."""
    axis = pieces[0].steps.reward.ndim - 1
    return Batch(
        steps=jax.tree.map(lambda *x: np.concatenate(x, axis), *(piece.steps for piece in pieces)),
        measured=jax.tree.map(lambda *x: sum(x), *(piece.measured for piece in pieces)),
        ready=np.all([piece.ready for piece in pieces]),
        memory=jax.tree.map(lambda *x: np.concatenate(x), *(piece.memory for piece in pieces)),
    )


def difference(before, expected, found, floor=1e-6):
    """Largest deviation of `found` from `expected`, leaf by leaf in units of how far `expected` moved."""
    worst = np.float64(0)
    for a, b, c in zip(*map(jax.tree.leaves, (before, expected, found)), strict=True):
        a, b, c = (np.asarray(x, np.float64) for x in (a, b, c))
        if b.size:
            gap = np.nan_to_num(np.abs(b - c), nan=1e30, posinf=1e30)
            worst = max(worst, np.max(gap) / (np.max(np.abs(b - a)) + 1e-3 * np.max(np.abs(b)) + floor))
    return worst


TOLERANCE = 1e-6
"""What 32-bit constants leave."""
NOTICED = 0.01
"""What a collective changes at least."""
REDUNDANT = (
    # Averages that enter the loss linearly: the gradient is averaged again.
    "return -mean(ratio * advantage)",
    "return -mean(jnp.minimum(ratio * advantage, bounded * advantage))",
    "return mean(scale * ratio * (advantage_cost @ multiplier) + kl)",
    "appo: pmean, policy_losses.py: return jnp.stack([mean(surrogate[:, i])",
    "return Bound(v, pmean((v * log_v",
    # The natural gradient alone has no line search that looks at the surrogates; its gradient is averaged again.
    "natural gradient: pmean, second_order.py: return pmean(jnp.mean(ratio[:, None] * signals",
    # The same on all devices, because the deviation of the policy does not depend on the observation.
    "numbers.entropy_coef * descent.mean",
    '"policy/entropy"',
    "for name, value in figures.items()",
)
"""Collectives whose absence changes nothing."""


def tighten(state, radius):
    """A trust region of that size, where there is one."""
    if not hasattr(state, "step") or not hasattr(state.step, "numbers"):
        return state
    return state._replace(step=state.step._replace(numbers=state.step.numbers._replace(target_kl=jnp.float32(radius))))


FACTORS = {
    "cup, lagrange": 0.9,  # its projection moves on from where the divergence was looked at
}
"""Of the radius; found by trying."""


class Reference:
    """Two updates on one device, and the data behind them."""

    def __init__(self, case):
        self.learner = make(case)
        state = start(self.learner)
        self.parts = [parts(self.learner, state, seed, DEVICES) for seed in SEEDS]
        update = jax.jit(self.learner.update)
        batches = [whole(pieces) for pieces in self.parts]
        if hasattr(state, "window"):
            # A trust region, or an early stop, that one device alone would judge differently.
            _, metrics = update(tighten(state, 1e-9), batches[0], jax.random.key(3))
            radius = metrics["policy/kl"] if "update/step_scale" not in metrics else 0.02
            state = tighten(state, radius * FACTORS.get(case, 1.02))
        self.states, self.metrics = [state], []
        for batch in batches:
            state, metrics = update(state, batch, jax.random.key(3))
            self.states.append(state)
            self.metrics.append(metrics)

    def worst(self, states, metrics):
        """How far these two steps are from the two of one device."""
        gaps = [difference(a, b, c) for a, b, c in zip(self.states[:-1], self.states[1:], states, strict=True)]
        zero = jax.tree.map(jnp.zeros_like, self.metrics)
        return max(*gaps, difference(zero, self.metrics, metrics, floor=1e-3))


@pytest.fixture(scope="module")
def references():
    return {}


def reference(references, case):
    if case not in references:
        references[case] = Reference(case)
    return references[case]


class Switches:
    """Collectives that a mask turns off, one place in the code at a time."""

    def __init__(self, monkeypatch):
        self.places, self.mask = {}, None
        for name in ("psum", "pmean"):
            monkeypatch.setattr(jax.lax, name, self.switch(getattr(jax.lax, name)))

    def switch(self, real):
        def collective(x, axis_name):
            place = self.place(real.__name__)
            on = self.mask[self.places.setdefault(place, len(self.places))]
            return jax.tree.map(lambda leaf: jnp.where(on, real(leaf, axis_name), leaf), x)

        return collective

    @staticmethod
    def place(name):
        """The line of the library that asks for the collective, past the helpers `psum`, `pmean` and `mean`."""
        frame = sys._getframe(2)
        while frame.f_code.co_name in ("psum", "pmean", "mean") or os.sep + "jsafe" not in frame.f_code.co_filename:
            frame = frame.f_back
        file, line = frame.f_code.co_filename, frame.f_lineno
        return f"{name}, {os.path.basename(file)}: {linecache.getline(file, line).strip()}"


@pytest.mark.parametrize("case", CASES)
def test_every_collective_counts(case, references, monkeypatch):
    one = reference(references, case)
    switches = Switches(monkeypatch)
    learner = make(case, AXIS)

    def update(state, batch, key, mask):
        switches.mask = mask
        return learner.update(state, batch, key)

    mapped = jax.jit(jax.vmap(update, in_axes=(0, 0, None, None), axis_name=AXIS))
    first = jax.tree.map(lambda x: jnp.stack([x] * DEVICES), one.states[0])
    batches = [jax.tree.map(lambda *x: np.stack(x), *pieces) for pieces in one.parts]

    def worst(mask):
        """The device that is furthest off."""
        state, states, metrics = first, [], []
        for batch in batches:
            state, m = mapped(state, batch, jax.random.key(3), mask)
            states.append(state)
            metrics.append(m)
        pick = [jax.tree.map(lambda x, d=d: x[d], (states, metrics)) for d in range(DEVICES)]
        return max(one.worst(*each) for each in pick)

    ones = np.ones(64, bool)
    assert worst(ones) < TOLERANCE
    assert len(switches.places) > 3
    unnoticed = []
    for place, i in switches.places.items():
        off = ones.copy()
        off[i] = False
        gap = worst(off)
        print(f"{gap:10.3g}  {place}")
        if gap < NOTICED and not any(line in f"{case.split(',')[0]}: {place}" for line in REDUNDANT):
            unnoticed.append(place)
    assert not unnoticed


def regroup(pieces, devices):
    """The parts of four devices as those of fewer."""
    size = DEVICES // devices
    return [whole(pieces[i * size : (i + 1) * size]) for i in range(devices)]


def run(wrapper, learner, one, devices, updates=2):
    """The updates on real devices."""
    chosen = jax.devices()[:devices]
    update = wrapper(learner, chosen if wrapper is parallel.pmap_update else parallel.make_mesh(chosen))
    state = update.place_state(one.states[0])
    states, metrics = [], []
    for pieces in one.parts[:updates]:
        state, m = update(state, regroup(pieces, devices), jax.random.key(3))
        states.append(jax.tree.map(jnp.copy, state))  # the next update takes the memory of this one
        metrics.append(m)
    return states, metrics


WRAPPERS = {"shard_map": parallel.shard_map_update, "pmap": parallel.pmap_update}
PLANS = [("shard_map", 4), ("pmap", 2), ("pmap", 4), ("shard_map", 2)]


@pytest.mark.parametrize(("case", "plan"), [(case, PLANS[i % 4]) for i, case in enumerate(CASES)])
def test_devices_equal_one(case, plan, references):
    one, (wrapper, devices) = reference(references, case), plan
    states, metrics = run(WRAPPERS[wrapper], make(case, AXIS), one, devices)
    assert one.worst(states, metrics) < TOLERANCE
    for tree in (states[-1], metrics[-1]):
        parallel.assert_replicated(tree)
        assert {len(leaf.addressable_shards) for leaf in jax.tree.leaves(tree)} == {devices}
    assert jax.tree.map(jnp.shape, states[-1]) == jax.tree.map(jnp.shape, one.states[0])  # no leading axis


@pytest.mark.parametrize("name", ["psum", "pmean"])
def test_without_a_collective_devices_drift_apart(name, references, monkeypatch):
    """The same check as above has to fail, and so has `assert_replicated`.

    One update only: in the second, one device would wait for the others' gradients for ever.
    """
    one = reference(references, "seditor")
    monkeypatch.setattr(jax.lax, name, lambda x, axis_name: x)
    states, _ = run(parallel.shard_map_update, make("seditor", AXIS), one, 2, updates=1)
    assert difference(*one.states[:2], states[0]) > NOTICED
    with pytest.raises(AssertionError, match=r"devices hold different values of \.(params|normalizer)"):
        parallel.assert_replicated(states[-1])


def test_devices_draw_different_noise(monkeypatch):
    """On the same rows, device i does what one device does with `fold_in(key, i)`; gradients are averaged."""

    def draw(key, a, b):
        return jnp.clip(2 * a / (a + b) - 1 + jax.random.uniform(key, a.shape, minval=-0.3, maxval=0.3), -0.99, 0.99)

    monkeypatch.setattr(beta, "sample", draw)
    monkeypatch.setattr(beta_actors, "clip_row_gradient", lambda x, max_norm: x)  # the one step that is not linear
    key = jax.random.key(3)
    state = start(make("sac_lag"))
    piece = parts(make("sac_lag"), state, SEEDS[0], DEVICES)[0]
    single = jax.jit(make("sac_lag").update)
    each = [single(state, piece, jax.random.fold_in(key, i))[0].params for i in range(2)]
    expected = jax.tree.map(lambda *x: sum(x) / 2, *each)
    update = parallel.shard_map_update(make("sac_lag", AXIS), parallel.make_mesh(jax.devices()[:2]))
    found = update(state, [piece, piece], key)[0].params
    assert difference(state.params, expected, found) < TOLERANCE
    assert difference(state.params, expected, each[0]) > NOTICED


def test_a_whole_batch_is_split(references):
    """One batch for all devices: rows split, sums counted once, placed or not."""
    one = reference(references, "sac_lag")
    learner = make("sac_lag", AXIS)
    update = parallel.shard_map_update(learner)
    batch = whole(one.parts[0])
    placed = update.place_batch(batch)
    assert update.place_batch(placed) is placed
    assert placed.steps.obs.shape == (3, DEVICES, 2, 3)
    np.testing.assert_array_equal(np.asarray(placed.steps.obs).reshape(batch.steps.obs.shape), batch.steps.obs)
    np.testing.assert_array_equal(np.asarray(placed.measured.rows.total).sum(0), batch.measured.rows.total)
    assert np.asarray(placed.measured.rows.count).tolist() == [batch.measured.rows.count, 0, 0, 0]
    assert np.asarray(placed.ready).tolist() == [True] * DEVICES
    for each in (batch, placed):
        state, metrics = update(one.states[0], each, jax.random.key(3))
        assert difference(one.states[0], one.states[1], state) < TOLERANCE
        assert float(metrics["train/updates"]) == 1


def test_the_state_is_donated_only_in_place(references):
    one = reference(references, "sac_lag")
    update = parallel.shard_map_update(make("sac_lag", AXIS))
    placed = update.place_state(one.states[0])
    state, _ = update(placed, one.parts[0], jax.random.key(3))
    kept = jax.tree.leaves(one.states[0])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(placed.params))
    assert not any(leaf.is_deleted() for leaf in kept)  # nor do they share memory with what was donated
    key = jax.device_put(jax.random.key(3), jax.devices()[3])  # wherever it is
    again, _ = update(one.states[0], one.parts[0], key)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    policy = parallel.local(state.params["actor"])
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(policy)} == {1}


def test_bad_input(references):
    one = reference(references, "sac_lag")
    state, batch, key = one.states[0], whole(one.parts[0]), jax.random.key(0)
    update = parallel.shard_map_update(make("sac_lag", AXIS), parallel.make_mesh(jax.devices()[:3]))
    with pytest.raises(ValueError, match="8 sequences cannot be shared equally by 3 devices: sequences must be a"):
        update(state, batch, key)
    with pytest.raises(ValueError, match="one batch for each of 3 devices, got 4"):
        update(state, one.parts[0], key)
    minibatches = batch._replace(steps=jax.tree.map(lambda x: x[None], batch.steps))
    with pytest.raises(ValueError, match="must have the 2 leading axes of the learner's feed, Replay, got 3"):
        update(state, minibatches, key)
    with pytest.raises(ValueError, match="equal shapes"):
        update(state, [batch, *one.parts[0][:2]], key)
    with pytest.raises(ValueError, match="does not reduce over devices; build it with axis_name='devices'"):
        parallel.shard_map_update(make("sac_lag"))(state, batch, key)
    with pytest.raises(ValueError, match=r"another axis than 'devices'.*unbound axis name: other"):
        parallel.pmap_update(make("sac_lag", "other"))(state, batch, key)
    with pytest.raises(ValueError, match=r"one axis 'devices', got \('x',\)"):
        parallel.shard_map_update(make("sac_lag", AXIS), parallel.make_mesh(axis_name="x"))
    with pytest.raises(ValueError, match="distinct"):
        parallel.make_mesh([jax.devices()[0]] * 2)
    learner = jsafe.on_policy(jsafe.EnvSpec(3, 2), axis_name=AXIS, **{**ON_POLICY, "step.minibatch": 10})
    rollout = parts(learner, learner.init(key), 1, DEVICES)
    with pytest.raises(ValueError, match="minibatch must be a multiple of the number of devices, 4, got 10"):
        parallel.shard_map_update(learner)(learner.init(key), rollout, key)


def test_assert_replicated_names_the_leaf():
    mesh = parallel.make_mesh()
    tree = parallel.replicate({"a": jnp.ones(3), "b": jnp.full(2, jnp.nan)}, mesh)
    parallel.assert_replicated(tree)
    copies = [jax.device_put(jnp.float32([0, i]), device) for i, device in enumerate(mesh.devices)]
    bad = jax.make_array_from_single_device_arrays((2,), tree["b"].sharding, copies)
    with pytest.raises(AssertionError, match=r"\['b'\]$"):
        parallel.assert_replicated({**tree, "b": bad})
