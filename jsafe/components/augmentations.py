"""What is done to replayed observations before a learner sees them, so that it learns what does not change by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.nets.encoders import is_picture
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec, Key, Obs


class Augmentation(NamedTuple):
    """`apply: (key, obs [..., *shape]) -> obs`, of the same shapes and types; None leaves everything as it is."""

    apply: Callable[[Key, Obs], Obs] | None = None


@part("augmentation", "none")
@dataclasses.dataclass(frozen=True)
class NoAugmentation(Options):
    """Leaves observations as they are."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Augmentation:
        """An `Augmentation` that is none."""
        del spec, axis_name
        return Augmentation()


@part("augmentation", "shift")
@dataclasses.dataclass(frozen=True)
class Shift(Options):
    """Moves each picture by up to `pad` pixels, every replayed row by its own draw; frames of a stack move together.

    A row is moved once per update, for the critics, the actor and the targets alike (DrQ with one copy of each row,
    K = M = 1). What is no picture stays. Policies act on what they see.

    Source: Kostrikov, Yarats & Fergus 2021 (DrQ, arXiv 2004.13649), section 3.1.
    """

    pad: int = number(4, low=1)
    """Pixels at each edge, filled with the picture's own edge."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Augmentation:
        """An `Augmentation` of the pictures in an observation.

        Raises:
          ValueError: If there is no picture, or one is not larger than `pad`.
        """
        del axis_name
        leaves = jax.tree.leaves(spaces.tree_map(lambda leaf: leaf, spec.obs))
        sides = [min(leaf.shape[:2]) for leaf in leaves if is_picture(leaf)]
        if not sides:
            raise ValueError(f"augmentation='shift' moves pictures, and there is none in {spec.obs}")
        if self.pad >= min(sides):
            raise ValueError(f"augmentation.pad must be below the side of a picture, {min(sides)}, got {self.pad}")

        def apply(key: Key, obs: Obs) -> Obs:
            parts, structure = jax.tree.flatten(obs)
            moved = [
                shifted(jax.random.fold_in(key, i), x, self.pad) if is_picture(leaf) else x
                for i, (leaf, x) in enumerate(zip(leaves, parts, strict=True))
            ]
            return jax.tree.unflatten(structure, moved)

        return Augmentation(apply)


def shifted(key: Key, pictures: Array, pad: int) -> Array:
    """Pictures padded by the values at their edges and cropped to their size again, each at a place of its own.

    Args:
      key: Draws two whole numbers from 0 to `2 pad`, both included, for each picture.
      pictures: `[..., H, W, C]`, of any type.
      pad: Pixels at each edge.

    Returns:
      Pictures of the same shape and type.
    """
    shape = pictures.shape
    wide = jnp.pad(pictures.reshape(-1, *shape[-3:]), ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    corners = jax.random.randint(key, (wide.shape[0], 2), 0, 2 * pad + 1)
    crop = jax.vmap(lambda one, at: jax.lax.dynamic_slice(one, (at[0], at[1], 0), shape[-3:]))
    return crop(wide, corners).reshape(shape)
