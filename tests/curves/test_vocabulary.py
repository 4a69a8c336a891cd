"""The names of metrics: one cost, several, those of 0.1; what screen and summary make of them."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from jsafe.curves import csv_table, screen, vocabulary

ROOT = Path(__file__).parents[2]
ONE = {"episode/return": 12.3, "episode/cost": 56.2, "episode/cost_rate": 0.0562, "cost/0/limit": 25.0}
TWO = {
    "episode/return": 3.0,
    "cost/0/episodic": 12.14,
    "cost/0/limit": 25.0,
    "cost/0/multiplier": 0.5,
    "cost/1/episodic": 30.0,
    "cost/1/limit": 10.0,
    "cost/1/multiplier": 1.25,
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rule/limit_episodic", "cost/0/limit"),
        ("rule/limit_episodic_1", "cost/1/limit"),
        ("rule/limit", "cost/0/limit_per_step"),
        ("rule/limit_2", "cost/2/limit_per_step"),
        ("rule/multiplier", "cost/0/multiplier"),
        ("rule/multiplier_1", "cost/1/multiplier"),
        ("rule/cost_episodic", "cost/0/episodic"),
        ("rule/cost_per_step", "cost/0/per_step"),
        ("cost/episodic_0", "cost/0/episodic"),
        ("cost/per_step_1", "cost/1/per_step"),
        ("cost/margin_0", "cost/0/margin"),
        ("rule/weight_reward", "rule/reward_weight"),
        ("episode/cost", "episode/cost"),
        ("cost/0/limit", "cost/0/limit"),
    ],
)
def test_names_of_the_first_version_are_read(old, new):
    assert vocabulary.translate(old) == new


def test_committed_curves_tell_each_cost_with_its_limit():
    columns = csv_table.read_progress(ROOT / "experiments/on_policy/two_limits/trpo_lag-jsafe-s0/progress.csv")
    last = {name: float(values[-1]) for name, values in columns.items()}
    first, second = vocabulary.costs(last, ["cost_hazards", "cost_vases"])
    assert (first.name, second.name) == ("hazards", "vases")
    assert (first.limit, second.limit) == (15.0, 10.0)
    assert first.per_episode + second.per_episode == pytest.approx(last["episode/cost"], rel=0.2)
    columns = csv_table.read_progress(ROOT / "experiments/seditor/PointGoal1-larger-networks/seditor-s0/progress.csv")
    (cost,) = vocabulary.costs({name: float(values[-1]) for name, values in columns.items()})
    assert (cost.name, cost.unit, cost.bound) == ("cost", "step", pytest.approx(5e-4))


def test_a_cost_is_judged_in_the_unit_of_its_limit():
    (cost,) = vocabulary.costs(ONE)
    assert (cost.unit, cost.measured, cost.bound, cost.kept) == ("episode", 56.2, 25.0, False)
    per_step = {**ONE, "cost/0/limit_per_step": 0.06}
    del per_step["cost/0/limit"]
    (cost,) = vocabulary.costs(per_step)
    assert (cost.unit, cost.measured, cost.bound, cost.kept) == ("step", 0.0562, 0.06, True)
    (cost,) = vocabulary.costs({"episode/cost": 3.0})
    assert cost.kept is None
    assert vocabulary.costs({"episode/return": 1.0}) == []


def test_means_over_episodes_come_before_those_of_a_batch():
    values = {"episode/cost/0": 1.0, "episode/cost/1": 2.0, "cost/0/episodic": 5.0, "cost/1/episodic": 6.0}
    assert [cost.per_episode for cost in vocabulary.costs(values)] == [1.0, 2.0]


def test_units_and_directions():
    assert vocabulary.describe("cost/3/episodic") == vocabulary.Metric("cost", "per episode", -1)
    assert vocabulary.describe("episode/return").better == 1
    assert vocabulary.describe("my/metric").label == "my/metric"


def test_every_cost_has_a_verdict_on_the_line_and_at_the_end():
    assert screen.headline(ONE) == [("return", "12.30"), ("cost", "56.20/25 broken")]
    assert screen.headline(TWO, ["cost_hazards", "cost_vases"]) == [
        ("return", "3.00"),
        ("hazards", "12.14/25 kept"),
        ("vases", "30.00/10 broken"),
        ("multiplier", "0.5 1.25"),
    ]
    rows = dict(screen.results(TWO, ["cost_hazards", "cost_vases"]))
    assert rows["hazards per episode (last 100 episodes)"] == "limit 25: kept (12.1)"
    assert rows["vases per episode (last 100 episodes)"] == "limit 10: broken (30)"
    assert dict(screen.results(ONE))["cost per episode (last 100 episodes)"] == "limit 25: broken (56.2)"


def test_few_episodes_are_told_as_such():
    unknown = {**dict.fromkeys(ONE, math.nan), "cost/0/limit": 25.0, vocabulary.EPISODES_COUNTED: 5.0}
    assert screen.headline(unknown) == [("episodes", "5 of 100")]
    data = {**unknown, "loss/actor": 2.5, "loss/critic_cost": 0.25}
    assert screen.headline(data, offline=True) == [("loss:", "actor 2.5, critic_cost 0.25")]
    assert screen.results(data, offline=True) == []
    rows = dict(screen.results(unknown))
    assert rows["cost per episode (5 of 100 episodes)"] == "limit 25: (not measured yet)"
    assert not [name for name in rows if name.startswith(("return", "success"))]
    known = {**ONE, vocabulary.EPISODES_COUNTED: 40.0}
    assert dict(screen.results(known))["return (40 of 100 episodes)"] == "12.3"


def test_the_summary_takes_folder_names_as_they_are(capsys, tmp_path):
    outcome = SimpleNamespace(
        status="finished",
        env_steps=10,
        values=ONE,
        folder=tmp_path / "a[red]b[/x]:smile:",
        message="",
        signal=None,
        offline=False,
        cost_names=("sum",),
    )
    assert screen.tell(outcome) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "a[red]b[/x]:smile:" in printed.replace("│", "")
    assert "limit25:broken(56.2)" in printed
    assert screen.tell(outcome, quiet=True) == 0
    assert capsys.readouterr().out == ""
    outcome.status, outcome.signal = "interrupted", 2
    assert screen.tell(outcome, quiet=True) == 130
