"""The options of an algorithm's parts on the command line: names, presets, hints, help."""

import io
import math
import sys

import parts
import pytest

from jsafe.cli import algorithm, parse
from jsafe.components.rules import PID, Lagrange, NoRule
from jsafe.options import kinds, replace

ENV = ["--env", "Toy-SpeedLimit-v0"]


def read(words=""):
    return algorithm.read(parts.PARTS, [*ENV, *words.split()])


def test_an_option_has_its_full_and_its_short_name():
    assert read("--rule.kp 0.2").options.rule == PID(kp=0.2)
    assert read("--kp 0.2 --rule.error_decay=0.5").options.rule == PID(kp=0.2, error_decay=0.5)
    given = read("--gamma 0.9 --no-normalize --mode mix --bound 3 --num-envs 1e1 --total-steps 5e3 --seed 4")
    assert (given.options.gamma, given.options.normalize, given.options.mode) == (0.9, False, "mix")
    assert (given.options.bound, given.options.num_envs) == (3.0, 10)
    assert (given.run.total_steps, given.run.seed, given.run.env) == (5000, 4, "Toy-SpeedLimit-v0")
    assert read().options == parts.PartsConfig()


def test_a_part_is_chosen_first_and_brings_its_options():
    assert read("--learning-rate 0.1 --rule lagrange").options.rule == Lagrange(learning_rate=0.1)
    assert read("--rule=none").options.rule == NoRule()
    inner = read("--policy.inner pid --policy wide --policy.inner.kp 0.3").options.policy
    assert inner == parts.Wide(inner=PID(kp=0.3))


def test_short_names_reach_several_parts_and_specific_ones_win():
    options = read("--critic.hidden 32 --hidden 64 64 64").options
    assert (options.policy.hidden, options.critic.hidden) == ((64, 64, 64), (32,))
    options = read("--cost-limit-per-step 1e-3").options
    assert (options.limit.value, options.limit.per) == (1e-3, "step")
    assert read("--cost-limit 10 20").options.limit.value == (10.0, 20.0)
    with pytest.raises(ValueError, match="give one of --cost-limit and --cost-limit-per-step, not both"):
        read("--cost-limit 10 --cost-limit-per-step 1e-3")


@pytest.mark.parametrize("order", [list, lambda changes: list(reversed(changes))])
def test_the_exacter_name_counts_in_python_too(order):
    """Whatever the order: a preset that sharpens another by the full name must not lose it to the short one."""

    def changed(*changes):
        return replace(parts.PartsConfig(), dict(order(changes)), "parts")

    assert changed(("kp", 0.1), ("rule.kp", 0.2)).rule.kp == 0.2
    options = changed(("hidden", (64,)), ("critic.hidden", (32,)))
    assert (options.policy.hidden, options.critic.hidden) == ((64,), (32,))
    with pytest.raises(ValueError, match=r"are two values of one option of parts, limit\.value: leave one out"):
        changed(("cost_limit", 1.0), ("cost_limit_per_step", 2.0))


def test_a_preset_comes_first_and_brings_its_steps():
    given = read("--preset quick --kp 0.1")
    assert (given.options.rule.kp, given.options.policy.hidden, given.run.total_steps) == (0.1, (8,), 30_000)
    assert read("--preset=quick --total-steps 7").run.total_steps == 7
    assert read("--preset quick --rule lagrange").options.rule == Lagrange()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--kpp 1", r"unknown option --kpp; did you mean --kp\? `jsafe train parts --help` lists all"),
        ("--rule.kpp 1", "did you mean --rule.kp?"),
        ("--totl-steps 5", "did you mean --total-steps?"),
        ("--rule lagrange --kp 0.1", "option --kp of parts belongs to the rule 'pid', and the rule here is 'lagrange'"),
        ("--rule.crpo_distance 1", "unknown option --rule.crpo_distance"),
        ("--rule pidd", "unknown rule 'pidd'; did you mean 'pid'"),
        ("--preset quik", "did you mean 'quick'"),
        ("--std 2", "option --std of parts is one of --policy.std, --critic.std: say which"),
        ("--gamma nan", "gamma must be finite, got nan"),
        ("--gamma 1.5", "gamma must be at least 0 and at most 1, got 1.5"),
        ("--kp inf", "kp must be finite, got inf"),
        ("--hidden 0 64", "hidden must be at least 1 and at most 16384, got 0"),
        ("--hidden 1e8 64", "at most 16384, got 100000000"),
        ("--hidden 3.5", r"--hidden: .*'3.5'.*; wanted: --hidden \[INT"),
        ("--num-envs inf", "inf is not a whole number"),
        ("--num-envs many", "many"),
        ("--mode both", "both"),
        ("--cost-limit None", "None"),
        ("--cost-limit -1", "must be at least 0, got -1"),
        ("--cost-limits nan,5", "cost_limits must be finite"),
        ("--cost-limits ,", "cost_limits must be numbers separated by commas"),
        ("--cost-limits 5,5", "names a limit twice"),
        ("--seeds 0", "seeds must be at least 1"),
        ("--gamma=", "--gamma is empty"),
        ("--kp", "kp"),
        ("surplus", "surplus"),
        ("--env.horizon 1e999", "--env.horizon must be finite, got 1e999"),
        ("--env.horizon NaN", "--env.horizon must be finite"),
        ("--env.horizon", "--env.horizon needs a value"),
        ("--import no_such_module", "cannot import 'no_such_module': ModuleNotFoundError"),
    ],
)
def test_wrong_words_are_named_in_one_line(words, message):
    with pytest.raises(ValueError, match=message) as error:
        read(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_messages_of_the_parser_fit_on_a_line(monkeypatch, encoding):
    """tyro draws boxes where standard output can show them."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    for words, message in (
        ("--num-envs many", r"--num-envs: could not convert string to float: 'many'; wanted: --num-envs INT$"),
        ("--mode both", r"^invalid choice 'both' for argument '--mode'. Expected one of \('reward', 'mix'\) ?\.$"),
        ("surplus", "^Unrecognized options: surplus$"),
    ):
        with pytest.raises(ValueError, match=message):
            read(words)


def test_options_of_environments_are_values():
    words = ["--env.horizon", "200", "--env.dt=0.5", "--env.render-mode", "rgb_array", "--env.flag", "True", "--x"]
    options, left = parse.take_env_options([*words, "--env.sizes", "[1, 2]"])
    assert options == {"horizon": 200, "dt": 0.5, "render_mode": "rgb_array", "flag": True, "sizes": [1, 2]}
    assert left == ["--x"]


def test_help_shows_the_options_of_the_parts_in_use_and_no_others(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        read("--rule lagrange --help")
    text = capsys.readouterr().out
    others = ", ".join(sorted(kinds("rule").keys() - {"lagrange"}))  # other tests may have added theirs
    for shown in (
        "quick              For a laptop. (recommended)",
        "paper              As published.",
        "The largest mean cost, one number for all costs or one for each (per episode). [25]",
        "--learning-rate NUMBER",
        "--hidden INT ...               Widths of the layers. (One by one: --policy.hidden, --critic.hidden.) [64 64]",
        "--policy.std NUMBER            Standard deviation. [1]",
        "--cost-limit NUMBER ...",
        "--no-normalize",
        "--env.KEY VALUE",
        "--total-steps INT",
    ):
        assert shown in text
    assert f"Rule lagrange (or --rule {others}): A multiplier per cost," in " ".join(text.split())
    for hidden in ("--kp", "--tolerance", "--limit.value", "--limit.per", "More is slower"):
        assert hidden not in text
    lines = [line for line in text.splitlines() if line.startswith("  --")]
    assert max(map(len, lines)) <= 120


def test_a_name_of_every_run_cannot_be_an_option_of_an_algorithm():
    clash = algorithm.Option("seed", ("seed",), int, 0, "", "")
    run = algorithm.Option("seed", ("seed",), int, 0, "", algorithm.RunConfig)
    with pytest.raises(ValueError, match="x has an option that every run has too: seed"):
        algorithm._check_names("x", [run, clash])
    found = [run, clash._replace(key="rule.seed", names=("seed", "rule.seed"))]
    algorithm._check_names("x", found)
    assert found[1].flags == ("--rule.seed",)


def test_limits_of_several_runs():
    assert algorithm.Many(cost_limits="10,2.5").limits() == [10.0, 2.5]
    with pytest.raises(ValueError, match="finite"):
        algorithm.Many(cost_limits=str(math.inf))
