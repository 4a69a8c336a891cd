"""The page "Your Gymnasium environment" works as it stands, on a tiny scale."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import jsafe
from jsafe import cli
from jsafe.curves.csv_table import read_progress

pytest.importorskip("gymnasium")
PAGE = (Path(__file__).parents[1] / "docs" / "pages" / "own_gymnasium.md").read_text()
TINY = "--total-steps 800 --num-envs 4 --steps-per-epoch 400 --hidden 8"


def commands():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("jsafe ")]


def test_the_page_trains_evaluates_and_exports(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "lake.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    first, *others = commands()
    assert first.startswith("jsafe train trpo_lag --env python:lake:Lake")
    assert cli.main(shlex.split(first.replace("--total-steps 4e5", TINY))[1:]) == 0
    said = capsys.readouterr()
    assert "limit of island: 5 per episode (0.05 per step of 100), speeding: 2 per episode (0.02 per step" in said.err
    assert "speeding per episode" in said.out
    curve = read_progress(tmp_path / "runs" / "lake" / "progress.csv")
    assert {"cost/0/limit", "cost/1/limit", "episode/cost/0", "episode/cost/1"} <= set(curve)
    for line in others:
        words = shlex.split(line)[1:]
        if words[0] in ("evaluate", "export"):
            tiny = ["--episodes", "4"] if words[0] == "evaluate" and "--episodes" not in words else []
            assert cli.main([word.replace("100", "4") for word in words] + tiny) == 0, line
    said = capsys.readouterr().out
    (tmp_path / "lake.toml").write_text(*re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    assert cli.main(["sweep", "lake.toml", "--dry-run"]) == 0
    assert len(capsys.readouterr().out.split()) == 9
    for text in ("limit 5: ", "limit 2: ", "95th percentile, worst", "episodes above the limit of island"):
        assert text in said
    with open(tmp_path / "episodes.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert list(rows[0]) == ["episode", "return", "length", "success", "cost/island", "cost/speeding"]
    (tmp_path / "lake.py").unlink()
    assert np.abs(jsafe.load("lake.npz")(np.zeros(6))).max() <= 1
