"""Speed of offline learners: CPU seconds per gradient update, and the share of drawing minibatches.

    export XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1     # one thread
    python experiments/benchmarks/offline.py --csv speed.csv
    python experiments/benchmarks/offline.py --only bcq_lag --updates 50

28 inputs, 2 actions (SafetyPointCircle1), minibatches of 256, K updates per call, the data set on the device. Seconds
are CPU seconds of the process, which other work on the machine disturbs less than the clock. On an accelerator read the
wall time.

So that machines compare, a product of 2560 x 256 by 256 x 256 float32 numbers is timed beside every case: `relative` is
the time of an update in units of it, `gflops` what the update reaches (operations by the compiler's own count, a
minibatch), `product_gflops` what the product does.

`draw` is the share of the wall time of a call in which minibatches are drawn and gathered, with K as given.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.data import datasets, make_collector

SPEC = jsafe.EnvSpec(28, 2, num_costs=1, horizon=500)
THREE, TWO = (256, 256, 256), (256, 256)
WIDE = {"policy.hidden": THREE, "policy.phi_hidden": THREE, "critic.critics.hidden": THREE}
CASES = {
    "BCQ-Lag, 3 layers, n 10": ("bcq_lag", {**WIDE, "batch_size": 256}, 0.087),
    "BCQ-Lag, 2 layers, n 10": ("bcq_lag", {"hidden": TWO, "batch_size": 256}, 0.049),
    "CRR-Lag, 3 layers, m 10": ("ccrr", {"hidden": THREE, "critic.samples": 10}, 0.061),
    "CRR-Lag, 3 layers, m 4": ("ccrr", {"hidden": THREE, "critic.samples": 4}, 0.034),
    "CRR-Lag, 2 layers, m 4": ("ccrr", {"hidden": TWO, "critic.samples": 4}, 0.021),
    "CAPS, 3 layers": ("caps", {"hidden": THREE, "batch_size": 256}, 0.028),
    "CAPS, 2 layers": ("caps", {"hidden": TWO, "batch_size": 256}, 0.015),
    "COptiDICE, 3 layers, no penalty": (
        "coptidice",
        {"hidden": THREE, "batch_size": 256, "critic.gradient_penalty": 0.0},
        0.020,
    ),
    "COptiDICE, 3 layers": ("coptidice", {"hidden": THREE, "batch_size": 256}, None),
    "VAE-BC, 2 layers of 750": ("vae_bc", {"batch_size": 256}, 0.022),
    "BC, 3 layers": ("bc", {"hidden": THREE, "batch_size": 256}, 0.0028),
    "FISOR, 2 layers": ("fisor", {"hidden": TWO}, None),
    "CPQ, 2 layers": ("cpq", {"hidden": TWO, "batch_size": 256}, None),
    "BEAR-Lag, 2 layers": ("bear_lag", {"hidden": TWO, "batch_size": 256}, None),
}
"""Algorithm, options, and CPU seconds per update of a prototype on one core of another machine, an AMD EPYC."""


def recorded(rows: int = 20_000) -> datasets.Episodes:
    """Random numbers in the shape of a data set: what they mean does not matter for speed."""
    rng = np.random.default_rng(0)
    step = np.arange(rows) % SPEC.horizon
    return datasets.from_rows(
        obs=rng.standard_normal((rows, SPEC.obs_dim)),
        action=rng.uniform(-1, 1, (rows, SPEC.act_dim)),
        reward=rng.random(rows),
        cost=(rng.random((rows, 1)) < 0.1).astype(float),
        terminated=np.zeros(rows, bool),
        truncated=step == SPEC.horizon - 1,
        next_obs=rng.standard_normal((rows, SPEC.obs_dim)),
    )


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(call())
        times.append(time.process_time() - start)
    return statistics.median(times)


PRODUCT = 2 * 2560 * 256 * 256
"""Operations of the product that is the unit."""


def product(repeats: int = 5, inner: int = 50) -> float:
    """CPU seconds of the product that is the unit."""
    a, b = jnp.ones((2560, 256)), jnp.full((256, 256), 1e-3)
    chain = jax.jit(lambda a: jax.lax.scan(lambda x, _: (x @ b, None), a, None, length=inner)[0])
    jax.block_until_ready(chain(a))
    return cpu_seconds(lambda: chain(a), repeats) / inner


def operations(name: str, options: dict, data: datasets.Episodes) -> float:
    """Floating-point operations of one gradient update, as the compiler counts them."""
    learner = jsafe.make(name, data.spec, updates=1, **options)
    collector = make_collector(None, learner, seed=0, data=data)
    state = learner.init(jax.random.key(0))
    batch = collector.collect(learner.policy(state), jax.random.key(1))
    return jax.jit(learner.update).lower(state, batch, jax.random.key(2)).compile().cost_analysis()["flops"]


def measure(name: str, options: dict, updates: int, repeats: int, data: datasets.Episodes) -> dict[str, float]:
    """One learner."""
    learner = jsafe.make(name, data.spec, updates=updates, **options)
    collector = make_collector(None, learner, seed=0, data=data)
    state, update = jax.jit(learner.init)(jax.random.key(0)), jax.jit(learner.update, donate_argnums=0)
    policy_state, key = learner.policy(state), jax.random.key(1)
    start = time.perf_counter()
    batch = collector.collect(policy_state, key)
    state, _ = jax.block_until_ready(update(state, batch, key))
    compiled = time.perf_counter() - start
    times, walls, draws = [], [], []
    for i in range(repeats):
        drawn = time.perf_counter()
        batch = jax.block_until_ready(collector.collect(policy_state, jax.random.fold_in(key, i)))
        draws.append(time.perf_counter() - drawn)
        cpu, wall = time.process_time(), time.perf_counter()
        state, _ = jax.block_until_ready(update(state, batch, jax.random.fold_in(key, i)))
        times.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    draw, wall = statistics.median(draws), statistics.median(walls)
    return {
        "cpu_ms": 1e3 * statistics.median(times) / updates,
        "wall_ms": 1e3 * wall / updates,
        "draw": draw / (draw + wall),
        "compile_s": compiled,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=50, help="K, gradient updates per call")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose algorithm has this name")
    parser.add_argument("--csv", help="also write a table")
    given = parser.parse_args()
    data, rows = recorded(), []
    print(f"{jax.devices()[0].device_kind}, K = {given.updates}")
    for title, (name, options, before) in CASES.items():
        if given.only not in ("", name):
            continue
        unit = product()
        row = {"case": title, **measure(name, options, given.updates, given.repeats, data)}
        gflop = operations(name, options, data) / 1e9
        row |= {"relative": row["cpu_ms"] / (1e3 * unit), "prototype_ms": 1e3 * before if before else ""}
        row |= {"gflop": gflop, "gflops": 1e3 * gflop / row["cpu_ms"], "product_gflops": PRODUCT / unit / 1e9}
        rows.append(row)
        told = f", prototype {1e3 * before:.1f} ms" if before else ""
        print(
            f"{title:34s} {row['cpu_ms']:7.2f} ms CPU, {row['wall_ms']:7.2f} ms wall, {row['relative']:6.1f} products "
            f"of {1e6 * unit:.0f} us, {row['gflop']:.2f} GFLOP at {row['gflops']:.0f} per second (the product: "
            f"{row['product_gflops']:.0f}), draw {row['draw']:.1%}, compiled in {row['compile_s']:.0f} s{told}",
            flush=True,
        )
    if given.csv:
        with open(given.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
