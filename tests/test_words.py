"""What the text files show works: every command is understood, every script exists, every skeleton runs."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jsafe
from jsafe import registry
from jsafe.cli import algorithm as words_of
from jsafe.cli import completion, dataset, evaluate, export, parse, play, plot, reproduce, sweep, train, truth
from jsafe.options import fields
from jsafe.runs.folder import read

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {"node_modules", "runs", "site"} & set(path.parts) and not any(part[0] == "." for part in path.parts[1:])
)
SCRIPTS = sorted((ROOT / "experiments").rglob("*.py"))
OTHERS = {
    "sweep": sweep.Sweep,
    "reproduce": reproduce.Reproduce,
    "evaluate": evaluate.Evaluate,
    "play": play.Play,
    "plot": plot.Plot,
    "export": export.Export,
    "truth": truth.Truth,
    "completion": completion.Completion,
    **{f"dataset {name}": kind for name, kind in dataset.COMMANDS.items()},
}
SHELL = """
jsafe() { printf '%s\\037' jsafe "$@"; printf '\\n'; }
python() { printf '%s\\037' python "$@"; printf '\\n'; }
eval() { printf '%s\\n' "$@"; }
command_not_found_handle() { :; }
cd() { :; }; source() { :; }; .() { :; }; export() { :; }
PATH=/nowhere
"""
"""So that a block of shell, with its loops and variables, says what it would start, and starts nothing."""


def commands(text):
    """The words of every `jsafe ...` and `python ...` in the shell blocks of a text."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        words = ["bash", "--noprofile", "--norc", "-c", SHELL + block]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert not done.stderr, done.stderr
        found += [line.split("\37")[:-1] for line in done.stdout.split("\n") if "\37" in line]
    return found


def understand(command, words):
    """Reads a command of jsafe as the program would, and does nothing.

    Raises:
      ValueError: If the program would.
    """
    if command == "dataset":
        command, words = f"dataset {words[0]}", words[1:]
    if command == "train" and words and words[0] in jsafe.names():
        if "--help" not in words:
            words_of.read(registry.get(words[0]), words[1:])
    elif command == "train":
        assert words != [], "train what?"
        parse.parse(train.Resume, parse.take_imports(words)[1], "jsafe train")
    elif command in OTHERS:
        _, words = parse.take_imports(words)
        _, words = parse.take_env_options(words)
        parse.parse(OTHERS[command], words, command)
    else:
        assert command in ("list", "--version"), command
        assert set(words) <= {"algorithms", "tasks", "policies", "--json"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_is_understood(path):
    for program, *words in commands(path.read_text()):
        if program == "jsafe":
            understand(words[0], words[1:])
        elif words[0].endswith(".py") and "/" in words[0]:
            assert (ROOT / words[0]).is_file(), words[0]
            check_options(ROOT / words[0], words[1:])


def test_a_wrong_command_is_noticed():
    text = (
        "```bash\nfor seed in 0 1; do\n  jsafe train ppo_lag --env Toy-SpeedLimit-v0 --seed $seed --gama 0.9\ndone\n```"
    )
    assert [words[-3:-2] for words in commands(text)] == [["0"], ["1"]]
    with pytest.raises(ValueError, match="did you mean --gamma"):
        understand(*(lambda words: (words[1], words[2:]))(commands(text)[0]))
    with pytest.raises(AssertionError):
        check_options(ROOT / "experiments" / "sleep.py", ["--episods", "3"])


def check_options(path, words):
    """Every option is one that the script, or a module beside it, names."""
    sources = "".join(each.read_text() for each in path.parent.glob("*.py"))
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0]
            field = name[2:].replace("-", "_")
            assert re.search(rf'"{name}"|"{field}": \{{|\b{field}=\{{', sources), f"{path.name} {name}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_scripts_say_how_they_are_started(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    shown = re.findall(r"^ {4}python (\S+\.py)(.*?)(?:#.*)?$", text, re.MULTILINE)
    for name, words in shown:
        assert (ROOT / name).is_file(), name
        check_options(ROOT / name, re.findall(r"--[a-z-]+", words))


def test_every_option_in_the_texts_is_one_of_today():
    known = {"--help", "--version", "--import"}
    for name in jsafe.names():
        known.update(flag for option in words_of._of(registry.get(name).config) for flag in option.flags)
    for kind in (*words_of._SHARED, train.Resume, *OTHERS.values()):
        known.update(parse.flags(kind))
    parts = [part for seam in list(fields._SEAMS) for part in fields.kinds(seam).values()]
    known.update(flag for part in parts for flag in parse.flags(part))
    known.update(f"--{seam}" for seam in fields._SEAMS)
    sources = "".join(path.read_text() for path in SCRIPTS)
    known.update(re.findall(r'"(--[a-z][a-z-]+)"', sources))
    known.update(f"--{name}" for names in re.findall(r'"(\w+)": \{"type"|\b(\w+)=\{"type"', sources) for name in names)
    strange = []
    for path in TEXTS:
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?:\.[\w-]+)*", path.read_text()):
            names = {option.replace("_", "-"), f"--{option[2:].rpartition('.')[2]}".replace("_", "-"), option}
            if not names & (known | FOREIGN) and not option.startswith("--env."):
                strange.append(f"{path.relative_to(ROOT)}: {option}")
    assert strange == []


FOREIGN = {
    "--gpus",
    "--rm",
    "--build-arg",
    "--check",
    "--their-options",
    "--no-deps",
    "--strict",
    "--xla_force_host_platform_device_count",
    "--rule.gain",
}
"""Options of other programs, and of the part in CONTRIBUTING."""


@pytest.fixture
def experiment(monkeypatch):
    """Imports a script of a folder of `experiments/`."""

    def load(name, folder=""):
        monkeypatch.syspath_prepend(str(ROOT / "experiments" / folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


@pytest.mark.parametrize("family", ["on_policy", "off_policy"])
def test_the_committed_tables_are_those_of_the_committed_runs(experiment, capsys, family):
    experiment("table").main(ROOT / "experiments" / family, [])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) > 8
    assert not set(rows) - set((ROOT / "experiments" / family / "README.md").read_text().splitlines())


def test_committed_runs_and_policies_have_the_options_of_today():
    """Whoever records a run draws the curves of all: one option that is gone would stop them."""
    results = ROOT / "experiments" / "benchmark" / "results"
    runs, policies = sorted((results / "runs").iterdir()), sorted((results / "policies").iterdir())
    assert min(len(runs), len(policies)) > 10
    for run in runs:
        assert read(run).algorithm
    for policy in policies:
        assert jsafe.load(policy).about


def test_a_cost_beyond_the_limit_is_never_as_good(experiment, tmp_path, capsys):
    run = tmp_path / "ppo_lag-s0"
    run.mkdir()
    about = {"env": "SafetyPointGoal1-v0", "seed": 0}
    (run / "config.json").write_text(json.dumps({"algorithm": "ppo_lag", "run": about, "config": {}}))
    head = "iteration,env_steps,time/wall_seconds,episode/return,episode/cost,cost/0/limit\n"
    (tmp_path / "published.csv").write_text(
        "env,algorithm,return_mean,return_std,cost_mean,cost_std\nSafetyPointGoal1-v0,ppo_lag,10,1,20,40\n"
    )
    for cost, verdict in ((24, "yes"), (60, "no")):
        (run / "progress.csv").write_text(head + f"1,100,60,12,{cost},25\n")
        experiment("table").main(tmp_path, [])
        assert capsys.readouterr().out.splitlines()[-1].endswith(f"| {verdict} |")


def test_the_table_of_seditor_and_the_contact_sheet_know_the_names_of_today(experiment, capsys):
    experiment("table", "seditor").main([])
    assert len(capsys.readouterr().out.splitlines()) > 10
    tiles = [id for row in experiment("contact_sheet").families() for id, _ in row]
    assert len(tiles) > 20
    assert set(tiles) <= set(jsafe.envs.list_ids())


def test_the_task_of_ones_own_trains(experiment, capsys, monkeypatch):
    monkeypatch.setattr(jsafe.envs.registry, "_IDS", dict(jsafe.envs.registry._IDS))
    with pytest.warns(UserWarning, match="an epoch is 5 steps"):
        experiment("own_task").main(200, steps_per_epoch=100, passes=1, minibatch=100, hidden=(4,))
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["100", "200"]
    assert len(rows[0].split()) == 4


def test_the_skeletons_for_contributors_run(monkeypatch):
    monkeypatch.setattr(fields, "_SEAMS", {seam: dict(kinds) for seam, kinds in fields._SEAMS.items()})
    jsafe.names()
    monkeypatch.setattr(registry, "_ALGORITHMS", dict(registry._ALGORITHMS))
    scope = {"__name__": "skeleton"}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, scope)
    assert scope["learner"].config.rule.gain == 0.02
    rule = scope["Proportional"](gain=0.5).build(jsafe.EnvSpec(3, 2), None)
    weights = rule.weights(rule.init(), jax.numpy.array([7.0]), jax.numpy.array([5.0]))
    assert (float(weights.reward), float(weights.cost[0])) == (0.5, 0.5)  # a multiplier of 1
    learner = jsafe.make(
        "ppo_proportional", jsafe.EnvSpec(3, 2), preset="jsafe", steps_per_epoch=40, minibatch=20, hidden=(4,)
    )
    jsafe.testing.check_learner(learner, jax.random.key(0))
