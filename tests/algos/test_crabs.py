"""CRABS: its promises and its phases in one compilation, what guards, and malformed options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import options, registry, testing
from jsafe.algos.model_based.certified import state as crabs

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
    plain, phases = testing.random_batch, []

    def random_batch(learner, key):
        batch = plain(learner, key)
        rows = batch.measured.rows._replace(total=np.float32([next(violations)]))
        return batch._replace(measured=batch.measured._replace(rows=rows))

    def update(state, batch, key):
        state, metrics = learner.update(state, batch, key)
        jax.debug.callback(lambda phase: phases.append(int(phase)), state.phase)
        return state, metrics

    monkeypatch.setattr(testing, "random_batch", random_batch)
    state, metrics = testing.check_learner(learner._replace(init=init, update=update), jax.random.key(0), updates=8)
    jax.effects_barrier()
    initial, trial, _, guarded = range(4)
    assert phases == [initial, trial, initial, initial, trial, guarded, guarded, guarded]
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
        (SPEC, {"candidates": 1}, "candidates must be at least 2, got 1"),
    ],
)
def test_bad_options(spec, changes, message):
    with pytest.raises(ValueError, match=message):
        jsafe.make("crabs", spec, **changes)
