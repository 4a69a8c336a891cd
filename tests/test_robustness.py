"""The quick part of the robustness campaigns, and that their tables are whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).resolve().parent.parent / "experiments" / "robustness"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One device as for users, and programs that are compiled once for all campaigns."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("cache"))
    path = os.pathsep.join(filter(None, [str(CAMPAIGNS.parent.parent), os.environ.get("PYTHONPATH")]))
    changes = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    changes["PYTHONPATH"] = path
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | changes


@pytest.mark.parametrize("name", ["environments", "machine"])  # the others have cases that are still open
def test_nothing_is_lost_in_the_quick_part(tmp_path, environment, name):
    words = [sys.executable, str(CAMPAIGNS / f"{name}.py"), "--quick", "--out", str(tmp_path / "table.csv")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_tables_are_whole(monkeypatch):
    monkeypatch.syspath_prepend(str(CAMPAIGNS))
    import commands
    import environments
    import misbehaving

    assert set(environments.WANTED) == set(misbehaving.MODES)
    assert len(misbehaving.MODES) > 100
    written = list(commands.written())
    assert len({(case.base, *case.words, case.content) for case in written}) == len(written) > 300
    assert {case.base for case in written} - {"top"} <= set(commands.BASES)
