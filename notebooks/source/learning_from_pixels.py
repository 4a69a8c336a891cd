# %% [markdown]
# # Learning from pixels
#
# Most tasks tell a policy where things are. Here it has to look. Nothing in the algorithm changes: an **encoder** turns
# the picture into a short vector, and actor and critics get that instead. What does change is told here: what the
# encoder is and who trains it, how pictures are kept, and what looking costs.

# %%
import os
import time

import jax
import matplotlib.pyplot as plt
import numpy as np

import jsafe

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## What is seen
#
# `SafeRacing-v0` is a car-racing task of the SEditor paper: a new road in every episode, seen from above, and what the
# car's instruments say. Its observation is a tree of both. `size` is ours: the same view in fewer points.

# %%
road = jsafe.envs.make("SafeRacing-v0", num_envs=4, seed=0, tracks=8, size=32)
print(road.spec.obs)
obs = road.reset()
fig, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
for axis, picture in zip(axes, obs["picture"]):
    axis.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Any learner takes it; the spec says what comes in. Pictures go through convolutions, the rest is put beside them:

# %%
learner = jsafe.make("sac_lag", jsafe.env_spec(road), hidden=(64, 64), normalize_obs=True)
encoder = learner.config.encoder.build(learner.spec)
params = encoder.init(jax.random.key(0))
for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    print(f"{jax.tree_util.keystr(path):45} {leaf.shape}")
latent = encoder.apply(params, obs)
print("latent", latent.shape, "= 50 from the picture + 11 instruments")

# %% [markdown]
# The encoder learns from the **critics' loss alone**. The actor sees the latent, but its gradient ends there: what is
# worth seeing is decided by what has to be predicted, and two losses that pull on one encoder disturb each other. The
# target critics look through the online encoder. `encoder=` takes any flax module in its place.
#
# ## What is kept
#
# A picture is bytes, and it stays bytes: in the environment, on the way, in the replay, in a minibatch. It becomes
# floating point inside the compiled update. Every picture is kept once, too: what follows a row is the next row's, and
# a stack of frames is put together when a minibatch is drawn.

# %%
rows, side = 100_000, 96
for name, each in (("bytes", 1), ("float32", 4), ("float32, with its successor", 8), ("the same, four frames", 32)):
    print(f"{rows * side**2 * each / 2**30:5.1f} GiB   {rows} rows of {side} x {side} as {name}")

# %% [markdown]
# ## Learning to look
#
# To see it learn within seconds, a smaller task: `Toy-Image-v0` shows a bright square in one of four quadrants: there
# is where to go. The reward is the speed in that direction, the cost its square, so that the best speed under a limit
# of 0.25 per step is known: 0.5.

# %%
env = jsafe.envs.make("Toy-Image-v0", num_envs=4, seed=0)
fig, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
for axis, picture in zip(axes, env.reset()):
    axis.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# One convolution is enough for squares of 6 x 6 points. The options of the encoder are options like any other:

# %%
LIMIT = 0.25
options = {"num_envs": 16, "unroll": 4, "sequences": 64, "updates": 8, "initial_rows": 320, "random_steps": 320}
options |= {"hidden": (64, 64), "learning_rate": 3e-3, "gamma": 0.5, "cost_limit_per_step": LIMIT, "rule_warmup": 320}
options |= {"temperature.init": 0.05, "rule.learning_rate": 0.02}
options |= {"encoder.channels": (8,), "encoder.kernels": (6,), "encoder.strides": (6,), "encoder.width": 32}
env = jsafe.envs.make("Toy-Image-v0", num_envs=16, seed=0, horizon=20)
learner = jsafe.make("sac_lag", jsafe.env_spec(env), **options)
collector = jsafe.data.make_collector(env, learner, seed=0)
curve, start = [], time.process_time()
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=640 if TEST else 6_400):
    curve.append([step.env_steps, step.episodes["episode/return"] / 20, step.episodes["episode/cost_rate"]])
policy = jax.device_get(learner.policy(step.state))
print(f"{time.process_time() - start:.0f} s of processor time, compiling included")

steps, reward, cost = np.array(curve).T
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
for axis, values, title, best in zip(axes, (reward, cost), ("reward per step", "cost per step"), (LIMIT**0.5, LIMIT)):
    axis.plot(steps / 1000, values)
    axis.axhline(best, color="black", ls="--", lw=1)
    axis.set(title=title, xlabel="thousand steps")
plt.show()

# %% [markdown]
# The dashed lines are the optimum and the limit. First it learns where to go, and goes too fast; then the price of
# speed rises, and it comes down to what is best within the limit.
#
# ## What does it look at?
#
# Grey out a patch of the picture and ask the policy again: where the action changes, it was looking.

# %%
act = jax.jit(learner.act, static_argnums=4)


def action(pictures):
    return np.asarray(act(policy, learner.memory.init(len(pictures)), pictures, jax.random.key(0), True).action)


env = jsafe.envs.make("Toy-Image-v0", num_envs=4, seed=3)
pictures, patch = env.reset(), 3
cells = [(r, c) for r in range(0, 24, patch) for c in range(0, 24, patch)]
fig, axes = plt.subplots(2, 4, figsize=(10, 5), layout="constrained")
for k, picture in enumerate(pictures):
    hidden = np.repeat(picture[None], 1 + len(cells), 0)
    for row, (r, c) in enumerate(cells, 1):
        hidden[row, r : r + patch, c : c + patch] = 25
    actions = action(hidden)
    change = np.linalg.norm(actions[1:] - actions[0], axis=1).reshape(24 // patch, -1)
    axes[0, k].imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255)
    axes[0, k].set(title="action {:+.2f} {:+.2f}".format(*actions[0]), xticks=[], yticks=[])
    axes[1, k].imshow(change, cmap="magma")
    axes[1, k].set(xticks=[], yticks=[])
axes[1, 0].set_ylabel("change of the action")
plt.show()
