"""Files: four layouts with the same episodes in them, and errors that name what is wrong."""

import dataclasses
import json
import re

import numpy as np
import pytest
from recorded import ABOUT, rows, same, small

from jsafe.data import datasets
from jsafe.data.datasets import DatasetError, layout_of, read, write
from jsafe.data.datasets import minari as minari_layout

h5py = pytest.importorskip("h5py")

PATHS = {"native": "set.npz", "omnisafe": "set.npz", "dsrl": "set.hdf5", "minari": "jsafe/set-v0"}


def omnisafe_file(path, kind=np.float32, column=True, **changes):
    data = rows()
    done = data.pop("terminated") | data.pop("truncated")
    for name, value in {**data, "done": done}.items():
        value = value.astype(kind)
        data[name] = value.reshape(len(value), -1) if column or name != "cost" else value.ravel()
    np.savez(path, **data | changes)


def dsrl_file(path, kind=np.float32, drop=(), **changes):
    data = rows()
    names = {"obs": "observations", "action": "actions", "reward": "rewards", "cost": "costs"}
    names |= {"terminated": "terminals", "truncated": "timeouts", "next_obs": "next_observations"}
    with h5py.File(path, "w") as file:
        for name, key in names.items():
            if key not in drop:
                value = changes.get(key, data[name].astype(kind))
                file[key] = value.ravel() if name == "cost" and key not in changes else value


@pytest.mark.parametrize("num_costs", [1, 2])
@pytest.mark.parametrize("layout", datasets.LAYOUTS)
def test_what_is_written_is_read_again(tmp_path, layout, num_costs):
    if num_costs == 2 and layout in ("omnisafe", "dsrl"):
        pytest.skip("the layout has a single cost")
    episodes = small(num_costs)
    if layout == "dsrl":  # which drops what is not finished
        episodes = episodes.take([0, 1])
    path = tmp_path / PATHS[layout]
    path.parent.mkdir(exist_ok=True)
    write(episodes, path, layout)
    again = read(path, layout, None if layout in ("native", "minari") else episodes.about)
    same(again, episodes)
    assert layout_of(path) == layout
    if layout in ("native", "minari"):
        assert again.spec == episodes.spec or layout == "minari"
        assert again.about.cost_names == episodes.about.cost_names


def test_all_layouts_give_the_same_episodes(tmp_path):
    """DSRL drops the unfinished one; the others keep it, and nobody calls it finished."""
    whole = small()
    np.testing.assert_array_equal(whole.lengths, [4, 2, 3])
    np.testing.assert_array_equal(whole.finished, [True, True, False])
    np.testing.assert_array_equal(whole.obs[whole.start[1:] - 1], [[0, 4, 1], [1, 2, 1], [2, 3, 1]])
    for kind in (np.float32, np.float64):
        omnisafe_file(tmp_path / "o.npz", kind)
        same(read(tmp_path / "o.npz", about=ABOUT), whole)
        omnisafe_file(tmp_path / "o.npz", kind, column=False)
        same(read(tmp_path / "o.npz"), whole)  # the longest episode is as long as the horizon
        dsrl_file(tmp_path / "d.hdf5", kind)
        same(read(tmp_path / "d.hdf5", about=ABOUT), whole.take([0, 1]))


def test_without_next_observations_a_cut_episode_loses_its_last_step(tmp_path):
    dsrl_file(tmp_path / "d.hdf5", drop=("next_observations",))
    found = read(tmp_path / "d.hdf5")
    np.testing.assert_array_equal(found.lengths, [3, 2])
    np.testing.assert_array_equal(found.obs[3], [0, 3, 1])  # the last step's observation is the final one
    np.testing.assert_array_equal(found.truncated, [0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(found.terminated, [0, 0, 0, 0, 0, 1, 0])


def test_rows_that_do_not_follow_one_another_keep_what_followed():
    data = rows(lengths=(40,), ends=("truncated",))
    order = np.random.default_rng(0).permutation(39)
    mixed = {name: np.concatenate([value[:39][order], value[39:]]) for name, value in data.items()}
    found = datasets.from_rows(**mixed)
    assert found.next_obs is not None
    flat = found.flat()
    np.testing.assert_array_equal(flat["next_obs"], flat["obs"] + [0, 1, 0])


def test_an_agent_that_was_stopped_in_the_middle_ends_its_episode():
    """OmniSafe's files are several agents, one after the other, the last episode of each unfinished."""
    found = datasets.from_rows(**rows(lengths=(4, 3, 4, 4, 4, 4), ends=("truncated", "", *4 * ["truncated"])))
    np.testing.assert_array_equal(found.lengths, [4, 3, 4, 4, 4, 4])
    np.testing.assert_array_equal(found.finished, [True, False, True, True, True, True])


def test_minari_opens_what_we_write(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = small()
    write(episodes, tmp_path / "jsafe" / "set-v0", "minari")
    opened = minari.load_dataset("jsafe/set-v0")
    assert (opened.total_episodes, opened.total_steps) == (3, 9)
    first = opened[0]
    np.testing.assert_array_equal(first.observations, episodes.obs[:5])
    np.testing.assert_array_equal(first.infos["cost"], [0, *episodes.cost[:4, 0]])
    np.testing.assert_allclose(first.actions, episodes.action[:4])
    same(read("jsafe/set-v0", "minari"), episodes)  # by its name


def test_minari_actions_are_in_the_units_of_their_box(tmp_path):
    episodes = dataclasses.replace(
        small(), about=dataclasses.replace(ABOUT, action=datasets.episodes.Box(2, [-0.5, 0], [0.5, 4]))
    )
    write(episodes, tmp_path / "set-v0", "minari")
    with h5py.File(tmp_path / "set-v0" / "data" / "main_data.hdf5") as file:
        np.testing.assert_allclose(file["episode_0/actions"], episodes.action[:4] * [0.5, 2] + [0, 2], rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "set-v0").action, episodes.action, atol=1e-6)


def test_minari_metadata_says_the_task(tmp_path):
    episodes = small()
    write(episodes, tmp_path / "set-v0", "minari")
    path = tmp_path / "set-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["env_spec"] = json.dumps({"id": "SafetyPointGoal1-v0", "max_episode_steps": 7})
    path.write_text(json.dumps(metadata))
    found = read(tmp_path / "set-v0")
    assert (found.about.env, found.about.horizon) == ("SafetyPointGoal1-v0", 7)
    metadata["observation_space"] = json.dumps({"type": "Dict", "subspaces": {}})
    path.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="observation_space is a Dict"):
        read(tmp_path / "set-v0")


# ---- what is wrong -------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_and_the_array_named(tmp_path):
    path = tmp_path / "set.npz"
    write(small(), path)
    data = bytearray(path.read_bytes())
    where = data.index(small().reward.tobytes()) + 3
    data[where] ^= 16
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="reward is damaged"):
        read(path)


@pytest.mark.parametrize("keep", [0, 10, 300, -30])
@pytest.mark.parametrize("layout", ["native", "dsrl"])
def test_a_file_that_was_cut_off_is_damaged(tmp_path, layout, keep):
    path = tmp_path / PATHS[layout]
    write(small(), path, layout)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match="damaged"):
        read(path, layout)


def test_values_that_were_exchanged_without_their_checksum_are_found(tmp_path):
    path = tmp_path / "set.npz"
    write(small(), path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"reward": arrays["reward"] + 1})
    with pytest.raises(DatasetError, match="checksum"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, "reward missing; it holds"),
        ({"reward": np.zeros(3)}, re.escape("reward must have shape (12,), got (3,)")),
        ({"obs": np.full((12, 3), np.nan)}, "obs is nan in row 0"),
        ({"cost": np.full((12, 1), np.inf)}, "cost is inf in row 0"),
        ({"action": np.full((12, 2), 1.5)}, "action is 1.5 in row 0"),
        ({"start": np.array([0])}, "there is no episode"),
        ({"start": np.array([0, 1, 12])}, "start must begin at 0 and grow by 2 or more"),
        ({"terminated": np.ones(12, bool)}, "terminated is true in row 0, in the middle"),
        ({"terminated": np.zeros(12, bool), "truncated": np.zeros(12, bool)}, "no episode is finished"),
        ({"meta": np.frombuffer(b"{", np.uint8)}, "meta is damaged"),
        ({"meta": np.frombuffer(b'{"format": 9}', np.uint8)}, "has format 9"),
        ({"meta": np.frombuffer(b'{"format": 1}', np.uint8)}, "meta: KeyError: 'obs'"),
    ],
)
def test_a_file_that_cannot_be_used_names_the_field(tmp_path, change, message):
    path = tmp_path / "set.npz"
    write(small(), path)
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(arrays["meta"].tobytes())
    del meta["sha256"]  # as if somebody had made the file by hand
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    arrays |= {name: value for name, value in change.items() if value is not None}
    np.savez(path, **{name: value for name, value in arrays.items() if change.get(name, 0) is not None})
    with pytest.raises(DatasetError, match=message):
        read(path)


def test_files_of_others_name_what_they_lack(tmp_path):
    omnisafe_file(tmp_path / "o.npz", cost=np.zeros((3, 1)))
    with pytest.raises(DatasetError, match="cost has 3 rows, obs has 9"):
        read(tmp_path / "o.npz")
    omnisafe_file(tmp_path / "o.npz", action=np.full((9, 2), -1.2))
    with pytest.raises(DatasetError, match=r"action is 1\.2 in row 0, .* `clip`"):
        read(tmp_path / "o.npz")
    assert np.abs(read(tmp_path / "o.npz", clip=True).action).max() == 1
    np.savez(tmp_path / "o.npz", obs=np.zeros((2, 3)))
    with pytest.raises(DatasetError, match="action, reward, cost, next_obs, done missing; it holds obs"):
        read(tmp_path / "o.npz")
    empty = np.zeros((0, 3))
    np.savez(tmp_path / "o.npz", obs=empty, action=empty, reward=empty, cost=empty, next_obs=empty, done=empty)
    with pytest.raises(DatasetError, match="it is empty"):
        read(tmp_path / "o.npz")
    dsrl_file(tmp_path / "d.hdf5", drop=("costs",))
    with pytest.raises(DatasetError, match="costs missing; it holds"):
        read(tmp_path / "d.hdf5")
    dsrl_file(tmp_path / "d.hdf5", timeouts=np.full(9, 0.5))
    with pytest.raises(DatasetError, match=r"truncated must be 0 or 1, got 0\.5 in row 0"):
        read(tmp_path / "d.hdf5")
    dsrl_file(tmp_path / "d.hdf5", timeouts=np.zeros(9), terminals=np.zeros(9))
    with pytest.raises(DatasetError, match="no episode is finished"):
        read(tmp_path / "d.hdf5")
    with pytest.raises(DatasetError, match="no data set of Minari's"):
        read(tmp_path / "nowhere-v0")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.npz")
    write(small(), tmp_path / "set-v0", "minari")
    with pytest.raises(DatasetError, match="infos/danger missing; infos hold cost"):
        read(tmp_path / "set-v0", cost_key="danger")
    with pytest.raises(FileExistsError):
        write(small(), tmp_path / "set-v0", "minari")
    with pytest.raises(ValueError, match="ends in a version"):
        write(small(), tmp_path / "set", "minari")
    assert minari_layout.root().name == "datasets"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "set.npz"
    write(small(), path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        write(small(2), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["set.npz"]
