"""The direction of imports: no arrow runs up, no circle, and production does not know the tests' helpers."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import rooms


def test_no_import_runs_up():
    assert rooms.upward(rooms.imports()) == []


def test_no_modules_import_each_other():
    assert rooms.circles(rooms.imports()) == []


def test_production_does_not_import_testing():
    users = [
        name for name, targets in rooms.imports().items() if "jsafe.testing" in targets and name != "jsafe.testing"
    ]
    assert users == []


def test_an_arrow_that_runs_up_and_a_circle_are_found(tmp_path):
    package = tmp_path / "jsafe"
    for path, text in {
        "__init__.py": "",
        "ops/__init__.py": "",
        "ops/a.py": "def f():\n    from jsafe.ops import b\n    from jsafe.runs.folder import read\n",
        "ops/b.py": "from jsafe.ops.a import f\n",
        "runs/__init__.py": "",
        "runs/folder.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from jsafe.cli import main\n",
        "cli/__init__.py": "",
        "envs/__init__.py": "from jsafe.types import Learner\n",
        "types.py": "",
    }.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text)
    graph = rooms.imports(package)
    assert rooms.upward(graph) == ["jsafe.envs -> jsafe.types", "jsafe.ops.a -> jsafe.runs.folder"]
    assert rooms.circles(graph) == [["jsafe.ops.a", "jsafe.ops.b"]]


def test_importing_computes_nothing():
    """A job of several processes has to be joined before JAX starts. Nor does it need what Windows lacks."""
    code = "import sys; sys.modules |= dict.fromkeys(('fcntl', 'pwd', 'grp', 'termios', 'resource'))\n"
    code += "import jsafe.envs.outside.process, jsafe.runs.session, jsafe.sweeps.session\n"
    code += (
        "import jax._src.xla_bridge as b, jsafe, jsafe.cli.train; jsafe.names(); print(b.backends_are_initialized())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
