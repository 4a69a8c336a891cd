# %% [markdown]
# # Many devices
#
# An update is a pure function, so it can run on several devices at once: each takes a part of the batch, and wherever a
# sum or a mean over the batch is needed, the devices talk. The result should be what one device would have made of the
# whole batch. Not similar: the same, up to rounding.
#
# This notebook pretends that the machine has four devices. (They share its cores, so nothing gets faster here. On four
# GPUs the code is the same.)

# %%
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"  # before JAX

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jsafe
from jsafe.scale import devices as parallel

TEST = os.environ.get("JSAFE_NOTEBOOK_SCALE") == "test"  # the tests run this notebook on a tiny scale
plt.rcParams["figure.dpi"] = 80
print(jax.devices())

# %% [markdown]
# ## Why it is easy to get wrong
#
# Averaging gradients over devices is common knowledge. Safe RL has more numbers that concern the whole batch: the cost
# that the multiplier sees, the mean and deviation of the advantages, the divergence that stops an update early, the
# products with the Fisher matrix. And means are treacherous:

# %%
cost = np.array([30.0, 5.0, 0.0, 5.0])  # summed over the episodes that ended on each device
count = np.array([1, 5, 1, 3])  # of which there were so many
print("mean of the devices' means:", (cost / count).mean(), "| mean cost of an episode:", cost.sum() / count.sum())

# %% [markdown]
# Hence batches carry *sums and counts*. They can be added; means cannot.
#
# ## A learner over an axis
#
# `axis_name` tells a learner to reduce over a mapped axis of that name. `shard_map_update` maps the update over the
# devices: the state is on all of them, the batch is split by environments.

# %%
spec = jsafe.env_spec(jsafe.envs.ToyEnv(1))
options = {"num_envs": 20, "steps_per_epoch": 1000, "passes": 5, "minibatch": 1000, "cost_limit": 8.0}
options |= {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "rule.learning_rate": 0.1}

one = jsafe.make("ppo_lag", spec, **options)
many = jsafe.make("ppo_lag", spec, axis_name=parallel.AXIS, **options)
update = parallel.shard_map_update(many)

batch = jsafe.testing.random_batch(one, jax.random.key(0))
placed = update.place_batch(batch)
print("rewards of the batch", batch.steps.reward.shape, "-> placed", placed.steps.reward.shape)
for shard in placed.steps.reward.addressable_shards[:2]:
    print(" ", shard.device, "holds", shard.data.shape)

# %% [markdown]
# ## The same numbers
#
# One update on one device and on four, with plain gradient descent. (Adam divides by the gradient's own size, and would
# hide a gradient that is four times too large. Each device shuffles its own rows into minibatches, so we compare with
# one minibatch per pass.)

# %%
key = jax.random.key(1)
sgd = {**options, "step.optimizer": "sgd"}
one_sgd = jsafe.make("ppo_lag", spec, **sgd)
start = one_sgd.init(jax.random.key(2))
alone, _ = jax.jit(one_sgd.update)(start, batch, key)
update_sgd = parallel.shard_map_update(jsafe.make("ppo_lag", spec, axis_name=parallel.AXIS, **sgd))
together, _ = update_sgd(start, batch, key)


def moved(a, b):
    """Largest difference of two states' floating-point leaves."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b))
    return max(float(np.abs(np.asarray(x, np.float64) - np.asarray(y)).max()) for x, y in pairs if x.size)


print(f"the update moved the parameters by {moved(start.params, alone.params):.1e}")
print(f"one device and four differ by      {moved(alone.params, together.params):.1e}")
parallel.assert_replicated(together)
print("all four hold the same bits")

# %% [markdown]
# ## What forgetting looks like
#
# A learner without the axis would train four strangers, each on a quarter of the data. jsafe refuses:

# %%
try:
    parallel.shard_map_update(one_sgd)(start, batch, key)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# With `jax.pmap` and our own hands we can do it all the same, and see the strangers drift apart:

# %%
replicated = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), start)
quarters = batch._replace(
    steps=jax.tree.map(lambda x: np.stack(np.split(x, 4, axis=1)), batch.steps),
    measured=jax.tree.map(lambda x: jnp.stack([x / 4] * 4), batch.measured),
    ready=jnp.stack([batch.ready] * 4),
)
strangers, drift = replicated, []
step = jax.pmap(one_sgd.update, in_axes=(0, 0, None))
for i in range(10):
    strangers, _ = step(strangers, quarters, jax.random.fold_in(key, i))
    weights = np.asarray(strangers.params.actor["layers"][0]["w"])
    drift.append(np.abs(weights - weights[:1]).max())

fig, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
axis.plot(range(1, 11), drift, marker="o")
axis.set(xlabel="updates", ylabel="largest difference", title="Four devices that do not talk")
plt.show()

# %% [markdown]
# Nothing crashes, every curve looks plausible, and the result is wrong. This is why `parallel.assert_replicated`
# exists, and why jsafe's tests switch off every single collective in turn and expect a failure.
#
# ## Training
#
# The loop of `jsafe.train.run` in four lines, with the update spread over the devices. `parallel.local` gives the
# collector the copy on the first one.


# %%
def train(learner, update, state, iterations):
    """Mean return, cost and multiplier of each iteration."""
    collector = jsafe.data.make_collector(jsafe.envs.ToyEnv(20), learner, seed=0)
    rows = []
    for i in range(iterations):
        collect_key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(3), i))
        batch = collector.collect(parallel.local(learner.policy(state)), collect_key)
        state, metrics = update(state, batch, update_key)
        names = ("cost/0/episodic", "cost/0/multiplier")
        rows.append([collector.episodes()["episode/return"], *(float(metrics[name]) for name in names)])
    return np.array(rows)


iterations = 3 if TEST else 120
first = one.init(jax.random.key(4))
curves = {"one device": train(one, jax.jit(one.update), first, iterations)}
curves["four devices"] = train(many, update, update.place_state(first), iterations)

fig, axes = plt.subplots(1, 3, figsize=(13, 3), layout="constrained")
for (name, curve), style in zip(curves.items(), ("-", "--")):
    for axis, values in zip(axes, curve.T):
        axis.plot(values, style, label=name)
for axis, title in zip(axes, ("return per episode", "cost per episode (limit 8)", "multiplier")):
    axis.set(title=title, xlabel="iterations")
axes[1].axhline(8, color="black", ls=":", lw=1)
axes[0].legend()
plt.show()

# %% [markdown]
# The two runs saw the same data at first. Rounding differs in the last digit, and the difference grows with time, as in
# any chaotic system; the curves stay together for as long as that takes.
#
# ## Where to go from here
#
# - `parallel.pmap_update` is the same under `jax.pmap`.
# - In a job of several processes (`jax.distributed`), each passes its own part of the batch.
# - `PrefetchCollector` makes the next batch while the devices compute.
# - Saving, resuming and plotting need no change: the state looks as it does on one device.
