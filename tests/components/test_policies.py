"""On-policy policies: what fits which actions, encoders, memory; and rows in segments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import distributions, spaces
from jsafe.algos.on_policy import rows
from jsafe.components import normalizers, steps
from jsafe.components.policies import AutoPolicy, BetaPolicy, CategoricalPolicy, GaussianPolicy, GRUPolicy
from jsafe.components.steps import base
from jsafe.distributions.beta import Beta
from jsafe.distributions.categorical import Categorical
from jsafe.distributions.gaussian import Gaussian
from jsafe.spaces import Box, Discrete, Tree
from jsafe.testing import random_batch
from jsafe.types import EnvSpec

KEY = jax.random.key(0)
TREE = Tree({"picture": Box((8, 8, 1), 0, 255, "uint8"), "speed": Box(3), "gear": Discrete((4, 2))})
TINY = {"num_envs": 3, "steps_per_epoch": 24, "hidden": (4,), "minibatch": 8, "passes": 1}


class Mean(nn.Module):
    """The mean brightness, times a number that is learnt."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2, use_bias=False)(obs["picture"].astype(jnp.float32).mean(axis=(1, 2)))


@pytest.mark.parametrize(("action", "kind"), [(Box(2), Gaussian), (Discrete(4), Categorical)])
@pytest.mark.parametrize("options", [AutoPolicy(hidden=(4,)), GRUPolicy(hidden=(4,), units=3)])
def test_the_distribution_fits_the_actions(options, action, kind):
    policy = options.build(EnvSpec(5, action))
    dist, _ = policy.apply(policy.init(KEY), policy.memory.init(2), jnp.ones((2, 5)))
    assert isinstance(dist, kind)


@pytest.mark.parametrize(
    ("options", "action", "message"),
    [
        ("gaussian", Discrete(4), r"the policy 'gaussian' needs continuous actions, got Discrete\(n=4\)"),
        ("beta", Discrete(4), "the policy 'beta' needs continuous actions"),
        ("categorical", 2, r"the policy 'categorical' needs choices \(Discrete\) as actions, got Box"),
        (GaussianPolicy(), Tree({"a": Box(2)}), "needs continuous actions, got Tree"),
    ],
)
def test_a_distribution_that_does_not_fit_is_refused(options, action, message):
    with pytest.raises(ValueError, match=message):
        jsafe.on_policy(EnvSpec(5, action), policy=options)


@pytest.mark.parametrize("name", ["ppo_lag", "cpo"])  # clipping; the Fisher matrix
def test_a_beta_policy_stays_in_the_box_and_learns_with_any_step(name):
    learner = jsafe.make(name, EnvSpec(5, 2), **TINY, policy="beta")
    state = learner.init(KEY)
    out = learner.act(learner.policy(state), (), np.ones((500, 5), np.float32), KEY)
    assert out.action.shape == (500, 2)
    assert 0.9 < np.abs(out.action).max() < 1
    dist, _ = BetaPolicy(hidden=(4,)).build(learner.spec).apply(state.params.actor, (), jnp.ones((500, 5)))
    assert isinstance(dist, Beta)
    np.testing.assert_allclose(out.log_prob, distributions.log_prob(dist, out.action), rtol=1e-5)
    new, metrics = jax.jit(learner.update)(state, random_batch(learner, KEY), KEY)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((new.params, metrics)))
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (state.params.actor, new.params.actor))))


@pytest.mark.parametrize("action", [Discrete(4), Discrete((3, 2))])
def test_choices_have_the_shape_of_their_space(action):
    learner = jsafe.on_policy(EnvSpec(5, action), **TINY)
    state = learner.init(KEY)
    out = learner.act(learner.policy(state), (), np.ones((6, 5), np.float32), KEY)
    assert out.action.shape == (6, *action.shape)
    assert out.action.dtype == jnp.int32
    likeliest = learner.act(learner.policy(state), (), np.ones((1, 5), np.float32), KEY, True)
    policy = CategoricalPolicy(hidden=(4,)).build(learner.spec)
    probabilities = np.exp(policy.apply(state.params.actor, (), jnp.ones((1, 5)))[0].log_probs[0])
    np.testing.assert_array_equal(likeliest.action.ravel(), probabilities.argmax(axis=-1))


def test_a_module_of_ones_own_is_the_encoder_of_policy_and_critics():
    learner = jsafe.on_policy(EnvSpec(TREE, 2), **TINY, encoder=Mean())
    params = learner.init(KEY).params
    assert params.actor["encoder"]["Dense_0"]["kernel"].shape == (1, 2)
    assert params.critics["encoder"]["Dense_0"]["kernel"].shape == (1, 1, 2)  # of the one value function
    assert params.critics["heads"][0]["w"].shape == (1, 2, 4)
    alone = jsafe.on_policy(EnvSpec(5, 2), **TINY)
    assert "encoder" not in alone.init(KEY).params.actor


def test_value_functions_have_an_encoder_each():
    critics = steps.CriticFit(hidden=(4,), encoder=Mean()).networks(EnvSpec(TREE, 2), 2)
    params = critics.init(KEY)
    obs = spaces.sample(TREE, np.random.default_rng(0), (5,))
    grads = jax.grad(lambda p: critics.apply(p, (obs, ()))[:, 0].sum())(params)
    for leaf in jax.tree.leaves(grads):
        assert np.any(leaf[0] != 0)
        assert np.all(leaf[1] == 0)
    brightness = obs["picture"].astype(np.float64).mean(axis=(1, 2, 3))[:, None]
    for k in range(2):
        h = brightness @ np.asarray(params["encoder"]["Dense_0"]["kernel"][k], np.float64)
        first, last = (jax.tree.map(lambda x, k=k: np.asarray(x[k], np.float64), layer) for layer in params["heads"])
        want = np.tanh(h @ first["w"] + first["b"]) @ last["w"] + last["b"]
        np.testing.assert_allclose(critics.apply(params, (obs, ()))[:, k], want[:, 0], atol=1e-5)


def test_statistics_scale_flat_floats_alone():
    stats = normalizers.obs_stats_init(TREE)
    obs = spaces.sample(TREE, np.random.default_rng(0), (50, 4))
    stats = normalizers.obs_stats_update(stats, obs)
    assert (stats["picture"], stats["gear"]) == ((), ())
    scaled = normalizers.normalize_obs(stats, obs)
    assert scaled["picture"] is obs["picture"]
    assert scaled["gear"] is obs["gear"]
    speed = obs["speed"].astype(np.float64)
    want = (speed - speed.mean((0, 1))) / speed.std((0, 1), ddof=1)
    np.testing.assert_allclose(scaled["speed"], np.clip(want, -5, 5), rtol=1e-3, atol=1e-4)


def test_bytes_stay_bytes_where_rows_are_shuffled():
    tree = {
        "picture": np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
        "choice": np.array([3, 1, 2, 0], np.int32),
        "speed": np.arange(8.0, dtype=np.float32).reshape(4, 2),
    }
    packed, unpack = base.pack(tree, 2)
    assert [(x.shape, x.dtype) for x in packed] == [((2, 6), jnp.float32), ((2, 12), jnp.uint8)]
    second = unpack([x[1:] for x in packed])
    for name, leaf in tree.items():
        np.testing.assert_array_equal(second[name], leaf[2:])
        assert second[name].dtype == leaf.dtype


def recurrent(**options):
    gru = {"policy": "gru", "units": 3, "policy.segment": 4, **options}
    return jsafe.on_policy(EnvSpec(5, Discrete((3, 2)), horizon=8), **TINY, **gru)


def test_learning_sees_the_memory_that_acting_had():
    """Unrolled over the batch, or from stored states segment by segment: the log-probabilities of acting."""
    learner = recurrent(**{"normalize_obs": False})
    key = jax.random.key(1)
    batch = random_batch(learner, key)
    state = learner.init(jax.random.split(key, 3)[0])  # the policy that has acted in it
    ended = batch.steps.terminated | batch.steps.truncated
    assert ended[:-1].any()
    policy = learner.config.policy.build(learner.spec)
    past = rows.recall(policy, state.params.actor, batch, batch.steps.obs, batch.steps.next_obs)
    acted = rows.flatten(policy, batch.steps.extras["log_prob"])
    action = rows.flatten(policy, batch.steps.action)
    np.testing.assert_allclose(distributions.log_prob(past.old, action), acted, atol=1e-5)

    obs = rows.flatten(policy, batch.steps.obs)
    epoch = base.PolicyBatch(obs, action, acted, past.old, *[acted] * 4, past.started, past.memory, past.remembered)
    parts = base.Networks(policy, None).distribution(state.params.actor, epoch)
    np.testing.assert_allclose(distributions.log_prob(parts, action), acted, atol=1e-5)

    # Step by step from any memory, as the collector does.
    batch = batch._replace(memory=jnp.full_like(batch.memory, 0.3))
    past = rows.recall(policy, state.params.actor, batch, batch.steps.obs, batch.steps.next_obs)
    memory = batch.memory
    for t in range(8):
        _, memory = policy.apply(state.params.actor, memory, batch.steps.obs[t])
        remembered = rows.unflatten(policy, past.remembered, 8)[t]
        np.testing.assert_allclose(remembered, memory, atol=1e-6)
        _, after = policy.apply(state.params.actor, memory, batch.steps.next_obs[t])
        np.testing.assert_allclose(rows.unflatten(policy, past.then, 8)[t], after, atol=1e-6)
        memory = policy.memory.reset(memory, ended[t])


def test_minibatches_are_made_of_whole_segments():
    learner = recurrent()
    batch = random_batch(learner, KEY)
    policy = learner.config.policy.build(learner.spec)
    steps_, order = rows.flatten(policy, batch.steps), np.arange(24).reshape(3, 8).T
    epoch = base.PolicyBatch(
        steps_.obs,
        steps_.action,
        rows.flatten(policy, order),
        (),
        *[steps_.reward] * 4,
        steps_.terminated,
        np.zeros((6, 3), np.float32),
        np.zeros((24, 3), np.float32),
    )
    packed, unpack = base.pack_batch(epoch, policy.segment)
    seen = []

    def update(carry, minibatch):
        part = unpack(minibatch)
        assert part.memory.shape == (2, 3)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), part.log_prob)
        return carry

    base.minibatch_pass(update, 0.0, packed, KEY, 2, None)
    jax.effects_barrier()
    segments = np.concatenate(seen).reshape(-1, 4)
    np.testing.assert_array_equal(np.diff(segments, axis=1), 1)
    np.testing.assert_array_equal(np.sort(segments[:, 0]), np.arange(0, 24, 4))


def test_segments_have_to_fit_the_rollouts():
    with pytest.raises(ValueError, match="steps_per_epoch / num_envs = 8, got 5"):
        recurrent(**{"policy.segment": 5})


def test_gradients_stop_at_the_start_of_a_segment():
    policy = GRUPolicy(hidden=(), units=3).build(EnvSpec(2, Discrete(2)))
    params = policy.init(KEY)
    obs = jax.random.normal(KEY, (2, 4, 2))  # two segments of one environment
    memory, started = jnp.ones((2, 3)), jnp.zeros((2, 4), bool)

    def last(obs):
        return policy.unroll(params, memory, obs, started)[0].log_probs[-1, 0, 0]

    grads = np.abs(jax.grad(last)(obs)).sum(-1)
    assert (grads[0] == 0).all()
    assert (grads[1] > 0).all()
