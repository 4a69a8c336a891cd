"""Search: values inside their ranges, the same ones again, the best that keeps its limit, and continuing."""

import types

import numpy as np
import pytest

from jsafe.sweeps import grid, search

SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "rule": {"init": {"low": 0.1, "high": 0.3}},
    "step.passes": {"low": 2, "high": 4, "integer": True},
    "hidden": [[8], [4, 4]],
}
DATA = {"algorithm": "ppo_lag", "env": "Toy-SpeedLimit-v0", "total_steps": 100, "seeds": 2}


def data(**changes):
    return DATA | {"search": {"trials": 6, "space": SPACE} | changes}


def test_values_are_drawn_inside_their_ranges_and_again():
    found = search.read(data())
    drawn = [search.draw(found, number) for number in range(200)]
    assert drawn == [search.draw(found, number) for number in range(200)]
    rates = np.array([values["learning_rate"] for values in drawn])
    assert 1e-5 <= rates.min() < 2e-5 < 5e-4 < rates.max() <= 1e-3
    assert abs(np.log10(rates).mean() + 4) < 0.15  # even in the logarithm
    assert all(0.1 <= values["rule.init"] <= 0.3 for values in drawn)
    assert {values["step.passes"] for values in drawn} == {2, 3, 4}
    assert {tuple(values["hidden"]) for values in drawn} == {(8,), (4, 4)}


def test_a_trial_is_the_file_with_its_values():
    values = {"learning_rate": 2e-4, "rule.init": 0.2, "step.passes": 3, "hidden": [4, 4]}
    cells = search.cells_of(data(), values)
    assert [cell.config.seed for cell in cells] == [0, 1]
    assert cells[0].options.rule.init == 0.2
    assert cells[0].options.step.passes == 3
    assert cells[0].options.policy.hidden == (4, 4)
    assert "learning_rate=0.0002-rule.init=0.2-step.passes=3-hidden=4x4" in cells[0].name
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        search.cells_of(data(), {"learning_rat": 1e-4})
    tables = {"algorithms": {data()["algorithm"]: {"rule.init": 0.5}}}
    assert search.cells_of(data() | tables, values)[0].options.rule.init == 0.2  # not the file's own again and again


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"trial": 3}, r"option of \[search\] 'trial'; did you mean 'trials'"),
        ({"method": "optina"}, "did you mean 'optuna'"),
        ({"trials": 0}, "search.trials must be a whole number of at least 1, got 0"),
        ({"space": {}}, "search.space must be a table"),
        ({"space": {"kp": {"low": 1.0}}}, "search.space.kp must be a list of choices or"),
        ({"space": {"kp": {"low": 0.0, "high": 1.0, "log": True}}}, "low must be below high"),
        ({"space": {"kp": []}}, "search.space.kp must be a list of choices or"),
    ],
)
def test_bad_tables_are_explained(table, message):
    with pytest.raises(ValueError, match=message):
        search.read(data(**table))


def test_only_one_algorithm_is_searched():
    with pytest.raises(ValueError, match="a search is for one algorithm"):
        search.read(data() | {"algorithm": ["ppo", "cpo"]})
    with pytest.raises(ValueError, match="is not a grid"):
        grid.expand(data())


class Sweeps:
    """Stands in for trainings: writes the last row of each curve, as a function of the values."""

    def __init__(self, folder, function, stop_after=10**6):
        self.folder, self.function, self.stop_after, self.trained = folder, function, stop_after, []

    def __call__(self, cells):
        states = {}
        for cell in cells:
            path = self.folder / "runs" / cell.name
            if not path.exists() and len(self.trained) < self.stop_after:
                total, cost = self.function(cell.axes)
                path.mkdir(parents=True)
                text = f"iteration,env_steps,episode/return,episode/cost,cost/0/limit\n1,100,{total},{cost},5.0\n"
                (path / "progress.csv").write_text(text)
                self.trained.append(cell.name)
            states[cell.name] = "finished" if path.exists() else "waiting"
        return types.SimpleNamespace(states=states)


def peak(axes):
    """The return grows with it; above 0.2 the limit of 5 is broken."""
    return 10 * axes["rule.init"], 25 * axes["rule.init"]


def test_the_best_keeps_its_limit_and_nothing_is_trained_twice(tmp_path):
    broken = Sweeps(tmp_path, peak, stop_after=5)
    _, trials = search.run(data(), tmp_path, broken)
    assert len(trials) == 6
    assert [trial.result is None for trial in trials] == [False, False, True, True, True, True]
    again = Sweeps(tmp_path, peak)
    _, trials = search.run(data(), tmp_path, again)
    assert len(set(broken.trained + again.trained)) == len(broken.trained + again.trained) == 12
    kept = [trial.values["rule.init"] for trial in trials if 25 * trial.values["rule.init"] <= 5]
    assert 0 < len(kept) < 6
    assert search.best(trials).values["rule.init"] == max(kept)
    with pytest.raises(ValueError, match="is of another search"):
        search.run(data(seed=1), tmp_path, again)
    with pytest.raises(ValueError, match="did you mean 'episode/return'"):
        search.run(data(metric="episode/retur"), tmp_path / "other", Sweeps(tmp_path / "other", peak))
    _, more = search.run(data(trials=8), tmp_path, again)  # a longer search goes on
    assert more[:6] == trials
    assert len(more) == 8


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    few = data(trials=30, space={"rule.init": [0.1, 0.2]})
    _, trials = search.run(few, tmp_path, Sweeps(tmp_path, peak))
    assert sorted(trial.values["rule.init"] for trial in trials) == [0.1, 0.2]


def test_optuna_finds_more_than_chance_and_continues(tmp_path):
    pytest.importorskip("optuna")

    def bowl(axes):
        away = np.log10(axes["learning_rate"] / 1e-4) ** 2 + 50 * (axes["rule.init"] - 0.2) ** 2
        return -away, 25 * axes["rule.init"]

    best = {}
    for method in ("random", "optuna"):
        table = data(method=method, trials=14, batch=2) | {"seeds": 1}
        _, trials = search.run(table, tmp_path / method, Sweeps(tmp_path / method, bowl))
        best[method] = search.best(trials).result
        assert len(trials) == 14
    assert best["optuna"] >= best["random"]
    short = data(method="optuna", trials=6, batch=2) | {"seeds": 1}
    _, trials = search.run(short, tmp_path / "cut", Sweeps(tmp_path / "cut", bowl))
    longer = data(method="optuna", trials=14, batch=2) | {"seeds": 1}
    _, more = search.run(longer, tmp_path / "cut", Sweeps(tmp_path / "cut", bowl))
    assert more[:6] == trials
    assert len(more) == 14
