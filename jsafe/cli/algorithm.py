"""The options of a training on the command line: those of every run, those of the algorithm and of its parts.

The words that choose a part are read first (`--rule pid`): they decide which options there are. An option of a part is
`--rule.kp`, or `--kp` where no other has that name.
"""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from jsafe import options as made_of
from jsafe import registry
from jsafe.cli import parse
from jsafe.options import Options, number
from jsafe.runs.config import RunConfig
from jsafe.scale.processes import JobConfig

_SET_BY_RUNS = ("total_steps",)
"""Options of algorithms whose value is the run's."""
_READ_BEFORE = ("env_options", "imports", "data_sha256")
"""Fields of a run that have a syntax of their own, or are filled in."""
FROM_DATA = "the data set's"
"""In the place of the task, until the file is read."""
_OFFLINE = ("data",)
"""Fields of a run that only algorithms on data sets use."""


@dataclasses.dataclass(frozen=True)
class Many(Options):
    """Several runs in one program."""

    seeds: int = number(1, low=1, high=4096)
    """Number of runs, with the seeds SEED, SEED + 1 ..., side by side in one program."""
    cost_limits: str | None = None
    """Cost limits to train for, side by side: 10,25,50. In the unit of the algorithm's own option."""

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.limits())) < len(self.limits()):
            raise ValueError(f"cost_limits names a limit twice: {self.cost_limits}")

    def limits(self) -> list[float]:
        """The numbers of `cost_limits`; none if there are none."""
        if self.cost_limits is None:
            return []
        try:
            found = [float(word) for word in self.cost_limits.split(",")]
        except ValueError:
            raise ValueError(f"cost_limits must be numbers separated by commas, got {self.cost_limits!r}") from None
        for limit in found:
            if not 0 <= limit < float("inf"):
                raise ValueError(f"cost_limits must be finite and at least 0, got {self.cost_limits!r}")
        return found


@dataclasses.dataclass(frozen=True)
class Place(Options):
    """Where a run goes."""

    run_dir: Path | None = None
    """Run folder (default: runs/ALGORITHM-ENV-sSEED, numbered where it exists)."""


class Given(NamedTuple):
    """What the command line says about a training."""

    run: RunConfig
    options: Any
    place: Place
    job: JobConfig
    many: Many


class Option(NamedTuple):
    """One option of the command line.

    Attributes:
      key: For the changes of a config: the full name of an option, or a short one.
      names: On the command line, the one to show first.
      hint: Its type.
      default: Its value if it is not given.
      text: What it is.
      group: Where it belongs: a type of `Given`, or the path of a part.
      shown: Whether the help lists it.
      holds: Whether the default is in force: no unit of a limit is, but one.
    """

    key: str
    names: tuple[str, ...]
    hint: Any
    default: Any
    text: str
    group: Any
    shown: bool = True
    holds: bool = True

    @property
    def flags(self) -> tuple[str, ...]:
        """Every word that gives it."""
        dashed = [name.replace("_", "-") for name in self.names]
        off = [f"{head}{dot}no-{last}" for head, dot, last in (name.rpartition(".") for name in dashed)]
        return tuple(f"--{name}" for name in (*dashed, *(off if self.hint is bool else ())))


def read(algorithm: registry.Algorithm, arguments: Sequence[str]) -> Given:
    """Reads the words of `jsafe train NAME`.

    Raises:
      ValueError: For an unknown option (with the closest match, or the part that has it), or a value that does not fit.
      SystemExit: After `--help`.
    """
    imports, words = parse.take_imports(arguments)
    env_options, words = parse.take_env_options(words)
    preset = parse.peek(words, "--preset")
    chosen, config, words = _choose_parts(algorithm, preset, words)
    found = [*_plain(RunConfig), *_plain(Place), *_of(config), *_plain(JobConfig), *_plain(Many)]
    if algorithm.family != "offline":
        found = [option._replace(shown=option.shown and option.key not in _OFFLINE) for option in found]
    _check_names(algorithm.name, found)
    if {"-h", "--help"} & set(words):
        print(_help(algorithm, config, found))
        raise SystemExit(0)
    _check_words(algorithm.name, config, found, words)
    if parse.peek(words, "--env") is None:
        if parse.peek(words, "--data") is None:
            raise ValueError("--env ID is missing: the task to train on; `jsafe list tasks` names them")
        words = [*words, "--env", FROM_DATA]
    values = _parse(found, words, f"jsafe train {algorithm.name}")
    groups = {kind: {o.key: values[o.key] for o in found if o.group is kind} for kind in _SHARED}
    changes = {o.key: values[o.key] for o in found if o.group not in _SHARED and _is_given(o, words)}
    steps = algorithm.presets[preset].total_steps if preset else None
    if steps is not None and parse.peek(words, "--total-steps") is None:
        groups[RunConfig]["total_steps"] = steps
    if env_options or imports:
        groups[RunConfig] |= {"env_options": env_options, "imports": imports}
    options = registry.make_config(algorithm, preset, **chosen, **changes)
    place, job, many = Place(**groups[Place]), JobConfig(**groups[JobConfig]), Many(**groups[Many])
    return Given(RunConfig(**groups[RunConfig]), options, place, job, many)


def flags(algorithm: registry.Algorithm) -> list[str]:
    """The options of `jsafe train NAME` that its help lists, with the parts that it has by default."""
    found = [*_plain(RunConfig), *_plain(Place), *_of(algorithm.config), *_plain(JobConfig), *_plain(Many)]
    _check_names(algorithm.name, found)
    parts = [f"--{path.replace('_', '-')}" for path in _seams(algorithm.config)]
    return [option.flags[0] for option in found if option.shown] + parts + ["--import", "--help"]


def with_task(config: RunConfig) -> RunConfig:
    """With the task that the data set was recorded on, and the options of its environment, where none was given.

    Raises:
      ValueError: If the data set does not know.
    """
    if config.env != FROM_DATA:
        return config
    from jsafe.runs.build import NO_ENV, load_data

    about = load_data(dataclasses.replace(config, env=NO_ENV, costs="sum")).about
    if about.env is None:
        raise ValueError(
            f"--env ID is missing: {config.data} does not say which task it was recorded on; "
            f"--env {NO_ENV} trains without one"
        )
    options = dict(about.env_options) | dict(config.env_options)
    return dataclasses.replace(config, env=about.env, env_options=tuple(options.items()))


_SHARED = (RunConfig, Place, JobConfig, Many)


def _choose_parts(
    algorithm: registry.Algorithm, preset: str | None, words: list[str]
) -> tuple[dict[str, str], Any, list[str]]:
    """The parts that are named, the config with them, and the words that are left."""
    chosen: dict[str, str] = {}
    config = registry.make_config(algorithm, preset)
    while True:
        spelled = made_of.spellings(config)
        for path in _seams(config):
            names = [name for name, targets in spelled.items() if targets == (path,)]
            flags = [f"--{name.replace('_', '-')}" for name in names]
            if path not in chosen and (word := parse.peek(words, *flags)) is not None:
                chosen[path] = word
                _, words = parse.take(words, "|".join(flag.replace(".", r"\.").replace("-", "[-_]") for flag in flags))
                config = registry.make_config(algorithm, preset, **chosen)
                break  # it may bring seams of its own
        else:
            return chosen, config, words


def _seams(config: Any) -> dict[str, str]:
    """The paths of the parts of a config, with the names of their seams; an outer one comes first."""
    return {path: field.metadata["seam"] for path, field in made_of.paths(config).items() if "seam" in field.metadata}


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


def _plain(kind: type) -> list[Option]:
    """The options of one of the dataclasses that every training has."""
    hints, texts = typing.get_type_hints(kind), parse.field_docs(kind)
    return [
        Option(field.name, (field.name,), hints[field.name], field.default, texts.get(field.name, ""), kind)
        for field in dataclasses.fields(kind)
        if field.name not in _READ_BEFORE
    ]


def _of(config: Any) -> list[Option]:
    """The options of an algorithm and of its parts."""
    known, spelled = made_of.paths(config), made_of.spellings(config)
    short = getattr(type(config), "SHORT", {})
    found, covered, other_name = [], set(), {}
    for name, function in short.items():
        targets = spelled[name]
        if not set(targets) <= set(known):  # of a part that is not in use
            continue
        if "seam" in known[targets[0]].metadata:  # parts are chosen one by one
            continue
        if not callable(function):
            other_name[function] = name
            continue
        value = _value(config, targets[0])
        text, fixed = _about_short(config, name, function(value))
        holds = all(_value(config, path) == value for path, value in fixed.items())
        found.append(Option(name, (name,), made_of.type_of(config, targets[0]), value, text, "", holds=holds))
        covered |= {*targets, *fixed}
    for path, field in known.items():
        value, hint = _value(config, path), made_of.type_of(config, path)
        if path in _SET_BY_RUNS or "seam" in field.metadata or dataclasses.is_dataclass(value):
            continue
        if not _is_readable(hint):
            continue
        group, _, word = path.rpartition(".")
        spellings = (other_name.get(path), word if spelled.get(word) == (path,) else None, path)
        names = tuple(dict.fromkeys(filter(None, spellings)))
        found.append(Option(path, names, hint, value, _text(config, path), group, path not in covered))
    return found


def _about_short(config: Any, name: str, changes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a short name sets, and what it fixes besides, as the unit of a limit."""
    targets = made_of.spellings(config)[name]
    fixed = {path: value for path, value in changes.items() if path not in targets}
    text = _text(config, targets[0])
    if fixed:
        owner = _value(config, targets[0].rpartition(".")[0])
        put = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in fixed.items())
        text = f"{parse.first_sentence(type(owner).__doc__).removesuffix('.')} ({put})."
    if len(targets) > 1:
        each = ", ".join(f"--{path.replace('_', '-')}" for path in targets)
        text = f"{parse.first_sentence(text) or name.capitalize()} (One by one: {each}.)"
    return text, fixed


def _text(config: Any, path: str) -> str:
    head, _, last = path.rpartition(".")
    kind: type = type(_value(config, head) if head else config)
    return parse.field_docs(kind).get(last, "")


def _is_readable(hint: Any) -> bool:
    """Whether a word can say such a value."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType, tuple):
        return all(_is_readable(each) for each in typing.get_args(hint) if each is not Ellipsis)
    return origin is typing.Literal or hint in (bool, int, float, str, Path, type(None))


def _check_names(algorithm: str, found: list[Option]) -> None:
    """The short name of a part's option gives way to an option of every run; a name of the algorithm's own does not."""
    shared = {flag for option in found if option.group in _SHARED for flag in option.flags}
    for i, option in enumerate(found):
        if option.group in _SHARED or not shared & set(option.flags):
            continue
        if "." not in option.key:
            raise ValueError(f"{algorithm} has an option that every run has too: {option.key}")
        found[i] = option._replace(names=(option.key,))


def _check_words(algorithm: str, config: Any, found: Sequence[Option], words: Sequence[str]) -> None:
    known = {flag for option in found for flag in option.flags}
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if not flag.startswith("--") or flag in known:
            continue
        name = flag[2:].replace("-", "_").rpartition(".")[2]
        hits = [option.flags[0] for option in found if option.key.endswith(f".{flag[2:].replace('-', '_')}")]
        if len(hits) > 1:
            raise ValueError(f"option {flag} of {algorithm} is one of {', '.join(hits)}: say which")
        if told := made_of.elsewhere(config, name) or made_of.elsewhere(config, name.removeprefix("no_")):
            raise ValueError(f"option {flag} of {algorithm} {told}")
    short = {option.key: option for option in found if option.group == "" and _is_given(option, words)}
    spelled = made_of.spellings(config)
    shorts = [key for key in short if key in getattr(type(config), "SHORT", {})]
    for i, one in enumerate(shorts):
        for other in shorts[i + 1 :]:
            if set(spelled[one]) & set(spelled[other]):
                raise ValueError(f"give one of {short[one].flags[0]} and {short[other].flags[0]}, not both")


def _is_given(option: Option, words: Sequence[str]) -> bool:
    return any(word.partition("=")[0].replace("_", "-") in option.flags for word in words if word.startswith("--"))


def _parse(found: Sequence[Option], words: Sequence[str], prog: str) -> dict[str, Any]:
    fields = []
    for i, option in enumerate(found):
        main, *others = (name.replace("_", "-") for name in option.names)
        marked: Any = Annotated[option.hint, tyro.conf.arg(name=main, aliases=[f"--{name}" for name in others])]
        fields.append(
            (f"option_{i}", marked)
            if option.default is dataclasses.MISSING
            else (f"option_{i}", marked, dataclasses.field(default=option.default))
        )
    kind = dataclasses.make_dataclass("Options", fields, frozen=True, kw_only=True)
    given = parse.parse(kind, words, prog)
    return {option.key: getattr(given, f"option_{i}") for i, option in enumerate(found)}


# ---- help --------------------------------------------------------------------------------------------------------


def _help(algorithm: registry.Algorithm, config: Any, found: Sequence[Option]) -> str:
    """Everything about an algorithm on one page: presets, then options by part with a line each."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)

    def rows(*groups: Any) -> str:
        chosen = [option for option in found if option.shown and option.group in groups]
        return parse.columns(map(_row, chosen), width)

    what = "--data FILE" if algorithm.family == "offline" else "--env ID"
    sections = [
        f"usage: jsafe train {algorithm.name} {what} [options]",
        f"{algorithm.summary}\n{algorithm.paper}".strip(),
    ]
    if algorithm.presets:
        presets = [
            (name, preset.summary + (" (recommended)" if name == algorithm.recommended else ""))
            for name, preset in algorithm.presets.items()
        ]
        sections.append(f"Presets (--preset NAME)\n{parse.columns(presets, width, 18)}")
    sections.append(f"Options of {algorithm.name}\n{rows('')}")
    seams = _seams(config)
    groups = {option.group for option in found if option.shown} | {*seams}
    for path in filter(groups.__contains__, made_of.paths(config)):
        folded = seams.get(path) == "encoder" and _value(config, path) == type(_value(config, path))()
        options = _names_alone(found, path, width) if folded else rows(path)
        sections.append(f"{_heading(config, path, seams.get(path), width)}\n{options}")
    env = [
        ("--env.KEY VALUE", "An option of the environment's constructor: --env.horizon 200."),
        ("--import MODULE", "Import a module first, of the current folder say: it may register tasks and algorithms."),
    ]
    sections.append(f"Options of every run\n{rows(*_SHARED)}\n{parse.columns(env, width)}")
    return "\n\n".join(section.rstrip() for section in sections)


def _heading(config: Any, path: str, seam: str | None, width: int) -> str:
    part = _value(config, path)
    about = parse.first_sentence(type(part).__doc__)
    kind = getattr(type(part), "kind", "")
    others = [other for other in made_of.kinds(seam or "") if other != kind]
    choice = f" (or --{path.replace('_', '-')} {', '.join(others)})" if others and kind else ""
    name = f"{path.replace('.', ' ').replace('_', ' ').capitalize()}{f' {kind}' if kind else ''}"
    return textwrap.fill(f"{name}{choice}: {about}", width)


def _names_alone(found: Sequence[Option], path: str, width: int) -> str:
    """Options that are of use for pictures alone, and most tasks have none."""
    flags = [option.flags[0] for option in found if option.group == path]
    return textwrap.fill(", ".join(flags), width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _row(option: Option) -> tuple[str, str]:
    default = ""
    if option.default is dataclasses.MISSING:
        default = " [required]"
    elif option.hint is not bool and option.default is not None and option.holds:
        items = option.default if isinstance(option.default, tuple) else (option.default,)
        default = f" [{' '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in items)}]"
    elif option.hint is bool:
        default = " [yes]" if option.default else " [no]"
    name = f"--{option.names[0].replace('_', '-')}"
    if option.hint is bool and option.default:
        head, dot, last = name[2:].rpartition(".")
        name = f"--{head}{dot}no-{last}"
    return f"{name} {_metavar(option.hint)}".rstrip(), f"{parse.first_sentence(option.text)}{default}".strip()


def _metavar(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        words = [_metavar(each) for each in args if each is not type(None)]
        return words[-1] if len(words) > 1 and words[-1].startswith(words[0]) else "|".join(words)
    if origin is tuple:
        return f"{_metavar(args[0])} ..."
    if origin is typing.Literal:
        return "|".join(map(str, args))
    return {bool: "", int: "INT", float: "NUMBER", str: "WORD", Path: "PATH"}.get(hint, "VALUE")
