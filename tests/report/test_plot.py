"""Curves: the right lines, bands and limits."""

import json

import numpy as np
import pytest

from jsafe.report import plot


def write_run(folder, *, algorithm="of_mine", env="A-v0", seed=0, options=None, columns, names=(), **run):
    folder.mkdir(parents=True)
    config = {"algorithm": algorithm, "config": options or {"tau": 0.1}, "run": {"env": env, "seed": seed, **run}}
    config |= {"cost_names": names} if names else {}
    (folder / "config.json").write_text(json.dumps(config))
    header = list(columns)
    rows = [",".join(map(str, row)) for row in zip(*columns.values())]
    (folder / "progress.csv").write_text("\n".join([",".join(header), *rows]) + "\n")
    return folder


def columns(steps, returns, limit="cost/0/limit_per_step", value=0.01, success=0.5):
    n = len(steps)
    return {
        "iteration": range(n),
        "env_steps": steps,
        "episode/return": returns,
        "episode/success": [success] * n,
        "episode/cost": [20.0] * n,
        "episode/cost_rate": [0.02] * n,
        limit: [value] * n,
    }


def test_a_curve_is_the_mean_and_standard_deviation_over_seeds(tmp_path):
    a = write_run(tmp_path / "a", columns=columns([10, 20, 30], [1.0, 2.0, 3.0]))
    b = write_run(tmp_path / "b", seed=1, columns=columns([15, 20, 40], ["nan", 6.0, 8.0]))
    runs = [plot.load(a), plot.load(b)]
    drawn = plot.curve(runs, "episode/return")
    np.testing.assert_array_equal(drawn.steps, [20, 30])
    np.testing.assert_allclose(drawn.mean, [(2 + 6) / 2, (3 + 7) / 2])
    np.testing.assert_allclose(drawn.std, [np.std([2, 6], ddof=1), np.std([3, 7], ddof=1)])
    assert drawn.seeds == 2
    assert plot.curve(runs, "no/such") is None
    single = plot.curve(runs[:1], "episode/return")
    np.testing.assert_array_equal(single.std, np.zeros(3))


def lines(axis):
    return {line.get_label(): line.get_ydata() for line in axis.lines}


def test_seeds_share_a_line_and_limits_are_drawn(tmp_path):
    folders = [
        write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0])),
        write_run(tmp_path / "b", seed=1, columns=columns([10, 20], [3.0, 4.0])),
        write_run(tmp_path / "c", algorithm="sac", columns=columns([10, 20], [7.0, 8.0])),
    ]
    fig = plot.figure(folders)
    assert [axis.get_ylabel() for axis in fig.axes] == ["return per episode ↑", "success rate ↑", "cost per step ↓"]
    assert set(lines(fig.axes[0])) == {"of_mine (2 runs)", "sac"}
    np.testing.assert_array_equal(lines(fig.axes[0])["of_mine (2 runs)"], [2, 3])
    assert len(fig.axes[0].collections) == 1
    assert lines(fig.axes[2])["limit 0.01"] == [0.01, 0.01]
    shown = [text.get_text() for text in fig.axes[2].get_legend().get_texts()]
    assert shown == ["limit 0.01"]


def test_other_options_and_tasks_get_lines_and_rows_of_their_own(tmp_path):
    base = columns([10, 20], [1.0, 2.0], success=0.0)
    folders = [
        write_run(tmp_path / "a", options={"tau": 0.1, "net": {"width": 8}}, columns=base),
        write_run(tmp_path / "b", options={"tau": 0.1, "net": {"width": 16}}, columns=base),
        write_run(tmp_path / "c", options={"tau": 0.1, "net": {"width": 8}}, env="B-v0", columns=base),
    ]
    fig = plot.figure(folders)
    assert [axis.get_title() for axis in fig.axes] == ["A-v0", "A-v0", "B-v0", "B-v0"]
    assert set(lines(fig.axes[0])) == {"of_mine (width=8)", "of_mine (width=16)"}
    assert set(lines(fig.axes[2])) == {"of_mine (width=8)"}


def test_labels_name_the_preset_and_what_differs_within_it(tmp_path):
    base = columns([10, 20], [1.0, 2.0])
    pid, none = {"kind": "pid", "kp": 0.1}, {"kind": "none"}
    folders = [
        write_run(tmp_path / "a", options={"tau": 0.1, "rule": none}, columns=base),
        write_run(tmp_path / "b", options={"tau": 0.2, "rule": pid}, columns=base, preset="fast"),
        write_run(tmp_path / "c", options={"tau": 0.2, "rule": {**pid, "kp": 0.3}}, columns=base, preset="fast"),
        write_run(tmp_path / "d", options={"tau": 9.0, "kp": 9.0}, columns=base, preset="fast"),  # of 0.1
    ]
    labels = set(lines(plot.figure(folders).axes[0]))
    assert labels == {"of_mine", "of_mine (fast, kp=0.1)", "of_mine (fast, kp=0.3)", "of_mine (fast)"}
    assert set(lines(plot.figure(folders[1:2]).axes[0])) == {"of_mine"}
    inside = write_run(tmp_path / "e", columns=base, backend="device")
    assert set(lines(plot.figure([folders[0], inside]).axes[0])) >= {"of_mine (host)", "of_mine (device)"}


def test_every_cost_has_a_panel_with_its_own_limit(tmp_path):
    a = write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0], "rule/limit_episodic_0", 25.0))  # of 0.1
    fig = plot.figure([a])
    assert [axis.get_ylabel() for axis in fig.axes] == ["return per episode ↑", "success rate ↑", "cost per episode ↓"]
    assert lines(fig.axes[-1])["limit 25"] == [25, 25]
    np.testing.assert_array_equal(lines(fig.axes[-1])["of_mine"], [20, 20])
    two = columns([10, 20], [1.0, 2.0], "cost/0/limit", 25.0) | {
        "cost/1/limit": [10.0, 10.0],
        "cost/0/episodic": [12.0, 14.0],
        "cost/1/episodic": [6.0, 8.0],
    }
    named = write_run(tmp_path / "b", columns=two, names=["cost_hazards", "cost_vases"])
    unnamed = write_run(tmp_path / "c", columns=two)
    other = write_run(tmp_path / "d", env="B-v0", columns=columns([1], [2.0]))
    fig = plot.figure([named, unnamed, other])
    costs = ["cost hazards per episode ↓", "cost vases per episode ↓"]
    assert [axis.get_ylabel() for axis in fig.axes][2:4] == costs
    assert [axis.get_ylabel() for axis in fig.axes][4:] == [
        "return per episode ↑",
        "success rate ↑",
        "cost per step ↓",
    ]
    fig = plot.figure([named])
    for axis, limit, cost in ((fig.axes[2], 25, [12, 14]), (fig.axes[3], 10, [6, 8])):
        assert lines(axis)[f"limit {limit}"] == [limit, limit]
        np.testing.assert_array_equal(lines(axis)["of_mine"], cost)


def test_many_lines_have_colours_of_their_own_and_leave_room_for_the_panels(tmp_path):
    curve = columns([10, 20], [1.0, 2.0])
    runs = [write_run(tmp_path / str(k), options={"tau": 0.01 * k}, columns=curve) for k in range(14)]
    few, many = plot.figure(runs[:2]), plot.figure(runs)
    assert len({line.get_color() for line in many.axes[0].lines}) == 14
    inches = []
    for fig in (few, many):
        fig.draw_without_rendering()
        inches.append(fig.axes[0].get_position().height * fig.get_size_inches()[1])
    assert inches[1] == pytest.approx(inches[0], rel=0.1)


def test_a_picture_is_written(tmp_path):
    a = write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0]))
    for name, magic in {"x.png": b"\x89PNG", "deep/x.pdf": b"%PDF"}.items():
        assert plot.save([a], tmp_path / name).read_bytes().startswith(magic)


def test_what_cannot_be_drawn_is_named(tmp_path):
    a = write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0]))
    empty = write_run(tmp_path / "empty", columns=columns([], []))
    with pytest.raises(ValueError, match="nowhere is not a run folder"):
        plot.figure([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="holds no rows"):
        plot.figure([empty])
    with pytest.raises(ValueError, match="at least one"):
        plot.figure([])
    with pytest.raises(ValueError, match="docx"):
        plot.save([a], tmp_path / "x.docx")
    with pytest.raises(ValueError, match="cannot write"):
        plot.save([a], a / "config.json" / "x.png")


def test_values_are_averaged_over_the_steps_before(tmp_path):
    steps, values = np.array([0.0, 10.0, 20.0, 40.0]), np.array([1.0, 2.0, 6.0, 8.0])
    np.testing.assert_allclose(plot.smoothed(steps, values, 20), [1.0, 1.5, 4.0, 8.0])  # (t - 20, t]
    np.testing.assert_allclose(plot.smoothed(steps, values, 1000), [1.0, 1.5, 3.0, 4.25])
    np.testing.assert_array_equal(plot.smoothed(steps, values, 0), values)


def test_other_columns_over_wall_time(tmp_path):
    data = columns([10, 20], [1.0, 2.0]) | {"time/wall_seconds": [1800, 7200], "loss/a": [1, 2], "loss/b": [3, 4]}
    folder = write_run(tmp_path / "a", columns=data)
    fig = plot.figure([folder], plot.View(x="wall", metrics=("loss/*",)))
    assert [axis.get_ylabel() for axis in fig.axes] == ["loss/a", "loss/b"]
    assert fig.axes[0].get_xlabel() == "wall time in hours"
    np.testing.assert_allclose(fig.axes[1].lines[0].get_xydata(), [[0.5, 3], [2, 4]])
    with pytest.raises(ValueError, match="unknown metric 'loss/c'; did you mean 'loss/"):
        plot.figure([folder], plot.View(metrics=("loss/c",)))


def test_short_curves_and_missing_columns(tmp_path):
    one = write_run(tmp_path / "one", columns=columns([10], [1.0]))
    without = write_run(tmp_path / "without", algorithm="sac", columns=columns([10, 20], [3.0, 4.0]))
    axis = plot.figure([one, tmp_path / "." / "one", without]).axes[0]
    (point,) = (line for line in axis.lines if line.get_label() == "of_mine")  # not "(2 runs)"
    assert (point.get_marker(), point.get_ydata().tolist()) == ("o", [1.0])
    times = columns([10, 20], [3.0, 4.0]) | {"time/wall_seconds": [1.0, "nan"]}
    timed = write_run(tmp_path / "timed", algorithm="cpo", columns=times)
    drawn = plot.figure([without, timed], plot.View(x="wall")).axes[0]
    assert [line.get_label() for line in drawn.lines] == ["cpo"]
    (tmp_path / "one" / "progress.csv").write_text("iteration,episode/return\n1,2\n")
    with pytest.raises(ValueError, match=r"one is not a run folder .* progress.csv has no column env_steps"):
        plot.load(one)


def test_published_results_may_lack_numbers(tmp_path):
    folder = write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0]))
    head = "env,algorithm,return_mean,return_std,cost_mean,cost_std\n"
    (tmp_path / "b.csv").write_text(head + "A-v0,of_mine,1.5,,,\nA-v0,oracle,,,3,1\n")
    axes = plot.figure([folder], plot.View(published=tmp_path / "b.csv")).axes
    assert set(lines(axes[0])) == {"of_mine", "published 1.5"}
    assert not axes[0].patches


def test_published_results_are_bands_where_they_belong(tmp_path):
    table = tmp_path / "published.csv"
    table.write_text(
        "env,algorithm,return_mean,return_std,cost_mean,cost_std\nA-v0,of_mine,5,1,30,2\nB-v0,of_mine,99,1,99,1\n"
    )
    folder = write_run(tmp_path / "a", columns=columns([10, 20], [1.0, 2.0], limit="cost/0/limit", value=25.0))
    fig = plot.figure([folder], plot.View(published=table))
    drawn = {axis.get_ylabel(): lines(axis) for axis in fig.axes}
    assert drawn["return per episode ↑"]["published 5"] == [5, 5]
    assert drawn["cost per episode ↓"]["published 30"] == [30, 30]
    assert not any(name.startswith("published") for name in drawn["success rate ↑"])
    (band,) = fig.axes[0].patches
    assert (band.get_y(), band.get_height()) == (4, 2)
    table.write_text("env,algorithm,return_mean\nA-v0,of_mine,5\n")
    with pytest.raises(ValueError, match="must have the columns env, algorithm, return_mean, return_std"):
        plot.figure([folder], plot.View(published=table))
