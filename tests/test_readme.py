"""What the README shows works."""

import re
from pathlib import Path

import jax
import numpy as np

import jsafe
from jsafe import options
from jsafe.cli import algorithm as words_of
from jsafe.cli import dataset, parse, train
from jsafe.runs.loop import INIT_FOLD

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))


def test_the_notebook_example_runs():
    (example,) = [block for block in BLOCKS if "random_batch" in block]
    scope = {}
    exec(example.replace("cost_limit_per_step=5e-4", "cost_limit_per_step=5e-4, hidden=(8,), sequences=32"), scope)
    assert "cost/0/multiplier" in scope["metrics"]


def test_the_script_example_trains(capsys):
    """It does not stop at the successes that are the first episodes to finish, and it learns all the way."""
    (example,) = [block for block in BLOCKS if "train.run" in block]
    small = example.replace('preset="laptop"', 'preset="laptop", hidden=(8,), sequences=32, initial_rows=200')
    small = small.replace("1_000_000", "12_000").replace("% 100", "% 5")
    assert small.count("12_000") == small.count("% 5") == 1
    scope = {}
    exec(small, scope)
    scope["env"].close()
    rows = [[float(word) for word in line.split()] for line in capsys.readouterr().out.splitlines()]
    steps, success, multiplier = np.array(rows).T
    assert scope["step"].env_steps == 12_000
    assert steps[-1] > 9_600  # where it once stopped, at a success of 1 among the few that had finished
    assert np.isnan(success).all()  # no episode of 1000 steps is over: nothing is known
    assert not np.isnan(multiplier).any()
    assert len(set(multiplier)) > 0.9 * len(multiplier)
    learner = scope["learner"]
    start = jax.jit(learner.init)(jax.random.fold_in(jax.random.key(0), INIT_FOLD))
    before, after = (jax.tree.leaves(learner.policy(state).params) for state in (start, scope["step"].state))
    assert all(not np.array_equal(a, b) for a, b in zip(before, after))


def test_every_command_shown_is_understood():
    shown = re.findall(r"^(?:.*&& )?jsafe (.*?)(?:#.*)?$", SHELL, re.MULTILINE)
    assert len(shown) >= 10
    for line in shown:
        command, *words = line.split()
        assert command in ("train", "sweep", "reproduce", "evaluate", "play", "export", "plot", "dataset", "list")
        if command == "dataset":
            parse.parse(dataset.COMMANDS[words[0]], words[1:], "jsafe dataset")
        if command != "train" or "--help" in words:
            continue
        if words[0] in jsafe.names():
            given = words_of.read(jsafe.registry.get(words[0]), words[1:])
            if given.place.run_dir is not None:
                assert (given.run.total_steps, given.run.seed) == (5_000_000, 1)
        else:
            assert parse.parse(train.Resume, words, "jsafe train").resume == Path("runs/one")


def test_what_is_in_the_box_is_told_as_it_is():
    ours = [name for name in jsafe.names() if jsafe.registry.get(name).module.startswith("jsafe.")]
    assert f"prints all {len(ours)} with" in README
    words = {"step": "eleven policy steps", "rule": "six constraint rules", "transform": "four transforms"}
    numbers = {"eleven": 11, "six": 6, "four": 4}
    for seam, text in words.items():
        assert text in README.replace("\n  ", " ")
        ours = [kind for kind in options.kinds(seam).values() if kind.__module__.startswith("jsafe.")]
        assert len(ours) == numbers[text.split()[0]]
    named = set(re.findall(r"`([a-z_0-9]+)`", README.partition("## How good")[0])) - {"seditor"}
    assert {name for name in named if name.startswith(("ppo", "trpo", "sac", "cal", "wcsac"))} <= set(jsafe.names())
