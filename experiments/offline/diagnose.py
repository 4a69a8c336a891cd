"""What the critics of CCRR, COptiDICE and FISOR have learnt of a recorded task: the tables of README.md.

    python experiments/offline/diagnose.py ccrr FILE.npz
    python experiments/offline/diagnose.py coptidice FILE.npz --set critic.alpha=0.1 critic.multiplier=0.05
    python experiments/offline/diagnose.py fisor FILE.npz --set critic.unsafe=1 reward_scale=1

The settings are those of `compare.py`'s row but for what `--set` changes. Printed are return / cost of 20 episodes in
each way to act, and the CPU time of an action; of COptiDICE how far its weights are from an occupancy, and who is
imitated; of FISOR its values by the number of steps to the next cost.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import compare
import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.algos.offline import fitting
from jsafe.components import normalizers
from jsafe.components.valuations import Context, Rows
from jsafe.data import datasets, evaluate, make_collector

SAMPLE = 30_000
"""Rows that are looked at."""
AHEAD = ((0, 0), (1, 10), (11, 50), (51, 150), (151, 1 << 30))
"""Steps to the next cost."""
CHOSEN = {"choice": "softmax", "choice.beta": 0.1}
SAMPLES = [("most likely", {}, True), ("sampled", {}, False)]
WAYS = {
    "ccrr": [*SAMPLES, ("the critics choose of 100", CHOSEN, True), ("the critics draw of 100", CHOSEN, False)],
    "coptidice": SAMPLES,
    "fisor": [("safest of 16", {}, True), ("its mean", {"choice": "policy"}, True)],
}
"""How each is made to act: what it is called, options, and whether the action is certain."""


def parts(learner):
    """What the learner is made of."""
    return fitting.built(learner.config, learner.spec, None)


def judged(learner, state, data: datasets.Episodes, index: np.ndarray):
    """The valuation's judgement of some rows, and what the networks see of them."""

    def view(obs: np.ndarray):
        return normalizers.normalize_obs(state.obs_stats, jnp.asarray(obs, jnp.float32))

    first = np.resize(data.start[:-1], len(index))
    rows = Rows(
        obs=view(data.obs[index]),
        action=jnp.asarray(data.action[index]),
        reward=jnp.asarray(data.reward[index]),
        cost=jnp.asarray(data.cost[index]),
        next_obs=view(data.obs[index + 1]),
        terminated=jnp.asarray(data.terminated[index]),
        initial_obs=view(data.obs[first]),
    )
    gamma = state.numbers.gamma
    context = Context(rows, None, None, None, None, None, gamma, state.own["critic"])  # judges ask for no policy
    return parts(learner).critic.judge(state.params["critic"], state.slow["critic"], context, None), rows, float(gamma)


def steps_to_cost(data: datasets.Episodes) -> np.ndarray:
    """`[R]`, from each row to the next one of its episode that costs something; 2^30 if none does."""
    ahead = np.full(len(data.reward), 1 << 30)
    for first, last in zip(data.start[:-1], data.last):
        row = np.arange(first, last + 1)
        costly = first + np.flatnonzero(data.cost[first : last + 1, 0] > 0)
        at = np.searchsorted(costly, row)
        seen = at < len(costly)
        ahead[row[seen]] = costly[at[seen]] - row[seen]
    return ahead


def acting_time(learner, policy, env, certain: bool, calls: int = 200) -> float:
    """CPU milliseconds of one call of `act`."""
    act = jax.jit(lambda obs, key: learner.act(policy, (), obs, key, certain).action)
    obs, key = jnp.zeros((env.num_envs, env.spec.obs_dim)), jax.random.key(0)
    jax.block_until_ready(act(obs, key))
    start = time.process_time()
    for _ in range(calls):
        jax.block_until_ready(act(obs, key))
    return 1e3 * (time.process_time() - start) / calls


def of_coptidice(learner, state, data: datasets.Episodes, index: np.ndarray, bold: np.ndarray) -> None:
    """The flow error, and the share of the weight on costly episodes."""
    judgement, rows, gamma = judged(learner, state, data, index)
    w, cost = np.asarray(judgement.ratio), np.asarray(rows.cost)[:, 0]
    kept = (1.0 - np.asarray(rows.terminated))[:, None]
    leaving = (w[:, None] * (rows.obs - gamma * kept * rows.next_obs)).mean(axis=0)
    error = (leaving - (1 - gamma) * rows.initial_obs.mean(axis=0)) / (1 - gamma)
    spent = data.about.horizon * (w * cost).mean()
    print(f"flow error {np.sqrt(np.square(error).mean()):.2f}, largest {np.abs(error).max():.2f}")
    print(f"mean w {w.mean():.2f}, share on bold {w[bold].sum() / w.sum():.2f}, mean w c per episode {spent:.1f}")


def of_fisor(learner, state, data: datasets.Episodes, index: np.ndarray, bold: np.ndarray) -> None:
    """Values, feasible shares and weights by the number of steps to the next cost."""
    judgement, rows, _ = judged(learner, state, data, index)
    v, q = (np.asarray(x) for x in judgement.reach)
    w = np.asarray(parts(learner).weight.apply(judgement, None, state.own["weight"], rows.reward))[0]
    ahead, gain = steps_to_cost(data), np.asarray(judgement.advantage.reward)
    beyond = [f"{x.min():.2f} to {x.max():.2f}" for x in (v, q)]
    print(f"V_h from {beyond[0]}, Q_h from {beyond[1]}")
    print(f"median |Q_h - V_h| {np.median(np.abs(q - v)):.3f}, deviation of A_r {gain.std():.3f}")
    for who, mine in (("bold", bold), ("careful", ~bold)):
        for low, high in AHEAD:
            chosen = mine & (ahead[index] >= low) & (ahead[index] <= high)
            if chosen.any():
                means = (
                    f"V_h {v[chosen].mean():.2f}, feasible {(v[chosen] <= 0).mean():.2f}, weight {w[chosen].mean():.2f}"
                )
                print(f"{who}, next cost in {low} to {high}: {chosen.mean():.3f} of the rows, {means}")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("algorithm", choices=list(WAYS))
    words.add_argument("file", type=Path)
    words.add_argument("--set", nargs="*", default=[], metavar="OPTION=NUMBER")
    words.add_argument("--limit", type=float, default=25.0)
    words.add_argument("--updates", type=int, default=3000)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    changes = {name: json.loads(value) for name, value in (each.split("=") for each in given.set)}
    data = datasets.read(given.file)
    learner = compare.learner_of(given.algorithm, data, given.limit, given.updates, changes)
    collector = make_collector(None, learner, seed=given.seed, data=data)
    for step in jsafe.train.run(learner, collector, key=jax.random.key(given.seed), total_steps=given.updates):
        state, metrics = step.state, step.metrics
    print({name: round(float(value), 3) for name, value in metrics.items() if not name.startswith("loss")})
    env = jsafe.envs.make(data.about.env, num_envs=20, seed=0, num_threads=1)
    for title, way, certain in WAYS[given.algorithm]:
        acting = compare.learner_of(given.algorithm, data, given.limit, given.updates, changes | way)
        policy, key = acting.policy(state), jax.random.key(given.seed)
        found = evaluate(env, acting, policy, 20, key, certain, seed=1000 + given.seed)
        print(
            f"{title}: {found['return'].mean():.1f} / {found['cost'].mean():.0f},",
            f"{acting_time(acting, policy, env, certain):.2f} ms for the actions of 20 environments",
        )
    if given.algorithm == "ccrr":
        return
    index = np.random.default_rng(0).choice(data.rows(), SAMPLE)
    episode = np.searchsorted(data.start, index, side="right") - 1
    bold = data.costs[episode, 0] > 4 * given.limit
    {"coptidice": of_coptidice, "fisor": of_fisor}[given.algorithm](learner, state, data, index, bold)


if __name__ == "__main__":
    main()
