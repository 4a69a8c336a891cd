# %% [markdown]
# # Your own algorithm
#
# Two ways to a new algorithm: combine parts that are there, or write a part that is missing. We do both: a rule of our
# own goes into PPO, and then into a learner that is not PPO at all. Both pass the checks that every learner has to
# pass, and find the optimum of a task that we can solve on paper.

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
from jsafe.components.steps import PPO
from jsafe.distributions import gaussian as distributions
from jsafe.feeds import Rollouts
from jsafe.nets.heads import gaussian_actor, value_functions
from jsafe.ops.advantages import gae
from jsafe.options import Options, part, traced, traced_values
from jsafe.registry import Algorithm, register
from jsafe.types import NO_MEMORY, ActOutput, ConstraintRule, Learner, PolicyState

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## Combine
#
# An on-policy algorithm is a policy step, a constraint rule and a transform of the problem. Names are enough, or
# objects with options of their own. This one, FOCOPS' loss under a PID controller with the remaining budget in the
# observation, has no paper that we know of:

# %%
spec = jsafe.EnvSpec(5, 2, horizon=50)  # 5 numbers in, 2 out
options = {"steps_per_epoch": 1000, "passes": 2, "minibatch": 250, "cost_limit": 8.0}
learner = jsafe.on_policy(spec, step="focops", rule=rules.PID(kp=0.2), transform="saute", **options)
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
# A rule is a tuple of three pure functions, and its options are a frozen dataclass that builds it. `@part` gives it a
# name, for the command line and for run folders; inside of a notebook it could be left out. A `traced` number lives in
# the state of the rule, so that it can be swept without compiling again.


# %%
class Price(NamedTuple):
    """What the rule remembers."""

    price: jax.Array
    numbers: tuple


@part("rule", "multiplicative")
@dataclasses.dataclass(frozen=True)
class Multiplicative(Options):
    """Multiplies each price by a power of cost over limit (at most tenfold too much or too little)."""

    rate: float = traced(0.05, low=0)
    """The power."""
    start: float = 1.0
    """The first price."""

    def build(self, spec, axis_name=None) -> ConstraintRule:
        """The rule, for M costs."""

        def init():
            return Price(jnp.full(spec.num_costs, self.start, jnp.float32), traced_values(self))

        def update(state, cost, limit):
            ratio = jnp.clip(cost / limit, 0.1, 10.0)
            return state._replace(price=state.price * ratio**state.numbers.rate)

        return ConstraintRule(init, update, weights=lambda state, cost, limit: rules.mix(state.price))


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
    "lagrange": rules.Lagrange(learning_rate=0.05),
    "pid": rules.PID(kp=0.1, ki=0.01, kd=0.01),
    "multiplicative": Multiplicative(rate=0.05),
}
fig, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained", sharex=True)
for column, limit in zip(axes.T, (50.0, 5.0)):
    best = (25 / limit) ** 2
    for name, rule in contestants.items():
        for axis, values in zip(column, simulate(rule.build(spec), limit)):
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
# ## Our rule in PPO
#
# The toy task of jsafe's tests: run in a direction that is shown, pay the square of your speed. With a limit of 8 per
# episode of 50 steps the best speed is $\sqrt{8/50} = 0.4$, and the price of cost $1 / (2 \cdot 0.4) = 1.25$.
#
# PPO takes our rule like one of its own: networks, advantages, minibatches, devices and metrics stay what they are.


# %%
env = jsafe.envs.ToyEnv(20, horizon=50)
best = env.optimum(8.0, episodic=True)


def train(learner, total_steps):
    """The learning curve: steps, return, cost, price."""
    collector = jsafe.data.make_collector(env, learner, seed=0)
    curve = []
    for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total_steps):
        metrics = (float(step.metrics[name]) for name in ("cost/0/episodic", "cost/0/multiplier"))
        curve.append([step.env_steps, step.episodes["episode/return"], *metrics])
    return np.array(curve).T


def show(curve):
    """Draws it beside the optimum."""
    steps, *columns = curve
    _, axes = plt.subplots(1, 3, figsize=(13, 3), layout="constrained")
    titles, optima = ("return per episode", "cost per episode", "price"), (50 * best.reward, 8.0, best.multiplier[0])
    for axis, values, title, optimum in zip(axes, columns, titles, optima):
        axis.plot(steps / 1000, values)
        axis.axhline(optimum, color="black", ls="--", lw=1)
        axis.set(title=f"{title} (dashed: optimum)", xlabel="thousand steps")
    plt.show()


ours = jsafe.on_policy(
    jsafe.env_spec(env),
    step=PPO(passes=10, minibatch=250, learning_rate=1e-3),
    rule=Multiplicative(rate=0.1),
    cost_limit=8.0,
    steps_per_epoch=1000,
    gamma=0.9,
    cost_gamma=0.9,
    critic_learning_rate=3e-3,
    standardize="mix",  # prices in reward per cost, whatever the spread of the advantages
)
jsafe.testing.check_learner(ours, jax.random.key(0))
show(train(ours, 3_000 if TEST else 150_000))

# %% [markdown]
# Return, cost and price end at the optimum. On the way the price overshoots: the policy answers with a delay, as it
# does to any multiplier. The rate of the rule is a number in the state, like a cost limit: `state.rule.numbers.rate`
# may be swept under `vmap`. And wrong values are errors, as everywhere:

# %%
try:
    Multiplicative(rate=-1.0)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ## A learner of our own
#
# And now a policy update that jsafe does not have: *advantage-weighted regression*. Imitate your own actions, the
# better ones more,
#
# $$L = - E \big[ \exp( A / \beta ) \, \log \pi(a | s) \big],$$
#
# with the advantage $A = w_r A_r - \sum_i w_i A_i$ weighed by our rule. Networks, advantages and the Gaussian come from
# the shelf. A learner is `init`, `update`, `policy` and `act`. It says in `feed` what it wants to be fed, and in
# `memory` what its policy carries from step to step: nothing, here.


# %%
class State(NamedTuple):
    """All that an update changes."""

    params: dict
    optimizer: optax.OptState
    price: Price


@dataclasses.dataclass(frozen=True)
class CAWRConfig(Options):
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
    rule, adam = Multiplicative(rate=0.05).build(spec), optax.adam(config.learning_rate)
    limit = jnp.full(spec.num_costs, config.cost_limit)

    def init(key):
        keys = jax.random.split(key)
        params = {"actor": actor.init(keys[0]), "critics": critics.init(keys[1])}
        return State(params, adam.init(params), rule.init())

    def value(params, obs):
        return critics.apply(params["critics"], obs.reshape(-1, spec.obs_dim)).reshape(*obs.shape[:2], -1)

    def update(state, batch, key):
        steps, episodes = batch.steps, batch.measured.episodes  # row t: what was seen, done, and what followed
        cost = episodes.cost / jnp.maximum(episodes.count, 1)
        moved = rule.update(state.price, cost, limit)
        price = jax.tree.map(lambda new, old: jnp.where(episodes.count > 0, new, old), moved, state.price)
        weights = rule.weights(price, cost, limit)

        signals = jnp.concatenate([steps.reward[..., None], steps.cost], axis=-1)
        values, after = value(state.params, steps.obs), value(state.params, steps.next_obs)
        advantages, target = gae(signals, values, after, steps.terminated, steps.truncated, config.gamma, 0.95)
        mixed = weights.reward * advantages[..., 0] - advantages[..., 1:] @ weights.cost
        mixed = (mixed - mixed.mean()) / (mixed.std() + 1e-8)
        weight = jnp.minimum(jnp.exp(mixed / config.beta), 20.0)

        def loss(params):
            policy = actor.apply(params["actor"], steps.obs)
            imitation = -jnp.mean(weight * distributions.log_prob(policy, steps.action))
            return imitation + jnp.mean((value(params, steps.obs) - target) ** 2)

        def one_pass(_, carry):
            params, optimizer = carry
            change, optimizer = adam.update(jax.grad(loss)(params), optimizer)
            return optax.apply_updates(params, change), optimizer

        params, optimizer = jax.lax.fori_loop(0, config.passes, one_pass, (state.params, state.optimizer))
        std = jnp.exp(params["actor"]["log_std"]).mean()
        metrics = {"cost/0/multiplier": price.price[0], "cost/0/episodic": cost[0], "policy/std": std}
        return State(params, optimizer, price), metrics

    def policy(state):
        return PolicyState(state.params["actor"])

    def act(policy_state, memory, obs, key, deterministic=False):
        dist = actor.apply(policy_state.params, obs)
        action = distributions.mode(dist) if deterministic else distributions.sample(dist, key)
        return ActOutput(action, distributions.log_prob(dist, action), {}, memory)

    feed = Rollouts(num_envs=config.num_envs, length=config.length)
    return Learner(init, update, policy, act, NO_MEMORY, feed, config, spec)


# %% [markdown]
# Registered, it is an algorithm like the others: `jsafe.make` checks its options, and in a module that your script
# imports, the command line's machinery (checkpoints, resume, plots) works for it, too.

# %%
register(Algorithm("cawr", "on_policy", CAWRConfig(), build, {}, paper="", summary="Weighted imitation of oneself."))

try:
    jsafe.make("cawr", spec, cost_limits=10.0)
except ValueError as error:
    print("ValueError:", error)

jsafe.testing.check_learner(jsafe.make("cawr", spec), jax.random.key(0))
print("passes the checks of every learner")

# %% [markdown]
# ## Does it work?
#
# On the same task:

# %%
learner = jsafe.make("cawr", jsafe.env_spec(env), cost_limit=8.0)
show(train(learner, 3_000 if TEST else 200_000))

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
# - An off-policy algorithm is an actor (`jsafe.components.actors`), critics (`jsafe.components.critics`) and a rule:
#   ours fits there, too, `jsafe.off_policy(spec, rule=Multiplicative())`.
# - To run on several devices, average gradients and sums over `axis_name`, as the assemblers do.
