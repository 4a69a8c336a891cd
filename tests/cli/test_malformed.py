"""Commands that must be refused before anything is made, and numbers that no option takes."""

import math
import shlex
import typing
from pathlib import Path

import pytest

from jsafe import cli, registry
from jsafe.cli import algorithm
from jsafe.options import replace
from jsafe.runs import many, session

COMMANDS = (Path(__file__).parent / "malformed_commands.txt").read_text().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_malformed_command_is_refused_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, command):
    def started(*_, **__):
        raise AssertionError("it started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "train", started)
    monkeypatch.setattr(many, "train_many", started)
    status = cli.main(shlex.split(command))
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", registry.names())
def test_no_option_takes_a_number_that_is_none(name):
    """NaN, infinity, and what becomes infinity in float32 or does not fit into 64 bits."""
    config, tried = registry.get(name).config, 0
    for option in algorithm._of(config):
        hints = {option.hint, *typing.get_args(option.hint)}
        for kind, values in ((float, (math.nan, math.inf, -math.inf, 1e39)), (int, (10**30, -(10**30)))):
            for value in values if kind in hints else ():
                given = (value,) if typing.get_origin(option.hint) is tuple else value
                with pytest.raises(ValueError, match=r"finite|too large|at least|at most|above|below"):
                    replace(config, {option.key: given}, name)
                tried += 1
    assert tried > 40 or name == "fake"
