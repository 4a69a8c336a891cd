# %% [markdown]
# # Your own algorithm
#
# Two ways to a new algorithm: combine parts that are there, or write a part that is missing. We do both, and end with
# an algorithm that has a name, passes the checks that every learner has to pass, and finds the optimum of a task that
# we can solve on paper.

# %%
import dataclasses
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jsafe
from jsafe.components import rules
from jsafe.distributions import gaussian as distributions
from jsafe.nets.heads import gaussian_actor, value_functions
from jsafe.ops.advantages import gae
from jsafe.registry import Algorithm, register
from jsafe.types import ActOutput, ConstraintRule, Learner, RolloutData

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## Combine
#
# An on-policy algorithm is a policy step, a constraint rule and a transform of the problem. Names are enough. This one,
# FOCOPS' loss under a PID controller with the remaining budget in the observation, has no paper that we know of:

# %%
spec = jsafe.EnvSpec(obs_dim=5, act_dim=2, horizon=50)
learner = jsafe.on_policy(spec, step="focops", rule="pid", transform="saute", steps_per_epoch=200, passes=2)
_, metrics = jsafe.testing.check_learner(learner, jax.random.key(0))
print(len(metrics), "metrics, among them", sorted(metrics)[:4])

# %% [markdown]
# `check_learner` runs a few updates on random data and checks what everything else relies on: shapes and types of the
# state stay, nothing is compiled twice, numbers are finite, a deterministic policy is deterministic.
#
# ## A rule of our own
#
# A constraint rule turns a measured cost into a price. The usual multiplier takes steps of a fixed size; if the right
# price is 50, it takes long to get there, and if it is 0.01, the first step overshoots. Let us *multiply* instead:
#
# $$\lambda \leftarrow \lambda \, (J / d)^{\eta} .$$
#
# A rule is a tuple of three pure functions.


# %%
def multiplicative(num_costs: int, rate: float, start: float = 1.0) -> ConstraintRule:
    """Multiplies each price by a power of cost over limit (at most tenfold too much or too little)."""

    def update(price, cost, limit):
        return price * jnp.clip(cost / limit, 0.1, 10.0) ** rate

    return ConstraintRule(
        init=lambda: jnp.full(num_costs, start, jnp.float32),  # without a type, JAX would compile the update twice
        update=update,
        weights=lambda price, cost, limit: rules.mix(price),
    )


# %% [markdown]
# Rules know nothing of networks, so we can try them on a cartoon of learning: the cost drifts, with a delay, to where a
# policy would go at the current price, $J = 25 / \lambda^{1/2}$. Since everything is a pure function, the loop is one
# `lax.scan`.


# %%
def simulate(rule: ConstraintRule, limit: float, steps: int = 300):
    """Price and cost over time."""

    def step(carry, _):
        state, cost = carry
        state = rule.update(state, cost, jnp.array([limit]))
        weights = rule.weights(state, cost, jnp.array([limit]))
        price = weights.cost / weights.reward
        cost = cost + 0.05 * (25 / jnp.sqrt(jnp.maximum(price, 0.01)) - cost)
        return (state, cost), (price[0], cost[0])

    return jax.lax.scan(step, (rule.init(), jnp.array([100.0])), length=steps)[1]


contestants = {
    "lagrange": rules.lagrange(1, learning_rate=0.05, transform="clamp"),
    "pid": rules.pid(1, kp=0.1, ki=0.01, kd=0.01),
    "multiplicative": multiplicative(1, rate=0.05),
}
fig, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained", sharex=True)
for column, limit in zip(axes.T, (50.0, 5.0)):
    best = (25 / limit) ** 2
    for name, rule in contestants.items():
        for axis, values in zip(column, simulate(rule, limit)):
            axis.plot(values, label=name)
    column[0].axhline(best, color="black", ls="--", lw=1)
    column[1].axhline(limit, color="black", ls="--", lw=1)
    column[0].set(title=f"limit {limit:g}: price (right one: {best:g})", yscale="log")
    column[1].set(title="cost", xlabel="iterations")
axes[0, 0].legend()
plt.show()

# %% [markdown]
# The two limits ask for prices that are a hundredfold apart, and no option was changed between them. (A cartoon is not
# a proof; the next section is a little closer to life.)
#
# ## A learner of our own
#
# And now a policy update that jsafe does not have: *advantage-weighted regression*. Imitate your own actions, the
# better ones more,
#
# $$L = - E \big[ \exp( A / \beta ) \, \log \pi(a | s) \big],$$
#
# with the advantage $A = w_r A_r - \sum_i w_i A_i$ weighed by our rule. Networks, advantages and the Gaussian come from
# the shelf. A learner is `init`, `update`, `act` and `policy`, and says in `data` what it wants to be fed.


# %%
class State(NamedTuple):
    """All that an update changes."""

    params: dict
    optimizer: optax.OptState
    price: jax.Array


@dataclasses.dataclass(frozen=True)
class CAWRConfig:
    """Options of constrained advantage-weighted regression."""

    cost_limit: float = 25.0
    beta: float = 0.5
    passes: int = 30
    learning_rate: float = 3e-3
    gamma: float = 0.9
    num_envs: int = 20
    length: int = 50


def build(config: CAWRConfig, spec: jsafe.EnvSpec, axis_name: str | None = None) -> Learner:
    """Constrained advantage-weighted regression (one device)."""
    if axis_name is not None:
        raise ValueError(f"axis_name must be None: this learner runs on one device, got {axis_name!r}")
    actor = gaussian_actor(spec.obs_dim, spec.act_dim, hidden=(32, 32))
    critics = value_functions(spec.obs_dim, 1 + spec.num_costs, hidden=(32, 32))  # the reward's and each cost's
    rule, adam = multiplicative(spec.num_costs, rate=0.05), optax.adam(config.learning_rate)
    limit = jnp.full(spec.num_costs, config.cost_limit)

    def init(key):
        keys = jax.random.split(key)
        params = {"actor": actor.init(keys[0]), "critics": critics.init(keys[1])}
        return State(params, adam.init(params), rule.init())

    def value(params, obs):
        return critics.apply(params["critics"], obs.reshape(-1, spec.obs_dim)).reshape(*obs.shape[:2], -1)

    def update(state, batch, key):
        cost = batch.episodes.cost / jnp.maximum(batch.episodes.count, 1)
        price = jnp.where(batch.episodes.count > 0, rule.update(state.price, cost, limit), state.price)
        weights = rule.weights(price, cost, limit)

        signals = jnp.concatenate([batch.reward[..., None], batch.cost], axis=-1)
        values, after = value(state.params, batch.obs), value(state.params, batch.next_obs)
        advantages, target = gae(signals, values, after, batch.terminated, batch.truncated, config.gamma, 0.95)
        mixed = weights.reward * advantages[..., 0] - advantages[..., 1:] @ weights.cost
        mixed = (mixed - mixed.mean()) / (mixed.std() + 1e-8)
        weight = jnp.minimum(jnp.exp(mixed / config.beta), 20.0)

        def loss(params):
            policy = actor.apply(params["actor"], batch.obs)
            imitation = -jnp.mean(weight * distributions.log_prob(policy, batch.action))
            return imitation + jnp.mean((value(params, batch.obs) - target) ** 2)

        def one_pass(_, carry):
            params, optimizer = carry
            change, optimizer = adam.update(jax.grad(loss)(params), optimizer)
            return optax.apply_updates(params, change), optimizer

        params, optimizer = jax.lax.fori_loop(0, config.passes, one_pass, (state.params, state.optimizer))
        std = jnp.exp(params["actor"]["log_std"]).mean()
        metrics = {"rule/multiplier_0": price[0], "cost/episodic_0": cost[0], "policy/std": std}
        return State(params, optimizer, price), metrics

    def act(policy, obs, key, deterministic):
        dist = actor.apply(policy, obs)
        action = dist.mean if deterministic else distributions.sample(dist, key)
        return ActOutput(action, distributions.log_prob(dist, action), {})

    data = RolloutData(num_envs=config.num_envs, length=config.length)
    return Learner(init, update, act, lambda state: state.params["actor"], config, data, spec)


# %% [markdown]
# Registered, it is an algorithm like the others: `jsafe.make` checks its options, and in a module that your script
# imports, the command line's machinery (checkpoints, resume, plots) works for it, too.

# %%
register(Algorithm("cawr", "on_policy", CAWRConfig, build, {}, paper="", summary="Weighted imitation of oneself."))

try:
    jsafe.make("cawr", spec, cost_limits=10.0)
except ValueError as error:
    print("ValueError:", error)

jsafe.testing.check_learner(jsafe.make("cawr", spec), jax.random.key(0))
print("passes the checks of every learner")

# %% [markdown]
# ## Does it work?
#
# The toy task of jsafe's tests: run in a direction that is shown, pay the square of your speed. With a limit of 8 per
# episode of 50 steps the best speed is $\sqrt{8/50} = 0.4$, and the price of cost $1 / (2 \cdot 0.4) = 1.25$.

# %%
env = jsafe.envs.ToyEnv(20, horizon=50)
best = env.optimum(8.0, episodic=True)
learner = jsafe.make("cawr", jsafe.env_spec(env), cost_limit=8.0)
collector = jsafe.data.make_collector(env, learner, seed=0)
curve = []
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=3_000 if TEST else 200_000):
    metrics = (float(step.metrics[name]) for name in ("cost/episodic_0", "rule/multiplier_0"))
    curve.append([step.env_steps, step.episodes["episode/return"], *metrics])
steps, *columns = np.array(curve).T

fig, axes = plt.subplots(1, 3, figsize=(13, 3), layout="constrained")
titles, optima = ("return per episode", "cost per episode", "price"), (50 * best.reward, 8.0, best.multiplier[0])
for axis, values, title, optimum in zip(axes, columns, titles, optima):
    axis.plot(steps / 1000, values)
    axis.axhline(optimum, color="black", ls="--", lw=1)
    axis.set(title=f"{title} (dashed: optimum)", xlabel="thousand steps")
plt.show()

# %% [markdown]
# ## For nothing: many at once
#
# Because the learner is a set of pure functions, eight seeds are one `vmap` and one compilation. (Here on random data;
# with environments, give each seed its own slice of them.)

# %%
keys = jax.random.split(jax.random.key(0), 8)
states = jax.vmap(learner.init)(keys)
batch = jsafe.testing.random_batch(learner, jax.random.key(1))
states, metrics = jax.jit(jax.vmap(learner.update, in_axes=(0, None, 0)))(states, batch, keys)
print({name: value.shape for name, value in metrics.items()})

# %% [markdown]
# ## Where to go from here
#
# - A new *loss* is an `Objective` in `jsafe.components.steps`: one function of the probability ratios and the
#   advantages. The step around it brings minibatches, early stopping, critics and devices.
# - An off-policy algorithm is an `Actor` (`jsafe.components.actors`) and a rule.
# - To run on several devices, average gradients and sums over `axis_name`, as the assemblers do.
