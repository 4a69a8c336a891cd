"""CRABS: its promises and its phases in one compilation, what guards, and malformed options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import options, registry, testing
from jsafe.algos.model_based.certified import state as crabs
from jsafe.algos.model_based.certified.parts import Parts
from jsafe.algos.model_based.certified.steps import GradientSteps

SPEC = jsafe.EnvSpec(4, 1, start=(0.0,) * 4, safe=((0, -0.9, 0.9), (1, -0.2, 0.2)))
TINY = {
    "hidden": (8,),
    "num_envs": 4,
    "unroll": 5,
    "sequences": 8,
    "updates": 2,
    "candidates": 5,
    "critic_warmup": 1,
    "quiet_steps": 40,
    "trial_steps": 20,
    "pretrain_average": 0.25,
    "pretrain_margin": 0.0,
    "dynamics.size": 2,
    "certify.chains": 8,
    "certify.max_steps": 3000,
    "certify.learning_rate": 3e-3,
    "certify.renew": 2,
    "certify.clean": 2,
    "certify.draws": 20,
    "certify.margin": 0.0,
}


def test_it_keeps_its_promises_through_all_phases(monkeypatch):
    """20 quiet steps a batch: two of them, a trial that fails, two again, a trial, a certificate, guarded steps.

    The models expect no change, so that every policy has a certificate.
    """
    learner = jsafe.make("crabs", SPEC, **TINY, **{"dynamics.learning_rate": 1e-9})

    def init(key):
        state = learner.init(key)
        still = state.models.params | {"nets": jax.tree.map(jnp.zeros_like, state.models.params["nets"])}
        return state._replace(models=state.models._replace(params=still))

    violations = iter([0, 0, 1, 0, 0, 0, 0, 2])
    plain, phases, apart = testing.random_batch, [], []

    def random_batch(learner, key):
        batch = plain(learner, key)
        rows = batch.measured.rows._replace(total=np.float32([next(violations)]))
        return batch._replace(measured=batch.measured._replace(rows=rows))

    def update(state, batch, key):
        state, metrics = learner.update(state, batch, key)
        jax.debug.callback(lambda phase: phases.append(int(phase)), state.phase)
        policies = (jax.tree.leaves(actor)[0] for actor in (state.params["actor"], state.core.actor))
        jax.debug.callback(lambda last, core: apart.append(not np.array_equal(last, core)), *policies)
        return state, metrics

    monkeypatch.setattr(testing, "random_batch", random_batch)
    state, metrics = testing.check_learner(learner._replace(init=init, update=update), jax.random.key(0), updates=8)
    jax.effects_barrier()
    initial, trial, _, guarded = range(4)
    assert phases == [initial, trial, initial, initial, trial, guarded, guarded, guarded]
    # What is tried is the average, and so is what the first certificate is for.
    assert apart[:6] == [phase == initial for phase in phases[:6]]
    assert float(metrics["crabs/pretrain_violations"]) == 1
    assert float(metrics["crabs/violations"]) == 2
    assert float(metrics["crabs/found"]) >= 1
    assert (np.asarray(state.scale.std) > 0.1).all()  # random observations are standard normal
    assert int(state.counts.updates) == 4


def test_acting_guarded_and_unguarded():
    """Fresh models expect hardly any change: at the edge of the box no action is safe, in the middle all are."""
    learner = jsafe.make("crabs", SPEC, **TINY)
    params = learner.policy(learner.init(jax.random.key(0))).params
    obs = jnp.zeros((6, 4)).at[:, 0].set(jnp.array([0.0, 0.0, 0.0, 0.89, 0.89, 0.89]))
    act = jax.jit(learner.act, static_argnums=4)

    def actions(phase, key=1, deterministic=False):
        state = jsafe.types.PolicyState(params | {"phase": jnp.int32(phase)})
        return np.asarray(act(state, (), obs, jax.random.key(key), deterministic).action[:, 0])

    initial, trial, guarded = (actions(phase) for phase in (crabs.INITIAL, crabs.TRIAL, crabs.GUARDED))
    mean = actions(crabs.TRIAL, deterministic=True)
    assert (np.abs(initial - mean) > 1e-4).all()
    np.testing.assert_array_equal(trial[::2], mean[::2])
    assert (np.abs(trial[1::2] - mean[1::2]) > 1e-4).all()
    np.testing.assert_array_equal(actions(crabs.TRIAL, 2)[::2], mean[::2])
    assert (np.abs(guarded[:3] - mean[:3]) > 1e-4).all()  # explores
    np.testing.assert_allclose(guarded[3:], mean[3:], atol=1e-6)  # the certified policy's


@pytest.mark.parametrize(("weights", "squares"), [((1.0,), 0.25 + 0.04), ((2.0, 0.5), 2.0 * 0.25 + 0.5 * 0.04)])
def test_the_initial_policys_reward(weights, squares):
    """It arrives at x = 0.45 of 0.9 and theta = 0.04 of 0.2 with an action of 0.5; the task's own reward is 7."""
    config = jsafe.make("crabs", SPEC, **TINY, pretrain_weights=weights, pretrain_effort=0.4).config
    obs = jnp.zeros((2, 8, 4)).at[1, :, :2].set(jnp.array([0.45, 0.04]))
    rows, none = jnp.full((2, 8), 7.0), jnp.zeros((2, 8), bool)
    cost = jnp.zeros((2, 8, 1)).at[0, 0].set(1.0)
    steps = jsafe.types.Steps(obs, jnp.full((2, 8, 1), 0.5), rows, cost, none, none, None, jnp.ones((2, 8)), {})
    made = GradientSteps(Parts(config, SPEC, None))
    plain = -squares / 2 - 0.4 * 0.25
    np.testing.assert_allclose(made.rows_of(steps, True).reward, [plain - 10.0, plain, plain, plain], rtol=1e-6)
    np.testing.assert_array_equal(made.rows_of(steps, False).reward, 7.0)


def test_presets_and_json():
    algorithm = registry.get("crabs")
    for preset in (None, *algorithm.presets):
        config = registry.make_config(algorithm, preset)
        algorithm.build(config, SPEC)
        assert options.from_json(type(config), options.to_json(config)) == config
    assert registry.make_config(algorithm, "laptop").feed.steps_per_batch == 600


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (jsafe.EnvSpec(4, 1), {}, "crabs needs an environment that says which states are safe"),
        (SPEC, {"sequences": 7}, "sequences must be a multiple of the models, 5, got 7"),
        (SPEC, {"sequence_length": 3}, "sequence_length must be 2"),
        (SPEC, {"certify.chain": 3}, "did you mean"),
        (SPEC, {"barrier.reach": 0.0}, "reach must be above 0"),
        (SPEC, {"pretrain_weights": (1.0, 1.0, 1.0)}, "one for each of the 2 bounded components, got"),
        (SPEC, {"candidates": 1}, "candidates must be at least 2, got 1"),
    ],
)
def test_bad_options(spec, changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.make("crabs", spec, **changes)
