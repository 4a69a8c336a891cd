import sys
import types

import pytest

from jsafe.curves.sinks import WandbRun


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'jsafe\[wandb\]'"):
        WandbRun(tmp_path, {})


def test_rows_reach_one_run_that_resumes(monkeypatch, tmp_path):
    """Stands in for the package: the same folder gets the same id, and rows carry their environment step."""
    calls = []

    class Run:
        def log(self, values, step):
            calls.append(("log", step, values))

        def finish(self):
            calls.append(("finish",))

    def init(**options):
        calls.append(("init", options))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for step in (100, 200):
        run = WandbRun(tmp_path, {"seed": 3}, project="safe", group="limits", tags=("a", "b"))
        run.write(step, {"episode/return": 1.5})
        run.close()
    options = [call[1] for call in calls if call[0] == "init"]
    assert options[0] == options[1]
    assert options[0]["resume"] == "allow"
    assert [options[0][name] for name in ("project", "group", "tags")] == ["safe", "limits", ["a", "b"]]
    assert options[0]["config"] == {"seed": 3}
    assert [call[1:] for call in calls if call[0] == "log"] == [
        (100, {"episode/return": 1.5}),
        (200, {"episode/return": 1.5}),
    ]
    assert calls.count(("finish",)) == 2


def test_runs_of_one_program_have_their_own(monkeypatch, tmp_path):
    """Stands in for the package, which gives the run that is active back unless a new one is asked for."""
    active, rows = [], {}

    def init(name, reinit=None, **_):
        if not active or reinit == "create_new":
            active.append(name)
        here = active[-1]
        log = lambda values, step: rows.setdefault(here, []).append(step)  # noqa: E731
        return types.SimpleNamespace(log=log, finish=lambda: active.remove(here))

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    runs = [WandbRun(tmp_path / name, {}) for name in ("s0", "s1")]
    for step in (100, 200):
        for run in runs:
            run.write(step, {"episode/return": 1.5})
    for run in runs:
        run.close()
    assert rows == {"s0": [100, 200], "s1": [100, 200]}
    assert not active
