"""COptiDICE's dual solved to its end: what its weights are worth where no optimisation is left to blame.

    python experiments/offline/dual.py FILE.npz --alpha 0.1 --features 256

`nu` is linear in the observation, in random features `tanh(W x + b)` and in a constant, so that the dual over `nu` and
the multiplier is convex; L-BFGS solves it over `ROWS` rows at once. Printed are what the weights say of their policy
(return and cost per episode), how far they are from an occupancy (as in diagnose.py), their share on costly episodes,
and what a clone of the rows that were drawn by them earns and costs in the environment.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import compare
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

import jsafe
from jsafe.data import datasets, evaluate, make_collector
from jsafe.ops import dice
from jsafe.ops.fdivergence import DIVERGENCES

ROWS = 40_000
F = DIVERGENCES["soft_chi2"]


def solved(x, later, first, reward, cost, alpha: float, gamma: float, k: float, features: int, seed: int):
    """The weights `[R]` and the multiplier.

    Args:
      x, later, first: `[R, O]`, `[R, O]` and `[E, O]`, normalised: of rows, of what followed, and of first steps.
      reward, cost: `[R]`.
      alpha, gamma, k: As in the algorithm; k per step.
      features: Number of random features.
      seed: Theirs.
    """
    rng = np.random.default_rng(seed)
    W, b = 1.5 * rng.normal(size=(x.shape[1], features)) / np.sqrt(x.shape[1]), rng.normal(size=features)

    def phi(obs):
        return np.concatenate([obs, np.tanh(obs @ W + b), np.ones((len(obs), 1))], axis=1).astype(np.float32)

    flow = gamma * phi(later) - phi(x)
    scale = jnp.asarray(1.0 / np.maximum(flow.std(axis=0), 1e-3))
    flow, start, cost = jnp.asarray(flow), jnp.asarray(phi(first).mean(axis=0)), cost[:, None]

    def residual(p):
        theta, lam = p[:-1] * scale, p[-1:]
        none = jnp.zeros_like(reward)
        return dice.residual(reward, cost, lam, none, flow @ theta, jnp.ones_like(reward)), theta, lam

    def loss(p):
        e, theta, lam = residual(p)
        w = jax.lax.stop_gradient(dice.ratio(e, alpha, F))
        return dice.nu_loss(start[None] @ theta, e, w, alpha, gamma, F) + lam[0] * k

    slope = jax.jit(jax.value_and_grad(loss))
    count = flow.shape[1]
    found = minimize(
        lambda p: [np.asarray(v, np.float64) for v in slope(jnp.asarray(p, jnp.float32))],
        np.append(np.zeros(count), 0.05),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * count + [(0, None)],
        options={"maxiter": 500, "maxfun": 550, "maxcor": 30, "ftol": 1e-12, "gtol": 1e-7},
    )
    e, _, lam = residual(jnp.asarray(found.x, jnp.float32))
    return np.asarray(dice.ratio(e, alpha, F)), float(lam[0])


def cloned(data: datasets.Episodes, index: np.ndarray, w: np.ndarray, seed: int, updates: int = 3000):
    """Return and cost of a clone of rows that are drawn as often as they weigh, most likely actions."""
    learner = compare.learner_of("bc", data, 25.0, updates)
    collector = make_collector(None, learner, seed=seed, data=data)
    update, state = jax.jit(learner.update, donate_argnums=0), jax.jit(learner.init)(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    batch = collector.collect(learner.policy(state), jax.random.key(seed))
    for i in range(updates // learner.feed.updates):
        rows = rng.choice(index, batch.steps.reward.shape, p=w / w.sum())
        steps = batch.steps._replace(obs=jnp.asarray(data.obs[rows]), action=jnp.asarray(data.action[rows]))
        state, _ = update(state, batch._replace(steps=steps), jax.random.key(i))
    env = jsafe.envs.make(data.about.env, num_envs=20, seed=0, num_threads=1)
    found = evaluate(env, learner, learner.policy(state), 20, jax.random.key(seed), True, seed=1000 + seed)
    return found["return"].mean(), found["cost"].mean()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("file", type=Path)
    words.add_argument("--alpha", type=float, default=0.1)
    words.add_argument("--gamma", type=float, default=0.995)
    words.add_argument("--features", type=int, default=256)
    words.add_argument("--limit", type=float, default=25.0)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    data = datasets.read(given.file)
    index = np.random.default_rng(given.seed).choice(data.rows(), ROWS, replace=False)
    mean, std = data.obs[data.rows()].mean(axis=0), data.obs[data.rows()].std(axis=0) + 1e-6
    x, later, first = ((data.obs[rows] - mean) / std for rows in (index, index + 1, data.start[:-1]))
    reward, cost = jnp.asarray(data.reward[index]), jnp.asarray(data.cost[index, 0])
    T, gamma, begun = data.about.horizon, given.gamma, time.process_time()
    w, lam = solved(x, later, first, reward, cost, given.alpha, gamma, given.limit / T, given.features, given.seed)
    seconds = time.process_time() - begun
    error = ((w[:, None] * (x - gamma * later)).mean(axis=0) - (1 - gamma) * first.mean(axis=0)) / (1 - gamma)
    episode = np.searchsorted(data.start, index, side="right") - 1
    bold = data.costs[episode, 0] > 4 * given.limit
    print(f"multiplier {lam:.3f}, mean w {w.mean():.3f}, flow error {np.sqrt(np.square(error).mean()):.3f}")
    print(f"by the weights: return {T * (w * reward).mean():.1f} at a cost of {T * (w * cost).mean():.1f} per episode")
    print(f"share on bold {w[bold].sum() / w.sum():.2f}; {seconds:.0f} CPU s")
    earned, spent = cloned(data, index, w, given.seed)
    print(f"cloned: {earned:.1f} / {spent:.0f}")


if __name__ == "__main__":
    main()
