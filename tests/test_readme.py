"""What the README shows works."""

import re
from pathlib import Path

import jsafe
from jsafe import cli

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))


def test_the_notebook_example_runs():
    (example,) = [block for block in BLOCKS if "random_batch" in block]
    scope = {}
    exec(example.replace("cost_limit_per_step=5e-4", "cost_limit_per_step=5e-4, hidden=(8,), sequences=32"), scope)
    assert "rule/multiplier" in scope["metrics"]


def test_the_script_example_runs():
    (example,) = [block for block in BLOCKS if "train.run" in block]
    small = example.replace('preset="laptop"', 'preset="laptop", hidden=(8,), sequences=32, initial_rows=200')
    scope = {}
    exec(small.replace("1_000_000", "1_000").replace("% 100", "% 5"), scope)
    assert scope["step"].env_steps >= 1000
    scope["env"].close()


def test_every_command_shown_is_understood():
    shown = re.findall(r"^jsafe (.*?)(?:#.*)?$", SHELL, re.MULTILINE)
    assert len(shown) >= 6
    for line in shown:
        command, *words = line.split()
        assert command in ("train", "sweep", "evaluate", "play", "plot", "list")
        if command == "train" and words[0] in jsafe.names() and "--help" not in words:
            run, _, folder, *_ = cli._train_options(jsafe.registry.get(words[0]), words[1:])
            if folder is not None:
                assert (run.total_steps, run.seed, str(folder)) == (5_000_000, 1, "runs/one")
