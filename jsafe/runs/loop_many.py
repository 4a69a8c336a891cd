"""The loop of several runs at once: `vmap` over seeds and over the numbers that a learner keeps in its state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data import BadValueError, ManyCollector
from jsafe.data.datasets import ManyDatasets
from jsafe.options import difference, to_json
from jsafe.runs.loop import INIT_FOLD
from jsafe.types import Key, Learner, Metrics


class ManyStep(NamedTuple):
    """One iteration of `run_many`.

    Attributes:
      iteration: Iterations done so far, this one included.
      env_steps: Environment steps done so far, in each run.
      state: The learners' states, stacked: every leaf has a leading axis R. The next iteration donates them. None where
        they never left the program (`jsafe.device.run_many`).
      metrics: For each run its scalars, on the device.
      episodes: For each run the statistics of finished episodes.
      lost: What has ended a run, by its number; what is told of it means nothing from there on.
    """

    iteration: int
    env_steps: int
    state: Any
    metrics: list[Metrics]
    episodes: list[dict[str, float]]
    lost: dict[int, BadValueError]


def run_many(
    learners: Sequence[Learner],
    collector: ManyCollector | ManyDatasets,
    *,
    keys: Sequence[Key],
    total_steps: int,
) -> Iterator[ManyStep]:
    """`run` for R runs at once: one compiled update under `vmap`, one policy call, one engine.

    Run r equals `run(learners[r], its collector, key=keys[r])` by itself to float tolerance (a batched matrix product
    rounds otherwise). A run that diverges does not disturb the others (`ManyStep.lost`).

    Args:
      learners: One for each run. They may differ in what their states hold (cost limits, learning rates, discounts ...)
        and in nothing else; the same object may come several times.
      collector: Steps the environments of all runs, or draws from their data set (`ManyDatasets`).
      keys: Typed root key of each run.
      total_steps: Environment steps of each run at which to stop.

    Yields:
      A `ManyStep` after every iteration.

    Raises:
      ValueError: If the numbers of learners and keys differ, or the learners in more than their states.
      BadValueError: When all runs are lost.

    Example:
      >>> make_env = functools.partial(jsafe.envs.make, "Toy-SpeedLimit-v0")
      >>> spec, options = jsafe.env_spec(make_env(1)), {"steps_per_epoch": 1_000, "step.passes": 2}
      >>> learners = [jsafe.make("ppo_lag", spec, cost_limit=limit, **options) for limit in (4.0, 4.0, 8.0, 8.0)]
      >>> collector = jsafe.data.ManyCollector(make_env, learners, seeds=2 * [0, 100])
      >>> keys = 2 * [jax.random.key(0), jax.random.key(1)]
      >>> for step in jsafe.train.run_many(learners, collector, keys=keys, total_steps=2_000):
      ...     costs = [episodes["episode/cost"] for episodes in step.episodes]
      >>> len(costs)
      4
    """
    if not len(learners) == len(keys) == len(collector.collectors):
        raise ValueError(
            f"there must be one learner and one key for each of {len(collector.collectors)} runs, "
            f"got {len(learners)} and {len(keys)}"
        )
    inits = {id(learner): jax.jit(learner.init) for learner in learners}
    states = [inits[id(learner)](jax.random.fold_in(key, INIT_FOLD)) for learner, key in zip(learners, keys)]
    check_shapes(learners, states)
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    learner, roots = learners[0], jnp.stack(list(keys))

    def step(state, batch, keys):
        state, metrics = jax.vmap(learner.update)(state, batch, keys)
        return state, [{name: values[r] for name, values in metrics.items()} for r in range(len(learners))]

    update = jax.jit(step, donate_argnums=0)
    policy = jax.jit(lambda state: jax.tree.map(jnp.copy, jax.vmap(learner.policy)(state)))
    split = jax.jit(lambda keys, i: jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys))
    iteration, checked = 0, False
    while collector.progress < total_steps:
        pairs = split(roots, np.uint32(iteration))
        batch = collector.collect(policy(state), pairs[:, 0])
        if not checked:
            check_programs(learners, states, jax.tree.map(lambda x: x[0], batch))
            states, checked = [], True
        state, metrics = update(state, batch, pairs[:, 1])
        iteration += 1
        lost = dict(collector.lost)
        yield ManyStep(iteration, collector.progress, state, metrics, collector.episodes(), lost)


def check_shapes(learners: Sequence[Learner], states: Sequence[Any]) -> None:
    """States of one program have the same tree, shapes and types; ValueError, with the options that differ, if not."""
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in states]
    for learner, shape in zip(learners, shapes):
        if jax.tree.structure(shape) != jax.tree.structure(shapes[0]) or shape != shapes[0]:  # type: ignore[operator]
            raise _differ(learners[0], learner)


def check_programs(learners: Sequence[Learner], states: Sequence[Any], batch: Any) -> None:
    """What is not in the state is in the program, which has to be the same for all."""
    first = None
    for learner, state in {id(learner): (learner, state) for learner, state in zip(learners, states)}.values():
        closed = jax.make_jaxpr(learner.update)(state, batch, jax.random.key(0))
        program = (re.sub(r"0x[0-9a-f]+", "", str(closed)), [np.asarray(x).tobytes() for x in closed.consts])
        first = first or program
        if program != first:
            raise _differ(learners[0], learner)


def _differ(one: Learner, other: Learner) -> ValueError:
    lines = difference(to_json(one.config), to_json(other.config))
    return ValueError("runs in one program may differ only in what their states hold, got:\n  " + "\n  ".join(lines))
