"""A benchmark as data: what is read, what a comparison says, what the tables show."""

import math
from pathlib import Path

import pytest

from jsafe import registry
from jsafe.report import benchmark, plot
from jsafe.report.statistics import Interval

HEAD = "cell,family,task,algorithm,preset,options,limit,steps,backend\n"
OURS = Path(__file__).parents[2] / "experiments" / "benchmark"


def cell(name="a", task="T-v0", algorithm="ppo_lag", limit=25.0):
    return benchmark.Cell(name, "on_policy", task, algorithm, "jsafe", "", limit, 1000, "host")


def score(name, seed, gain, cost):
    return benchmark.Score(
        name, seed, "host", 1000, gain, cost, cost / 1000, 0.5, 10, gain - 1, cost + 2, 1.0, "0", "c", "m"
    )


def test_cells_are_rows(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text(
        HEAD
        + 'a,on_policy,T-v0,ppo_lag,jsafe,"passes = 4, rule.kp = 0.1",25,1e7,device\n'
        + "b,on_policy,T-v0,ppo,,,,5e5,host\n"
    )
    first, second = benchmark.read_cells(path)
    assert (first.limit, first.steps, first.backend) == (25.0, 10_000_000, "device")
    assert first.given() == {"passes": 4, "rule": {"kp": 0.1}}
    assert (first.method, second.method) == ("ppo_lag (jsafe, passes = 4, rule.kp = 0.1)", "ppo")
    assert (second.limit, second.given()) == (None, {})
    assert first._replace(options="env_options.horizon = 9").method == "ppo_lag (jsafe, env.horizon = 9)"
    assert benchmark.choose([first, second], ["b", "?"]) == [first, second]
    with pytest.raises(ValueError, match="unknown cell 'c'"):
        benchmark.choose([first, second], ["a", "c"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell,task\na,T\n", "must have the columns cell, family, .* but for family: it is not there"),
        (HEAD.replace("steps", "limit") + "a,f,T,ppo,,,,1,host\n", "but for limit: it is there twice"),
        (HEAD, "has no cells"),
        (HEAD + "a,f,T,ppo,,,x,1,host\n", "line 2: limit must be empty or a number of at least 0, got x"),
        (HEAD + "a,f,T,ppo,,,nan,1,host\n", "line 2: limit must be empty or a number of at least 0, got nan"),
        (HEAD + "a,f,T,ppo,,,-1,1,host\n", "line 2: limit must be empty or a number of at least 0, got -1"),
        (HEAD + "a,f,T,ppo,,,,1.5,host\n", "line 2: steps must be a whole number of at least 1, got 1.5"),
        (HEAD + "a,f,T,ppo,,,,1e999,host\n", "line 2: steps must be .* got 1e999"),
        (HEAD + "a,f,T,ppo,,,,nan,host\n", "line 2: steps must be .* got nan"),
        (HEAD + "\na,f,T,ppo,,,,,host\n", "line 3: steps must be .* got nothing"),
        (HEAD + "a,f,T,ppo,,passes: 4,,1,host\n", "line 2: options must be TOML such as .* got 'passes: 4'"),
        (HEAD + 'a,f,T,ppo,,"x = 1}\ny = {",,1,host\n', "options must be TOML"),
        (HEAD + "a,f,T,ppo,,seed = 4,,1,host\n", "line 2: options must not hold seed: seeds are told to"),
        (HEAD + "a,f,T,ppo,,total_steps = 4,,1,host\n", "options must not hold total_steps: the column is steps"),
        (HEAD + "a,f,T,ppo,,cost_limit = 4,5,1,host\n", "options must not hold cost_limit: the column is limit"),
        (HEAD + "a,f,T,ppo,,x = 1, y = 2,,1,host\n", "line 2: 10 cells under 9 columns"),
        (HEAD + "a,f,T\n", "line 2: 3 cells under 9 columns"),
        (HEAD + "../a,f,T,ppo,,,,1,host\n", "line 2: cell must be a name for folders"),
        (HEAD + "a" * 201 + ",f,T,ppo,,,,1,host\n", "cell must be a name for folders"),
        (HEAD + "a,f,,ppo,,,,1,host\n", "line 2: task is empty"),
        (HEAD + "a,f,T,ppo,,,,1,host\na,f,T,ppo,,,,1,host\n", "line 3: there is a cell 'a' already"),
        ("\xf6".encode("latin1"), "is no csv file in UTF-8"),
    ],
)
def test_bad_cells_are_told(tmp_path, text, message):
    (tmp_path / "cells.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        benchmark.read_cells(tmp_path / "cells.csv")


def test_files_of_people_and_spreadsheets_are_read_whole(tmp_path):
    text = "\ufeff" + HEAD.replace(",", ", ") + "\na[1],,T,ppo,,,,1,host\r\nö,,T,ppo,,cost_limit = 4,,1,host"
    (tmp_path / "cells.csv").write_text(text)
    first, second = cells = benchmark.read_cells(tmp_path / "cells.csv")
    assert (first.cell, second.cell, second.given()) == ("a[1]", "ö", {"cost_limit": 4})
    assert benchmark.choose(cells, ["a[1]"]) == [first]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env\nT\n", "must have the columns env, algorithm, but for algorithm: it is not there"),
        ("env,algorithm,return_mean\nT,ppo,x\n", "a.csv, line 2: could not convert string to float: 'x'"),
        ("env,algorithm,cost_std\nT,ppo,-1\n", "a.csv, line 2: cost_std must be at least 0, got -1"),
    ],
)
def test_bad_published_results_are_told(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        benchmark.read_published(tmp_path)


def test_published_results_may_say_little(tmp_path):
    (tmp_path / "a.csv").write_text(
        "env,algorithm,return_mean,return_std,cost_mean,cost_std,runs\nT-v0,ppo_lag,1,,2,,\n"
    )
    alone = score("a", 0, 3.0, 4.0)._replace(training_return=math.nan, training_cost=math.nan)
    rows = benchmark.table([cell()], [alone], benchmark.read_published(tmp_path))
    assert "| - | 25 | yes | - | 1 at 2 | - | - |" in benchmark.markdown(rows)
    assert plot.read_published(tmp_path / "a.csv")["T-v0", "ppo_lag"][::2] == (1.0, 2.0)


def test_scores_come_back(tmp_path):
    made = [score("b", 1, 2 / 3, 3.0), score("a", 0, 1.25, 30.0)]
    path = tmp_path / "scores.csv"
    assert benchmark.read_rows(path, benchmark.Score) == []
    benchmark.write_rows(made, path)
    assert benchmark.read_rows(path, benchmark.Score) == made[::-1]
    again = score("a", 0, 9.0, 30.0)
    assert benchmark.merge(made, [again]) == [made[0], again]
    text = path.read_text()
    for bad, message in (
        ("cell\na\n", "but for seed: it is not there"),
        (text[:-9], "line 3: 1. cells under 15 columns"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=message):
            benchmark.read_rows(path, benchmark.Score)


def test_the_best_run_keeps_the_limit():
    runs = [score("a", 0, 9.0, 30.0), score("a", 1, 5.0, 24.0), score("a", 2, 7.0, 25.0)]
    assert [benchmark.best(runs, limit).seed for limit in (25.0, None, 10.0)] == [2, 0, 1]


def test_a_comparison_of_two_sets_of_runs():
    found = benchmark.compare([10, 11, 12, 13], [1, 2, 3, 4])
    assert (found.ours, found.theirs) == (11.5, 2.5)
    assert found.difference.value == 9
    assert 6 <= found.difference.low < 9 < found.difference.high <= 12
    assert found.probability == (1, 1, 1)
    assert found.p == pytest.approx(2 / 70)
    assert math.isnan(benchmark.compare([10], [1, 2]).difference.low)


def test_verdicts():
    assert benchmark.verdict(Interval(1, 0.5, 2)) == "more"
    assert benchmark.verdict(Interval(-1, -2, -0.5)) == "less"
    assert benchmark.verdict(Interval(1, -1, 3)) == "alike"
    assert benchmark.verdict(Interval(1, math.nan, math.nan)) == "?"


def test_a_table_sets_ours_beside_theirs(tmp_path):
    (tmp_path / "one.csv").write_text(
        "env,algorithm,return_mean,return_std,cost_mean,cost_std,runs,source\nT-v0,ppo_lag,10,1,25,2,10,A paper\n"
        "T-v0,oracle,30,1,3,2,16,A planner\n"
    )
    (tmp_path / "two.csv").write_text(
        "env,algorithm,variant,success_low,success_high,violations_per_1000_steps\n"
        "S-v0,seditor,,0.9,1.0,0.5\nS-v0,seditor,other,0,0,9\n"
    )
    published = benchmark.read_published(tmp_path)
    cells = [cell(), cell("b", "S-v0", "seditor", None), cell("c")]
    scores = [score("a", 0, 19.0, 20.0), score("a", 1, 20.0, 22.0), score("a", 2, 21.0, 33.0), score("b", 0, 1.0, 5.0)]
    first, second = benchmark.table(cells, scores, published)
    assert (first["runs"], first["return"], first["cost"]) == (3, 20.0, pytest.approx((5 + 22 + 8.25) / 1.5))
    assert (first["kept"], first["return_verdict"], first["cost_verdict"]) == ("yes", "more", "alike")
    assert first["return_gap"] == 10
    assert first["return_gap_low"] > 7
    assert (second["kept"], second["return_verdict"], second["published_success"]) == ("", "", 0.95)
    assert first["oracle"] == 30
    other = published["T-v0", "ppo_lag"]._replace(limit=5.0)
    (row,) = benchmark.table(cells[:1], scores, {("T-v0", "ppo_lag"): other})
    assert (row["return_verdict"], row["source"]) == ("", "")
    (row,) = benchmark.table([cell(limit=5.0)], scores, {("T-v0", "ppo_lag"): other})
    assert row["return_verdict"] == "more"
    text = benchmark.markdown([first, second])
    assert "| 25 | yes | 30.0 | 10 ± 1 at 25 ± 2 |" in text
    assert "| 10 ± 1 at 25 ± 2 |" in text
    assert "success 0.95 at 0.5 per 1000 steps" in text
    assert "| 1.0 | 0.50 | 5.0 | 0.0 at 7.0 | - | - | - | success" in text
    paths = benchmark.write_table([first, second], tmp_path)
    assert paths[1].read_text() == text
    assert len(paths[0].read_text().splitlines()) == 3
    drawn = benchmark.pareto([first, second], published)
    assert [axis.get_title() for axis in drawn.axes] == ["T-v0", "S-v0"]
    assert "oracle" in [text.get_text() for text in drawn.legends[0].get_texts()]
    hollow = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in hollow] == [(25, 10)]
    (row,) = benchmark.table(cells[:1], scores, {("T-v0", "ppo_lag"): other})  # of another limit
    assert not [x for x in benchmark.pareto([row], {}).axes[0].lines if x.get_markerfacecolor() == "none"]
    with pytest.raises(ValueError, match="no results"):
        benchmark.pareto([], published)


def test_new_scores_beside_earlier_ones():
    old, new = [score("a", s, 10.0 + s, 25.0) for s in (0, 1)], [score("a", s, 20.0 + s, 25.0) for s in (0, 1)]
    text = benchmark.against([cell(), cell("b")], new, old)
    assert "| a | return | 2 and 2 | 20.50 | 10.50 | 10.00 [9.00, 11.00] | 1.00 [1.00, 1.00] | 0.33 |" in text
    assert "| a | cost | 2 and 2 | 25.00 | 25.00 | 0.00 [0.00, 0.00] | 0.50 [0.50, 0.50] | 1 |" in text
    assert benchmark.against([cell("b")], new, old) == ""


def test_our_benchmark_is_sound():
    cells = benchmark.read_cells(OURS / "cells.csv")
    for each in cells:
        algorithm = registry.get(each.algorithm)
        assert algorithm.family == each.family
        assert each.preset == "" or each.preset in algorithm.presets
        assert each.backend in ("host", "device")
    names = {each.cell for each in cells}
    scores = benchmark.read_rows(OURS / "results" / "scores.csv", benchmark.Score)
    assert {each.cell for each in scores} <= names
    published = benchmark.read_published(OURS / "published")
    assert published["SafetyPointGoal1-v0", "ppo_lag"][2:6] == (12.96, 6.95, 25.8, 34.99)
    assert published["Safexp-PointGoal1-v0", "seditor"].success == 1.0
    for env, algorithm in published:
        assert algorithm == plot.ORACLE or registry.get(algorithm).name == algorithm, env
