"""How good are plans? Settings of the search beside each other, with the same trained model.

    python experiments/model_based/plans.py RUN --decisions 10 --csv experiments/model_based/plans.csv
    python experiments/model_based/plans.py RUN --act --settings cem-256-32-3 cem-100-8-4 --decisions 60

`RUN` is a run of `cce_pets` on one of the `-modelbased` tasks. Its newest model is given to every setting.

Without `--act` all settings plan in the same states, those that `BASE` passes through, each warm-started by its own
last plan. Every plan is judged by the same prediction, 40 particles of each net with noise of their own and no margin
around hazards: `return` over the seven steps, `beyond` the difference from `BASE` in the same states, and `touch`,
the share of plans of which a particle in a hundred or more touches a hazard. That is what the model thinks of a plan,
not what comes of it.

With `--act` each setting acts, from the same seeds: `return` and `cost` are those of the environment in the first
`--decisions` of the episodes, `goals` how many were met, and `near` the share of decisions less than half a metre from
one. Seconds are CPU seconds of a plan, compilation left out. A model that has learnt the reward can act for settings in
which it is known (`known-...`), not the other way round.
"""

from __future__ import annotations

import argparse
import csv
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.components.dynamics import Dynamics, Heads
from jsafe.components.dynamics.propagation import simulator
from jsafe.components.known import GOAL_RADIUS, goal_geometry
from jsafe.runs import evaluation
from jsafe.runs.build import build_env, on_host
from jsafe.runs.folder import read

LEARNT: dict[str, Any] = {"known.reward": False, "discount": 1.0}
"""What the preset `jsafe` was until a goal's reward was known to it."""
KNOWN: dict[str, Any] = {"known.reward": True, "discount": 0.95}
WIDE: dict[str, Any] = {
    "samples": 512,
    "elites": 64,
    "planner.iterations": 5,
    "init_var": 4.0,
    "particles": 20,
    "noise": "independent",
    "known.margin": 0.0,
}
"""OmniSafe's search."""
FULL: dict[str, Any] = LEARNT | WIDE
ARC: dict[str, Any] = LEARNT | {
    "planner": "arc",
    "samples": 100,
    "planner.iterations": 3,
    "init_var": 1.0,
    "particles": 5,
}
ARC |= {"planner.sampling": "clipped", "noise": "common", "known.margin": 0.05, "score.over": "max", "cost_limit": 1.0}
BASE = "cem-256-32-3"
"""What the preset `jsafe` was at first."""
OLD: dict[str, Any] = LEARNT | {"samples": 256, "elites": 32, "planner.iterations": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": FULL,
    "full, 13 elites": FULL | {"elites": 13},
    "preset": {},
    **{f"drift {drift}": {"known.drift": drift} for drift in (0.0, 0.02, 0.03, 0.035)},
    "full, reward known": KNOWN | WIDE,
    "cem-256-32-3": OLD,
    "cem-512-64-3": OLD | {"samples": 512, "elites": 64},
    "cem-256-32-3, 20 particles": OLD | {"particles": 20, "noise": "independent", "known.margin": 0.0},
    **{
        f"cem-{samples}-{elites}-{iterations}": LEARNT
        | {
            "samples": samples,
            "elites": elites,
            "planner.iterations": iterations,
        }
        for samples, elites, iterations in (
            (256, 12, 3),
            (100, 16, 3),
            (100, 8, 3),
            (100, 8, 4),
            (100, 5, 3),
            (64, 5, 3),
        )
    },
    **{f"arc-{kappa}": ARC | {"kappa": float(kappa)} for kappa in (10, 100, 1000)},
    "known-1.0, margin 0.05": KNOWN | {"discount": 1.0, "known.margin": 0.05},
    **{f"known-0.95, margin {margin}": KNOWN | {"known.margin": margin} for margin in (0.05, 0.02, 0.01, 0.0)},
    "known-0.95, margin 0.05, horizon 10": KNOWN | {"known.margin": 0.05, "planner.horizon": 10},
    "known-0.95, no limit": KNOWN | {"score": "returns"},
    **{f"horizon {horizon}": {"planner.horizon": horizon} for horizon in (5, 7, 10, 15, 20)},
    **{
        f"touch {touch}, horizon {horizon}": {"known.touch": touch, "planner.horizon": horizon}
        for touch in (0.26, 0.3)
        for horizon in (7, 10, 15)
    },
}
"""What is changed of `cce_pets` with its preset `jsafe` (cem: candidates, elites, refinements); where there is a
planner, of `jsafe.model_based`."""


def learner_of(name: str, trained: Any) -> Any:
    """The learner of a setting, with the model of the run and what is known to it."""
    own = {"dynamics": trained.config.dynamics, "known": trained.config.known}
    spec, changes = trained.spec, own | SETTINGS[name]
    return (
        jsafe.model_based(spec, **changes)
        if "planner" in changes
        else jsafe.make("cce_pets", spec, preset="jsafe", **changes)
    )


def fitting(learner: Any, state: Any) -> Any:
    """The policy's state for a learner: without the head of the reward, where it is known to it and has been learnt.

    Raises:
      ValueError: If the learner needs a head that there is not.
    """
    model = state.params["model"]
    wanted = jax.eval_shape(lambda: learner.policy(learner.init(jax.random.key(0)))).params["model"]
    if wanted.params["high"].shape == model.params["high"].shape:
        return state
    width = len(model.params["high"])
    if len(wanted.params["high"]) != width - 1:
        raise ValueError(f"the model predicts {width} numbers, the setting wants {len(wanted.params['high'])}")
    kept = np.delete(np.arange(2 * width), [0, width])  # means and log variances
    nets = dict(model.params["nets"])
    last = max(name for name in nets if name.startswith("dense"))
    nets[last] = {name: x[..., kept] for name, x in nets[last].items()}
    params = {"nets": nets} | {name: model.params[name][1:] for name in ("high", "low")}
    return state._replace(params=state.params | {"model": model._replace(params=params)})


class Search:
    """A setting at work in N environments: plans by its own memory, and the seconds they took."""

    def __init__(self, name: str, trained: Any, state: Any, count: int):
        self.learner = learner_of(name, trained)
        self.state = fitting(self.learner, state)
        self.memory, self._act = self.learner.memory.init(count), jax.jit(self.learner.act, static_argnums=4)
        self.seconds: list[float] = []

    def act(self, obs: np.ndarray, started: np.ndarray) -> tuple[np.ndarray, Any]:
        """Actions `[N, A]`, and the plans `[N, H, A]`."""
        memory, began = self.learner.memory.reset(self.memory, started), time.process_time()
        out = jax.block_until_ready(
            self._act(self.state, memory, jnp.asarray(obs, jnp.float32), jax.random.key(0), True)
        )
        self.seconds.append((time.process_time() - began) / len(obs))
        self.memory = out.memory
        return np.asarray(out.action), out.memory.mean


def judge(dynamics: Dynamics, spec: jsafe.EnvSpec, model: Any) -> Any:
    """`(obs [N, O], plans [N, H, A], key) -> (return [N], touch [N])`."""
    known = goal_geometry(spec, goal=None if dynamics.heads.reward else GOAL_RADIUS)
    simulate = simulator(dynamics, known, 1, 40)

    @jax.jit
    def run(obs, plans, key):
        def one(obs, plan, key):
            out = simulate(model, obs, plan[:, None], key)
            return out.reward.mean(), (out.cost > 0).mean() >= 0.01

        return jax.vmap(one)(obs, plans, jax.random.split(key, len(obs)))

    return run


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--decisions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--act", action="store_true")
    parser.add_argument("--csv")
    args = parser.parse_args()
    trained, loaded = evaluation.restore(args.run)
    state, spec = trained.policy(loaded.state), trained.spec
    env = build_env(on_host(read(args.run).config), args.envs, args.seed, 1)
    if args.act:
        table = acted(args, trained, state, env)
    else:
        heads = Heads.beside(trained.config.known.build(spec), spec.num_costs)
        dynamics = trained.config.dynamics.build(spec, heads=heads)
        table = thought(args, trained, state, env, judge(dynamics, spec, state.params["model"]))
    for row in table:
        print(" | ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows([{k: f"{x:.4g}" if isinstance(x, float) else x for k, x in row.items()} for row in table])


def summary(name: str, values: dict[str, np.ndarray], search: Search) -> dict[str, Any]:
    """A row: means, and their standard errors over the environments."""
    row: dict[str, Any] = {"setting": name}
    for key, x in values.items():
        row |= {key: float(x.mean()), f"{key} se": float(x.std(ddof=1) / np.sqrt(len(x)))}
    return row | {"cpu_seconds": float(np.median(search.seconds[1:]))}


def thought(args: Any, trained: Any, state: Any, env: Any, value: Any) -> list[dict[str, Any]]:
    """What the model thinks of the plans of all settings in the same states."""
    searches = {name: Search(name, trained, state, args.envs) for name in dict.fromkeys([*args.settings, BASE])}
    obs, started = env.reset(), np.ones(args.envs, bool)
    found: dict[str, list[Any]] = {name: [] for name in searches}
    for t in range(args.decisions):
        done = {}
        for name, search in searches.items():
            done[name], plans = search.act(obs, started)
            found[name].append(value(jnp.asarray(obs, jnp.float32), plans, jax.random.key(t)))
        out = env.step(np.clip(done[BASE], -1, 1))
        obs, started = out.obs, out.terminated | out.truncated
    means = {name: np.mean([np.asarray(each) for each in seen], axis=0) for name, seen in found.items()}
    rows = []
    for name, search in searches.items():
        earned, touched = means[name]
        values = {"return": earned, "beyond": earned - means[BASE][0], "touch": touched}
        rows.append(summary(name, values, search))
    return rows


def acted(args: Any, trained: Any, state: Any, env: Any) -> list[dict[str, Any]]:
    """What comes of acting by each setting."""
    rows, goal = [], next((start, stop) for part, start, stop in trained.spec.layout if part == "goal")
    for name in args.settings:
        search, obs = Search(name, trained, state, args.envs), env.reset(args.seed)
        started, total = np.ones(args.envs, bool), np.zeros((4, args.envs))
        for _ in range(args.decisions):
            out = env.step(np.clip(search.act(obs, started)[0], -1, 1))
            obs, started = out.obs, out.terminated | out.truncated
            near = np.linalg.norm(out.final_obs[:, slice(*goal)], axis=1) < 0.5
            total += out.reward, out.cost[:, 0], out.info["success"], near / args.decisions
        rows.append(summary(name, dict(zip(("return", "cost", "goals", "near"), total)), search))
    return rows


if __name__ == "__main__":
    main()
