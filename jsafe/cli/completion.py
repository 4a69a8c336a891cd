"""`jsafe completion`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from typing import Literal

import tyro

from jsafe import registry
from jsafe.cli import algorithm as words_of
from jsafe.cli import parse

_SCRIPT = """\
# Completion of jsafe's words. bash: eval "$(jsafe completion bash)"; zsh: eval "$(jsafe completion zsh)"
_jsafe() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  case "$before" in
    --env) words={tasks} ;;
    --policy) words={policies} ;;
    *) case "${{COMP_WORDS[1]}}:$COMP_CWORD" in
{cases}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _jsafe jsafe
"""


@dataclasses.dataclass(frozen=True)
class Completion:
    """Prints a script that completes commands, algorithms, tasks and options: `eval "$(jsafe completion bash)"`."""

    shell: tyro.conf.Positional[Literal["bash", "zsh"]] = "bash"
    """The shell; its file of settings is the place for that line."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    given = parse.parse(Completion, arguments, "jsafe completion")
    if given.shell == "zsh":
        print("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit")
    print(script())
    return 0


def script() -> str:
    """The words of this version, in the language of bash."""
    from jsafe import cli, envs
    from jsafe.cli import evaluate, export, play, plot, reproduce, sweep, train
    from jsafe.deploy import zoo

    tasks, policies = envs.list_ids(), [f"zoo:{name}" for name in zoo.names()]
    resume = parse.flags(train.Resume)
    cases = [_case("*:1", cli.COMMANDS), _case("train:2", [*registry.names(), *resume]), _case("play:2", tasks)]
    cases.append(_case("list:2", ["algorithms", "tasks", "policies", "--json"]))
    cases.append(_case("completion:2", ["bash", "zsh"]))
    kinds = {"evaluate": evaluate.Evaluate, "export": export.Export, "play": play.Play, "plot": plot.Plot}
    for name, kind in {**kinds, "sweep": sweep.Sweep, "reproduce": reproduce.Reproduce}.items():
        cases.append(_case(f"{name}:*", [*parse.flags(kind), *(policies if name == "evaluate" else [])]))
    inner = []
    for name in registry.names():
        inner.append("    " + _case(name, words_of.flags(registry.get(name))))
    cases.append('      train:*) case "${COMP_WORDS[2]}" in\n' + "\n".join(inner))
    cases.append("    " + _case("*", resume) + "\n        esac ;;")
    return _SCRIPT.format(tasks=_quoted(tasks), policies=_quoted(policies), cases="\n".join(cases))


def _case(pattern: str, words: Iterable[str]) -> str:
    return f"      {pattern}) words={_quoted(words)} ;;"


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
