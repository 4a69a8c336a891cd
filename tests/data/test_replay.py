"""The replay against plain lists of rows."""

import copy
import os

import jax
import numpy as np
import pytest

from jsafe import spaces
from jsafe.data import ram
from jsafe.data.replay.store import FIRST, LAST, MID, ReplayStore
from jsafe.feeds import Replay
from jsafe.spaces import Box, Discrete, Tree
from jsafe.types import EnvSpec

OBS, ACT, COSTS = 3, 2, 2
SPEC = EnvSpec(OBS, ACT, COSTS)


class Feed:
    """Appends random episodes to a replay and to one Python list of rows per environment."""

    def __init__(self, num_envs, seed=0):
        self.rng = np.random.default_rng(seed)
        self.rows = [[] for _ in range(num_envs)]
        self.kind = np.full(num_envs, FIRST)

    def append(self, replay, steps):
        n = len(self.rows)
        for _ in range(steps):
            envs = np.flatnonzero(self.rng.random(n) < 0.8)  # so that the environments' counts differ
            # Short episodes, so that many windows see one start; halves are exact in float16.
            obs = self.rng.integers(-2000, 2000, (len(envs), OBS)) / 2.0
            for i, env in enumerate(envs):
                obs[i, 0] = len(self.rows[env])  # the number of the row
            row = {
                "obs": obs,
                "action": self.rng.uniform(-1, 1, (len(envs), ACT)).astype(np.float32),
                "reward": self.rng.standard_normal(len(envs)).astype(np.float32),
                "cost": self.rng.random((len(envs), COSTS)).astype(np.float32),
                "discount": self.rng.integers(0, 2, len(envs)).astype(np.float32),
                "kind": self.kind[envs].copy(),
            }
            row["reward"][row["kind"] == FIRST] = 0
            row["cost"][row["kind"] == FIRST] = 0
            row["discount"][row["kind"] != LAST] = 1
            replay.append(**row, envs=envs)
            for i, env in enumerate(envs):
                self.rows[env].append({name: value[i] for name, value in row.items()})
            after = np.where(self.rng.random(len(envs)) < 0.3, LAST, MID)
            self.kind[envs] = np.where(row["kind"] == LAST, FIRST, after)


def make(num_envs=3, capacity=20, frame_stack=1, dtype="float32", on_device=False):
    return ReplayStore(num_envs, capacity, SPEC, frame_stack=frame_stack, dtype=dtype, on_device=on_device)


def stacked(rows, t, frames):
    """The frames of row t by walking back, stopping at the FIRST row."""
    out = [rows[t]["obs"]]
    for _ in range(frames - 1):
        t = t if rows[t]["kind"] == FIRST else t - 1
        out.insert(0, rows[t]["obs"])
    return np.concatenate(out)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("frame_stack", [1, 4])
@pytest.mark.parametrize("steps", [18, 90])  # before and after the rings wrap around
@pytest.mark.parametrize("minibatches", [None, 3])
def test_samples_are_the_rows_that_were_appended(dtype, frame_stack, steps, minibatches):
    n, capacity, length = 3, 20, 5
    replay, feed = make(n, capacity, frame_stack, dtype), Feed(n)
    feed.append(replay, steps)
    assert (replay.total_rows > n * capacity) == (steps == 90)
    batch = replay.sample(np.random.default_rng(1), 31, length, minibatches)
    lead = () if minibatches is None else (minibatches,)
    assert batch.obs.shape == (*lead, length, 31, OBS * frame_stack)
    assert batch.obs.dtype == np.float32
    assert batch.next_obs is None
    ends = np.zeros(2)
    names = ("obs", "action", "reward", "cost", "terminated", "truncated", "weight")
    for k in np.ndindex(lead):
        fields = [getattr(batch, name)[k] for name in names]
        for b in range(31):
            column = [field[:, b] for field in fields]
            obs, action, reward, cost, terminated, truncated, weight = column
            newest = obs[0, -OBS:]
            candidates = [
                env
                for env in range(n)
                if newest[0] < len(feed.rows[env]) and np.array_equal(feed.rows[env][int(newest[0])]["obs"], newest)
            ]
            assert len(candidates) == 1
            rows = feed.rows[candidates[0]]
            start = int(newest[0])
            assert start - (frame_stack - 1) >= max(len(rows) - capacity, 0), "a frame of this start was overwritten"
            for t in range(length):
                row = rows[start + t]
                np.testing.assert_array_equal(obs[t], stacked(rows, start + t, frame_stack))
                np.testing.assert_array_equal(action[t], row["action"])
                assert weight[t] == (row["kind"] != LAST)
                if t == length - 1:
                    assert not any((reward[t], terminated[t], truncated[t], *cost[t]))
                    continue
                after = rows[start + t + 1]  # a step's reward is stored with the row that it led to
                ended = after["kind"] == LAST
                np.testing.assert_array_equal(cost[t], after["cost"])
                assert reward[t] == after["reward"]
                assert terminated[t] == (ended and after["discount"] == 0)
                assert truncated[t] == (ended and after["discount"] == 1)
                ends += terminated[t], truncated[t]
    assert (ends > 5).all()


def single_env_starts(size, capacity, sequences, length, frame_stack, rng, n=1):
    replay = ReplayStore(n, capacity, EnvSpec(1, 1), frame_stack=frame_stack)
    for t in range(size):
        kind = np.full(n, FIRST if t == 0 else MID)
        replay.append(np.full((n, 1), t), np.zeros((n, 1)), np.zeros(n), np.zeros((n, 1)), np.ones(n), kind)
    oldest = max(size - capacity, 0)
    return replay.sample(rng, sequences, length).obs[0, :, -1] - oldest - (frame_stack - 1)


def test_starts_are_stratified_over_all_positions():
    rng = np.random.default_rng(0)
    size, sequences, length, frame_stack = 40, 6, 8, 4
    positions = 30 - (frame_stack - 1) - (length - 1)  # capacity 30
    counts = np.zeros(positions)
    for _ in range(400):
        starts = single_env_starts(size, 30, sequences, length, frame_stack, rng)
        i = np.arange(sequences)
        assert (starts >= np.floor(i / sequences * positions)).all()
        assert (starts < (i + 1) / sequences * positions).all()
        counts += np.bincount(starts.astype(int), minlength=positions)
    # Every start, the oldest and the newest included, is as likely as any other: 120 expected, 6 standard deviations.
    assert (np.abs(counts / 400 / sequences - 1 / positions) < 6 * np.sqrt(0.05 / 2400)).all()


def test_every_environment_gets_its_share():
    replay, feed = make(5, 30), Feed(5)
    feed.append(replay, 60)
    for sequences, expected in ((10, {2}), (12, {2, 3}), (3, {0, 1})):
        seen = []
        for seed in range(20):
            env, _ = replay._draw(np.random.default_rng(seed), sequences, np.full(5, 9))
            count = np.bincount(env, minlength=5)
            assert count.sum() == sequences
            assert set(count) == expected
            seen.append(tuple(count))
        assert len(set(seen)) > 1 or len(expected) == 1, "the extra sequences always go to the same environments"


def test_samples_repeat_with_the_generator_and_are_fresh_arrays():
    replay, feed = make(frame_stack=2), Feed(3)
    feed.append(replay, 60)
    a, b = (replay.sample(np.random.default_rng(7), 9, 4) for _ in range(2))
    other = replay.sample(np.random.default_rng(8), 9, 4)
    assert not np.array_equal(a.obs, other.obs)
    kept = copy.deepcopy(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(x, y)
        assert not np.shares_memory(x, y)
        assert x.flags.c_contiguous
        assert x.flags.owndata or x.base.flags.owndata
        x[...] = 0
    for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(replay.sample(np.random.default_rng(7), 9, 4))):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("dtype", "frame_stack", "minibatches"), [("float32", 1, 3), ("float16", 3, None)])
def test_the_copy_on_the_device_gives_the_same_samples(dtype, frame_stack, minibatches):
    """Bit for bit, while rows are overwritten between the samples and after a restore."""
    host, ring = (make(frame_stack=frame_stack, dtype=dtype, on_device=on_device) for on_device in (False, True))
    feeds = Feed(3), Feed(3)

    def compare(a, b, seed):
        drawn = [each.sample(np.random.default_rng(seed), 9, 4, minibatches) for each in (a, b)]
        assert isinstance(drawn[1].obs, jax.Array)
        for x, y in zip(*map(jax.tree.leaves, drawn)):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype

    for seed, steps in enumerate((15, 3, 30, 1, 90)):
        for replay, feed in zip((host, ring), feeds):
            feed.append(replay, steps)
        if seed != 2:  # rows that are written twice before they are looked at
            compare(host, ring, seed)
    rebuilt = make(frame_stack=frame_stack, dtype=dtype, on_device=True)
    rebuilt.load_state_dict(copy.deepcopy(ring.state_dict()))
    compare(host, rebuilt, 7)


def assert_same(a, b):
    """Same counters, and the same bits in every row that is held."""
    np.testing.assert_array_equal(a._total, b._total)
    np.testing.assert_array_equal(a._age, b._age)
    for env in range(a.num_envs):
        at = env * a.capacity + np.arange(a._total[env] - a.sizes[env], a._total[env]) % a.capacity
        for x, y in zip(a._obs, b._obs):
            assert x[at].tobytes() == y[at].tobytes()
        assert a._rows[at].tobytes() == b._rows[at].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bursts", [[6, 3], [9, 0, 5, 30, 1, 8, 8, 8], [200], [30, 70, 2]])
@pytest.mark.parametrize("last_journaled", [True, False])
def test_journal_rebuilds_bit_for_bit(dtype, bursts, last_journaled):
    replay, feed = make(dtype=dtype, frame_stack=3), Feed(3)
    chunks, dropped = [], 0
    for i, steps in enumerate(bursts):
        feed.append(replay, steps)
        if last_journaled or i < len(bursts) - 1:
            chunk = replay.journal()
            assert (chunk is None) == (steps == 0)
            chunks += [chunk] if chunk is not None else []
            keep = replay.journal_keep()
            assert keep <= len(chunks)
            dropped += len(chunks) - keep
            chunks = chunks[len(chunks) - keep :]
    state = copy.deepcopy(replay.state_dict())
    rebuilt = make(dtype=dtype, frame_stack=3)
    rebuilt.load_state_dict(state, iter(chunks))
    assert_same(replay, rebuilt)
    # Both go on alike: rows, journal and how much of it is needed.
    other = copy.deepcopy(feed)
    feed.append(replay, 11)
    other.append(rebuilt, 11)
    assert_same(replay, rebuilt)
    a, b = replay.journal(), rebuilt.journal()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert replay.journal_keep() == rebuilt.journal_keep()
    if len(bursts) == 8:
        assert dropped > 0, "this case is meant to overwrite chunks"


def test_each_row_is_journaled_once():
    replay, feed = make(capacity=1000), Feed(3)
    total = 0
    for steps in (5, 7, 30):
        feed.append(replay, steps)
        total += len(replay.journal()["obs"])
    assert total == replay.total_rows
    assert replay.journal() is None
    assert replay.journal_keep() == 3
    assert len(replay.state_dict()["tail"]["obs"]) == 0


def test_state_without_journal_is_complete():
    replay, feed = make(), Feed(3)
    feed.append(replay, 50)
    rebuilt = make()
    rebuilt.load_state_dict(replay.state_dict())
    assert_same(replay, rebuilt)


def test_journal_errors():
    replay, feed = make(), Feed(3)
    chunks = []
    for _ in range(9):
        feed.append(replay, 5)
        chunks.append(replay.journal())
    keep = replay.journal_keep()
    assert keep < 9
    state = copy.deepcopy(replay.state_dict())
    make().load_state_dict(state, chunks[-keep:])
    for i in range(9 - keep, 9):
        with pytest.raises(ValueError, match="missing in the journal"):
            make().load_state_dict(state, chunks[:i] + chunks[i + 1 :])
    feed.append(replay, 5)
    rebuilt = make()
    rebuilt.load_state_dict(state, [*chunks, replay.journal()])  # a chunk from after the state changes nothing
    expected = make()
    expected.load_state_dict(state, chunks)
    assert_same(rebuilt, expected)
    with pytest.raises(ValueError, match="3 environments"):
        make(num_envs=4).load_state_dict(state, chunks)
    with pytest.raises(ValueError, match="does not fit"):
        ReplayStore(3, 20, EnvSpec(OBS + 1, ACT, COSTS)).load_state_dict(state, chunks)


def test_errors():
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        make(capacity=0)
    with pytest.raises(ValueError, match="'int8'"):
        make(dtype="int8")
    replay, feed = make(frame_stack=3), Feed(3)
    feed.append(replay, 4)
    assert not replay.can_sample(8)
    with pytest.raises(ValueError, match="10 rows in each environment"):
        replay.sample(np.random.default_rng(0), 6, 8)


STRUCTURED = EnvSpec(
    Tree({"camera": Box((2, 3, 2), 0, 255, "uint8"), "state": Tree({"speed": Box(2), "mode": Discrete(4)})}),
    Discrete((3, 5)),
    num_costs=1,
)


def fill(replay, spec, steps, seed=0):
    """Appends rows of one endless episode to all environments; returns the observations and actions, `[T, N, ...]`."""
    rng, n = np.random.default_rng(seed), replay.num_envs
    obs, action = (spaces.sample(space, rng, (steps, n)) for space in (spec.obs, spec.action))
    for t in range(steps):
        row = jax.tree.map(lambda x, t=t: x[t], (obs, action))
        replay.append(*row, np.full(n, t), np.full((n, 1), t), np.ones(n), np.full(n, FIRST if t == 0 else MID))
    return obs, action


@pytest.mark.parametrize("on_device", [False, True])
def test_structured_observations_and_choices_come_back_as_they_were(on_device):
    replay = ReplayStore(2, 50, STRUCTURED, dtype="float16", on_device=on_device)
    obs, action = fill(replay, STRUCTURED, 30)
    batch = replay.sample(np.random.default_rng(0), 8, 3, 2)
    assert {leaf.dtype for leaf in replay._obs} == {np.dtype(x) for x in ("uint8", "int32", "float16")}
    assert (batch.action.dtype, batch.action.shape) == (np.int32, (2, 3, 8, 2))
    for k, t, b in np.ndindex(2, 2, 8):
        # The reward of the row after is its number; a window has 4 of each environment.
        at, env = int(batch.reward[k, t, b]) - 1, b // 4
        np.testing.assert_array_equal(batch.action[k, t, b], action[at, env])
        np.testing.assert_array_equal(batch.obs["camera"][k, t, b], obs["camera"][at, env])
        np.testing.assert_array_equal(batch.obs["state"]["mode"][k, t, b], obs["state"]["mode"][at, env])
        np.testing.assert_allclose(batch.obs["state"]["speed"][k, t, b], obs["state"]["speed"][at, env], rtol=1e-3)
    kinds = {"camera": np.uint8, "state": {"mode": np.int32, "speed": np.float32}}
    assert jax.tree.map(lambda x: x.dtype.type, batch.obs) == kinds
    chunk = replay.journal()
    assert set(chunk) == {"start", "count", "rows", "obs.camera", "obs.state.mode", "obs.state.speed"}
    rebuilt = ReplayStore(2, 50, STRUCTURED, dtype="float16", on_device=on_device)
    rebuilt.load_state_dict(copy.deepcopy(replay.state_dict()), [chunk])
    assert_same(replay, rebuilt)


@pytest.mark.parametrize("on_device", [False, True])
def test_images_are_stacked_along_their_channels(on_device):
    spec = EnvSpec(Box((2, 3, 2), 0, 255, "uint8"), 1)
    replay = ReplayStore(2, 50, spec, frame_stack=3, on_device=on_device)
    obs, _ = fill(replay, spec, 12)
    batch = replay.sample(np.random.default_rng(0), 20, 2)
    assert (batch.obs.shape, batch.obs.dtype) == ((2, 20, 2, 3, 6), np.uint8)
    for b in range(20):
        at, env = int(batch.reward[0, b]) - 1, b // 10
        frames = [obs[max(i, 0), env] for i in (at - 2, at - 1, at)]
        np.testing.assert_array_equal(batch.obs[0, b], np.concatenate(frames, axis=-1))


def test_the_estimate_of_memory_is_what_is_taken():
    for spec, dtype in (
        (SPEC, "float32"),
        (SPEC, "float16"),
        (STRUCTURED, "float16"),
        (EnvSpec(7, Discrete(3)), "float32"),
    ):
        feed = Replay(num_envs=3, replay_rows=11, dtype=dtype)
        replay = ReplayStore(3, 11, spec, dtype=dtype)
        taken = sum(leaf.nbytes for leaf in (*replay._obs, replay._rows))
        assert feed.stored_bytes(spec, 10**9) == taken
        assert feed.stored_bytes(spec, 11) * 3 == taken


def test_too_little_memory_is_said_before_anything_is_made(make_env, make_learner, monkeypatch):
    images = EnvSpec(Box((64, 64, 3), 0, 255, "uint8"), 2)
    monkeypatch.setattr(ram, "available", lambda: 8 * ram.GIB)
    learner = make_learner(make_env(), Replay())._replace(spec=images)
    ram.check(learner, 100_000)
    message = r"needs 9\.2 GiB of memory: 8\.0 GiB are available; lower replay_rows \(50000\)"
    with pytest.raises(ValueError, match=message):
        ram.check(learner, 800_000)
    ram.check(learner, 800_000, processes=2)

    def refuses(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "zeros", refuses)
    message = (
        r"the replay needs 18\.4 GiB of memory: 8\.0 GiB are available; lower replay_rows \(50000 per environment\)"
    )
    with pytest.raises(ValueError, match=message):
        ReplayStore(32, 50_000, images)


def test_available_memory_is_that_of_the_machine_or_less():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < ram.available() <= total
