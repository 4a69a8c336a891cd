"""Small data sets whose observations say where they belong: obs = (episode, step, 1)."""

import numpy as np

from jsafe.data.datasets import About, Episodes, from_rows
from jsafe.feeds import Dataset
from jsafe.spaces import Box
from jsafe.types import NO_MEMORY, ActOutput, Learner, PolicyState

LENGTHS = (4, 2, 3)
ENDS = ("truncated", "terminated", "")
"""How each episode ends; the last one does not."""
ABOUT = About(Box(3), Box(2, -1, 1), 4, "Toy-v0", (("horizon", 4),), ("cost",), (), ({"algorithm": "ppo"},), "record")


def rows(num_costs=1, lengths=LENGTHS, ends=ENDS):
    """The steps as rows: obs, action, reward, cost, terminated, truncated, next_obs."""
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(n) for n in lengths])
    last = step == np.array(lengths)[episode] - 1
    ones = np.ones(len(step))
    return {
        "obs": np.stack([episode, step, ones], axis=1),
        "action": np.stack([np.sin(step), np.cos(episode)], axis=1),
        "reward": 10.0 * episode + step,
        "cost": np.stack([(step + m) % 3 for m in range(num_costs)], axis=1).astype(float),
        "terminated": last & np.isin(episode, np.flatnonzero(np.array(ends) == "terminated")),
        "truncated": last & np.isin(episode, np.flatnonzero(np.array(ends) == "truncated")),
        "next_obs": np.stack([episode, step + 1, ones], axis=1),
    }


def small(num_costs=1, **options):
    names = ("cost",) if num_costs == 1 else ("hazards", "vases")
    return from_rows(**rows(num_costs, **options), about=About(Box(3), Box(2, -1, 1), 4, "Toy-v0", cost_names=names))


def same(one: Episodes, other: Episodes) -> None:
    """Equal in everything but where they came from."""
    for name in ("obs", "action", "reward", "cost", "terminated", "truncated", "start"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert (one.next_obs is None) == (other.next_obs is None)


def fed(episodes, config=None, **options):
    """A learner that is fed with these episodes, acts at random and learns nothing."""

    def act(policy_state, memory, obs, key, deterministic=False):
        return ActOutput(np.float32(0.1) * policy_state.params + obs[:, :2] * 0, obs[:, 0] * 0, {}, memory)

    feed = Dataset(**{"batch_size": 8, "updates": 3} | options)
    return Learner(
        lambda key: np.float32(1),
        lambda state, batch, key: (state, {}),
        lambda state: PolicyState(state),
        act,
        NO_MEMORY,
        feed,
        config,
        episodes.spec,
    )
