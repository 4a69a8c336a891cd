# %% [markdown]
# # One file, every limit
#
# Somebody has driven robots around a circle and kept the records; nobody lets us drive ourselves until we know what
# we do. This notebook learns from such a file with CAPS, in two minutes on one core, and then moves the limit on the
# cost without learning anything anew.

# %%
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.data import datasets, evaluate, make_collector

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## What was recorded
#
# `SafetyPointCircle1-v0`: reward for circling fast, cost for each step beyond one of two walls. Two agents were
# recorded: a bold one that was trained for the reward alone, and a careful one that was trained to keep its cost at
# 25 per episode (`experiments/offline/recordings.toml`). The file is small (observations in float16); what holds for
# it holds for the large ones.

# %%
data = datasets.read("../experiments/offline/data/pointcircle1-mixed-b50-small.npz")
print(len(data), "episodes,", data.transitions, "steps of", data.about.env)
for who, behaviour in enumerate(data.about.behaviours):
    mine = data.behaviour == who
    print(
        f"{behaviour['algorithm']:9s} {mine.sum():3d} episodes, return {data.returns[mine].mean():5.1f}, "
        f"cost {data.costs[mine].mean():6.1f}"
    )

fig, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for who, behaviour in enumerate(data.about.behaviours):
    mine = data.behaviour == who
    axis.plot(data.costs[mine, 0], data.returns[mine], "o", ms=4, label=behaviour["algorithm"])
axis.axvline(25, color="0.5", ls="--")
axis.set(xlabel="cost of the episode", ylabel="return", title="Recorded episodes")
axis.legend()
plt.show()

# %% [markdown]
# Nobody drove at a cost of 60, say. Cloning all episodes gives some mixture of the two agents; cloning the careful
# ones alone gives up everything the bold one knew.
#
# ## CAPS
#
# Critics of the reward and of the cost learn from the recorded actions alone (expectiles: what the better ones among
# them are worth). Two policies on one trunk imitate what is recorded, the one with a weight on what earns much, the
# other with a weight on what costs little. *No limit enters.* Only when it acts, the budget that is left picks the
# policy: the greedy one where its expected cost fits, else the careful one.

# %%
options = {"hidden": (128, 128), "batch_size": 256, "updates": 10 if TEST else 250, "normalize_obs": True}
options |= {"learning_rate": 1e-3, "tau": 0.05}  # few updates: slow copies of the critics have to follow faster
options |= {"reward_scale": 1.0}  # with the paper's 0.1 the advantages of this task are too small: both would clone
learner = jsafe.make("caps", data.spec, preset="jsafe", **options)
collector = make_collector(None, learner, seed=0, data=data)

start, total = time.process_time(), 20 if TEST else 4_000
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total):
    state, metrics = step.state, step.metrics
print(f"{total} updates in {time.process_time() - start:.0f} seconds of processor time")

# %% [markdown]
# ## Moving the limit
#
# The limit is an array in the state. So one training serves every limit, and the same compiled policy acts on it.

# %%
limits = [5.0, 50.0] if TEST else [0.0, 25.0, 50.0, 100.0, 150.0, 200.0, 300.0]
env = jsafe.envs.make(data.about.env, num_envs=2 if TEST else 10, seed=0)
found = []
for limit in limits:
    policy = learner.policy(state._replace(limit=jnp.array([limit])))
    result = evaluate(env, learner, policy, env.num_envs, jax.random.key(1), seed=1)
    found.append((limit, result["return"].mean(), result["cost"].mean(), result["cost"].max()))
    print("limit {:5.0f}: return {:5.1f}, cost {:6.1f} (at most {:.0f})".format(*found[-1]))
env.close()

# %%
limit, earned, cost, _ = np.array(found).T
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
axes[0].plot(limit, cost, "o-", color="tab:red")
axes[0].plot(limit, limit, color="0.5", ls="--", label="limit")
axes[0].set(xlabel="limit", ylabel="cost per episode")
axes[0].legend()
axes[1].plot(limit, earned, "o-", color="tab:green")
axes[1].set(xlabel="limit", ylabel="return per episode")
plt.show()

# %% [markdown]
# On the command line, with a picture of the file and a run folder at the end:
#
# ```bash
# jsafe dataset info experiments/offline/data/pointcircle1-mixed-b50-small.npz
# jsafe train caps --preset jsafe --data experiments/offline/data/pointcircle1-mixed-b50-small.npz \
#   --total-steps 4000 --tau 0.05 --reward-scale 1
# ```
#
# Other learners, and which to use when: `experiments/offline/README.md`.
