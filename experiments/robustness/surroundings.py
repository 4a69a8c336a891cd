"""Scenarios around a process: its streams, its disk, its variables, its signals."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from functools import partial
from typing import Any

from bench import Bench, ended, fill, scenario, small_disk
from common import Done
from folders import curve, small

SHORT = 6000
_STREAMS = {
    "2>&1 | head -1": "{} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}",
    "2>&1 | true": "{} 2>&1 | true; exit ${{PIPESTATUS[0]}}",
    "| head -1": "{} | head -1; exit ${{PIPESTATUS[0]}}",
    "2> /dev/full": "{} 2> /dev/full",
    "> /dev/full": "{} > /dev/full",
    "> /dev/full 2>&1": "{} > /dev/full 2>&1",
    "2>&- (closed)": "{} 2>&-",
    ">&- (closed)": "{} >&-",
    "< > 2> all closed": "{} <&- >&- 2>&-",
}


def _stream(line: str, bench: Bench):
    """A training whose lines go nowhere."""
    done = bench.do(bench.words(total=SHORT), shell=line, limit=120)
    if done.status is None:
        return "hangs", done.last()
    if done.trace:
        return "traceback", done.uncaught
    found = bench.finished(total=SHORT)
    if found:
        return "unsaved", f"status {done.status}, {found[:2]}"
    return ("finished" if done.status in (0, 141, 120) else f"status {done.status}"), done.last()


for _name, _line in _STREAMS.items():
    scenario(f"stream: {_name}", "finished", quick=_name == "2>&1 | head -1")(partial(_stream, _line))


def _reader(words: list[str], line: str, bench: Bench):
    """Another command whose lines go nowhere."""
    bench.do(bench.words(total=2000))
    done = bench.do([word.replace("RUN", str(bench.run)) for word in words], shell=line)
    if done.trace or "Traceback" in done.text or "Exception ignored" in done.text:
        return "traceback", done.last()
    return ("finished" if done.status in (0, 1, 120, 141) else f"status {done.status}"), done.last()


for _name in ("2>&1 | head -1", "> /dev/full", ">&- (closed)"):
    scenario(f"stream: list {_name}", "finished")(partial(_reader, ["list"], _STREAMS[_name]))
    scenario(f"stream: evaluate {_name}", "finished")(
        partial(_reader, ["evaluate", "RUN", "--episodes", "2"], _STREAMS[_name])
    )


@scenario("disk: no file may grow beyond 4 kB", "unsaved", "refused", quick=True)
def file_limit(bench: Bench):
    """As a quota would."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = bench.do(bench.words(total=SHORT), setup=limit)
    outcome, detail = ended(done)
    if outcome != "refused":
        return ("silent" if outcome == "finished" else outcome), detail
    again = bench.resume() if bench.run.exists() else bench.do(bench.words(total=SHORT))
    found = bench.finished(total=SHORT) if again.status == 0 else [again.last()]
    return ("useless", f"{found[:2]}") if found else ("unsaved", detail)


def _full(free_again: bool, bench: Bench):
    """The disk fills up in the middle; is it free again, the run loses nothing."""
    with small_disk(bench.place, 16 << 20) as disk:
        bench.run = disk / "run"
        child = bench.start(bench.words())
        bench.until_saved(child)
        filler = fill(disk)
        for _ in range(200 if free_again else 0):
            if "could not write" in child.read() or "No space" in child.read() or not child.running():
                break
            time.sleep(0.02)
        if free_again:
            filler.unlink()
        done = child.wait(120)
        filler.unlink(missing_ok=True)
        outcome, detail = ended(done)
        if outcome == "finished":
            found = bench.finished()
            told = re.search("warning|could not", done.text)
            return ("silent", f"{found[:2]}") if found or not told else ("finished", detail)
        if outcome != "refused":
            return outcome, detail
        again = bench.resume()
        found = bench.finished() if again.status == 0 else [again.last()]
        return ("useless", f"{found[:2]}") if found else ("unsaved", detail)


scenario("disk: full for a while", "finished")(partial(_full, True))
scenario("disk: full until the end", "unsaved", quick=True)(partial(_full, False))


@scenario("disk: full under the log", "finished")
def full_log(bench: Bench):
    """The run folder lies elsewhere."""
    with small_disk(bench.place, 1 << 20) as disk:
        fill(disk)
        return _stream(f"{{}} > '{disk}/log' 2>&1", bench)


@scenario("disk: too small from the start", "refused", quick=True)
def too_small(bench: Bench):
    """Nothing is made."""
    with small_disk(bench.place, 64 << 10) as disk:
        fill(disk)
        outcome, detail = ended(bench.do(bench.words(run_dir=disk / "run")))
        return ("left behind" if (disk / "run").exists() and outcome == "refused" else outcome), detail


@scenario("disk: read-only", "refused")
def read_only(bench: Bench):
    """Nothing can be made."""
    with small_disk(bench.place, 1 << 20) as disk:
        os.system(f"mount -o remount,ro '{disk}'")
        return ended(bench.do(bench.words(run_dir=disk / "run")))


ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
VARIABLES: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "HOME unset": ({"HOME": None, "JAX_COMPILATION_CACHE_DIR": None}, ("finished",)),
    "HOME that is nowhere": ({"HOME": "/nowhere", "JAX_COMPILATION_CACHE_DIR": None}, ("finished",)),
    "XDG_CACHE_HOME that is a file": (
        {"XDG_CACHE_HOME": "/etc/passwd", "JAX_COMPILATION_CACHE_DIR": None},
        ("finished",),
    ),
    "a cache that cannot be written": ({"JAX_COMPILATION_CACHE_DIR": "/proc/nowhere"}, ("finished",)),
    "an ASCII terminal": (ASCII, ("finished",)),
    "TERM=dumb": ({"TERM": "dumb", "COLUMNS": "20"}, ("finished",)),
    "COLUMNS=1": ({"COLUMNS": "1", "LINES": "1"}, ("finished",)),
    "COLUMNS=abc": ({"COLUMNS": "abc"}, ("finished",)),
    "FORCE_COLOR": ({"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, ("finished",)),
    "TMPDIR that is nowhere": ({"TMPDIR": "/nowhere"}, ("finished",)),
    "JAX_PLATFORMS=nosuch": ({"JAX_PLATFORMS": "nosuch"}, ("refused",)),
    "JAX_PLATFORMS=cuda without one": ({"JAX_PLATFORMS": "cuda"}, ("refused", "finished")),
    "PYTHONOPTIMIZE=2": ({"PYTHONOPTIMIZE": "2"}, ("finished",)),
    "PYTHONWARNINGS=error": ({"PYTHONWARNINGS": "error"}, ("finished", "traceback")),
}


def _variables(env: dict[str, str | None], words: list[str], bench: Bench):
    """A command under other environment variables."""
    words = [word.replace("RUN", str(bench.run)) for word in words] or bench.words(total=2000)
    if str(bench.run) in words and words[0] != "train":
        bench.do(bench.words(total=2000))
    done = bench.do(words, env=env, fresh=True, limit=120)
    outcome, detail = ended(done)
    left = outcome == "refused" and words[0] == "train" and bench.run.exists()
    return ("left behind" if left else outcome), detail


for _name, (_env, _wanted) in VARIABLES.items():
    scenario(f"variables: {_name}", *_wanted, quick=_name == "an ASCII terminal")(partial(_variables, _env, []))
for _words in (["list"], ["--help"], ["train", "ppo_lag", "--help"], ["evaluate", "RUN", "--episodes", "2"]):
    scenario(f"variables: an ASCII terminal, {_words[0]} {_words[-1]}", "finished")(partial(_variables, ASCII, _words))
scenario("variables: an ASCII terminal, an error with an umlaut", "refused")(
    partial(_variables, ASCII, ["evaluate", "nirgendwö"])
)
scenario("variables: plot without HOME", "finished")(partial(_variables, {"HOME": None}, ["plot", "RUN"]))
scenario("variables: plot with MPLBACKEND=nosuch", "finished", "refused")(
    partial(_variables, {"MPLBACKEND": "nosuch"}, ["plot", "RUN"])
)
for _gl in ("cgl", "nosuch", "egl", "osmesa"):
    scenario(f"variables: play with MUJOCO_GL={_gl}", "refused", *(("finished",) if _gl in ("egl", "osmesa") else ()))(
        partial(_variables, {"MUJOCO_GL": _gl}, ["play", "SafetyPointGoal1-v0", "--steps", "2"])
    )


@scenario("the current folder is gone", "finished", "refused")
def no_folder(bench: Bench):
    """Removed under the shell."""
    gone = bench.place / "gone"
    gone.mkdir()

    def leave():
        os.chdir(gone)
        os.rmdir(gone)

    return ended(bench.do(bench.words(total=2000), setup=leave, fresh=True))


def _interrupted(number: int, group: bool, words: list[Any], bench: Bench):
    """A signal in the middle of a training."""
    child = bench.start(words or bench.words())
    bench.until_saved(child)
    child.send(number, group=group)
    done = child.wait(60)
    return _saved(done, number, bench)


def _saved(done: Done, number: int, bench: Bench):
    if done.trace or "Traceback" in done.text:
        return "traceback", done.last()
    if done.status != 128 + number:
        return f"status {done.status}", done.last()
    if done.orphans:
        return "orphans", f"{done.orphans} processes"
    if re.search("died|fail", done.text):
        return "noise", done.last()
    again = bench.resume()
    if again.status != 0:
        return "useless", again.last()
    rows = curve(bench.run)
    steps = [float(row["env_steps"]) for row in rows]
    return ("saved" if steps == sorted(set(steps)) else "useless"), done.last()


_outside = partial(small, "ppo_lag", "gymnasium:misbehaving:Robust-ok-v0", total_steps=SHORT, num_threads=2)
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    _also = ("status -1",) if _number == signal.SIGHUP else ()
    scenario(f"signal: {_number.name} to a training", "saved", *_also)(partial(_interrupted, _number, False, []))


@scenario("signal: Ctrl-C with outside environments", "saved", quick=True)
def ctrl_c_outside(bench: Bench):
    """The terminal sends it to the workers as well."""
    return _interrupted(signal.SIGINT, True, _outside(run_dir=bench.run, checkpoint_seconds=0.05), bench)


@scenario("signal: Ctrl-C while another one is served", "saved", "status -2", "status 130")
def twice(bench: Bench):
    """The second one kills; the folder stays whole."""
    child = bench.start()
    bench.until_saved(child)
    child.send(signal.SIGINT)
    time.sleep(0.02)
    child.send(signal.SIGINT)
    done = child.wait(60)
    again = bench.resume()
    found = bench.finished() if again.status == 0 else [again.last()]
    return ("useless", f"{found[:2]}") if found else (f"status {done.status}", done.last())


def _early(number: int, delay: float, words: list[str], bench: Bench):
    """A signal while a command starts or works: no traceback, and a status that says it."""
    if "RUN" in words:
        bench.do(bench.words(total=2000))
    words = [word.replace("RUN", str(bench.run)) for word in words] or bench.words()
    child = bench.start(words, fresh=True)
    time.sleep(delay)
    child.send(number, group=True)
    done = child.wait(60)
    if done.trace or "Traceback" in done.text:
        return "traceback", done.last()
    if done.status == 0:
        return "finished", done.last()
    return ("ended" if done.status in (128 + number, -number) else f"status {done.status}"), done.last()


for _delay in (0.3, 0.8, 1.3, 2.0, 3.0):
    scenario(f"signal: Ctrl-C {_delay} s after the start of train", "ended", "finished")(
        partial(_early, signal.SIGINT, _delay, [])
    )
scenario("signal: SIGTERM 1.3 s after the start of train", "ended")(partial(_early, signal.SIGTERM, 1.3, []))
for _words, _delay in (
    (["evaluate", "RUN", "--episodes", "100000"], 4.0),
    (["list"], 0.5),
    (["plot", "RUN"], 1.2),
    (["play", "SafetyPointGoal1-v0"], 3.0),
):
    scenario(f"signal: Ctrl-C in {_words[0]}", "ended", "finished")(partial(_early, signal.SIGINT, _delay, _words))
