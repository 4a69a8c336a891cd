# %% [markdown]
# # Quick start
#
# A robot is paid for running in circles. The fastest circle leads across two walls, and crossing them costs. We train
# it under a limit on that cost, and once more without one, to see what the limit changes. Two minutes on a laptop.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.envs.safety_gym.drawing.gl import available

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## The task
#
# `SafetyPointCircle1-v0` is one of Safety-Gymnasium's tasks. The green disc has a radius of 1.5 m, and the reward is
# the speed along its rim. The yellow walls stand at x = ±1.125 m, so that part of the rim lies behind them. Nothing
# stops the robot from going there, but every step it spends there costs 1.
#
# jsafe steps such tasks in batches. Here are 10 of them:

# %%
ENV, N = "SafetyPointCircle1-v0", 10
env = jsafe.envs.make(ENV, num_envs=N, seed=0)
obs = env.reset()
result = env.step(np.zeros((N, 2)))
print(env.spec.id, "| observations", obs.shape, "| rewards", result.reward.shape, "| costs", result.cost.shape)
for name, (start, stop) in env.spec.obs_slices.items():
    print(f"{name:>16}: {stop - start} numbers")

if available():
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, camera in zip(axes, ("fixedfar", "track")):
        axis.imshow(env.render(0, camera=camera, width=420, height=320))
        axis.axis("off")
    plt.show()

# %% [markdown]
# ## Training
#
# Three lines make a learner, something that feeds it, and a loop. The loop is a generator: it hands you every
# iteration, and what you do with it (print, plot, stop) is up to you.
#
# `ppo_lag` is PPO with a Lagrange multiplier: a price on cost that rises while the episodes cost more than the limit.
# `ppo` does not know about costs. The other options only make the iterations short enough for a notebook.

# %%
options = {"num_envs": N, "steps_per_epoch": 100 * N if TEST else 500 * N, "passes": 10, "minibatch": 250}
options |= {"learning_rate": 1e-3, "critic_learning_rate": 1e-3}


def train(name, total_steps, **more):
    """Returns the learner, its trained policy and the learning curve."""
    learner = jsafe.make(name, jsafe.env_spec(env), **options, **more)
    collector = jsafe.data.make_collector(env, learner, seed=0)
    curve = []
    for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total_steps):
        price = float(step.metrics["cost/0/multiplier"])
        curve.append([step.env_steps, step.episodes["episode/return"], step.episodes["episode/cost"], price])
    return learner, learner.policy(step.state), np.array(curve)


total = 2_000 if TEST else 300_000
trained = {
    "ppo_lag": train("ppo_lag", total, cost_limit=25.0, **{"rule.learning_rate": 0.1}),
    "ppo": train("ppo", total),
}

# %%
fig, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
for name, (_, _, curve) in trained.items():
    for axis, column in zip(axes, (1, 2, 3)):
        axis.plot(curve[:, 0] / 1000, curve[:, column], label=name)
axes[1].axhline(25, color="black", ls="--", lw=1, label="limit")
for axis, title in zip(axes, ("return per episode", "cost per episode", "price of cost (multiplier)")):
    axis.set(title=title, xlabel="thousand steps")
axes[1].legend()
plt.show()

# %% [markdown]
# At first both learn the same thing: to run. Cost comes along, the price rises, and after a while it outweighs what the
# far side of the walls is worth. That order is typical, and so is the delay: the price has to be found. (The curves
# begin when every environment has finished an episode; means over the first few to finish would mislead.)
#
# ## What did they learn?
#
# One episode of each, from above. The walls are at the dotted lines.


# %%
def drive(learner, policy, steps=500, seed=7):
    """The path of one episode `[steps, 2]`, and pictures on the way."""
    act = jax.jit(learner.act, static_argnums=4)
    single = jsafe.envs.make(ENV, num_envs=1, seed=seed)
    obs, memory, path, frames = single.reset(), learner.memory.init(1), [], []
    for t in range(steps - 1):  # the last step would show the next episode
        if t % 75 == 25 and available():
            frames.append(single.render(0, camera="track", width=240, height=200))
        out = act(policy, memory, obs, jax.random.key(t), True)
        obs, memory = single.step(np.asarray(out.action).clip(-1, 1)).obs, out.memory
        joints = single.get_state(0)["joints"]
        path.append([joints["x"][0][0], joints["y"][0][0]])
    single.close()
    return np.array(path), frames


fig, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
films = {}
for axis, (name, (learner, policy, _)) in zip(axes, trained.items()):
    path, films[name] = drive(learner, policy, 60 if TEST else 500)
    axis.add_patch(plt.Circle((0, 0), 1.5, color="tab:green", alpha=0.15))
    axis.plot(*path.T, lw=1)
    for wall in (-1.125, 1.125):
        axis.axvline(wall, color="goldenrod", ls=":", lw=2)
    axis.set(title=name, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
plt.show()

# %%
if available():
    fig, axes = plt.subplots(2, len(films["ppo_lag"]), figsize=(13, 3.8), layout="constrained", squeeze=False)
    for row, (name, frames) in zip(axes, films.items()):
        for axis, frame in zip(row, frames):
            axis.imshow(frame)
            axis.axis("off")
        row[0].set_title(name, loc="left")
    plt.show()

# %% [markdown]
# `ppo_lag` has found a smaller circle between the walls: slower, and paid less, but free. `ppo` runs along the rim,
# through both of them. In the pictures, the rings above the robot are what its lidars see; it turns into a red ball
# while it pays. Numbers, over whole episodes that learning has not seen:

# %%
for name, (learner, policy, _) in trained.items():
    found = jsafe.data.evaluate(env, learner, policy, 2 * N, jax.random.key(1), deterministic=False, seed=1000)
    print(f"{name:>8}: return {found['return'].mean():5.1f}, cost {found['cost'].mean():5.1f} per episode")
env.close()

# %% [markdown]
# The limit is kept, and that has its price: a third of the return. The price of cost is still coming down, and the
# return still rising under the limit; published runs of this task take 10 million steps.
#
# ## The same on the command line
#
# ```bash
# jsafe train ppo_lag --preset jsafe --env SafetyPointCircle1-v0 --cost-limit 25 --run-dir runs/circle
# jsafe plot runs/circle -o curves.png
# jsafe evaluate runs/circle --episodes 20
# jsafe play SafetyPointCircle1-v0 --policy runs/circle --video circle.mp4
# ```
#
# Runs keep everything in their folder and can be killed and resumed at any moment.
#
# ## Where to go from here
#
# - [Anatomy of SEditor](anatomy_of_seditor.ipynb): another way to keep a limit, taken apart.
# - [Several constraints](several_constraints.ipynb): more than one kind of cost.
# - [Your own environment](your_own_environment.ipynb) and [your own algorithm](your_own_algorithm.ipynb).
# - `jsafe list` prints all algorithms and tasks.
