"""Short trainings in environments that misbehave: is it said, is nothing lost, is nothing poisoned?

    python experiments/robustness/environments.py [--quick] [--cases FOLDER] [--out environments.csv]

Each mode of `misbehaving.py` is one `jsafe train` of a second with four environments, of which one misbehaves once, in
its step 110, and with no checkpoint due but those that the program makes for a reason. Value modes are tried with an
on-policy and an off-policy learner. FOLDER may hold a `bad_env.py` with more of them (`gymnasium:bad_env:Bad-MODE-v0`).

Outcomes:
  finished      trained to the end, nothing to tell
  told          trained to the end, and said what went wrong, in which environment (a bad number: in which step)
  half told     said something, but not all of that
  stopped       ended with status 1 and one message (what, which environment, which step); the checkpoint is from
                before, holds finite numbers, and continues once the environment is mended
  refused       ended before anything was made, with one message
  traceback, crash, hangs, orphans   as they say
  poisoned      the bad number is in the checkpoint
  lost          ended without a checkpoint of what was trained
  unclear       ended without a message that says what and where
  left behind   refused, but a run folder stays
  stuck         stopped, but the run does not continue with the mended environment
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import Done, Shell, Table, options, workplace
from folders import checkpoints, curve, small
from misbehaving import ALWAYS, MODES, ONCE

TOLD = ("told",)
BAD = ("stopped", "told")
FINE = ("finished",)
NO = ("refused",)
CLEAN = ("finished", "told", "stopped", "refused")

WANTED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*ALWAYS, "ok", "same_array", "changes_action", "leaks", "zero_length"), FINE),
    **dict.fromkeys(("zero_length_truncated", "step_thread", "step_chdir", "step_slow", "step_prints_much"), FINE),
    **dict.fromkeys(("close_raises", "close_hangs"), ("finished", "told")),
    **{
        mode: ("refused", "told", "stopped") for mode in ALWAYS if mode.startswith("cost_key") or mode == "cost_missing"
    },
    "cost_negative": ("refused", "told", "stopped"),
    "cost_dict": CLEAN,
    **{f"flag_{name}": CLEAN for name in ONCE["flag"]},
    **{mode: NO for mode in MODES if mode.startswith("init_")},
    **dict.fromkeys(("first_reset_raises", "no_horizon", "horizon_0"), NO),
    "init_raises_later": ("stopped",),
    "reset_without_info": ("finished", "refused"),
    "reset_raises_always": ("stopped",),
    "step_raises_first": (*NO, "stopped"),
    "six_results": (*NO, "stopped"),  # gymnasium's own wrapper of the step limit takes five
    "step_raises_always": ("stopped",),
    "exits_again": TOLD,
    "step_raises_everywhere": TOLD,
    "cost_length": BAD,
    **{mode: ("refused", "finished") for mode in MODES if mode.startswith("space_")},
    **{f"space_{name}": NO for name in ("action_empty", "action_none", "obs_none", "obs_empty", "obs_text")},
    **{f"{place}_{name}": BAD for place in ("obs", "reward", "cost", "info", "result") for name in ONCE[place]},
    "info_list": CLEAN,
    "result_generator": CLEAN,
    "cost_matrix": CLEAN,
    "cost_empty": CLEAN,
    **{f"reset_{name}": BAD for name in ONCE["reset"]},
    **{f"step_{name}": TOLD for name in ONCE["step"] if name not in ("thread", "chdir", "slow", "prints_much")},
}
QUICK = ("ok", "obs_nan", "reward_inf", "reward_array", "cost_missing", "step_raises", "init_raises")
STEPS, TOTAL = 50, 1000  # of each environment per iteration; of all in a run
_NUMBERS = ("nan", "one_nan", "inf", "minus_inf", "huge", "big", "short", "none")
_ABSURD = 1e15
LIMIT = 50.0
_WHERE = re.compile(r"env(ironment)?s?\W{0,3}\d", re.IGNORECASE)
_STEP = re.compile(r"step\W{0,3}\d", re.IGNORECASE)
_WHAT = {"obs": "observation|obs", "reward": "reward", "cost": "cost", "reset": "observation|obs|reset|None"}


def main() -> int:
    """Runs the campaign."""
    given = options(__doc__, "environments", cases={"type": Path, "help": "folder with a bad_env.py"})
    with workplace(given) as (shell, table):
        campaign = Campaign(shell, table)
        for name, algorithm, mode, more, wanted in cases(given.quick):
            if re.search(given.only, name):
                campaign.try_out(name, algorithm, f"gymnasium:misbehaving:Robust-{mode}-v0", mode, more, wanted)
        if given.cases is not None and not given.quick:
            sys.path.append(str(given.cases.resolve()))
            for mode in _modes_of(given.cases):
                if re.search(given.only, f"handed {mode}"):
                    campaign.try_out(f"handed {mode}", "ppo_lag", f"gymnasium:bad_env:{mode}", "", {}, _handed(mode))
        return table.close()


def cases(quick: bool):
    """(name, algorithm, mode, options, wanted outcomes) of every case."""
    for mode in QUICK if quick else MODES:
        place, _, name = mode.partition("_")
        both = not quick and place in ("obs", "reward", "cost") and name in _NUMBERS
        for algorithm in ("ppo_lag", "sac_lag") if both else ("ppo_lag",):
            more: dict[str, Any] = {"costs": "separate"} if mode == "cost_length" else {}
            yield f"{mode} {algorithm}", algorithm, mode, more, WANTED[mode]
    if quick:
        return
    yield "obs_large float16", "sac_lag", "obs_large", {"dtype": "float16"}, ("refused", "told", "stopped")
    chosen = {"on_bad": "end"}
    for mode in ("obs_nan", "obs_big", "reward_inf", "cost_nan", "reset_nan"):
        for algorithm in ("ppo_lag", "sac_lag"):
            yield f"{mode} {algorithm}, episode ended", algorithm, mode, chosen, TOLD


class Campaign:
    """Runs cases in one folder after the other."""

    def __init__(self, shell: Shell, table: Table):
        self.shell, self.table, self._number = shell, table, 0
        self.limit = {"env.step_timeout": 4.0}

    def try_out(self, name: str, algorithm: str, env: str, mode: str, more: dict[str, Any], wanted) -> None:
        """One training, judged."""
        if self.table.has(name):
            return
        self._number += 1
        place = self.shell.work / f"c{self._number}"
        run, mark = place / "run", place / "mark"
        words = small(
            algorithm, env, checkpoint_seconds=1e6, run_dir=run, num_threads=2, total_steps=TOTAL, **self.limit, **more
        )
        variables = {"ROBUSTNESS_MARK": str(mark)}
        done = self.shell.run(words, place, limit=LIMIT, env=variables)
        outcome, detail = _judge(done, run, mode)
        if outcome == "stopped" and mode:
            mark.touch()
            again = self.shell.run(["train", "--resume", run], place, limit=LIMIT, env=variables)
            rows = curve(run)
            if mode in ("step_raises_always", "reset_raises_always", "init_raises_later", "cost_length"):
                pass  # these are never mended
            elif again.status != 0 or not rows or float(rows[-1]["env_steps"]) < TOTAL:
                outcome, detail = "stuck", again.last()
        self.table.add(name, wanted, outcome, done.seconds, detail)


def _judge(done: Done, run: Path, mode: str) -> tuple[str, str]:
    detail = done.last()
    if done.status is None:
        return "hangs", detail
    if done.orphans:
        return "orphans", f"{done.orphans} processes stay"
    if done.trace:
        return "traceback", detail
    if done.status < 0 or done.status > 2:
        return "crash", f"status {done.status}: {detail}"
    if poison := _poison(run):
        return "poisoned", f"status {done.status}: {poison}"
    if done.status == 0:
        rows = curve(run)
        if not rows or float(rows[-1]["env_steps"]) < TOTAL:
            return "lost", "status 0 without the last row"
        if _says(done, mode):
            return "told", detail
        return ("half told" if _WHERE.search(_text(done)) else "finished"), detail
    if not run.exists():
        return ("refused" if _one_message(done) else "unclear"), detail
    if not checkpoints(run):
        return ("left behind" if not curve(run) and not _trained(done) else "lost"), detail
    if "--resume" not in done.text:
        return "unclear", f"does not say how to continue: {detail}"
    return ("stopped" if _one_message(done) and _says(done, mode) else "unclear"), detail


def _trained(done: Done) -> bool:
    return bool(re.search(r"[1-9]\d*/\d+ steps|stopped|diverged", done.text))


def _one_message(done: Done) -> bool:
    """An error line first; what a worker has printed may follow it."""
    lines = [line for line in done.err.splitlines() if re.match(r"(error|\W*error)\b", line, re.IGNORECASE)]
    return len(lines) == 1


def _says(done: Done, mode: str) -> bool:
    """Whether the output names what went wrong, and where."""
    place, _, name = mode.partition("_")
    text = _text(done)
    if place in ("obs", "reward", "cost") and name in ONCE[place]:
        return bool(re.search(_WHAT[place], text) and _WHERE.search(text) and _STEP.search(text))
    if mode in ALWAYS and place == "cost":
        return bool(re.search(r"warning[^\n]*cost|cost[^\n]*(missing|negative|no |not )", text, re.IGNORECASE))
    return bool(_WHERE.search(text))


def _text(done: Done) -> str:
    """What was printed, without the ids of the environments."""
    return re.sub(r"(Robust|Bad)-\w+-v0", "", done.text).replace("_", " ")


def _poison(run: Path) -> str:
    """A number in the newest checkpoint that cannot be meant: NaN, or larger than 1e15."""
    numbers = checkpoints(run)
    for path in (run / "checkpoints" / f"{numbers[-1]:08d}").glob("*.npz") if numbers else ():
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                array = file[name]
                if array.dtype.kind == "f" and array.size:
                    finite = array[np.isfinite(array)]
                    if np.isnan(array).any() or (finite.size and np.abs(finite).max() > _ABSURD):
                        worst = "NaN" if np.isnan(array).any() else f"{np.abs(finite).max():.3g}"
                        return f"{worst} in {name} {array.shape} of iteration {numbers[-1]}"
    return ""


def _modes_of(folder: Path) -> list[str]:
    """Ids that a bad_env.py registers."""
    import gymnasium

    before = set(gymnasium.registry)
    with contextlib.suppress(ImportError):
        importlib.import_module("bad_env")
    return [name for name in gymnasium.registry if name not in before]


def _handed(mode: str) -> tuple[str, ...]:
    """What is wanted of a mode that others wrote: a bad number is refused, and everything else is at least clean."""
    if re.search(r"(nan|inf|huge|big)_(obs|reward|cost)", mode):
        return ("stopped", "told")
    if re.search("hang|exit|segv|raise-|kbd|shape_obs|(none|str|array2)_reward|reset_fail-", mode):
        return ("told", "stopped")
    if re.search("Bad-(ok|array_reward|print|stderr|zero_len|zero_len_trunc|leak)-", mode):
        return FINE
    if re.search("no_cost|neg_cost", mode):
        return ("refused", "told", "stopped")
    return CLEAN


if __name__ == "__main__":
    sys.exit(main())
