"""What many devices cost: the update on 1, 2 and 4 of them, the wrapper, and each collective.

    python experiments/benchmarks/devices.py                       # forced host devices (or the GPUs that are there)
    python experiments/benchmarks/devices.py --algorithms seditor --csv devices.csv

Three tables:

1. Update. The same batch on one device by `jax.jit`, and split over D devices by `shard_map_update` and `pmap_update`.
   `ratio` is time / time of `jax.jit`; `efficiency` is 1 / (D ratio), the share of a perfect D-fold speed-up. State and
   batch are in place; `place` is what it takes to split a batch that lies in numpy arrays.
2. Wrapper. The same for a learner that only adds a reduced number to its state: what a call costs besides the update.
3. Collectives. Time of one `psum` of so many float32 numbers, from a chain of them in one program.

Variants take turns, so that other load on the machine hits them alike; medians are printed. On forced host devices,
all devices share the processor's cores, and one device uses several cores already: a perfect result is ratio 1, not
1/D. There the tables show what splitting adds (smaller matrix products, collectives as meetings of threads, more
programs than cores), and nothing about the speed-up on real devices.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time

# Host devices have to be asked for before JAX starts; on other platforms the flag has no effect.
FLAG = "--xla_force_host_platform_device_count"
if FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}=4".strip()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import PartitionSpec  # noqa: E402

import jsafe  # noqa: E402
from jsafe import testing  # noqa: E402
from jsafe.scale import devices as parallel  # noqa: E402
from jsafe.types import Learner  # noqa: E402

OPTIONS = {
    "seditor": {"preset": "laptop"},
    "ppo_lag": {"passes": 4, "minibatch": 256, "early_stop": False},
    "trpo_lag": {"passes": 2},
}
"""On-policy learners make fewer passes than by default: the time of a pass is what is compared."""
SPEC = jsafe.EnvSpec(60, 2)
SMALL = jsafe.make("ppo", jsafe.EnvSpec(1, 1), num_envs=4, steps_per_epoch=4, minibatch=4, hidden=(1,))
"""Whose batches the second table has."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--algorithms", nargs="+", default=list(OPTIONS), choices=jsafe.names())
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=15, help="updates of each variant")
    parser.add_argument("--csv", help="also write the rows to this file")
    return parser.parse_args()


def take_turns(variants: dict, repeats: int) -> dict:
    """Median seconds of each `name: () -> something to wait for`, after one call that compiles."""
    seconds = {name: [] for name in variants}
    for i in range(1 + repeats):
        for name, call in variants.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if i:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def stepping(update, state, batch, key):
    """`() -> metrics`, one update after the other from `state`, which is donated each time."""
    box = [state]

    def call():
        box[0], metrics = update(box[0], batch, key)
        return box[0], metrics

    return call


def compare(make, counts: list[int], repeats: int) -> list[dict]:
    """Rows of the first two tables for `make(axis_name) -> learner`."""
    single, split = make(None), make(parallel.AXIS)
    key = jax.random.key(0)
    state, batch = single.init(key), random_batch(single)
    copy = jax.tree.map(jnp.copy, state)
    variants = {("jit", 1): stepping(jax.jit(single.update, donate_argnums=0), copy, jax.device_put(batch), key)}
    updates = {}
    for count in counts:
        devices = jax.devices()[:count]
        for name, wrapped in (
            ("shard_map", parallel.shard_map_update(split, parallel.make_mesh(devices))),
            ("pmap", parallel.pmap_update(split, devices)),
        ):
            updates[name, count] = wrapped
            placed = wrapped.place_batch(batch)
            variants[name, count] = stepping(wrapped, wrapped.place_state(state), placed, key)
    seconds = take_turns(variants, repeats)
    places = take_turns({name: lambda u=u: u.place_batch(batch) for name, u in updates.items()}, repeats)
    base = seconds["jit", 1]
    return [
        {
            "variant": name,
            "devices": count,
            "update_us": round(1e6 * time, 1),
            "ratio": round(time / base, 3),
            "efficiency": round(base / time / count, 3),
            "place_us": round(1e6 * places[name, count], 1) if (name, count) in places else "",
        }
        for (name, count), time in seconds.items()
    ]


def random_batch(learner: Learner):
    """Of a learner, or of the one that `tiny_learner` is made from."""
    return testing.random_batch(learner if learner.spec is SPEC else SMALL, jax.random.key(1))


def tiny_learner(axis_name: str | None) -> Learner:
    """Adds the mean of the rewards to a number."""

    def update(state, batch, key):
        total = jnp.mean(batch.steps.reward)
        total = total if axis_name is None else jax.lax.pmean(total, axis_name)
        return state + total, {"loss/total": total}

    return SMALL._replace(init=lambda key: jnp.zeros(()), update=update)


def chain(mesh, length: int, reduce: bool):
    """A program of `length` steps that reduces, or does everything else."""

    def step(_, x):
        return (jax.lax.psum(x, parallel.AXIS) if reduce else x) * (1 / mesh.size) + 1e-9

    spec = PartitionSpec(parallel.AXIS)
    body = jax.shard_map(
        lambda x: jax.lax.fori_loop(0, length, step, x), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    return jax.jit(body)


def collectives(counts: list[int], repeats: int, length: int = 64) -> list[dict]:
    """Microseconds of one `psum`, by the number of values that each device brings."""
    rows = []
    for count in counts:
        mesh, variants = parallel.make_mesh(jax.devices()[:count]), {}
        for size in (1, 1_000, 30_000, 1_000_000):
            x = jnp.ones((count * size,), jnp.float32)
            for reduce in (True, False):
                program = chain(mesh, length, reduce)
                variants[size, reduce] = lambda program=program, x=x: program(x)
        seconds = take_turns(variants, repeats)
        for size in sorted({size for size, _ in seconds}):
            net = (seconds[size, True] - seconds[size, False]) / length
            rows.append({"devices": count, "values": size, "psum_us": round(1e6 * net, 2)})
    return rows


def all_reduces(make, count: int) -> str:
    """How many collectives the compiled update holds (those in loops once), and how many numbers they carry."""
    learner = make(parallel.AXIS)
    key = jax.random.key(0)
    update = parallel.shard_map_update(learner, parallel.make_mesh(jax.devices()[:count]))
    state, batch = update.place_state(learner.init(key)), update.place_batch(random_batch(learner))
    text = update.lower(state, batch, key).compile().as_text()
    return f"{sum(' all-reduce(' in line or ' all-reduce-start(' in line for line in text.splitlines())} all-reduces"


def show(title: str, rows: list[dict]) -> None:
    print(f"\n{title}")
    names = list(rows[0])
    print("  ".join(f"{name:>10}" for name in names))
    for row in rows:
        print("  ".join(f"{row[name]:>10}" for name in names))


def main() -> None:
    args = arguments()
    counts = [count for count in args.devices if count <= len(jax.devices())]
    kind = jax.devices()[0].device_kind
    print(f"{len(jax.devices())} x {kind}, {os.cpu_count()} cores ({platform.processor() or platform.machine()})")
    written = []
    for name in args.algorithms:

        def make(axis_name, name=name):
            return jsafe.make(name, SPEC, axis_name=axis_name, **OPTIONS.get(name, {}))

        rows = compare(make, counts, args.repeats)
        show(f"{name}, {OPTIONS.get(name, {})}: {all_reduces(make, counts[-1])}", rows)
        written += [{"table": name, **row} for row in rows]
    rows = compare(tiny_learner, counts, 20 * args.repeats)
    show("wrapper alone", rows)
    written += [{"table": "wrapper", **row} for row in rows]
    rows = collectives(counts, args.repeats)
    show("one psum", rows)
    written += [{"table": "psum", **row} for row in rows]
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in written for name in row)))
            writer.writeheader()
            writer.writerows(written)


if __name__ == "__main__":
    main()
