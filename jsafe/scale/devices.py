"""Learners on many devices: the batch is split, the state is on every device, the update reduces over the axis.

    learner = jsafe.make("ppo_lag", spec, axis_name="devices")
    update = jsafe.scale.devices.shard_map_update(learner)
    state = update.place_state(learner.init(key))
    state, metrics = update(state, batch, key)

The state looks as it does on one device: no leading axis, any leaf can be read, saved or passed on. The learner folds
the device's index into its key, so devices draw different noise. N devices equal one device on the same rows, but for
what is random: the noise of the off-policy losses and the composition of on-policy minibatches.

Both wrappers also work in a job of several processes (`jax.distributed`): each passes its own part of the batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsafe.types import Batch, Feed, Key, Learner, Metrics

AXIS = "devices"
"""Default name of the mapped axis."""


def make_mesh(devices: Sequence[jax.Device] | None = None, axis_name: str = AXIS) -> Mesh:
    """A mesh of one axis, process by process.

    Args:
      devices: All devices of all processes by default.
      axis_name: Its name.

    Raises:
      ValueError: For no device, or the same one twice.
    """
    devices = list(jax.devices() if devices is None else devices)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices must be one or more distinct devices, got {devices}")
    return Mesh(np.array(sorted(devices, key=lambda device: (device.process_index, device.id))), (axis_name,))


class DeviceUpdate:
    """`learner.update` over the devices of a mesh; made by `shard_map_update` and `pmap_update`.

    State and batch can be placed beforehand (`place_state`, `place_batch`; in a thread that prefetches, say). What is
    not in place yet is placed by the call.

    Attributes:
      mesh: The devices that this process places data on and, with `shard_map_update`, those of the other processes.
    """

    def __init__(self, learner: Learner, mesh: Mesh, axes: Batch, call: jax.stages.Wrapped):
        self.mesh = mesh
        self._learner, self._axes, self._call = learner, axes, call
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._checked = False

    def __call__(self, state: Any, batch: Batch | Sequence[Batch], key: Key) -> tuple[Any, Metrics]:
        """One update.

        Args:
          state: The learner's state. It is donated if it is in place; else a copy is used.
          batch: What `learner.update` takes, or anything else that `place_batch` takes.
          key: Typed key, the same in all processes.

        Returns:
          `(state, metrics)`, both replicated.

        Raises:
          ValueError: If the batch cannot be split, or the learner was not built for this axis.
        """
        batch = self.place_batch(batch)
        if not self._checked:
            self._check_axis(state, batch, key)
            self._checked = True
        leaves = jax.tree.leaves(state)
        if leaves and getattr(leaves[0], "sharding", None) != self._replicated:  # all were placed together, or none
            state = self.place_state(state)
        return self._call(state, batch, self._place_key(key))

    def lower(self, state: Any, batch: Batch | Sequence[Batch], key: Key) -> Any:
        """The lowered program (`jax.stages.Lowered`), to look at or to compile ahead; arguments as in a call."""
        return self._call.lower(self.place_state(state), self.place_batch(batch), self._place_key(key))

    def place_state(self, state: Any) -> Any:
        """Copies a state (equal in all processes) to every device; the original stays as it is."""
        return replicate(state, self.mesh)

    def place_batch(self, batch: Batch | Sequence[Batch]) -> Batch:
        """Splits a batch over the devices. A placed batch has an additional axis that counts them.

        Rows are split along the last axis of `Feed.shape` (environments or sequences), the policy's memory along its
        first. Sums and counts stay whole: the first device of each process gets them, the others get zeros, so that
        their `psum` is the total.

        Args:
          batch: The rows of this process (in a job of one process: all); or a list with one batch, and its own sums,
            for each device of this process. A batch that is in place is returned as it is.

        Raises:
          ValueError: If the devices cannot share the rows equally, or the batch is not the one this learner takes.
        """
        devices = self.mesh.local_mesh.size
        if not isinstance(batch, Batch):
            parts = list(batch)
            if len(parts) != devices:
                raise ValueError(f"a list must hold one batch for each of {devices} devices, got {len(parts)}")
            shapes = [jax.tree.map(np.shape, part) for part in parts]
            if shapes != [shapes[0]] * devices:
                raise ValueError(f"the batches of a list must have equal shapes, got {shapes}")
            self._check_rank(parts[0])
            stacked = jax.tree.map(
                lambda axis, *each: jax.tree.map(lambda *leaves: np.stack(leaves, axis), *each), self._axes, *parts
            )
        elif isinstance(sharding := getattr(batch.steps.reward, "sharding", None), NamedSharding) and (
            sharding.mesh == self.mesh
        ):
            return batch
        else:
            self._check_rank(batch)
            stacked = _split(batch, self._learner.feed, devices)
        return _each(self._put, self._axes, stacked)

    def _check_rank(self, batch: Batch) -> None:
        want, have = len(self._learner.feed.shape), np.ndim(batch.steps.reward)
        if have != want:
            raise ValueError(
                f"the rows of a batch must have the {want} leading axes of the learner's feed, "
                f"{type(self._learner.feed).__name__}, got {have}"
            )

    def _put(self, x: Any, axis: int) -> jax.Array:
        sharding = NamedSharding(self.mesh, _spec(axis, self.mesh))
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    def _place_key(self, key: Key) -> Key:
        if self._replicated.is_fully_addressable and not key.committed:
            return key  # copied by the call itself, which is many times faster
        return _spread(key, self._replicated)

    def _check_axis(self, state: Any, batch: Batch, key: Key) -> None:
        """Without the axis a learner would run, and its devices drift apart: it has to miss the axis here."""
        (name,) = self.mesh.axis_names

        def local(x, axis):
            return jax.ShapeDtypeStruct(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)

        try:
            jax.eval_shape(self._learner.update, state, _each(local, self._axes, batch), key)
        except NameError as error:
            if f"unbound axis name: {name}." in str(error):
                return
            if "unbound axis name" in str(error):
                raise ValueError(f"the learner was built for another axis than {name!r}: {error}") from None
            raise
        raise ValueError(f"the learner does not reduce over devices; build it with axis_name={name!r}")


def shard_map_update(
    learner: Learner, mesh: Mesh | None = None, *, axis_name: str = AXIS, donate: bool = True
) -> DeviceUpdate:
    """`learner.update` under `jax.shard_map`, compiled.

    Args:
      learner: Built with `axis_name`.
      mesh: Devices, see `make_mesh`; all of them by default.
      axis_name: Name of the mesh's axis.
      donate: Reuse the memory of the state.

    Returns:
      A `DeviceUpdate`: `(state, batch, key) -> (state, metrics)`.

    Raises:
      ValueError: If the mesh has another axis.
    """
    mesh = make_mesh(axis_name=axis_name) if mesh is None else mesh
    if mesh.axis_names != (axis_name,):
        raise ValueError(f"the mesh must have the one axis {axis_name!r}, got {mesh.axis_names}")
    axes = _batch_axes(learner)
    everywhere = PartitionSpec()

    def update(state, batch, key):
        return learner.update(state, _each(jnp.squeeze, axes, batch), key)

    # check_vma=True would insert a psum of its own where gradients are taken of replicated parameters.
    mapped = jax.shard_map(
        update,
        mesh=mesh,
        in_specs=(everywhere, jax.tree.map(lambda axis: _spec(axis, mesh), axes), everywhere),
        out_specs=everywhere,
        check_vma=False,
    )
    return DeviceUpdate(learner, mesh, axes, jax.jit(mapped, donate_argnums=(0,) if donate else ()))


def pmap_update(
    learner: Learner, devices: Sequence[jax.Device] | None = None, *, axis_name: str = AXIS, donate: bool = True
) -> DeviceUpdate:
    """`learner.update` under `jax.pmap`, with a state that has no leading axis.

    Args:
      learner: Built with `axis_name`.
      devices: All devices of all processes by default.
      axis_name: Name of the axis.
      donate: Reuse the memory of the state.

    Returns:
      A `DeviceUpdate`: `(state, batch, key) -> (state, metrics)`. In a job of several processes its state and metrics
      are copies on the devices of this process.
    """
    mesh = make_mesh(devices, axis_name)
    axes = _batch_axes(learner)
    call = jax.pmap(
        learner.update,
        axis_name,
        in_axes=(None, axes, None),
        out_axes=None,
        devices=list(mesh.devices),
        donate_argnums=(0,) if donate else (),
    )
    return DeviceUpdate(learner, mesh.local_mesh, axes, call)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a tree of arrays, equal in all processes, to every device of a mesh; the original stays as it is."""
    sharding = NamedSharding(mesh, PartitionSpec())
    # Without the copy the replica on the array's own device would share its memory, and be donated with it.
    return jax.tree.map(lambda x: _spread(jnp.copy(local(x)), sharding), tree)


def local(tree: Any) -> Any:
    """The copies of a replicated tree on this process's first device, without moving anything; for the collector."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def assert_replicated(tree: Any) -> None:
    """Checks that all devices, of all processes, hold the same bits.

    Raises:
      AssertionError: Naming the leaves that differ.
    """
    bad, sums, everywhere = [], [], True
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        if not leaf.sharding.is_fully_replicated or any(x.tobytes() != copies[0].tobytes() for x in copies):
            bad.append(jax.tree_util.keystr(path))
        sums.append(zlib.crc32(copies[0].tobytes()))
        everywhere &= leaf.is_fully_addressable
    if not everywhere:
        from jax.experimental.multihost_utils import process_allgather

        rows = process_allgather(np.array(sums, np.uint32))  # one per process
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        bad += [path for path, column in zip(paths, rows.T) if (column != column[0]).any() and path not in bad]
    if bad:
        raise AssertionError(f"devices hold different values of {', '.join(bad)}")


def _batch_axes(learner: Learner) -> Batch:
    """Where the parts of a placed batch of this learner count the devices."""
    rows: Any = len(learner.feed.shape) - 1  # a number in the place of each part
    first: Any = 0
    return Batch(steps=rows, measured=first, ready=first, memory=first)


def _each(function: Callable[[Any, int], Any], axes: Batch, batch: Batch) -> Batch:
    """Applies a function to every leaf of a batch and the axis of its part."""
    return jax.tree.map(lambda axis, part: jax.tree.map(lambda x: function(x, axis), part), axes, batch)


def _split(batch: Batch, feed: Feed, devices: int) -> Batch:
    """Adds the axis of devices to the batch of a whole process."""
    axis = len(feed.shape) - 1
    size = batch.steps.reward.shape[axis]
    if size % devices:
        what = "environments" if feed.batch_option == "num_envs" else feed.batch_option
        raise ValueError(
            f"a batch of {size} {what} cannot be shared equally by {devices} devices: "
            f"{feed.batch_option} must be a multiple of {devices} for each process"
        )

    def rows(x, axis):
        return x.reshape(*x.shape[:axis], devices, x.shape[axis] // devices, *x.shape[axis + 1 :])

    def sums(x):
        x = np.asarray(x)
        return np.concatenate([x[None], np.zeros((devices - 1, *x.shape), x.dtype)])

    return Batch(
        steps=jax.tree.map(lambda x: rows(x, axis), batch.steps),
        measured=jax.tree.map(sums, batch.measured),
        ready=np.full(devices, batch.ready),
        memory=jax.tree.map(lambda x: rows(x, 0), batch.memory),
    )


def _spec(axis: int, mesh: Mesh) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, *mesh.axis_names)


def _spread(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    copies = [jax.device_put(x, device) for device in sharding.mesh.local_mesh.devices.flat]
    return jax.make_array_from_single_device_arrays(x.shape, sharding, copies)
