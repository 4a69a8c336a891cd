# %% [markdown]
# # Several constraints
#
# Real tasks seldom have one limit. A courier robot should neither enter the hazard zones nor knock over vases, and the
# two are not worth the same. Adding the costs up and limiting the sum lets the cheap violation pay for the expensive
# one.
#
# In jsafe a cost is a vector `[..., M]` everywhere. This notebook checks that on a task whose solution is known in
# closed form, then shows where the vector comes from in the engine's tasks.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.envs.safety_gym.drawing.gl import available

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## Two speed limits
#
# `jsafe.envs.ToyEnv` is made for tests: run in a direction that is shown anew in every step, and pay for speed. Here
# there are two motors with speeds $v_1, v_2 \in [-1, 1]$; the reward is their mean, and each has its own cost:
#
# $$r = \tfrac12 (v_1 + v_2), \qquad c_1 = v_1^2, \qquad c_2 = v_2^2 .$$
#
# With limits $d_1, d_2$ per step the best speeds are $\sqrt{d_1}, \sqrt{d_2}$. The environment knows that, and what the
# multipliers must be: the reward that one more unit of limit would buy.

# %%
limits = np.array([5.0, 20.0])  # per episode of 50 steps: 0.1 and 0.4 per step
env = jsafe.envs.ToyEnv(20, act_dim=2, num_costs=2, horizon=50)
best = env.optimum(limits, episodic=True)
print(
    "best speeds",
    best.speed.round(3),
    "multipliers",
    best.multiplier.round(3),
    "reward per step",
    round(best.reward, 3),
)

# %% [markdown]
# One limit per cost is all that PPO-Lagrangian needs to be told:

# %%
options = {"steps_per_epoch": 1000, "minibatch": 250, "passes": 10}
options |= {"learning_rate": 1e-3, "critic_learning_rate": 3e-3, "gamma": 0.9, "cost_gamma": 0.9}
options |= {"rule.init": 1.0, "rule.learning_rate": 0.03}
options |= {"standardize": "mix"}  # by default, prices are in units of the advantages' deviation, which shrinks
learner = jsafe.make("ppo_lag", jsafe.env_spec(env), cost_limit=tuple(limits), **options)
collector = jsafe.data.make_collector(env, learner, seed=0)

total = 3_000 if TEST else 250_000
rows = []
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total):
    names = ("cost/0/episodic", "cost/1/episodic", "cost/0/multiplier", "cost/1/multiplier")
    rows.append([step.env_steps, step.episodes["episode/return"], *(float(step.metrics[name]) for name in names)])
steps, returns, *columns = np.array(rows).T

fig, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
axes[0].plot(steps / 1000, returns, color="tab:green")
axes[0].axhline(50 * best.reward, color="tab:green", ls="--")
for m, color in enumerate(("tab:blue", "tab:red")):
    axes[1].plot(steps / 1000, columns[m], color=color, label=f"cost {m + 1}")
    axes[1].axhline(limits[m], color=color, ls="--")
    axes[2].plot(steps / 1000, columns[2 + m], color=color, label=f"multiplier {m + 1}")
    axes[2].axhline(best.multiplier[m], color=color, ls="--")
for axis, title in zip(axes, ("return per episode", "cost per episode", "multipliers")):
    axis.set(title=f"{title} (dashed: optimum)", xlabel="thousand steps")
axes[1].legend()
axes[2].legend()
plt.show()

# %% [markdown]
# Each multiplier finds its own price, and the return its optimum. They swing on the way: a multiplier adds up
# violations, the policy answers with a delay, and the price overshoots. That is the nature of this rule, and why there
# are others (`rule="pid"`). By default, as in most published runs, advantages are scaled before they are mixed; the
# limits are met all the same, but prices lose their meaning.
#
# ## Moving the limits, without compiling again
#
# What people sweep is an array in the learner's state. So the same compiled update serves every limit:

# %%
traces = []


def update(state, batch, key):
    traces.append(None)  # runs only while JAX traces the function
    return learner.update(state, batch, key)


update = jax.jit(update)
policy = jax.jit(learner.policy)
frontier = []
for limit in (2.0, 10.0, 30.0):
    state = jax.jit(learner.init)(jax.random.key(1))
    state = state._replace(limit=jnp.array([limit, 10.0]))
    collector = jsafe.data.make_collector(jsafe.envs.ToyEnv(20, act_dim=2, num_costs=2, horizon=50), learner, seed=1)
    tail = []
    for i, key in enumerate(jax.random.split(jax.random.key(2), 4 if TEST else 200)):
        collect_key, update_key = jax.random.split(key)
        state, metrics = update(state, collector.collect(policy(state), collect_key), update_key)
        if i >= (2 if TEST else 100):  # means over the second half: the multipliers swing
            tail.append((collector.episodes()["episode/return"], float(metrics["cost/0/episodic"])))
    frontier.append((limit, *np.mean(tail, axis=0)))
    print(f"limits {limit:.0f} and 10: return {frontier[-1][1]:5.2f}, first cost {frontier[-1][2]:5.2f}")
print(f"the update was traced {len(traces)} time")

# %%
grid = np.linspace(0.5, 40, 80)
curve = [50 * env.optimum([limit, 10.0], episodic=True).reward for limit in grid]
fig, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
axis.plot(grid, curve, color="0.5", label="optimum")
axis.plot(*np.array(frontier).T[:2], "o", color="tab:green", label="learnt")
axis.set(xlabel="limit on the first cost, per episode", ylabel="return per episode", title="What a limit costs")
axis.legend()
plt.show()

# %% [markdown]
# The slope of this curve is the multiplier: steep where the limit is tight, flat where it hardly binds.
#
# ## Separate costs in the engine
#
# `SafetyPointGoal2-v0` has hazards (blue discs) that may not be entered and vases (cyan boxes) that may not be touched.
# By default they are one cost; `costs="separate"` makes them two columns.

# %%
env = jsafe.envs.make("SafetyPointGoal2-v0", num_envs=16, seed=3, costs="separate")
env.reset()
print("cost columns:", env.spec.cost_names)
rng, totals = np.random.default_rng(0), np.zeros(2)
n = 20 if TEST else 1000
for _ in range(n):
    ahead = np.column_stack([np.ones(16), rng.uniform(-1, 1, 16)])  # full throttle, turning at random
    totals += env.step(ahead).cost.sum(axis=0)
rates = dict(zip(env.spec.cost_names, (1000 * totals / (16 * n)).round(1).tolist()))
print("per 1000 steps of driving about:", rates)

# %%
if available():
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, camera in zip(axes, ("fixedfar", "vision")):
        axis.imshow(env.render(0, camera=camera, width=420, height=320))
        axis.axis("off")
    plt.show()
else:
    print("no GL library here: see the installation page")

# %% [markdown]
# A learner for it takes two limits, and everything else is as before:

# %%
spec = jsafe.env_spec(env)
learner = jsafe.make("ppo_lag", spec, cost_limit=(25.0, 10.0))
state = learner.init(jax.random.key(0))
print(spec)
print("limits", state.limit, "multipliers", state.rule.parameter)
env.close()

# %% [markdown]
# On the command line:
#
# ```bash
# jsafe train ppo_lag --env SafetyPointGoal2-v0 --costs separate --cost-limit 25 10
# ```
#
# ## Other ways to treat several limits
#
# - `cpo` solves each step's quadratic program with all constraints in it.
# - `on_crpo` needs no multipliers: it lowers whichever cost is most over its limit, else it raises the reward.
# - `ppo_saute` gives the policy one remaining budget per cost to look at.
#
# They take the same `cost_limit=(25.0, 10.0)`. Replace the name in the second cell of code and see how they approach
# the dashed lines.
