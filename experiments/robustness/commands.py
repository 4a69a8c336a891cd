"""Malformed commands: refused with one clear line, and nothing happened?

    python experiments/robustness/commands.py [--quick] [--cases FOLDER] [--out commands.csv]

The commands of `malformed.txt`, and every number that `jsafe train ALGORITHM --help` lists with a value that is not
finite, not whole, or far out of range. Each runs in a folder of its base command, which afterwards, with the mistake
taken back, has to work there. FOLDER may hold a `malformed_commands.txt` with one command a line.

A command is given to `jsafe.cli.main` in this process up to the point where a training would start; one that would
start and should not is then run as a whole.

Outcomes:
  refused       status 2 (or 1, for a file or the machine), one message that names field and value, nothing changed
  trained       it was good after all (wanted of some values far out of range only), and would start
  accepted      it went ahead with a value that cannot be meant
  traceback, crash, hangs   as they say
  status N      another exit status than 2, with a clear message
  unclear       refused, but the message does not name the field and the value, or says several things
  left behind   refused, but the folder is not as it was
  works, does not work      the base command afterwards
  absent        there is no such option any more: the table needs the new name
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from common import Done, Shell, Table, known, options, workplace
from folders import OUTSIDE, small

from jsafe import cli

HERE = Path(__file__).resolve().parent
BASES = {
    "ppo_lag": lambda: small("ppo_lag", run_dir="run"),
    "ppo": lambda: small("ppo", run_dir="run"),
    "cpo": lambda: small("cpo", run_dir="run"),
    "sac_lag": lambda: small("sac_lag", run_dir="run"),
    "seditor": lambda: small("seditor", run_dir="run"),
    "goal": lambda: small("ppo_lag", "SafetyPointGoal0-v0", run_dir="run", costs="separate"),
    "outside": lambda: small("ppo_lag", OUTSIDE, run_dir="run"),
    "resume": lambda: ["train", "--resume", "made"],
    "evaluate": lambda: ["evaluate", "made"],
    "plot": lambda: ["plot", "made"],
    "sweep": lambda: ["sweep", "grid.toml"],
}
_SWEEP = """algorithm = "ppo_lag"
env = "Toy-SpeedLimit-v0"
total_steps = 400
steps_per_epoch = 200
num_envs = 4
"""
_NUMBERS = {"NUMBER": ("nan", "inf", "-inf"), "INT": ("nan", "inf", "-1", "0.5", "1e30")}
_FAR = re.compile("1e30")
_ENDLESS = ("--total-steps", "--log-interval", "--keep-checkpoints", "--num-envs", "--seeds")
"""Options for which a very large number is a wish that cannot be tried here."""
_JOB = ("--num-processes", "--process-id")
"""Options that need another one, which is then what the message is about."""
LIMIT = 25.0
SLOW = ("cpo", "sac_lag", "seditor", "goal", "outside", "sweep")
"""Bases whose good command is left out of the quick part: they take long to compile."""


class Case(NamedTuple):
    """One malformed command: what it is appended to, its words, what the message must name, allowed outcomes."""

    base: str
    words: list[str]
    names: list[str]
    wanted: tuple[str, ...] = ("refused",)
    file: bool = False
    content: str | None = None


def main() -> int:
    """Runs the campaign."""
    given = options(__doc__, "commands", cases={"type": Path, "help": "folder with a malformed_commands.txt"})
    with workplace(given) as (shell, table):
        helps = {name: known(shell, name) for name in ("ppo_lag", "ppo", "cpo", "sac_lag", "seditor")}
        inside = Inside()
        cases = [*written(), *generated(helps)]
        if given.cases is not None:
            cases += handed(given.cases / "malformed_commands.txt")
        if given.quick:
            keep = itertools.count()
            cases = [case for case in cases if next(keep) % 14 == 3]
        cases = [case for case in cases if re.search(given.only, f"{case.base}: {shlex.join(case.words)}")]
        made = shell.work / "made"
        shell.run(small("ppo_lag", run_dir=made, total_steps=400))
        bases = list(dict.fromkeys(case.base for case in cases))
        for base in bases:  # before anything runs in this process: it forks no more then
            if base in BASES and not (given.quick and base in SLOW):
                correct(shell, table, base, prepare(shell.work / f"good-{base}", made))
        for base in bases:
            place = prepare(shell.work / base, made)
            for case in cases:
                if case.base == base:
                    judge(shell, inside, table, case, place)
        return table.close()


class Inside:
    """Runs commands in this process, up to the point where something would be trained, evaluated or drawn."""

    def run(self, words: list[str], place: Path) -> Done:
        """As `Shell.run`; status 0 where the command would have gone ahead."""
        from jsafe.runs import evaluation, many, session
        from jsafe.sweeps import session as sweeps

        class Started(BaseException):
            pass

        def start(*_, **__):
            raise Started

        out, err, before, began, uncaught = io.StringIO(), io.StringIO(), Path.cwd(), time.monotonic(), ""
        doors = ((session, "train"), (many, "train_many"), (evaluation, "rollout"), (sweeps, "run"))
        with contextlib.ExitStack() as stack:
            for module, name in doors:
                stack.enter_context(mock.patch.object(module, name, start))
            stack.callback(os.chdir, before)
            os.chdir(place)
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            try:
                status = cli.main(words)
            except Started:
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException as error:
                status, uncaught = 1, f"{type(error).__name__}: {error}"
        return Done(status, out.getvalue(), err.getvalue(), time.monotonic() - began, uncaught, 0)


def written() -> Iterator[Case]:
    """The cases of malformed.txt."""
    base = ""
    for line in (HERE / "malformed.txt").read_text().splitlines():
        if line.startswith("#") or not line.strip(" "):
            continue
        if head := re.fullmatch(r"\[(\w+)\]", line):
            base = head[1]
            continue
        text, bar, wanted = f" {line}".partition(" |")
        text = text.strip()
        file = text.startswith("*")
        text = text.removeprefix("*").strip()
        if base == "sweep":
            yield Case(base, [], [wanted.strip()], content=text.replace("\\n", "\n"))
            continue
        words = shlex.split(text)
        yield Case(base, words, [wanted.strip()] if bar else _naming(words), file=file)


def _naming(words: list[str]) -> list[str]:
    """Patterns of the last option's name and of its value."""
    at = max((i for i, word in enumerate(words) if word.startswith("--")), default=None)
    if at is None:
        return [re.escape(words[-1])] if words else []
    name = words[at][2:]
    values = words[at + 1 :]
    return [re.sub("[-_]", "[-_ .s]+", name.rpartition(".")[2]), *(_value(value) for value in values)]


def _value(word: str) -> str:
    """A pattern of a value as a message may print it."""
    forms = {word}
    try:
        number = float(word)
        forms |= {repr(number), f"{number:g}"}
        if number == number and abs(number) < 1e300:
            forms |= {str(int(number)), repr(word)}
    except ValueError:
        pass
    return "|".join(map(re.escape, sorted(forms)))


def generated(helps: dict[str, dict[str, str]]) -> Iterator[Case]:
    """Every number of the helps, once, with values that no number may have."""
    seen: set[str] = set()
    for name, listed in helps.items():
        for option, metavar in listed.items():
            if option in seen:
                continue
            seen.add(option)
            kind = next((kind for kind in _NUMBERS if kind in metavar), None)
            for value in _NUMBERS.get(kind or "", ()):
                if value == "1e30" and option in _ENDLESS:
                    continue
                wanted = ("refused", "trained") if _FAR.fullmatch(value) else ("refused",)
                names = _naming([option, value])
                yield Case(name, [option, value], names[: 1 if option in _JOB else 2], wanted)


def handed(path: Path) -> Iterator[Case]:
    """Whole commands of a file, for which only the kind of the outcome is judged."""
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield Case("handed", shlex.split(line), [], file=True)


def prepare(place: Path, made: Path) -> Path:
    """The folder of a base: a finished run, a file, and a good sweep."""
    place.mkdir(parents=True, exist_ok=True)
    base = place.name.removeprefix("good-")
    if base in ("resume", "evaluate", "plot"):
        shutil.copytree(made, place / "made", dirs_exist_ok=True)
    if base not in ("handed", "top"):
        (place / "taken").write_text("a file of the user's\n")
    if base == "sweep":
        (place / "grid.toml").write_text(_SWEEP)
    return place


def judge(shell: Shell, inside: Inside, table: Table, case: Case, place: Path) -> None:
    """Runs one command."""
    words, name = list(case.words), f"{case.base}: {shlex.join(case.words)}"
    if case.content is not None:
        name = f"sweep: {case.content!r}"
    if table.has(name):
        return
        (place / "grid.toml").write_text(case.content)
    before = snapshot(place)
    words = [*(BASES[case.base]() if case.base in BASES else []), *words]
    done = inside.run(words, place)
    if done.status == 0 and not done.trace and "trained" not in case.wanted:
        clear(place, before)
        done = shell.run(words, place, limit=LIMIT, fresh=True)
    after = snapshot(place)
    outcome = _outcome(done, case)
    told = "unknown option" in done.text and case.base != "top" and case.words != ["--"]
    if outcome == "refused" and told and case.names == _naming(case.words):
        outcome = "absent"
    if outcome == "refused" and before != after:
        outcome = "left behind"
    if outcome in ("accepted", "trained") and "trained" in case.wanted:
        outcome = "trained"
    changed = ", ".join(sorted({path for path, _ in before.items() ^ after.items()})[:3])
    table.add(name, case.wanted, outcome, done.seconds, f"{done.last()} [{changed}]" if changed else done.last())
    clear(place, before)
    if before.items() - snapshot(place).items() and (place / "made").exists():
        shutil.rmtree(place / "made")
        shutil.copytree(shell.work / "made", place / "made")
    if case.content is not None:
        (place / "grid.toml").write_text(_SWEEP)


def clear(place: Path, before: dict[str, str]) -> None:
    """Removes what was not there before."""
    for path in place.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _outcome(done: Done, case: Case) -> str:
    if done.trace:
        return "traceback"
    if done.status is None:
        return "accepted" if re.search(r"starting in|\d+ steps", done.text) else "hangs"
    if done.status == 0:
        return "accepted"
    if done.status < 0 or done.status > 2:
        return "crash"
    lines = [line for line in done.err.splitlines() if re.search(r"\w", line)]
    starts = re.compile(r"(error\b|.*\b(parsing|required) )", re.IGNORECASE)
    heads = [line for line in lines if starts.match(line.strip(" │╭─"))]
    if not lines and not (case.names and re.search(case.names[0], done.out)):
        return "unclear"
    head = done.text.partition("Traceback (most recent call last)")[
        0
    ]  # of an outside environment: the reason comes first
    flat = re.sub(r"[\s│]+", " ", head)
    if len(heads) > 1 or not all(re.search(name, flat, re.IGNORECASE) for name in case.names if name):
        return "unclear"
    if done.status == 1 and not case.file:
        return "status 1"
    return "refused"


def snapshot(place: Path) -> dict[str, str]:
    """Every file below a folder with its content's hash."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        found[name] = hashlib.sha1(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def correct(shell: Shell, table: Table, base: str, place: Path) -> None:
    """The good command, where the malformed ones were."""
    if table.has(f"{base}: the good command"):
        return
    done = shell.run(BASES[base](), place, limit=90)
    outcome = "works" if done.status == 0 else "does not work"
    table.add(f"{base}: the good command", "works", outcome, done.seconds, done.last())


if __name__ == "__main__":
    sys.exit(main())
