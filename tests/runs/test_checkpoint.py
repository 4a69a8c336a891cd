"""Checkpoints: exact, kill-safe, clear about what does not fit."""

import builtins
import contextlib
import errno
import json
import os
import pathlib
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import options, registry
from jsafe.options import completed, to_json
from jsafe.runs.checkpoint import CheckpointError, Checkpoints, load_state
from jsafe.runs.storage import sealed


class State(NamedTuple):
    params: dict
    key: jax.Array
    other_key: jax.Array
    half: jax.Array
    tiny: jax.Array
    flag: jax.Array
    empty: jax.Array
    nothing: None


def make_state(seed=0):
    key = jax.random.key(seed)
    return State(
        params={"dense": [jax.random.normal(key, (3, 4)), jnp.arange(4)], "scale": jnp.float32(np.pi)},
        key=key,
        other_key=jax.random.split(jax.random.key(seed, impl="rbg"), 3),
        half=jnp.array([1.5, float("nan"), -0.0], jnp.bfloat16),
        tiny=jnp.ones((2, 2), jnp.float8_e4m3fn),
        flag=jnp.array([True, False]),
        empty=jnp.zeros((0, 7)),
        nothing=None,
    )


class Rows:
    """A collector reduced to its files: a ring of the last `size` numbers, and state of every awkward type."""

    def __init__(self, size=7):
        self.size, self.ring, self.fresh, self.lengths = size, [], [], []
        self.rng = np.random.default_rng(3)
        self.mixed = {
            "a": (1, [2.5, None]),
            "b": {3: float("inf")},
            "nan": float("nan"),
            "f": np.float32(0.1),
            "s": "x",
        }

    def add(self, count):
        rows = self.rng.standard_normal(count).astype(np.float32)
        self.fresh += list(rows)
        self.ring = (self.ring + list(rows))[-self.size :]

    def journal(self):
        chunk = {"rows": np.array(self.fresh, np.float32)}
        self.lengths, self.fresh = [*self.lengths, len(chunk["rows"])], []
        return chunk

    def journal_keep(self):
        total = 0
        for kept, length in enumerate(reversed(self.lengths)):
            if total >= self.size:
                return kept
            total += length
        return len(self.lengths)

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state, "mixed": self.mixed, "lengths": list(self.lengths)}

    def load_state_dict(self, state, journal=()):
        chunks = [chunk["rows"] for chunk in journal]
        self.lengths = state["lengths"][-len(chunks) :] if chunks else []
        assert [len(chunk) for chunk in chunks] == self.lengths
        self.ring = list(np.concatenate([np.zeros(0, np.float32), *chunks])[-self.size :])
        self.rng.bit_generator.state = state["rng"]
        self.mixed = state["mixed"]


def assert_same(a, b):
    flat_a, tree_a = jax.tree.flatten(a)
    flat_b, tree_b = jax.tree.flatten(b)
    assert tree_a == tree_b
    for x, y in zip(flat_a, flat_b):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def template(seed=0):
    return jax.eval_shape(lambda: make_state(seed))


def test_everything_comes_back_bit_for_bit(tmp_path):
    state, rows = make_state(5), Rows()
    rows.add(4)
    extra = {"elapsed": 1.25, "big": 2**100, "sums": {"x/y": float("inf")}}
    Checkpoints(tmp_path).save(12, state, rows, extra)
    again = Rows()
    loaded = Checkpoints(tmp_path).load(template(), again)
    assert loaded.iteration == 12
    assert loaded.extra == extra
    assert_same(loaded.state, state)
    assert jax.random.key_impl(loaded.state.other_key) == jax.random.key_impl(state.other_key)
    assert repr(again.mixed) == repr(rows.mixed)
    assert type(again.mixed["f"]) is np.float32
    assert again.ring == rows.ring
    rows.add(9)
    again.add(9)
    assert again.ring == rows.ring


def test_a_loaded_state_can_be_donated(tmp_path):
    state = {"w": jnp.arange(5.0)}
    Checkpoints(tmp_path).save(1, state, Rows())
    loaded = Checkpoints(tmp_path).load(state, Rows()).state
    moved = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(loaded)
    assert loaded["w"].is_deleted()
    np.testing.assert_array_equal(moved["w"], np.arange(5.0) + 1)


def test_nothing_saved_is_none(tmp_path):
    assert Checkpoints(tmp_path).load(template(), Rows()) is None
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_state(tmp_path, template())


def test_rows_are_stored_once_and_old_ones_go(tmp_path):
    store, rows, state = Checkpoints(tmp_path, keep=2), Rows(size=7), {"w": jnp.zeros(2)}
    for iteration in range(1, 12):
        rows.add(3)
        path = store.save(iteration, state, rows)
        names = sorted(p.name for p in (tmp_path / "journal").iterdir())
        # 7 of the newest rows are in 3 chunks; the older checkpoint kept needs one more.
        assert names == [f"{i:08d}.npz" for i in range(max(0, iteration - 4), iteration)]
        assert path.name == f"{iteration:08d}"
    assert store.list() == [10, 11]
    again = Rows(size=7)
    Checkpoints(tmp_path, keep=2).load(state, again)
    assert again.ring == rows.ring


def test_an_older_checkpoint_serves_when_the_newest_is_damaged(tmp_path, capsys):
    store, rows = Checkpoints(tmp_path), Rows()
    for iteration in (1, 2):
        rows.add(3)
        store.save(iteration, {"w": jnp.full(3, float(iteration))}, rows)
    path = tmp_path / "checkpoints" / "00000002" / "arrays.npz"
    data = bytearray(path.read_bytes())
    data[data.index(np.full(3, 2, np.float32).tobytes())] ^= 1  # a flipped bit in the middle of an array
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match=r"00000002 is unreadable .*; taking iteration 1 instead"):
        assert load_state(tmp_path, {"w": jnp.zeros(3)}).iteration == 1
    store, rows = Checkpoints(tmp_path), Rows()
    loaded = store.load({"w": jnp.zeros(3)}, rows)
    assert loaded.iteration == 1
    np.testing.assert_array_equal(loaded.state["w"], np.ones(3))
    (warning,) = store.problems
    assert "00000002" in warning
    assert "iteration 1" in warning
    rows.add(2)
    store.save(2, loaded.state, rows)
    again = Rows()
    assert Checkpoints(tmp_path).load({"w": jnp.zeros(3)}, again).iteration == 2
    assert again.ring == rows.ring


@pytest.mark.parametrize("damage", ["manifest", "arrays", "chunk"])
def test_unreadable_is_an_error_that_names_the_file(tmp_path, damage):
    rows = Rows()
    rows.add(3)
    path = Checkpoints(tmp_path).save(1, {"w": jnp.zeros(3)}, rows)
    chunk = tmp_path / "journal" / "00000000.npz"
    broken = {"manifest": path / "manifest.json", "arrays": path / "arrays.npz", "chunk": chunk}[damage]
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=f"{(chunk if damage == 'chunk' else path).name}.* is unreadable"):
        Checkpoints(tmp_path).load({"w": jnp.zeros(3)}, Rows())


def test_a_chunk_that_is_gone_is_named(tmp_path):
    rows = Rows()
    rows.add(3)
    Checkpoints(tmp_path).save(1, {}, rows)
    (tmp_path / "journal" / "00000000.npz").unlink()
    with pytest.raises(CheckpointError, match=r"00000000\.npz"):
        Checkpoints(tmp_path).load({}, Rows())


@pytest.mark.parametrize(
    ("here", "message"),
    [
        ({"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}, r"\['w'\]: float32\[3\] in the checkpoint, float32\[3, 2\] here"),
        (
            {"w": jnp.zeros(3, jnp.int32), "b": jnp.zeros(2)},
            r"\['w'\]: float32\[3\] in the checkpoint, int32\[3\] here",
        ),
        ({"w": jnp.zeros(3)}, r"\['b'\]: in the checkpoint only"),
        ({"w": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(1)}, r"\['c'\]: not in the checkpoint"),
        ({"w": jax.random.key(0), "b": jnp.zeros(2)}, r"\['w'\]: float32\[3\] in the checkpoint, key<fry>\[\] here"),
    ],
)
def test_another_tree_is_named_leaf_by_leaf(tmp_path, here, message):
    Checkpoints(tmp_path).save(1, {"w": jnp.zeros(3), "b": jnp.zeros(2)}, Rows())
    with pytest.raises(CheckpointError, match=message):
        Checkpoints(tmp_path).load(here, Rows())


def test_another_config_or_format_is_named(tmp_path):
    path = Checkpoints(tmp_path, config={"env": "A", "options": {"tau": 0.1, "sizes": (1, 2)}}).save(1, {}, Rows())
    with pytest.raises(CheckpointError, match=r"options\.tau: 0\.1 there, 0\.2 here"):
        Checkpoints(tmp_path, config={"env": "A", "options": {"tau": 0.2, "sizes": (1, 2)}}).load({}, Rows())
    manifest = path / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(sealed({**json.loads(whole), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        Checkpoints(tmp_path).load({}, Rows())
    first = {name: value for name, value in json.loads(whole).items() if name != "checksum"} | {"format": 1}
    manifest.write_text(json.dumps(first))
    with pytest.raises(CheckpointError, match=r"made by jsafe 0\.1, with another layout"):
        Checkpoints(tmp_path).load({}, Rows())


def test_nothing_but_ones_own_is_ever_removed(tmp_path):
    store, rows = Checkpoints(tmp_path, keep=1), Rows()
    for folder in ("checkpoints", "journal"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text("mine")
        (tmp_path / folder / "2024").mkdir()
        (tmp_path / folder / "20241127").mkdir()  # a date, as long as our numbers
        (tmp_path / folder / "20241127" / "diary.txt").write_text("mine")
        (tmp_path / folder / "00000004").write_text("mine")
    (tmp_path / "journal" / "20241127.npz").write_text("mine")
    (tmp_path / "checkpoints" / "00000003").mkdir()
    (tmp_path / "checkpoints" / "00000003" / "letter.txt").write_text("mine")
    for iteration in (1, 2, 3):
        rows.add(3)
        store.save(iteration, {"w": jnp.ones(3)}, rows)
        if iteration == 1:
            (tmp_path / "checkpoints" / "00000001" / "best.txt").write_text("mine")
    assert store.list() == [3]
    assert Checkpoints(tmp_path).load({"w": jnp.ones(3)}, Rows()).iteration == 3
    for folder in ("checkpoints", "journal"):
        assert (tmp_path / folder / "notes.txt").read_text() == "mine"
        assert (tmp_path / folder / "2024").is_dir()
        assert (tmp_path / folder / "20241127" / "diary.txt").read_text() == "mine"
        assert (tmp_path / folder / "00000004").read_text() == "mine"
    assert (tmp_path / "journal" / "20241127.npz").read_text() == "mine"
    assert [path.name for path in (tmp_path / "checkpoints" / "00000001").iterdir()] == ["best.txt"]
    assert (tmp_path / "checkpoints" / "00000003.not-ours" / "letter.txt").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "00000003").iterdir()) == [
        "arrays.npz",
        "manifest.json",
    ]


@pytest.mark.parametrize("name", ["checkpoints", "journal"])
def test_a_linked_folder_is_refused(tmp_path, name):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "00000001").write_text("theirs")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(tmp_path / "theirs")
    for use in (lambda: Checkpoints(run).save(1, {}, Rows()), lambda: Checkpoints(run).load({}, Rows())):
        with pytest.raises(CheckpointError, match=f"{name} is a link to .*theirs"):
            use()
    assert (tmp_path / "theirs" / "00000001").read_text() == "theirs"


def test_every_flipped_bit_is_recognised(tmp_path):
    store, rows = Checkpoints(tmp_path), Rows()
    for iteration in (1, 2):
        rows.add(3)
        store.save(iteration, {"w": jnp.full(3, float(iteration))}, rows)
    rng = np.random.default_rng(0)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "00000001" not in path.parent.name]
    files = [path for path in files if path.name != "00000000.npz"]  # the older checkpoint needs that chunk, too
    for path in files:
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 40):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            loaded = Checkpoints(tmp_path).load({"w": jnp.zeros(3)}, Rows())
            same = path.suffix == ".json" and _same_json(damaged, whole)
            assert loaded.iteration == (2 if same else 1)
            for hidden in (tmp_path / "checkpoints").glob(".*.unreadable"):
                hidden.rename(hidden.with_name("00000002"))
        path.write_bytes(whole)


def _same_json(a, b):
    """Whether only white space differs."""
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


def older(config, *path):
    """The options as a version wrote them that did not have one of them yet."""
    tree = to_json(config)
    inside = tree
    for name in path[:-1]:
        inside = inside[name]
    del inside[path[-1]]
    return tree


@pytest.mark.parametrize(
    ("algorithm", "path", "change"),
    [
        ("ppo_lag", ("normalize_cost",), {"normalize_cost": True}),
        ("cce_pets", ("discount",), {"discount": 0.5}),
        ("cce_pets", ("known", "reward"), {"known.reward": True}),
        ("cce_pets", ("known",), {"known": "none"}),  # a whole part
        ("sac_lag", ("rule",), {"rule": "pid"}),  # whose numbers are not those of its kind
        ("mbpo_lag", ("inner", "rates"), {"inner.rates": "step"}),
    ],
)
def test_a_checkpoint_from_before_an_option_had_its_default(tmp_path, algorithm, path, change):
    """The run goes on where the option is as it was before there was one, and nowhere else, which is told by name."""
    config = type(registry.get(algorithm).config)()
    meant = partial(completed, type(config))
    Checkpoints(tmp_path, config=older(config, *path)).save(1, {}, Rows())
    assert Checkpoints(tmp_path, config=to_json(config), meant=meant).load({}, Rows()).iteration == 1
    other = Checkpoints(tmp_path, config=to_json(options.replace(config, change)), meant=meant)
    with pytest.raises(CheckpointError, match="belongs to another configuration") as raised:
        other.load({}, Rows())
    lines = str(raised.value).splitlines()[1:]
    assert all(line.strip().startswith(".".join(path)) for line in lines)


@pytest.mark.parametrize("change", [{"unheard_of": 1}, {"discount": "much"}, {"known": {"kind": "oracle"}}])
def test_a_checkpoint_of_options_that_are_not_understood(tmp_path, change):
    """Those of a later version, or of another's parts: the difference is told as it is."""
    config = type(registry.get("cce_pets").config)()
    Checkpoints(tmp_path, config=to_json(config) | change).save(1, {}, Rows())
    with pytest.raises(CheckpointError, match=f"{next(iter(change))}.* there, ") as raised:
        Checkpoints(tmp_path, config=to_json(config), meant=partial(completed, type(config))).load({}, Rows())
    assert "discount" not in str(raised.value) or "discount" in change


def test_environments_that_do_not_fit_are_an_error(tmp_path):
    class Refuses(Rows):
        def load_state_dict(self, state, journal=()):
            raise ValueError("state is of 4 environments, this one has 2")

    Checkpoints(tmp_path).save(1, {}, Rows())
    with pytest.raises(CheckpointError, match="4 environments"):
        Checkpoints(tmp_path).load({}, Refuses())


def test_objects_are_refused_by_type(tmp_path):
    rows = Rows()
    rows.mixed = {"env": object()}
    with pytest.raises(TypeError, match="object"):
        Checkpoints(tmp_path).save(1, {}, rows)


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, no handler and no clean-up either."""


class Faults:
    """Makes the n-th operation on the disk fail, a write after half of its bytes; counts operations.

    With `dead`, every later one fails too, as if the process had been killed at that moment.
    """

    def __init__(self, monkeypatch, at, error, dead):
        self.at, self.error, self.dead, self.count = at, error, dead, 0
        for module, names in ((os, ("fsync", "replace", "unlink", "rmdir", "mkdir")),):
            for name in names:
                monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))
        monkeypatch.setattr(pathlib.Path, "unlink", self.wrap(pathlib.Path.unlink))
        monkeypatch.setattr(pathlib.Path, "mkdir", self.wrap(pathlib.Path.mkdir))
        opened = builtins.open

        def faulty_open(path, mode="r", *args, **kwargs):
            file = opened(path, mode, *args, **kwargs)
            return FaultyFile(file, self) if "w" in mode else file

        monkeypatch.setattr(builtins, "open", self.wrap(faulty_open, lambda args: "w" in "".join(map(str, args[1:]))))

    def hit(self):
        self.count += 1
        return self.count == self.at or (self.dead and 0 < self.at < self.count)

    def wrap(self, function, counts=lambda args: True):
        def wrapped(*args, **kwargs):
            if counts(args) and self.hit():
                raise self.error
            return function(*args, **kwargs)

        return wrapped


class FaultyFile:
    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def write(self, data):
        if self.faults.hit():
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise self.faults.error
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def story(folder, fail):
    """Three good saves, then one under `fail`; the collector, the store and the states."""
    store, rows = Checkpoints(folder), Rows()
    for iteration in (1, 2, 3):
        rows.add(4)
        store.save(iteration, {"w": jnp.full(3, float(iteration))}, rows)
    before = list(rows.ring)
    rows.add(4)
    fail(lambda: store.save(4, {"w": jnp.full(3, 4.0)}, rows))
    return store, rows, before


def operations(tmp_path):
    """How many operations on the disk one save makes."""
    with pytest.MonkeyPatch.context() as patch:

        def fail(save):
            faults = Faults(patch, 0, Killed(), dead=False)
            save()
            operations.count = faults.count

        story(tmp_path / "count", fail)
    return operations.count


def test_a_failing_or_killed_save_never_harms_the_last_checkpoint(tmp_path):
    total = operations(tmp_path)
    assert total > 15
    for dead in (False, True):
        for at in range(1, total + 1):
            folder = tmp_path / f"{dead}-{at}"
            error = Killed() if dead else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            def fail(save, at=at, dead=dead, error=error):
                with pytest.MonkeyPatch.context() as patch:
                    Faults(patch, at, error, dead)
                    with contextlib.suppress(OSError, Killed):  # the clean-up after a good save may fail in silence
                        save()

            store, rows, before = story(folder, fail)
            again = Rows()
            loaded = Checkpoints(folder).load({"w": jnp.zeros(3)}, again)
            assert loaded.iteration in (3, 4)
            np.testing.assert_array_equal(loaded.state["w"], np.full(3, loaded.iteration))
            assert again.ring == (before if loaded.iteration == 3 else rows.ring)
            if dead:  # another process goes on from what it found
                store, rows = Checkpoints(folder), Rows()
                store.load({"w": jnp.zeros(3)}, rows)
            for iteration in (5, 6):
                rows.add(2)
                store.save(iteration, {"w": jnp.full(3, float(iteration))}, rows)
            again = Rows()
            assert Checkpoints(folder).load({"w": jnp.zeros(3)}, again).iteration == 6
            assert again.ring == rows.ring
            names = {path.name for path in (folder / "checkpoints").iterdir()}
            assert names == {"00000005", "00000006"}
            assert not [path for path in (folder / "journal").iterdir() if path.name.startswith(".")]
