"""Words to values: what the commands share."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import itertools
import json
import math
import re
import textwrap
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tyro

from jsafe.runs.checkpoint import Which


def parse(kind: type, arguments: Sequence[str], prog: str, more: Iterable[str] = ()) -> Any:
    """Reads words into a dataclass; whole numbers also in the form 5e6.

    Args:
      kind: The dataclass.
      arguments: The words.
      prog: The command, for messages.
      more: Options with values that were read before, for the closest match.

    Raises:
      ValueError: For an unknown option (with the closest match), a missing or empty value, or one that does not fit.
      SystemExit: After `--help`.
    """
    known = {*more, *flags(kind)}
    for i, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        if not word or (equals and not value and option.startswith("--")):
            before = [each for each in arguments[:i] if each.startswith("-")][-1:]
            raise ValueError(f"{option or (before or ['a word'])[0]} is empty")
        if option.startswith("--") and re.sub("_", "-", option) not in known | {"--help", "--help-verbose"}:
            raise ValueError(f"unknown option {option}{_did_you_mean(option, known)} `{prog} --help` lists all")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=list(arguments), prog=prog, registry=_numbers())
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(_one_line(said.getvalue())) from None


def _did_you_mean(option: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(option.replace("_", "-"), sorted(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else "."


def flags(kind: type) -> list[str]:
    """The options that a dataclass becomes: dashes for underscores, `--no-` for switches, other names, dots."""
    hints, found = typing.get_type_hints(kind, include_extras=True), []
    for field in dataclasses.fields(kind):
        hint, names = hints[field.name], [field.name]
        for mark in getattr(hint, "__metadata__", ()):
            names = [mark.name] if getattr(mark, "name", None) is not None else names
            names += [alias.lstrip("-") for alias in getattr(mark, "aliases", None) or ()]
        plain = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        if isinstance(plain, type) and dataclasses.is_dataclass(plain):
            found += flags(plain) if names == [""] else [f"--{names[0]}.{flag[2:]}" for flag in flags(plain)]
            continue
        for name in names:
            found.append(f"--{name}")
            if plain is bool:
                head, _, last = name.rpartition(".")
                found.append(f"--{head}.no-{last}" if head else f"--no-{last}")
    return [flag.replace("_", "-") for flag in found]


def _one_line(text: str) -> str:
    """What tyro says in a box (or without one, on a terminal of few letters), less its title and what it repeats."""
    lines = [line.strip().strip("│").strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] not in "╭╰"]
    sections: list[list[str]] = [[]]
    for line in lines:
        if set(line) <= set("─-"):
            sections.append([])
        else:
            sections[-1].append(line)
    first = 0 if "│" in text else 1  # without a box, the title is a section
    said = " ".join(sections[first] if len(sections) > first else lines)
    for section in sections:
        if section[:1] == ["Argument helptext:"]:
            said += f"; wanted: {section[1]}"
    return re.sub(r"^Error parsing [A-Z]\w*: ", "", said)  # the dataclass that refused a field says its name


def _numbers() -> tyro.constructors.ConstructorRegistry:
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_whole_numbers)
    return registry


def _whole_numbers(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if info.type is not int:
        return None

    def read(words: list[str]) -> int:
        try:
            return int(words[0])
        except ValueError:
            value = float(words[0])
            if not math.isfinite(value) or value != int(value):
                raise ValueError(f"{words[0]} is not a whole number") from None
            return int(value)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


# ---- words that are read first -----------------------------------------------------------------------------------


def peek(arguments: Sequence[str], *options: str) -> str | None:
    """The last value that is given to an option, under any of its names."""
    value = None
    for i, word in enumerate(arguments):
        name, equals, after = word.partition("=")
        if name.replace("_", "-") in options:
            value = after if equals else arguments[i + 1] if i + 1 < len(arguments) else value
    return value


def take(arguments: Sequence[str], pattern: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Options whose name matches, with their values, and the words that are left.

    Raises:
      ValueError: If one has no value.
    """
    found, left, words = [], [], iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if not re.fullmatch(pattern, name):
            left.append(word)
            continue
        if not equals:
            value = next(words, "")
        if not value or (not equals and value.startswith("--")):
            raise ValueError(f"{name} needs a value")
        found.append((name, value))
    return found, left


def take_env_options(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """`--env.KEY VALUE`: what goes to the constructor of an environment, and the words that are left.

    A value is read as JSON (200, 0.5, true, [1, 2], null) or in Python's spelling of True, False and None; anything
    else is text.

    Raises:
      ValueError: For a number that is not finite, or a key that is no name.
    """
    found, left = take(arguments, r"--env\..*")
    options = {}
    for name, text in found:
        key = name.removeprefix("--env.").replace("-", "_")
        if not key.isidentifier():
            raise ValueError(f"{name}: the environment's option must be a name, got {key!r}")
        options[key] = value = _literal(text)
        if not all(map(_finite, _leaves(value))):
            raise ValueError(f"{name} must be finite, got {text}")
    return options, left


def _literal(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text)
    except ValueError:
        return text


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return True
    except OverflowError:
        return False


def take_imports(arguments: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """`--import MODULE`, imported at once: it may register the very task or algorithm that is named next.

    Raises:
      ValueError: If a module cannot be imported.
    """
    found, left = take(arguments, "--import")
    names = tuple(name for _, name in found)
    if names:
        from jsafe.runs.build import load_modules

        load_modules(names)
    return names, left


def run_folder(folder: Path) -> Path:
    """The folder, if it holds a run.

    Raises:
      ValueError: If it does not.
    """
    try:
        found = (folder / "config.json").is_file()
    except OSError as error:
        raise ValueError(f"{folder} is not a run folder: {error.strerror}") from None
    if not found:
        raise ValueError(f"{folder} is not a run folder: it has no config.json")
    return folder


def checkpoint(word: str | None, file: bool = False) -> Which:
    """A checkpoint of a run from its word: `best` or a number; None: the newest.

    Args:
      word: The word, if any.
      file: Whether the policy comes from a file, which has none.

    Raises:
      ValueError: For another word, or a file.
    """
    if word is None:
        return None
    if file:
        raise ValueError("--checkpoint is for a run folder; a file holds one policy")
    if word == "best":
        return "best"
    if not word.isdecimal():
        raise ValueError(f"--checkpoint must be best or the number of an iteration, got {word!r}")
    return int(word)


def policy(where: str | Path) -> bool:
    """Whether it is a policy file, or one of the zoo; else it has to be a run folder.

    Raises:
      ValueError: If it is none of them.
    """
    from jsafe.deploy import reading, zoo

    name = str(where)
    if name.startswith("zoo:"):
        zoo.path(name.removeprefix("zoo:"))
    elif not reading.is_file(where):
        run_folder(Path(where))
        return False
    elif not Path(where).is_file():
        raise ValueError(f"there is no file {where}")
    return True


# ---- help --------------------------------------------------------------------------------------------------------


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """The text under each field of a dataclass, those of its bases included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, ValueError, SyntaxError):  # made at run time
            continue
        lines = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in itertools.pairwise(lines):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def first_sentence(text: str | None) -> str:
    """The beginning of a text up to its first full stop."""
    return re.split(r"(?<=\.)(?<!al\.)\s(?=[A-Z`])", " ".join((text or "").split()), maxsplit=1)[0]


def columns(rows: Iterable[tuple[str, str]], width: int, left: int = 30) -> str:
    """Two columns, the second one wrapped."""
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(width - left - 3, 30)) or [""]
        if len(name) > left:
            lines.append(f"  {name}")
            name = ""
        lines.append(f"  {name:{left}} {wrapped[0]}".rstrip())
        lines += [f"  {'':{left}} {line}" for line in wrapped[1:]]
    return "\n".join(lines)
