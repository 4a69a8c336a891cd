# %% [markdown]
# # Anatomy of SEditor
#
# Most safe-RL algorithms train one policy on a weighted sum of "get reward" and "stay safe". SEditor (Yu, Xu & Zhang,
# 2022) splits the work: a **utility maximiser** proposes an action as if nothing were dangerous, and a **safety
# editor** looks at the proposal and changes as much of it as it must.
#
# In this notebook we train one on a world so small that everything can be drawn, and then take it apart: the two
# policies, the critics they listen to, the hinge that keeps the editor modest, and the multiplier that sets the price
# of danger.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.components.critics import Ensemble
from jsafe.envs import Spec, Step
from jsafe.spaces import Box

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## A lake in the way
#
# A walker starts anywhere on a square meadow and wants to get to the flag. It sees in which direction, and how far
# away, the flag and the middle of the lake are; its action is its next stride. The reward is the progress it makes,
# plus 1 at the flag; every step in the lake costs 1. The straight way is often a wet one.
#
# An environment for jsafe is any object with `num_envs`, a `spec`, `reset` and `step`, all batched:

# %%
FLAG, SHORE, STRIDE = np.array([0.75, 0.0]), 0.4, 0.15


class Lake:
    """N walkers on a meadow of 2 x 2, each with its own episode."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.spec = Spec(
            id="Lake-v0", obs=Box((6,)), action=Box((2,), -1, 1), num_costs=1, horizon=40,
            cost_names=("wet",), obs_slices={"flag": (0, 3), "lake": (3, 6)}, dt=1.0,
        )  # fmt: skip

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        self.position = self.start(self.num_envs)
        self.steps = np.zeros(self.num_envs, int)
        return observe(self.position)

    def start(self, n):
        position = self.rng.uniform(-1, 1, (n, 2))
        while (bad := (wet(position) | (distance(position) < 0.25))).any():
            position[bad] = self.rng.uniform(-1, 1, (bad.sum(), 2))
        return position

    def step(self, action):
        before = distance(self.position)
        self.position = walk(self.position, action)
        self.steps = self.steps + 1
        success = distance(self.position) < 0.2
        reward = before - distance(self.position) + success
        cost = wet(self.position).astype(float)[:, None]
        truncated = success | (self.steps >= self.spec.horizon)  # as in SEditor's tasks, the flag ends the episode
        final_obs = observe(self.position)
        self.position = np.where(truncated[:, None], self.start(self.num_envs), self.position)
        self.steps = np.where(truncated, 0, self.steps)
        terminated = np.zeros(self.num_envs, bool)
        return Step(observe(self.position), reward, cost, terminated, truncated, final_obs, {"success": success})


def walk(position, action):
    stride = STRIDE * action / np.maximum(1, np.linalg.norm(action, axis=1, keepdims=True))
    return np.clip(position + stride, -1, 1)


def wet(position):
    return np.hypot(*position.T) < SHORE


def distance(position):
    return np.hypot(*(position - FLAG).T)


def observe(position):
    """Direction and distance of the flag and of the middle of the lake, `[N, 6]`."""
    parts = []
    for target in (FLAG, np.zeros(2)):
        there = target - position
        far = np.linalg.norm(there, axis=1, keepdims=True)
        parts += [there / (far + 1e-9), far]
    return np.concatenate(parts, axis=1)


# %% [markdown]
# ## Training
#
# The options shrink the paper's networks and batches to the size of this world. The limit is 0.02: one wet step in 50.
# We keep three snapshots of the learner on the way.

# %%
env = Lake(num_envs=16)
options = {"num_envs": 16, "frame_stack": 1, "hidden": (64, 64), "sequences": 64, "updates": 4}
options |= {"initial_rows": 500, "replay_rows": 5000}
learner = jsafe.make(
    "seditor", jsafe.env_spec(env), cost_limit_per_step=0.02, learning_rate=1e-3, gamma=0.95, **options,
    **{"temperature.init": 0.1, "rule.learning_rate": 0.03},
)  # fmt: skip
collector = jsafe.data.make_collector(env, learner, seed=0)

total = 1_920 if TEST else 36_000
snapshots, curve = {}, []
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total):
    if step.iteration % 10 == 0:
        names = ("episode/success", "episode/cost_rate")
        multiplier = float(step.metrics["cost/0/multiplier"])
        curve.append([step.env_steps, *(step.episodes[name] for name in names), multiplier])
    if step.env_steps in (total // 6, total // 3, total):
        snapshots[step.env_steps] = jax.device_get(step.state)  # the loop reuses the buffers of its state: copy
state = snapshots[total]

steps, success, cost_rate, multiplier = np.array(curve).T
fig, axes = plt.subplots(1, 3, figsize=(12, 2.6), layout="constrained")
for axis, values, title in zip(axes, (success, cost_rate, multiplier), ("success", "cost per step", "multiplier")):
    axis.plot(steps / 1000, values)
    axis.set(title=title, xlabel="thousand steps")
axes[1].axhline(0.02, color="black", ls="--", lw=1)
plt.show()

# %% [markdown]
# First the walker learns to get there. While it goes through the lake, the price of a wet step (the multiplier) rises.
# Then the editor finds the way around, the cost falls under the limit, and the price comes down again: once the habit
# is formed, it takes less to keep it up.
#
# ## Two fields
#
# Mean strides on a grid of positions. Grey: what the maximiser proposes. Red: what is done after the edit, where the
# two differ clearly.

# %%
side = np.linspace(-0.95, 0.95, 15)
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
act = jax.jit(learner.act, static_argnums=4)
NONE = ()  # the memory of a policy that has none


def draw_world(axis):
    axis.add_patch(plt.Circle((0, 0), SHORE, color="tab:blue", alpha=0.25))
    axis.plot(*FLAG, marker="P", color="tab:green", ms=11)
    axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xticks=[], yticks=[])


def draw_fields(axis, state):
    out = act(learner.policy(state), NONE, np.repeat(observe(grid), 100, axis=0), jax.random.key(0), False)
    proposal, action = (np.asarray(x).reshape(-1, 100, 2).mean(1) for x in (out.extras["proposal"], out.action))
    edited = np.abs(action - proposal).max(-1) > 0.4
    draw_world(axis)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 9, "width": 0.004}
    axis.quiver(*grid.T, *proposal.T, color="0.6", **arrows)
    axis.quiver(*grid[edited].T, *action[edited].T, color="tab:red", **arrows)


fig, axes = plt.subplots(1, len(snapshots), figsize=(4.2 * len(snapshots), 4.2), layout="constrained")
for axis, (steps_done, snapshot) in zip(axes, snapshots.items()):
    draw_fields(axis, snapshot)
    axis.set_title(f"after {steps_done} steps")
plt.show()

# %% [markdown]
# The grey arrows make for the flag, through the lake or not. The maximiser need not care: whatever it proposes near the
# shore will be edited. The red arrows part in front of the lake and meet behind it. Where there is only a grey one, the
# proposal passed.
#
# ## What if we fire the editor?
#
# The same trained maximiser, once with and once without its editor:


# %%
def propose_only(policy_state, memory, obs, key, deterministic=False):
    out = learner.act(policy_state, memory, obs, key, deterministic)
    return out._replace(action=out.extras["proposal"])


policy = learner.policy(state)
for name, function in (("maximiser alone", propose_only), ("with its editor", learner.act)):
    acting, episodes = learner._replace(act=function), 64 if TEST else 512
    found = jsafe.data.evaluate(Lake(64), acting, policy, episodes, jax.random.key(1), False, seed=1)
    wet_share = found["cost"].sum() / found["length"].sum()
    print(f"{name}: success {found['success'].mean():.2f}, cost per step {wet_share:.3f}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
starts = np.array([[-0.9, y] for y in (-0.6, -0.3, -0.1, 0.1, 0.3, 0.6)])
for axis, function, title in zip(axes, (propose_only, learner.act), ("maximiser alone", "with its editor")):
    run, path, there = jax.jit(function, static_argnums=4), [starts], np.zeros(len(starts), bool)
    for key in jax.random.split(jax.random.key(2), 25):
        position = walk(path[-1], np.asarray(run(policy, NONE, observe(path[-1]), key, False).action))
        path.append(np.where(there[:, None], path[-1], position))
        there |= distance(path[-1]) < 0.2
    draw_world(axis)
    axis.plot(*np.array(path).transpose(2, 0, 1), marker=".", color="tab:red")
    axis.set_title(title)
plt.show()

# %% [markdown]
# ## What the editor listens to
#
# The critics value an action twice: $Q_u$ in utility (progress), $Q_c$ in cost to come. Here they are for one walker at
# the western shore, over all strides it could take. An option that names a part, `learner.config.critics`, builds it:

# %%
assert isinstance(learner.config.critics, Ensemble)
critics = learner.config.critics.build(learner.spec)


def q_values(obs, action):
    """`[R, 2]`: utility and cost; the smaller of two critics counts, of costs the larger."""
    params = state.params["critic"]
    values = critics.values(params, critics.embed(params, obs), action)
    return np.concatenate([np.asarray(values.reward)[:, None], np.asarray(values.cost)], axis=1)


here = observe(np.array([[-0.5, 0.05]]))
strides = np.linspace(-1, 1, 41)
actions = np.stack(np.meshgrid(strides, strides), -1).reshape(-1, 2).astype(np.float32)
q = q_values(np.repeat(here, len(actions), 0), actions)
out = act(policy, NONE, here, jax.random.key(0), True)
proposal, action = out.extras["proposal"], out.action

price = multiplier[-1]
w_u, w_c = 1 / (1 + price), price / (1 + price)
hinge = np.maximum(q_values(here, proposal)[0, 0] - q[:, 0], 0)
panels = {"utility $Q_u$": q[:, 0], "cost $Q_c$": q[:, 1], "what the editor minimises": w_c * q[:, 1] + w_u * hinge}
fig, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
for axis, (title, values) in zip(axes, panels.items()):
    image = axis.contourf(strides, strides, values.reshape(41, 41), 20)
    fig.colorbar(image, ax=axis)
    axis.plot(*np.asarray(proposal)[0], "o", color="white", mec="black", ms=10, label="proposal")
    axis.plot(*np.asarray(action)[0], "*", color="tab:red", mec="black", ms=15, label="after the edit")
    axis.set(title=title, xlabel="stride east", ylabel="stride north")
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# The middle picture is what safety looks at: anywhere but into the lake. The right one is what the editor descends,
#
# $$w_c \, Q_c(s, a) + w_u \, [\, Q_u(s, \hat a) - Q_u(s, a) \,]^+ .$$
#
# The bracket with the plus is the **hinge**. An edit that loses no utility costs nothing, so the editor is not tied to
# the neighbourhood of the proposal: it may turn the walker around if the new direction is as useful. Only lost utility
# is paid for.
#
# ## One batch
#
# What the update computes, on the rows of a real minibatch: sample proposals, sample edits, ask the critics.

# %%
batch = collector.collect(policy, jax.random.key(7))
rows = batch.steps.obs[0].reshape(-1, 6)  # the first of four minibatches
out = act(policy, NONE, rows, jax.random.key(8), False)
proposal, action = out.extras["proposal"], out.action
before, after = q_values(rows, proposal), q_values(rows, action)
paid = np.maximum(before[:, 0] - after[:, 0], 0)

print(" Q_u before  after    Q_c before  after    hinge")
for i in np.argsort(-before[:, 1])[:3].tolist() + np.argsort(-before[:, 1])[-3:].tolist():
    print(f"{before[i, 0]:11.2f} {after[i, 0]:6.2f} {before[i, 1]:13.2f} {after[i, 1]:6.2f} {paid[i]:8.2f}")
print(f"\nthe hinge is zero in {np.mean(paid == 0):.0%} of the rows")

fig, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
gain = before[:, 1] - after[:, 1]
dots = axis.scatter(before[:, 1], gain, c=paid, s=9, cmap="viridis")
fig.colorbar(dots, label="hinge: utility paid")
axis.set(xlabel="cost of the proposal, $Q_c(s, \\hat a)$", ylabel="cost saved by the edit")
plt.show()

# %% [markdown]
# The first three rows of the table are the most dangerous proposals of the batch, the last three the safest. (Rewards
# and costs are normalised before the critics see them: a cost below zero is less than usual.) In the picture, every row
# is a dot: dangerous proposals (right) are made a good deal safer; safe ones (left) have nothing to gain, and what the
# policies do there is exploration noise.
#
# ## The price of a wet step
#
# The last moving part is the multiplier, $\lambda = \mathrm{softplus}(\rho)$. It does not see the minibatch. It
# compares the cost of the steps that were *just taken* with the limit, and takes one Adam step:

# %%
fresh = float(batch.measured.rows.total[0] / batch.measured.rows.count)
rho = float(state.rule.parameter[0])
gradient = jax.grad(lambda rho: jax.nn.softplus(rho) * (0.02 - fresh))(rho)
new, _ = jax.jit(learner.update)(state, batch, jax.random.key(9))
print(f"cost per step {fresh:.3f}, limit 0.02, gradient of the dual loss {gradient:+.4f}")
print(f"multiplier {jax.nn.softplus(rho):.4f} -> {float(jax.nn.softplus(new.rule.parameter[0])):.4f}")
print(f"weights: utility {w_u:.3f}, safety {w_c:.3f}")

# %% [markdown]
# Adam remembers earlier gradients, so that a single dry iteration does not lower the price at once.
#
# ## Where to go from here
#
# - The same on the paper's tasks, with 64 laser rays instead of two coordinates: `jsafe train seditor --env
#   Safexp-PointGoal1-v0 --preset laptop`
# - `distance="l2"` ties the edit to the proposal by distance instead of utility; `edit="overwrite"` lets the editor
#   ignore the proposal (options of the part: `actor.distance`, `actor.edit`). Both are the paper's ablations. Which
#   walks do you get?
# - `cost_limit_per_step=0.0005` is the paper's limit. How much longer does the way around the lake become?
