"""Scenarios around a run folder: two owners, things that vanish, files of the user's, names."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import TOTAL, Bench, ended, last_steps, newest, scenario
from common import Done
from folders import checkpoints, curve, differences, same_run, small

_WHO = re.compile(r"process|pid|owner|host|already|another", re.IGNORECASE)


def _second(done: Done) -> str:
    """How a training ended that met another one: refused with words about its owner, or not."""
    outcome, _ = ended(done)
    if outcome == "refused" and not (_WHO.search(done.text) and re.search(r"\d", done.text)):
        return "unclear"
    return outcome


@scenario("two owners: resume beside a training", "refused", quick=True)
def resume_beside(bench: Bench):
    """The second is refused, and the first ends as if alone."""
    child = bench.start()
    bench.until_saved(child)
    second = bench.resume(limit=30)
    first = child.wait(120)
    found = bench.finished()
    if second.status == 0 or found or first.status != 0:
        return "ruined", f"second {second.status}, first {first.status}, {len(found)} differences {found[:2]}"
    return _second(second), second.last()


@scenario("two owners: two starts at once in a new folder", "refused")
def two_starts(bench: Bench):
    """One of them wins."""
    children = [bench.start(), bench.start()]
    ends = [child.wait(120) for child in children]
    good = [done for done in ends if done.status == 0]
    found = bench.finished()
    if len(good) != 1 or found:
        return "ruined", f"status {[done.status for done in ends]}, {len(found)} differences {found[:2]}"
    return ended(next(done for done in ends if done.status != 0))


@scenario("two owners: the first one is stopped (Ctrl-Z)", "refused")
def stopped_owner(bench: Bench):
    """It still owns the folder."""
    child = bench.start()
    bench.until_saved(child)
    child.send(signal.SIGSTOP, group=True)
    second = bench.resume(limit=30)
    child.send(signal.SIGCONT, group=True)
    first = child.wait(120)
    found = bench.finished()
    if second.status == 0 or found:
        return "ruined", f"second {second.status}, first {first.status}, {len(found)} differences"
    return _second(second), second.last()


@scenario("two owners: the first one was killed", "finished", quick=True)
def killed_owner(bench: Bench):
    """Death frees the folder."""
    child = bench.start()
    bench.until_saved(child)
    child.send(signal.SIGKILL)
    child.wait(5)
    outcome, detail = ended(bench.resume())
    found = bench.finished()
    return ("ruined", f"{found[:3]}") if outcome == "finished" and found else (outcome, detail)


@scenario("two owners: killed while a worker hangs", "finished")
def killed_with_hung_worker(bench: Bench):
    """The worker neither keeps the folder nor lives on."""
    mark = bench.place / "mark"
    env = {"ROBUSTNESS_MARK": str(mark)}
    child = bench.start(
        bench.words(env="gymnasium:misbehaving:Robust-step_hangs-v0", total=2000, num_threads=2), env=env
    )
    end = time.monotonic() + 60
    while child.running() and not mark.exists() and time.monotonic() < end:
        time.sleep(0.05)
    child.send(signal.SIGKILL)
    first = child.wait(5)
    if first.orphans:
        return "orphans", f"{first.orphans} workers live on"
    return ended(bench.resume(env=env, limit=60))


@scenario("two owners: evaluate and plot beside a training", "finished")
def evaluate_beside(bench: Bench):
    """Readers are welcome."""
    child = bench.start()
    bench.until_saved(child)
    ends = [bench.do(["evaluate", bench.run, "--episodes", 2]), bench.do(["plot", bench.run])]
    first = child.wait(120)
    bad = [done for done in [*ends, first] if done.status != 0]
    return ended(bad[0] if bad else first)


@scenario("two owners: resume a run of a working sweep", "refused")
def sweep_owner(bench: Bench):
    """A sweep owns its runs."""
    grid = bench.place / "grid.toml"
    words = small("ppo_lag", total_steps=TOTAL, checkpoint_seconds=0.05)[4:]
    pairs = [(name[2:].replace("-", "_"), value) for name, value in zip(words[::2], words[1::2])]
    lines = [f"{name} = {f'[{value}]' if name == 'hidden' else value}" for name, value in pairs]
    grid.write_text("\n".join(['algorithm = "ppo_lag"', 'env = "Toy-SpeedLimit-v0"', *lines]) + "\n")
    child = bench.start(["sweep", grid, "--folder", bench.place / "sweep"])
    end, runs = time.monotonic() + 60, []
    while child.running() and time.monotonic() < end and not any(newest(run) >= 0 for run in runs):
        folder = bench.place / "sweep" / "runs"
        runs = list(folder.iterdir()) if folder.is_dir() else []
        time.sleep(0.05)
    second = bench.resume(runs[0], limit=60) if runs else None
    first = child.wait(120)
    if second is None or first.status != 0:
        return "unclear", first.last()
    return ("ruined", "both ended with status 0") if second.status == 0 else (_second(second), second.last())


def _gone(remove: Callable[[Path], None], algorithm: str, total: int, bench: Bench):
    """Something is removed in the middle of a run."""
    whole = bench.unbroken(algorithm, total)
    child = bench.start(bench.words(algorithm, total))
    bench.until_saved(child)
    while child.running() and not (bench.run / "progress.csv").exists():  # else there is nothing to take away
        time.sleep(0.005)
    if not child.running():
        return "unclear", "it was done before"
    remove(bench.run)
    done = child.wait(120)
    outcome, detail = ended(done)
    if outcome == "refused":
        return "failed", detail
    if outcome != "finished":
        return outcome, detail
    again = bench.resume(limit=60)
    if again.status != 0:
        return "useless", again.last()
    said = bool(re.search(r"warning: .*(vanish|missing|gone)", done.text, re.IGNORECASE))
    found = same_run(whole, bench.run)
    if found:
        return ("silent" if not said else "failed"), f"{found[:3]}"
    return ("restored" if said else "silent"), detail


def _empty(run: Path) -> None:
    (run / "config.json").write_text("")


def _rename(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


for _name, _remove, _algorithm, _total in (
    ("the run folder", shutil.rmtree, "ppo_lag", TOTAL),
    ("config.json", lambda run: (run / "config.json").unlink(), "ppo_lag", TOTAL),
    ("the content of config.json", _empty, "ppo_lag", TOTAL),
    ("progress.csv", lambda run: (run / "progress.csv").unlink(missing_ok=True), "ppo_lag", TOTAL),
    ("checkpoints", lambda run: shutil.rmtree(run / "checkpoints", ignore_errors=True), "ppo_lag", TOTAL),
    ("journal", lambda run: shutil.rmtree(run / "journal", ignore_errors=True), "sac_lag", 6000),
    ("tensorboard", lambda run: shutil.rmtree(run / "tensorboard", ignore_errors=True), "ppo_lag", TOTAL),
    ("the run folder's name (mv)", _rename, "ppo_lag", TOTAL),
):
    _wanted = ("restored", "failed", "silent") if _name == "tensorboard" else ("restored", "failed")
    scenario(f"vanishes during a run: {_name}", *_wanted, quick=_name == "config.json")(
        partial(_gone, _remove, _algorithm, _total)
    )


def _own(prepare: Callable[[Path, Path], None], algorithm: str, bench: Bench):
    """The user's files lie where the program writes."""
    mine = bench.place / "mine"
    (mine / "deep").mkdir(parents=True)
    for name in ("thesis.txt", "00000003", "deep/data.bin"):
        (mine / name).write_text(f"{name} of the user\n")
    total = 4000 if algorithm == "ppo_lag" else 2000
    done = bench.do(bench.words(algorithm, total, checkpoint_seconds=1e6))
    if done.status != 0:
        return ended(done)
    prepare(bench.run, mine)
    before = _user_files(bench.place)
    done = bench.do(["train", "--resume", bench.run, "--total-steps", 2 * total])
    after = _user_files(bench.place)
    if lost := [name for name in before if before[name] != after.get(name)]:
        return "deleted", f"status {done.status}: {', '.join(lost[:4])}"
    return ended(done)


def _user_files(place: Path) -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder) / name
            if "of the user" in (text := path.read_text(errors="replace") if path.stat().st_size < 100 else ""):
                found[str(path.relative_to(place))] = text
    return found


def _link(name: str, run: Path, mine: Path) -> None:
    """Moves a folder of the run beside the user's files, and links to them."""
    for path in (run / name).iterdir():
        path.rename(mine / path.name if path.name != "00000003" else mine / "moved")
    (run / name).rmdir()
    (run / name).symlink_to(mine)
    if name == "journal":  # which holds no folders
        shutil.rmtree(mine / "deep")


def _beside(name: str, run: Path, mine: Path) -> None:
    """Puts the user's files into a folder of the run."""
    (run / name).mkdir(exist_ok=True)
    (run / name / "notes.txt").write_text("notes of the user\n")
    (run / name / ".hidden").write_text("hidden, of the user\n")
    if name == "journal":
        return
    (run / name / "best").mkdir()
    (run / name / "best" / "policy.npz").write_text("policy of the user\n")
    (run / name / "2024").mkdir()
    (run / name / "2024" / "diary.txt").write_text("diary of the user\n")


def _linked_file(run: Path, mine: Path) -> None:
    path = run / "progress.csv"
    path.rename(mine / "progress.csv")
    path.symlink_to(mine / "progress.csv")


for _name, _prepare, _algorithm in (
    ("in checkpoints", partial(_beside, "checkpoints"), "ppo_lag"),
    ("in journal", partial(_beside, "journal"), "sac_lag"),
    ("in tensorboard", partial(_beside, "tensorboard"), "ppo_lag"),
    ("behind a linked checkpoints", partial(_link, "checkpoints"), "ppo_lag"),
    ("behind a linked journal", partial(_link, "journal"), "sac_lag"),
    ("behind a linked progress.csv", _linked_file, "ppo_lag"),
):
    scenario(f"files of the user {_name}", "finished", "refused", quick=_name == "in checkpoints")(
        partial(_own, _prepare, _algorithm)
    )


@scenario("files of the user behind a linked run folder", "finished", "refused")
def linked_run(bench: Bench):
    """The run folder itself is a link into another disk, which is common."""
    target = bench.place / "big"
    target.mkdir()
    (target / "notes.txt").write_text("notes of the user\n")
    bench.run.symlink_to(target)
    done = bench.do(bench.words(total=4000))
    return ended(done) if (target / "notes.txt").exists() else ("deleted", "notes.txt")


NAMES = {
    "brackets": "a[red]b",
    "closing brackets": "a[/]b",
    "bold": "[bold]",
    "unpaired": "a]b[c",
    "a link of rich": "[link=x]y[/link]",
    "spaces": "a b  c",
    "space in front": " a",
    "umlaut": "äöß",
    "emoji": "run🙂",
    "quotes": "a'b\"c",
    "percent": "50%d %s",
    "braces": "{x}{}",
    "tilde": "~",
    "dollar": "$HOME",
    "star": "a*?",
    "backslash": "a\\nb",
    "line feed": "a\nb",
    "escape": "a\x1b[31mb",
    "hash": "a#b;c&d|e",
    "255 letters": "x" * 255,
    "300 letters": "x" * 300,
    "a path of 6000": "/".join(["y" * 100] * 60),
    "not UTF-8": "a\udcffb",
}


def _named(name: str, bench: Bench):
    """A training, a resume and a plot in a folder of that name."""
    run = bench.place / name
    done = bench.do(bench.words(total=2000, run_dir=run), env={"COLUMNS": "20000"})
    outcome, detail = ended(done)
    if outcome != "finished":
        try:
            left = run.exists()
        except OSError:
            left = False
        return (outcome if not left else "left behind"), detail
    if not (run / "config.json").exists():
        return "silent", "no such folder"
    for words in (["train", "--resume", run, "--total-steps", 3000], ["evaluate", run, "--episodes", 1]):
        again = bench.do(words, env={"COLUMNS": "20000"})
        if again.status != 0 or again.trace:
            return ended(again)
    plain = name.isprintable() and name not in done.text
    return ("eaten", detail) if plain else ("finished", detail)


for _name, _text in NAMES.items():
    _wanted = ("refused",) if _name in ("300 letters", "a path of 6000") else ("finished", "refused")
    scenario(f"name of the folder: {_name}", *_wanted, quick=_name == "brackets")(partial(_named, _text))


@scenario("name of the folder: the default for an outside id", "finished")
def default_name(bench: Bench):
    """Neither a colon nor another level of folders."""
    words = small("ppo_lag", "gymnasium:misbehaving:Robust-ok-v0", num_threads=1)
    outcome, detail = ended(bench.do(words))
    made = [str(path.parent.relative_to(bench.place)) for path in bench.place.rglob("config.json")]
    bad = not made or ":" in made[0] or made[0].count("/") > 1
    return ("eaten", f"{made}") if outcome == "finished" and bad else (outcome, detail)


@scenario("goal: --resume RUN --total-steps 1 leaves the goal alone", "finished", "refused", quick=True)
def goal(bench: Bench):
    """A run that was interrupted at half is trained to its own goal afterwards."""
    child = bench.start(bench.words(total=TOTAL))
    bench.until_saved(child)
    child.send(signal.SIGTERM)
    child.wait(30)
    once = bench.do(["train", "--resume", bench.run, "--total-steps", 1])
    again = bench.resume()
    if once.trace or again.status != 0:
        return ended(once if once.trace else again)
    if last_steps(bench.run) < TOTAL:
        return "silent", f"the run has ended at {last_steps(bench.run):.0f} of {TOTAL} steps"
    return "finished", ""


@scenario("a checkpoint of another run is put in", "refused", "finished")
def foreign_checkpoint(bench: Bench):
    """A whole checkpoint folder of a run with another seed is newer than one's own."""
    for run, seed, total in ((bench.run, 0, 2000), (bench.place / "other", 1, 3000)):
        done = bench.do(bench.words(total=total, run_dir=run, seed=seed, checkpoint_seconds=1e6))
        if done.status != 0:
            return ended(done)
    number = f"{checkpoints(bench.place / 'other')[-1]:08d}"
    shutil.copytree(bench.place / "other" / "checkpoints" / number, bench.run / "checkpoints" / number)
    done = bench.do(["train", "--resume", bench.run, "--total-steps", 4000])
    outcome, detail = ended(done)
    whole, rows = curve(bench.unbroken(total=4000)), curve(bench.run)
    same = len(whole) == len(rows) and not any(differences(*pair) for pair in zip(whole, rows))
    return ("silent", "continued from another run's state") if outcome == "finished" and not same else (outcome, detail)
