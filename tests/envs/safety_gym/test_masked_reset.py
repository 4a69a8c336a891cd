"""`reset(mask=...)`: the masked environments restart, the others go on as if nothing had happened."""

import numpy as np
import pytest

import jsafe.envs

MASK = np.array([False, True, False, True])


@pytest.mark.parametrize("name", ["SafetyPointGoal2-v0", "SafetyCarPush1-v0", "Safexp-PointGoal1-v0"])
def test_masked_environments_restart_and_the_others_go_on(name):
    env = jsafe.envs.make(name, num_envs=4, num_threads=1)
    actions = np.random.default_rng(0).uniform(env.spec.action_low, env.spec.action_high, (30, 4, env.spec.act_dim))

    def play(mask):
        """Observations of 15 steps, after the mask, of 15 more steps; and whether the mask changed each state."""
        env.reset(seed=5)
        before = [env.step(action).obs for action in actions[:15]]
        states = [repr(env.get_state(i)) for i in range(4)]
        obs = before[-1] if mask is None else env.reset(mask=mask)
        changed = [repr(env.get_state(i)) != state for i, state in enumerate(states)]
        return np.stack([*before, obs, *(env.step(action).obs for action in actions[15:])]), changed

    without, unchanged = play(None)
    some, changed = play(MASK)
    everywhere, _ = play(np.ones(4, bool))
    nowhere, _ = play(np.zeros(4, bool))
    env.close()
    assert not any(unchanged)
    assert changed == MASK.tolist()
    np.testing.assert_array_equal(nowhere, without)
    np.testing.assert_array_equal(some[:, ~MASK], without[:, ~MASK])
    np.testing.assert_array_equal(some[:, MASK], everywhere[:, MASK])  # each has a stream of its own
    assert (some[15:, MASK] != without[15:, MASK]).any(axis=(0, 2)).all()


def test_masks_that_do_not_fit():
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=4, num_threads=1)
    with pytest.raises(RuntimeError, match="call reset"):
        env.reset(mask=MASK)  # there is no episode yet that the others could go on with
    env.reset(seed=0)
    for bad in (MASK[:3], MASK.astype(int), [[True] * 4]):
        with pytest.raises(ValueError, match="mask must be 4 booleans, without a seed"):
            env.reset(mask=bad)
    with pytest.raises(ValueError, match="mask must be 4 booleans, without a seed"):
        env.reset(seed=1, mask=MASK)
    env.close()
