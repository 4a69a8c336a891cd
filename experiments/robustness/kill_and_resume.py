"""SIGKILL at random moments, then `--resume`: does the run end as if nothing had happened?

    python experiments/robustness/kill_and_resume.py [--quick] [--kills 4] [--repeats 2] [--out kill_and_resume.csv]

Each case trains one run unbroken and the same run broken by kills: most of them shortly after a new checkpoint, some
while the program starts or restores. Then both are continued for some iterations, which shows what a replay holds.
Compared are all rows of progress.csv without the wall clock, and every array and number of the newest checkpoint, bit
for bit. The cases `state of ID` load `state_dict()` of 64 environments into 64 others, with no training.

Outcomes:
  equal      0 differences
  said       an outside environment: its inside cannot be saved; the rows until the first kill's checkpoint are equal,
             env_steps are counted on, and each session that trained on says that episodes began anew
  silent     the same without a word
  differs    what differs is in the last column
  blocked    the run could not be continued
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import Child, Done, Shell, Table, options, workplace
from folders import OUTSIDE, TOY, checkpoints, curve, same_run, small

_ANEW = re.compile(r"new episodes|anew|inexact|not exact|cannot be (saved|restored)", re.IGNORECASE)
STATES = (
    *("SafetyPointGoal2-v0", "SafetyPointGoal1-v0", "SafetyCarGoal2-v0", "SafetyPointPush2-v0"),
    *("SafetyCarButton2-v0", "SafetyDoggoGoal2-v0", "SafetyRacecarGoal2-v0", "SafetyAntPush1-v0"),
    *("Safexp-PointGoal2-v0", "Safexp-CarPush2-v0", "Safexp-PointButton2-v0", "SafetyPointCircle2-v0"),
    *("SafetyPointRun0-v0", "SafetyHopperVelocity-v1"),
)


class Case(NamedTuple):
    """A run to break: its name, its words, how much longer to train at the end, and how it was started."""

    name: str
    words: list[str]
    more: int
    kind: str = "one"


def cases(seed: int, quick: bool) -> Iterator[Case]:
    """The runs of one repeat."""

    def case(algorithm: str, total: int, more: int, name: str = "", env: str = TOY, kind: str = "one", **given: Any):
        words = small(algorithm, env, total_steps=total, seed=seed, tensorboard=False, **given)
        return Case(f"{algorithm} {name or env} seed {seed}", words, more, kind)

    yield case("ppo_lag", 16_000, 1000, "toy")
    yield case("sac_lag", 4000, 400, "toy depth 1", depth=1)
    if quick:
        return
    yield case("ppo_lag", 16_000, 1000, "toy depth 1", depth=1)
    yield case("cpo", 16_000, 1000, "toy")
    yield case("trpo_pid", 16_000, 1000, "toy depth 1", depth=1)
    yield case("ppo_saute", 16_000, 1000, "toy")
    yield case("ppo_simmer_pid", 16_000, 1000, "toy")
    yield case("sac_lag", 4000, 400, "toy")
    yield case("sac_lag", 4000, 400, "toy float16", dtype="float16")
    yield case("td3_lag", 4000, 400, "toy depth 1", depth=1)
    yield case("ddpg_pid", 4000, 400, "toy")
    yield case("seditor", 4000, 400, "toy")
    yield case("seditor", 4000, 400, "toy depth 1", depth=1)
    many = {"num_envs": 64, "steps_per_epoch": 1280, "log_interval": 1280}
    yield case("ppo_lag", 25_600, 2560, env="SafetyPointGoal2-v0", **many)
    yield case("ppo_lag", 25_600, 2560, "SafetyPointGoal2-v0 depth 1", "SafetyPointGoal2-v0", depth=1, **many)
    off = {"num_envs": 32, "sequences": 32, "log_interval": 1600}
    yield case("sac_lag", 16_000, 1600, env="SafetyCarGoal2-v0", **off)
    yield case("seditor", 16_000, 1600, env="Safexp-PointGoal2-v0", **off)
    yield case("ppo_lag", 8000, 800, env="SafetyPointPush2-v0", num_envs=16, steps_per_epoch=400, log_interval=400)
    yield case("ppo_lag", 8000, 800, env="SafetyHopperVelocity-v1")
    yield case("ppo_lag", 12_000, 1000, "toy, 2 seeds", kind="many", seeds=2)
    yield case("sac_lag", 3000, 400, "toy, 2 limits", kind="many", cost_limits="5,20")
    yield case("ppo_lag", 12_000, 1000, "outside", OUTSIDE, kind="outside", num_threads=2)
    yield case("sac_lag", 3000, 400, "outside depth 1", OUTSIDE, kind="outside", num_threads=2, depth=1)


def main() -> int:
    """Runs the campaign."""
    more = {
        "kills": {"type": int, "default": 4, "help": "kills of each run"},
        "repeats": {"type": int, "default": 2, "help": "seeds of each case"},
    }
    given = options(__doc__, "kill_and_resume", **more)
    with workplace(given) as (shell, table):
        campaign = Campaign(shell, table, given.kills if not given.quick else 2, given.seed)
        for seed in range(given.seed, given.seed + (1 if given.quick else given.repeats)):
            for case in cases(seed, given.quick):
                if re.search(given.only, case.name):
                    campaign.one(case)
        if not given.quick and re.search(given.only, "sweep"):
            campaign.sweep()
        for id in STATES[:1] if given.quick else STATES:  # in this process, which forks no more
            if re.search(given.only, f"state of {id}"):
                campaign.state(id, 64)
        kills = sum(int(row["detail"].split()[0]) for row in table.rows if re.match(r"\d+ kills", row["detail"]))
        print(f"\n{kills} kills")
        return table.close()


class Campaign:
    """Breaks runs."""

    def __init__(self, shell: Shell, table: Table, kills: int, seed: int):
        self.shell, self.table, self.wished, self.kills = shell, table, kills, 0
        self.random = random.Random(seed)
        self._number, self._intact = 0, None

    def one(self, case: Case) -> None:
        """One run, unbroken and broken."""
        if self.table.has(case.name):
            return
        self._number += 1
        place, started, before = self.shell.work / f"k{self._number}", time.monotonic(), self.kills
        whole, broken = place / "whole", place / "broken"
        done = self.shell.run([*case.words, "--run-dir", whole], limit=300)
        if done.status != 0:
            self.table.add(case.name, "equal", "blocked", done.seconds, f"unbroken: {done.last()}")
            return
        often = ["--checkpoint-seconds", 0, "--run-dir", broken]
        trouble, notes = self._break([*case.words, *often], broken, case.kind)
        pairs = [(whole, broken)]
        if case.kind == "many":
            pairs = [(folder, broken / folder.name) for folder in sorted(whole.iterdir())]
        found = [trouble] if trouble else []
        first: dict[str, int] = {}
        for one, other in pairs if not trouble else ():
            if case.kind == "many":
                found += self._apart(one, other)
                continue
            found += same_run(one, other)
            if found:
                first[other.name] = len(curve(one))
                break
            total = float(curve(one)[-1]["env_steps"]) + case.more
            for run in (one, other):
                done = self.shell.run(["train", "--resume", run, "--total-steps", int(total)], limit=120)
                if done.status != 0:
                    found.append(f"continuing {run.name}: {done.last()}")
            found += same_run(one, other)
        kills, shown = self.kills - before, f"{len(found)} differences: {', '.join(found[:4])}" if found else "0"
        outcome = "blocked" if trouble else "differs" if found else "equal"
        wanted = ("equal", "said") if case.kind == "outside" else ("equal",)
        if case.kind == "outside" and outcome == "differs" and self._counted_on(whole, broken):
            outcome = "said" if notes and all(_ANEW.search(note) for note in notes) else "silent"
        self.table.add(case.name, wanted, outcome, time.monotonic() - started, f"{kills} kills, {shown}")
        if outcome in wanted:
            shutil.rmtree(place, ignore_errors=True)

    def _break(self, words: list[str], run: Path, kind: str) -> tuple[str, list[str]]:
        """(what went wrong, what the sessions after a kill have printed)."""
        notes, last, killed, self._intact = [], -1, False, None
        watched = run
        for number in range(self.wished):
            child = self.shell.start(words)
            if kind == "many" and number == 0:
                watched = self._first_folder(run, child)
            self._strike(child, watched, last)
            done = child.wait(0 if child.running() else 30)
            if done.status == 0:
                return "", notes
            if done.status != -signal.SIGKILL and done.status is not None:
                return f"after {number} kills: {done.last()}", notes
            self.kills += 1
            if done.orphans:
                return f"{done.orphans} processes outlive the kill", notes
            if kind == "many":
                return self._finish_each(run, notes)
            before, last = last, (checkpoints(run) or [-1])[-1]
            if killed and last > before:
                notes.append(done.text)
            if self._intact is None and last >= 0:
                self._intact = last
            if (run / "config.json").exists():
                words, killed = ["train", "--resume", run], last >= 0
        done = self.shell.run(words, limit=300)
        notes += [done.text] if killed else []
        return ("" if done.status == 0 else f"in the end: {done.last()}"), notes

    def _strike(self, child: Child, run: Path, last: int) -> None:
        """Kills a session: soon after a new checkpoint, or, one time in four, at any time."""
        if self.random.random() < 0.25:
            end = time.monotonic() + 1.5 * self.random.random()
            while child.running() and time.monotonic() < end:
                time.sleep(0.005)
        else:
            end = time.monotonic() + 120
            while child.running() and time.monotonic() < end and (checkpoints(run) or [-1])[-1] <= last:
                time.sleep(0.005)
            time.sleep(0.25 * self.random.random())
        if child.running():
            child.send(signal.SIGKILL)
            while child.running():
                time.sleep(0.005)

    def _first_folder(self, run: Path, child: Child) -> Path:
        while child.running() and not (run.is_dir() and list(run.iterdir())):
            time.sleep(0.005)
        return next(iter(sorted(run.iterdir())), run) if run.is_dir() else run

    def _finish_each(self, run: Path, notes: list[str]) -> tuple[str, list[str]]:
        """After the kill of a program with several runs each goes on by itself: twice from here, once with a kill."""
        for folder in sorted(run.iterdir()):
            copy = folder.with_name(f".{folder.name}")
            shutil.copytree(folder, copy)
            child = self.shell.start(["train", "--resume", copy])
            self._strike(child, copy, (checkpoints(copy) or [-1])[-1])
            broken = child.wait(0.5)
            self.kills += broken.status == -signal.SIGKILL
            for each in (copy, folder):
                done = self.shell.run(["train", "--resume", each], limit=300)
                if done.status != 0:
                    return f"{each.name}: {done.last()}", notes
            if found := same_run(folder, copy):
                return f"{folder.name} continued twice: {', '.join(found[:4])}", notes
            shutil.rmtree(copy)
        return "", notes

    def _apart(self, whole: Path, broken: Path) -> list[str]:
        """A run that left its program is itself to rounding: its rows agree to 1 % at first, and are counted alike."""
        rows, others = curve(whole), curve(broken)
        if [row["env_steps"] for row in rows] != [row["env_steps"] for row in others]:
            return [f"{broken.name}: rows at {[row['env_steps'] for row in others]}"]
        found = []
        for name in rows[0]:
            one, other = float(rows[0][name] or "nan"), float(others[0][name] or "nan")
            if not np.isclose(one, other, rtol=1e-2, atol=1e-6, equal_nan=True):
                found.append(f"{broken.name} row 0: {name} {one:g} {other:g}")
        return found

    def _counted_on(self, whole: Path, broken: Path) -> bool:
        """Whether the rows of a run in an outside environment are at the same steps, and equal until it was killed."""
        rows, others = curve(whole), curve(broken)
        intact = [(a, b) for a, b in zip(rows, others) if int(a["iteration"]) <= (self._intact or 0)]
        return [row["env_steps"] for row in rows] == [row["env_steps"] for row in others] and all(
            a == b for a, b in intact
        )

    def state(self, id: str, number: int) -> None:
        """`state_dict` of N environments, loaded into N others."""
        import jsafe.envs

        if self.table.has(f"state of {id}"):
            return
        started, rng = time.monotonic(), np.random.default_rng(0)
        one, other = (jsafe.envs.make(id, num_envs=number, seed=seed, num_threads=1) for seed in (0, 1000))
        one.reset()
        other.reset()
        for _ in range(40):
            one.step(np.zeros((number, one.spec.act_dim)))
        saved = one.state_dict()
        other.load_state_dict(saved)
        bad = _rows(saved, other.state_dict(), number)
        for _ in range(30):
            actions = rng.uniform(-1, 1, (number, one.spec.act_dim))
            a, b = one.step(actions), other.step(actions)
            bad |= (a.obs != b.obs).any(axis=1) | (a.reward != b.reward) | (a.cost != b.cost).any(axis=1)
        one.close()
        other.close()
        outcome, text = ("differs" if bad.any() else "equal"), f"{int(bad.sum())} of {number} layouts differ"
        self.table.add(f"state of {id}", "equal", outcome, time.monotonic() - started, text)

    def sweep(self) -> None:
        """A sweep of two runs, killed twice, and the same command again."""
        if self.table.has("sweep of two runs"):
            return
        started, before, found = time.monotonic(), self.kills, []
        path = self.shell.work / "grid.toml"
        words = small("ppo_lag", total_steps=20_000, checkpoint_seconds=0.01)[4:]
        lines = []
        for name, value in zip(words[::2], words[1::2]):
            lines.append(f"{name[2:].replace('-', '_')} = {f'[{value}]' if name == '--hidden' else value}")
        path.write_text("\n".join(['algorithm = "ppo_lag"', 'env = "Toy-SpeedLimit-v0"', "seeds = 2", *lines]) + "\n")
        done: Done | None = None
        for folder, kills in (("whole", 0), ("broken", 2)):
            command: list[Any] = ["sweep", path, "--folder", self.shell.work / "sweeps" / folder]
            for _ in range(kills):
                child = self.shell.start(command)
                time.sleep(3 + 4 * self.random.random())
                child.send(signal.SIGKILL)
                self.kills += child.wait(30).status == -signal.SIGKILL
            done = self.shell.run(command, limit=300)
            found += [f"{folder}: {done.last()}"] if done.status != 0 else []
        wholes = sorted((self.shell.work / "sweeps" / "whole" / "runs").iterdir())
        for run in wholes if not found else ():
            found += same_run(run, self.shell.work / "sweeps" / "broken" / "runs" / run.name)
        text = f"{self.kills - before} kills, {len(found)} differences {', '.join(found[:4])}"
        self.table.add("sweep of two runs", "equal", "differs" if found else "equal", time.monotonic() - started, text)


def _rows(one: Any, other: Any, number: int) -> np.ndarray:
    """Which of N environments differ between two trees of arrays."""
    if isinstance(one, dict):
        return np.any([_rows(one[name], other.get(name), number) for name in one] or [np.zeros(number, bool)], axis=0)
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return np.ones(number, bool)
    same = (one == other) | ((one != one) & (other != other))
    if one.ndim and len(one) == number:
        return ~same.reshape(number, -1).all(axis=1)
    return np.full(number, not np.all(same))


if __name__ == "__main__":
    sys.exit(main())
