"""What a GPU makes of it, part by part, in at most eight minutes.

    python experiments/benchmarks/gpu.py --csv experiments/benchmarks/results/gpu.csv
    python experiments/benchmarks/gpu.py --parts updates precision --minutes 4
    JAX_PLATFORMS=cpu python experiments/benchmarks/gpu.py --tiny            # every part on small sizes, anywhere

Needs JAX with CUDA and jsafe, nothing else; on a bare machine:
`pip install --no-index --find-links WHEELS jsafe[cuda13]`.
Each part stands alone: it prints as it goes, a part that fails is told and left, and no part begins after its time.

| part | |
|---|---|
| `updates` | milliseconds of an update, FLOPs and bytes as the compiler counts them, share of the roofline |
| `precision` | float32 beside TF32 and bfloat16: time, and how often the sign of SEditor's hinge is another |
| `replay` | an iteration of SAC-Lag: replay on the host, observations on the device, all of it in one program |
| `environments` | steps per second of device environments, random actions, N = 4 096 to 65 536 |
| `host` | the host engine with all cores feeding the updates |
| `training` | SEditor as published on Safexp-PointPush1, for as long as is left; run again, it continues |

The roofline is `max(FLOPs / peak, bytes / bandwidth)`; peaks are those of dense products in float32 (`PEAKS`, or
`--peak-tflops` and `--bandwidth-gbs`).
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe import device
from jsafe.testing import random_batch

PEAKS = {
    "H100": (67.0, 3350.0),
    "H200": (67.0, 4800.0),
    "A100": (19.5, 2039.0),
    "L4": (30.3, 300.0),
    "T4": (8.1, 320.0),
}
"""TFLOP/s in float32 and GB/s, of data sheets (SXM)."""
SPEC = jsafe.EnvSpec(60, 2)


class Table:
    """Rows that are printed when they are known, and kept for a file."""

    def __init__(self):
        self.rows: list[dict[str, object]] = []

    def add(self, part: str, what: str, **values: object) -> None:
        """One line."""
        shown = "  ".join(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
                          for name, value in values.items())  # fmt: skip
        print(f"{part:13s} {what:44s} {shown}", flush=True)
        self.rows += [{"part": part, "what": what, "name": name, "value": value} for name, value in values.items()]

    def write(self, path: Path) -> None:
        """As csv."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["device", "part", "what", "name", "value"])
            writer.writeheader()
            writer.writerows({"device": jax.devices()[0].device_kind, **row} for row in self.rows)


def seconds(call, repeats: int = 5, least: float = 0.05) -> float:
    """Wall seconds of one call, the median of some rounds; the first call compiles and is left out."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    count = max(1, int(least / max(time.perf_counter() - start, 1e-6)))
    rounds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            out = call()
        jax.block_until_ready(out)
        rounds.append((time.perf_counter() - start) / count)
    return float(np.median(rounds))


def learners(tiny: bool):
    """Name and learner of each case of `updates`."""
    small = {"hidden": (16, 16)} if tiny else {}
    rows = (256, 512) if tiny else (20_000, 65_536)
    yield (
        "seditor, as published",
        jsafe.make("seditor", SPEC, preset="paper", **small, **({"sequences": 32} if tiny else {})),
    )
    for size in (64, 128) if tiny else (256, 4096):
        options = {"sequences": size, "hidden": (16, 16) if tiny else (256, 256)}
        yield f"sac_lag, {size} rows", jsafe.make("sac_lag", SPEC, **options)
    for name in ("ppo_lag", "trpo_lag"):
        for size in rows:
            options = {"steps_per_epoch": size, "num_envs": 16}
            yield f"{name}, {size} rows", jsafe.make(name, SPEC, **options, **small)


def updates(args, table: Table) -> None:
    """Time of an update, and what the roofline allows."""
    kind = jax.devices()[0].device_kind
    known = next((peak for name, peak in PEAKS.items() if name in kind), (None, None))
    flops_peak, bandwidth = args.peak_tflops or known[0], args.bandwidth_gbs or known[1]
    for name, learner in learners(args.tiny):
        state, batch = learner.init(jax.random.key(0)), jax.device_put(random_batch(learner, jax.random.key(1)))
        update = jax.jit(learner.update).lower(state, batch, jax.random.key(2)).compile()
        took = seconds(functools.partial(update, state, batch, jax.random.key(2)), 3)
        cost = update.cost_analysis() or {}
        flops, moved = float(cost.get("flops", np.nan)), float(cost.get("bytes accessed", np.nan))
        values: dict[str, object] = {"ms": 1e3 * took, "gflop": flops / 1e9, "mbyte": moved / 1e6}
        if flops_peak and bandwidth:
            bound = max(flops / (flops_peak * 1e12), moved / (bandwidth * 1e9))
            # The compiler counts the body of a loop once: for updates with several passes this is a lower bound.
            values["of_roofline"] = bound / took
        table.add("updates", name, **values)


def precision(args, table: Table) -> None:
    """Matrix products in fewer bits: time, and the sign of a small difference of two Qs."""
    width, size = (32, 256) if args.tiny else (256, 8192)
    keys = jax.random.split(jax.random.key(0), 5)
    shapes = [(SPEC.obs_dim + 2, width), (width, width), (width, 1)]
    weights = [jax.random.normal(key, shape) / np.sqrt(shape[0]) for key, shape in zip(keys, shapes)]
    obs, proposal = jax.random.normal(keys[3], (size, SPEC.obs_dim)), jax.random.uniform(keys[4], (size, 2), minval=-1)
    edited = jnp.clip(proposal + 0.05 * jax.random.normal(jax.random.key(9), proposal.shape), -1, 1)

    def q(action):
        x = jnp.concatenate([obs, action], axis=1)
        for w in weights[:-1]:
            x = jax.nn.relu(x @ w)
        return (x @ weights[-1])[:, 0]

    def hinge():
        return q(proposal) - q(edited)

    signs = {}
    for name in ("float32", "tensorfloat32", "bfloat16"):
        with jax.default_matmul_precision(name):
            signs[name] = np.sign(jax.jit(hinge)())
        wrong = float((signs[name] != signs["float32"]).mean())
        table.add("precision", f"hinge of SEditor at edits of 0.05, {name}", rows_with_another_sign=wrong)
    options = {"hidden": (16, 16), "sequences": 64} if args.tiny else {"hidden": (256, 256), "sequences": 4096}
    for name in ("float32", "tensorfloat32"):
        learner = jsafe.make("sac_lag", SPEC, matmul_precision=name, **options)
        state, batch = learner.init(jax.random.key(0)), jax.device_put(random_batch(learner, jax.random.key(1)))
        update = jax.jit(learner.update)
        once = functools.partial(update, state, batch, jax.random.key(2))
        table.add("precision", f"sac_lag, {name}", ms=1e3 * seconds(once, 3))


def replay(args, table: Table) -> None:
    """One iteration of SAC-Lag with the replay in three places."""
    small = {"hidden": (16, 16), "sequences": 64} if args.tiny else {"hidden": (256, 256), "sequences": 4096}
    options = {"num_envs": 16, "unroll": 4, "initial_rows": 512, "random_steps": 512, "replay_rows": 20_000, **small}
    id, iterations = "SafetyPointGoal0-v0", 4 if args.tiny else 50
    for name in ("host", "observations on the device", "one program"):
        learner = jsafe.make("sac_lag", spec_of(id), **options, replay_on_device=name == "observations on the device")
        per = learner.feed.steps_per_batch
        warm = 512 + 2 * per if name != "one program" else 512 + iterations * per
        total = warm + iterations * per
        if name == "one program":
            steps = device.run(learner, device.make(id), key=jax.random.key(0), total_steps=total, every=iterations)
        else:
            env = jsafe.envs.make(id, num_envs=16)
            collector = jsafe.data.make_collector(env, learner, seed=0)
            steps = jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total)
        start, begun = None, 0
        for step in steps:
            if start is None and step.env_steps >= warm and step.state is not None:
                jax.block_until_ready(step.state)
                start, begun = time.perf_counter(), step.env_steps
        jax.block_until_ready(step.state)
        done = max(1, (step.env_steps - begun) // per)
        table.add(
            "replay", f"sac_lag, {options['sequences']} rows, {name}", ms=1e3 * (time.perf_counter() - start) / done
        )


def spec_of(id: str) -> jsafe.EnvSpec:
    """What a learner has to know of a device environment."""
    return jsafe.env_spec(device.make(id))


def environments(args, table: Table) -> None:
    """Device environments alone."""
    for id in ("SafetyPointGoal1-v0", "SafetyPointCircle2-v0", "SafetyPointButton1-v0", "SafeRacing-state-v0"):
        many = device.vectorise(device.make(id, **({"tracks": 2} if args.tiny and "Racing" in id else {})))
        width = many.spec.act_dim
        for n in (64,) if args.tiny else (4096, 16_384, 65_536):
            length = 8 if args.tiny else 100

            def roll(state, key, n=n, many=many, width=width, length=length):
                def body(state, t):
                    keys = jax.random.split(jax.random.fold_in(key, t), n)
                    actions = jax.random.uniform(jax.random.fold_in(key, t), (n, width), minval=-1)
                    state, out = many.step(state, actions, keys)
                    return state, (out.reward.sum(), out.cost.sum(), out.obs.sum())

                return jax.lax.scan(body, state, jnp.arange(length))

            state, _ = jax.jit(many.reset)(jax.random.split(jax.random.key(0), n))
            run = jax.jit(roll)
            took = seconds(lambda run=run, state=state: run(state, jax.random.key(1)), 3)
            table.add("environments", f"{id}, N = {n}", steps_per_second=n * length / took)


def host(args, table: Table) -> None:
    """The exact engine on all cores, the update on the device."""
    cores = os.cpu_count() or 1
    n, size = (8, 256) if args.tiny else (256, 65_536)
    options = {"num_envs": n, "steps_per_epoch": size, **({"hidden": (16, 16)} if args.tiny else {})}
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=n, num_threads=min(cores, n))
    learner = jsafe.make("ppo_lag", jsafe.env_spec(env), **options)
    collector = jsafe.data.make_collector(env, learner, seed=0)
    marks = []
    for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=3 * size):
        jax.block_until_ready(step.state)
        marks.append(time.perf_counter())
    table.add("host", f"ppo_lag, {cores} cores, N = {n}", steps_per_second=2 * size / (marks[-1] - marks[0]))


def training(args, table: Table, left: float) -> None:
    """SEditor as published, until the time is over."""
    import signal
    import threading

    from jsafe import registry, train
    from jsafe.runs.config import RunConfig

    folder = args.run_dir
    if not (folder / "config.json").exists():
        changes = {"hidden": (16, 16), "sequences": 32, "initial_rows": 500} if args.tiny else {}
        config = registry.make_config(registry.get("seditor"), "paper", **changes)
        run = RunConfig(env="Safexp-PointPush1-v0", total_steps=5_000_000, checkpoint_seconds=60, tensorboard=False)
        train.start(run, "seditor", config, folder)
    timer = threading.Timer(max(left, 5.0), lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    start = time.perf_counter()
    outcome = train.train(folder)
    timer.cancel()
    values = {name.split("/")[1]: value for name, value in outcome.values.items()
              if name in ("episode/return", "episode/success", "episode/cost_rate")}  # fmt: skip
    took = time.perf_counter() - start
    table.add("training", f"seditor, {outcome.status}", env_steps=outcome.env_steps, seconds=took, **values)


PARTS = {
    "updates": updates,
    "precision": precision,
    "replay": replay,
    "environments": environments,
    "host": host,
    "training": training,
}


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--peak-tflops", type=float, help="of the device, in float32")
    parser.add_argument("--bandwidth-gbs", type=float, help="of its memory")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/gpu-seditor"), help="of the training")
    parser.add_argument("--csv", type=Path, help="also write the rows here")
    args = parser.parse_args()
    end, table = time.perf_counter() + 60 * args.minutes, Table()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, jsafe {jsafe.__version__}, {os.cpu_count()} cores")
    for name in args.parts:
        left = end - time.perf_counter()
        if left < 10:
            print(f"{name:13s} left out: the time is over")
            continue
        start = time.perf_counter()
        try:
            PARTS[name](args, table, *([left - 10] if name == "training" else []))
        except Exception:  # the other parts stand alone
            print(f"{name:13s} FAILED\n{traceback.format_exc()}", flush=True)
        print(f"{name:13s} took {time.perf_counter() - start:.0f} s", flush=True)
        if args.csv:
            table.write(args.csv)


if __name__ == "__main__":
    main()
