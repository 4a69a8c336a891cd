# %% [markdown]
# # Your own environment
#
# A courier fetches a parcel, brings it to the depot, fetches the next one. It should stay out of the hazard zones, and
# it should not speed. That is two goals in order and two kinds of cost: a task that Safety-Gymnasium does not have. We
# write it, look at it, check it, and train on it.

# %%
import dataclasses
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.envs import Task, place, register
from jsafe.envs.safety_gym.drawing.gl import available
from jsafe.envs.safety_gym.tasks import hazard_cost, planar

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## The task
#
# A task says what stands where, what counts as reaching the goal, what is rewarded and what costs. It sees arrays over
# the whole batch (the *scene*: positions, velocities, contacts) and never MuJoCo. Here is all of it:


# %%
class Courier(Task):
    """Parcel (orange), then depot (green), then the next parcel; two costs."""

    extent = 1.25  # things stand in a square of 2.5 m
    objects = (
        place("goal"),
        dataclasses.replace(place("goal"), group="parcel", body="parcel", rgba=(1.0, 0.5, 0.0, 0.4)),
        place("hazards", count=3),
    )
    memory = ("loaded", "last_distance")  # numbers that each environment remembers
    moving = ("agent",)  # we want to know the robot's velocity
    cost_groups = {"hazards": ("hazards",), "speeding": ("speeding",)}  # noqa: RUF012

    def __init__(self, robot, speed_limit: float = 0.7):
        super().__init__(robot)
        self.speed_limit = speed_limit

    def begin(self, episode):
        return True  # everything was placed by the layout sampler

    def next_goal(self, episode):
        """A target was reached: load, or unload and ask for new places."""
        if not episode.memory["loaded"]:
            episode.memory["loaded"] = 1.0
            return True
        episode.memory["loaded"] = 0.0
        return episode.resample("parcel") and episode.resample("goal")

    def measure(self, scene):
        loaded = scene.memory["loaded"][:, None] > 0
        target = np.where(loaded, scene.pos["goal"][:, 0], scene.pos["parcel"][:, 0])
        return {"last_distance": planar(scene.agent_pos, target)}

    def met(self, scene, now):
        return now["last_distance"] <= 0.3

    def reward(self, scene, now, met):
        return scene.memory["last_distance"] - now["last_distance"] + met  # progress, and 1 on arrival

    def costs(self, scene):
        speed = np.linalg.norm(scene.vel["agent"][:, 0, :2], axis=1)
        return {"hazards": hazard_cost(scene, 0.2), "speeding": np.maximum(speed - self.speed_limit, 0)}

    def sense(self, scene, group, values):
        """The courier sees only what it has to go to now (and the hazards)."""
        if group == "hazards":
            return values
        wanted = (scene.memory["loaded"] > 0) == (group == "goal")
        return values * wanted[:, None]


register("PointCourier-v0", Courier, "Point")

# %% [markdown]
# That makes it an environment like the others, with any of the robots, batched, seeded, saved and drawn:

# %%
env = jsafe.envs.make("PointCourier-v0", num_envs=4, seed=1, costs="separate")
env.reset()
for name, (start, stop) in env.spec.obs_slices.items():
    print(f"{name:>16}: {stop - start} numbers")
print("cost columns:", env.spec.cost_names)

if available():
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for i, axis in enumerate(axes):
        axis.imshow(env.render(i, camera="fixedfar", width=320, height=260))
        axis.axis("off")
    plt.show()

# %% [markdown]
# Mistakes are errors that say what is allowed:

# %%
for attempt in (lambda: jsafe.envs.make("PointCurier-v0"), lambda: jsafe.envs.make("PointCourier-v0", speed=1.0)):
    try:
        attempt()
    except ValueError as error:
        print("ValueError:", error)

# %% [markdown]
# ## Check it before training
#
# Most failed trainings are failed tasks. Three questions that a few seconds of full throttle and of random actions
# answer: does the cost fire where it should, can it be avoided, and is the same seed the same world?

# %%
full = [env.step(np.tile([1.0, 0.0], (4, 1))) for _ in range(100)]
print("speeding from step", int(np.argmax([step.cost[0, 1] for step in full])), "of full throttle on")

env.reset(seed=1)
rng = np.random.default_rng(0)
costs = np.mean([env.step(rng.uniform(-1, 1, (4, 2))).cost for _ in range(50 if TEST else 1000)], axis=(0, 1))
print("random actions, cost per 1000 steps:", dict(zip(env.spec.cost_names, (1000 * costs).round(1).tolist())))

other = jsafe.envs.make("PointCourier-v0", num_envs=2, seed=2, costs="separate")
print("seed 1, environment 1, is seed 2, environment 0:", np.array_equal(env.reset(seed=1)[1], other.reset()[0]))
env.close()
other.close()

# %% [markdown]
# ## Train on it
#
# PPO-Lagrangian with a limit for each cost: 25 steps in hazards, 50 steps of speeding, in an episode of 1000.

# %%
N = 5
env = jsafe.envs.make("PointCourier-v0", num_envs=N, seed=0, costs="separate")
learner = jsafe.make(
    "ppo_lag",
    jsafe.env_spec(env),
    cost_limit=(25.0, 50.0),
    num_envs=N,
    steps_per_epoch=(100 if TEST else 1000) * N,
    passes=10,
    minibatch=250,
    learning_rate=1e-3,
    critic_learning_rate=1e-3,
    **{"rule.learning_rate": 0.03},
)
collector = jsafe.data.make_collector(env, learner, seed=0)
curve = []
for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=1_000 if TEST else 400_000):
    names = ("cost/0/episodic", "cost/1/episodic", "cost/0/multiplier", "cost/1/multiplier")
    curve.append([step.env_steps, step.episodes["episode/return"], *(float(step.metrics[name]) for name in names)])
policy = learner.policy(step.state)

steps, returns, *columns = np.array(curve).T
fig, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
axes[0].plot(steps / 1000, returns, color="tab:green")
for m, (color, limit) in enumerate((("tab:blue", 25), ("tab:red", 50))):
    axes[1].plot(steps / 1000, columns[m], color=color, label=env.spec.cost_names[m])
    axes[1].axhline(limit, color=color, ls="--", lw=1)
    axes[2].plot(steps / 1000, columns[2 + m], color=color)
for axis, title in zip(axes, ("return per episode", "cost per episode", "price of each cost")):
    axis.set(title=title, xlabel="thousand steps")
axes[1].legend()
plt.show()

# %% [markdown]
# The courier first finds out that driving fast pays, then what it costs. Each limit finds its own price, and in its own
# time: speeding's climbs as soon as the courier has learnt to drive and then comes down, that of the hazards climbs
# more slowly. One limit on the sum of both could not tell them apart.
#
# ## Watch it
#
# One courier for 20 seconds, its speed in colour.

# %%
act = jax.jit(learner.act, static_argnums=4)
single = jsafe.envs.make("PointCourier-v0", num_envs=1, seed=5, costs="separate")
obs, memory, path, reached, frames = single.reset(), learner.memory.init(1), [], 0, []
for t in range(100 if TEST else 999):
    out = act(policy, memory, obs, jax.random.key(t), False)
    result = single.step(np.asarray(out.action).clip(-1, 1))
    obs, memory, reached = result.obs, out.memory, reached + int(result.info["success"][0])
    joints = single.get_state(0)["joints"]
    path.append([joints["x"][0][0], joints["y"][0][0]])
    if t % 40 == 20 and len(frames) < 5 and available():
        frames.append(single.render(0, camera="track", width=240, height=200))
path = np.array(path)
speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / single.spec.dt

fig, axis = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
for name, (position, _) in single.get_state(0)["bodies"].items():
    if name.startswith("hazard"):
        axis.add_patch(plt.Circle(position[:2], 0.2, color="tab:blue", alpha=0.3))
dots = axis.scatter(*path[1:].T, c=speed, s=4, cmap="plasma", vmin=0, vmax=1.5)
fig.colorbar(dots, label="speed, m/s (limit 0.7)")
axis.set(aspect="equal", title=f"{reached} targets reached in {len(path) * single.spec.dt:.0f} s")
plt.show()

# %%
if frames:
    fig, axes = plt.subplots(1, len(frames), figsize=(13, 2.3), layout="constrained", squeeze=False)
    for axis, frame in zip(axes[0], frames):
        axis.imshow(frame)
        axis.axis("off")
    plt.show()
single.close()
env.close()

# %% [markdown]
# ## Where to go from here
#
# - `register("CarCourier-v0", Courier, "Car", speed_limit=0.5)`: another robot, another limit.
# - A robot of your own is a `jsafe.envs.Robot`: a MuJoCo model and what it senses.
# - On the command line: put the class into a file `courier.py` that registers it, and say
#   `jsafe train ppo_lag --import courier --env PointCourier-v0 --costs separate --cost-limit 25 50`.
# - An environment that is not a robot among objects needs none of this: any object with `num_envs`, `spec`, `reset` and
#   `step` will do. [Anatomy of SEditor](anatomy_of_seditor.ipynb) writes one in thirty lines of numpy.
