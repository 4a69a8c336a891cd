"""Damaged run folders: is the damage recognised, and is what is whole used?

    python experiments/robustness/bit_flips.py [--quick] [--flips 1000] [--whole 100] [--out bit_flips.csv]

A finished run (on-policy, and off-policy with its replay's journal) is copied and one of its files is damaged.

1. `read`: one flipped bit, 1000 times, anywhere in what a resume reads. The copy is opened as a resume opens it (its
   config, checkpoint, journal and curve), in this process, and what came back is compared with the undamaged run.
2. `resume`, `evaluate`: whole commands. The copy is continued by two iterations or evaluated, and so are an undamaged
   one and one without its newest checkpoint: a resume gives the same end from either. Damages: a flipped bit, the
   end cut off, no content, a block of zeros, no file, bytes after the end, the same file of a run with another seed.
3. Every value of config.json is replaced by one of a wrong type, and a copy continued.

Outcomes:
  harmless   same end; the damage was not mentioned (spaces, a time stamp, a file that is not needed)
  recovered  same end, and a line names the damaged file (evaluate: the same report, or that of the checkpoint before)
  kept       a changed cell in progress.csv stays as it is; everything else is the same
  refused    status 1 or 2 and one message that names the damaged file
  blamed     the message puts it on the configuration
  unclear    another message
  wrong      status 0 and another end, whether or not something is said
  traceback, crash, hangs   as they say
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import Done, Shell, Table, options, workplace
from folders import checkpoints, curve, differences, small, stored

KINDS = ("flip", "flip", "flip", "flip", "cut", "empty", "zeros", "gone", "more", "swap")
ANY = ("harmless", "recovered")
WANTED = {
    "config": (*ANY, "refused"),
    "progress": (*ANY, "kept"),
    "journal": (*ANY, "refused"),
    "newest": ANY,
    "older": ANY,
    "other": ANY,
}
_TROUBLE = re.compile(
    r"damage|corrupt|unreadable|checksum|cannot be read|not a run folder|broken|invalid|missing", re.I
)
_BLAME = re.compile(r"another configuration|does not fit|belongs to|field of|unknown", re.IGNORECASE)


def main() -> int:
    """Runs the campaign."""
    more = {
        "flips": {"type": int, "default": 1000, "help": "bits to flip"},
        "whole": {"type": int, "default": 100, "help": "damages to try whole commands on"},
    }
    given = options(__doc__, "bit_flips", **more)
    with workplace(given) as (shell, table):
        rng = random.Random(given.seed)
        algorithms = ("sac_lag",) if given.quick else ("sac_lag", "ppo_lag")
        subjects = [Subject(shell, name) for name in algorithms]
        for number in range(16 if given.quick else given.whole):
            subject = subjects[number % len(subjects)]
            subject.damage(table, number, rng, given.only)
        for subject in subjects:
            for k, (name, config) in enumerate(_edits(subject.config)):
                if re.search(given.only, f"edit {name}") and (not given.quick or k % 30 == 7):
                    subject.edit(table, name, config)
        readers = [Reader(subject) for subject in subjects]  # last: no command is forked once JAX has started
        for number in range(60 if given.quick else given.flips):
            readers[number % len(readers)].flip(table, number, rng, given.only)
        return table.close()


class Subject:
    """A run, a run of another seed, and what becomes of the whole one."""

    def __init__(self, shell: Shell, algorithm: str):
        self.shell, self.algorithm, self._place = shell, algorithm, shell.work / algorithm
        often = {"checkpoint_seconds": 0, "keep_checkpoints": 2}
        for name, seed in (("run", 0), ("other", 1)):
            done = shell.run(small(algorithm, run_dir=self._place / name, seed=seed, **often), limit=120)
            assert done.status == 0, done.text
        self.run, self._other = self._place / "run", self._place / "other"
        self.config = json.loads((self.run / "config.json").read_text())
        self._total = 1000 + (400 if algorithm.startswith("ppo") else 40)
        self._whole = self.copy("whole")
        assert self._resume(self._whole).status == 0
        older = self.copy("older")
        shutil.rmtree(older / "checkpoints" / f"{checkpoints(older)[-1]:08d}")
        self._reports = []
        for run in (self.copy("evaluated"), older):
            assert self._evaluate(run).status == 0
            self._reports.append(_report(run))
        self.files = [path.relative_to(self.run) for path in sorted(self.run.rglob("*")) if path.is_file()]
        numbers = [f"{number:08d}" for number in checkpoints(self.run)]
        self._groups: dict[str, list[Path]] = {}
        for path in self.files:
            self._groups.setdefault(_group(path, numbers), []).append(path)

    def damage(self, table: Table, number: int, rng: random.Random, only: str) -> None:
        """Damages one file and continues, or evaluates."""
        group = rng.choice(sorted(self._groups))
        path, kind = rng.choice(self._groups[group]), rng.choice(KINDS)
        if group == "progress" and kind == "swap":  # a whole and plausible table: nothing could tell
            kind = "flip"
        how = "evaluate" if group != "progress" and rng.random() < 0.35 else "resume"
        seed = rng.random()
        name = f"{number} {self.algorithm} {kind} {group} {path.name} {how}"
        if not re.search(only, name) or table.has(name):
            return
        run = self.copy("damaged")
        what = _damage(run / path, kind, self._other / path, random.Random(seed))
        done = self._resume(run) if how == "resume" else self._evaluate(run)
        outcome, text = self._judge(done, run, path, how, group)
        table.add(name, WANTED[group], outcome, done.seconds, f"{what}: {text}")

    def edit(self, table: Table, name: str, config: Any) -> None:
        """Continues with another config.json."""
        if table.has(f"edit {self.algorithm} {name}"):
            return
        run = self.copy("damaged")
        (run / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        done = self._resume(run)
        outcome, text = self._judge(done, run, Path("config.json"), "resume", "config")
        field = re.sub("_", "[-_ ]", name.split("/")[-1].split(" ")[0])
        if outcome in ("blamed", "unclear") and re.search(field, done.text):
            outcome = "refused"
        wanted = ("recovered", "refused")
        if "gone" in name or "preset" in name or name.startswith("j"):  # a name for people, or one that may be younger
            wanted = (*ANY, "refused")
        table.add(f"edit {self.algorithm} {name}", wanted, outcome, done.seconds, text)

    def _judge(self, done: Done, run: Path, path: Path, how: str, group: str) -> tuple[str, str]:
        if done.status is None:
            return "hangs", done.last()
        if done.trace:
            return "traceback", done.last()
        if done.status < 0 or done.status > 2:
            return "crash", done.last()
        names = (path.name, path.parent.name) if path.parent.name.isdigit() else (path.name,)
        said = bool(_TROUBLE.search(done.text)) and any(name in done.text for name in names)
        if done.status:
            if group == "config" and said:
                return "refused", done.last()
            if group != "progress" and _BLAME.search(done.text):
                return "blamed", done.last()
            return ("refused" if said else "unclear"), done.last()
        if how == "evaluate":
            report = _report(run)
            if report == self._reports[0] or (said and report == self._reports[1]):
                return ("recovered" if said else "harmless"), ""
            return "wrong", f"another report; {'said' if said else 'silent'}"
        rows, others = curve(self._whole), curve(run)
        found = [f"checkpoint: {name}" for name in differences(stored(self._whole), stored(run))]
        cells = [f"{row['env_steps']}: {name}" for row, like in zip(rows, others) for name in differences(row, like)]
        found += [f"{len(others)} rows for {len(rows)}"] if len(rows) != len(others) else []
        if group == "progress" and not found and cells and not said and len(cells) <= 2:
            return "kept", ", ".join(cells)
        if group == "progress" and said and not any(each.startswith("checkpoint") for each in found):
            return "recovered", done.last()
        if found or cells:
            return "wrong", f"{', '.join([*found, *cells][:3])}; {'said' if said else 'silent'}"
        return ("recovered" if said else "harmless"), ""

    def copy(self, name: str) -> Path:
        """A copy of the undamaged run."""
        target = self._place / name
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(self.run, target))

    def _resume(self, run: Path) -> Done:
        return self.shell.run(["train", "--resume", run, "--total-steps", self._total], limit=60)

    def _evaluate(self, run: Path) -> Done:
        return self.shell.run(["evaluate", run, "--episodes", 3], limit=60)


class Reader:
    """Opens copies of a subject's run as a resume does, with one learner and one collector."""

    def __init__(self, subject: Subject):
        from jsafe.runs.build import build_collector, build_learner
        from jsafe.runs.folder import read

        self._subject, self._stack = subject, contextlib.ExitStack()
        described = read(subject.run)
        self._learner = build_learner(described)
        self._collector = build_collector(described, self._learner, self._stack)
        older = subject.copy("older")
        shutil.rmtree(older / "checkpoints" / f"{checkpoints(older)[-1]:08d}")
        self._wanted = [self._open(run) for run in (subject.copy("whole"), older)]
        size = {path: (subject.run / path).stat().st_size for path in subject.files}
        self._files = [path for path in subject.files if size[path] and "tfevents" not in path.name]

    def flip(self, table: Table, number: int, rng: random.Random, only: str) -> None:
        """Flips one bit of one file."""
        path, seed = rng.choice(self._files), rng.random()
        name = f"{number} {self._subject.algorithm} flip {path} read"
        if not re.search(only, name) or table.has(name):
            return
        run, started = self._subject.copy("damaged"), time.monotonic()
        what = _damage(run / path, "flip", run, random.Random(seed))
        outcome, text = self._outcome(run, path)
        group = _group(path, [f"{each:08d}" for each in checkpoints(self._subject.run)])
        table.add(name, WANTED[group], outcome, time.monotonic() - started, f"{what}: {text}")

    def _outcome(self, run: Path, path: Path) -> tuple[str, str]:
        from jsafe.runs.checkpoint import CheckpointError
        from jsafe.runs.folder import RunError

        names = (path.name, path.parent.name) if path.parent.name.isdigit() else (path.name,)
        try:
            found, text = self._open(run)
        except (RunError, CheckpointError) as error:
            said = bool(_TROUBLE.search(str(error))) and any(name in str(error) for name in names)
            return ("refused" if said else "blamed" if _BLAME.search(str(error)) else "unclear"), str(error)
        except Exception as error:
            return "traceback", f"{type(error).__name__}: {error}"
        said = bool(_TROUBLE.search(text)) and any(name in text for name in names)
        (newest, _), (older, _) = self._wanted
        if path.name == "progress.csv" and found[1:] == newest[1:]:
            return ("harmless" if found == newest else "recovered" if said else "kept"), text
        if found == newest:
            return ("recovered" if said else "harmless"), text
        return ("recovered" if said and found == older else "wrong"), text or "silent"

    def _open(self, run: Path) -> tuple[tuple, str]:
        """(curve, iteration, learner's state, everything of the collector) and what was said."""
        import jax
        from rich.console import Console

        from jsafe.runs.folder import read
        from jsafe.runs.session import Session
        from jsafe.scale.processes import Team

        screen = io.StringIO()
        console = Console(file=screen, width=10_000)
        session = Session(run, read(run), self._learner, self._collector, console, Team.alone())
        session.close()
        held = jax.device_get((session.state, self._collector.state_dict()))
        leaves = tuple(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(held))
        rows = tuple(tuple(row.items()) for row in curve(run))
        said = "\n".join(screen.getvalue().splitlines()[1:])  # the first line names the run
        return (rows, session.iteration, leaves), said


def _group(path: Path, numbers: list[str]) -> str:
    """What kind of file it is."""
    if path.name == "config.json":
        return "config"
    if path.name == "progress.csv":
        return "progress"
    if path.parts[0] == "journal":
        return "journal"
    if path.parts[0] == "checkpoints":
        return "newest" if numbers[-1] in path.parts else "older"
    return "other"


def _damage(path: Path, kind: str, other: Path, rng: random.Random) -> str:
    """Damages a file; says how."""
    data = bytearray(path.read_bytes())
    size = len(data)
    if kind == "swap" and not other.exists():
        kind = "flip"
    if kind == "flip" and size:
        at, bit = rng.randrange(size), rng.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        return f"bit {bit} of byte {at} of {size}"
    if kind == "cut":
        keep = rng.randrange(size) if size else 0
        path.write_bytes(data[:keep])
        return f"{keep} of {size} bytes"
    if kind == "zeros" and size:
        at = rng.randrange(size)
        data[at : at + 512] = bytes(min(512, size - at))
        path.write_bytes(data)
        return f"zeros at {at} of {size}"
    if kind == "gone":
        path.unlink()
    elif kind == "more":
        path.write_bytes(data + rng.randbytes(100))
    elif kind == "swap":
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(b"")
    return kind


def _report(run: Path) -> Any:
    try:
        return json.loads((run / "evaluation.json").read_text())
    except (OSError, ValueError):
        return None


def _edits(config: Any, path: tuple = ()) -> Iterator[tuple[str, Any]]:
    """(what was changed, the whole configuration) for every value: a wrong type, and none."""
    for name, value in config.items():
        here = (*path, name)
        shown = "/".join(here)
        if isinstance(value, dict):
            yield from (
                (label, config | {name: changed}) for label, changed in _edits(value, here)
            )  # the inner configuration, put back into its place
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        wrong: list[Any] = ["abc", float("nan"), True] if number else [{"a": 1}]
        wrong += ["yes"] if isinstance(value, bool) else [-3.5] if isinstance(value, (str, list)) else []
        for other in wrong:
            yield f"{shown} = {other!r}", config | {name: other}
        yield f"{shown} gone", {key: each for key, each in config.items() if key != name}
    if path:
        yield f"{'/'.join(path)}/nosuchfield = 1", config | {"nosuchfield": 1}


if __name__ == "__main__":
    sys.exit(main())
