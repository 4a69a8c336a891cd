"""What an observation and an action are: boxes of numbers, choices, and trees of them. Hashable, and plain numpy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

DTYPES = ("float32", "float64", "float16", "uint8", "int32", "bool")


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape.

    Args:
      shape: Of one observation or action, without batch axes; an int is a vector of that width.
      low, high: Bounds, one number for all components or one for each (flattened in C order).
      dtype: One of `DTYPES`; an image is `Box((64, 64, 3), 0, 255, "uint8")`.

    Raises:
      ValueError: If a size is not positive, a bound is NaN or of another length, or the type is unknown.
    """

    shape: tuple[int, ...]
    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    dtype: str

    def __init__(
        self,
        shape: int | Sequence[int],
        low: float | Sequence[float] | np.ndarray = -math.inf,
        high: float | Sequence[float] | np.ndarray = math.inf,
        dtype: str = "float32",
    ):
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"Box.shape must be positive integers, got {shape!r}")
        if dtype not in DTYPES:
            raise ValueError(f"Box.dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        ends = [self._end(name, bound, sizes) for name, bound in (("low", low), ("high", high))]
        if np.any(np.asarray(ends[0]) > np.asarray(ends[1])):
            raise ValueError(f"Box.low must not exceed Box.high, got {ends[0]!r} and {ends[1]!r}")
        for name, value in (("shape", sizes), ("low", ends[0]), ("high", ends[1]), ("dtype", dtype)):
            object.__setattr__(self, name, value)

    @staticmethod
    def _end(name: str, bound: Any, sizes: tuple[int, ...]) -> float | tuple[float, ...]:
        """A bound as a number, or as one number for each component."""
        many = isinstance(bound, (tuple, list, np.ndarray))
        numbers = np.asarray(bound, float).ravel()
        if many and len(numbers) != math.prod(sizes):
            raise ValueError(f"Box.{name} must have {math.prod(sizes)} numbers, got {len(numbers)}")
        if np.isnan(numbers).any():
            raise ValueError(f"Box.{name} must not be NaN, got {bound!r}")
        return tuple(numbers.tolist()) if many else float(bound)

    @property
    def width(self) -> int:
        """Number of components."""
        return math.prod(self.shape)

    @property
    def flat(self) -> bool:
        """Whether it is a vector of floats, as a perceptron takes it."""
        return len(self.shape) == 1 and self.dtype.startswith("float")


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of n choices, `int32 []`; or with a tuple a product of K such choices, `int32 [K]`.

    Raises:
      ValueError: If a number of choices is not a positive integer.
    """

    n: int | tuple[int, ...]

    def __post_init__(self):
        if not self.sizes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.sizes):
            raise ValueError(f"Discrete.n must be a positive integer or several, got {self.n!r}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of choices of each factor."""
        return (self.n,) if isinstance(self.n, int) else tuple(self.n)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value: `()`, or `(K,)` for a product."""
        return () if isinstance(self.n, int) else (len(self.n),)

    @property
    def dtype(self) -> str:
        """int32."""
        return "int32"

    @property
    def width(self) -> int:
        """Columns of its one-hot form."""
        return sum(self.sizes)


@dataclasses.dataclass(frozen=True)
class Tree:
    """Named spaces; a value is a dict of arrays. Made from a dict, kept as sorted pairs.

    Raises:
      ValueError: If it is empty, or holds something else than spaces.
    """

    items: tuple[tuple[str, Space], ...]

    def __init__(self, items: Mapping[str, Space] | tuple[tuple[str, Space], ...]):
        pairs = tuple(sorted(dict(items).items()))
        if not pairs or not all(isinstance(space, (Box, Discrete, Tree)) for _, space in pairs):
            raise ValueError(f"Tree must hold one or more named spaces, got {items!r}")
        object.__setattr__(self, "items", pairs)

    def __getitem__(self, name: str) -> Space:
        return dict(self.items)[name]


Space = Box | Discrete | Tree


def space(value: Space | int) -> Space:
    """A space as it is; an int as a flat box of that width.

    Raises:
      ValueError: For anything else.
    """
    if isinstance(value, (Box, Discrete, Tree)):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a space must be a Box, a Discrete, a Tree or a positive integer, got {value!r}")
    return Box((value,))


def tree_map(function: Callable[[Box | Discrete], Any], of: Space) -> Any:
    """The value of a function at every leaf: a dict where the space is a `Tree`."""
    if isinstance(of, Tree):
        return {name: tree_map(function, inner) for name, inner in of.items}
    return function(of)


def zeros(of: Space, batch: tuple[int, ...] = ()) -> Any:
    """Zeros with leading axes `batch`."""
    return tree_map(lambda leaf: np.zeros((*batch, *leaf.shape), leaf.dtype), of)


def stacked(of: Space, count: int) -> Space:
    """The space of `count` values side by side: joined along the last axis of every leaf.

    Raises:
      ValueError: If a leaf has no axis.
    """
    if count == 1:
        return of
    if isinstance(of, Tree):
        return Tree({name: stacked(inner, count) for name, inner in of.items})
    if not of.shape:
        raise ValueError(f"values of {of} have no axis along which {count} of them could be joined")
    if isinstance(of, Discrete):
        return Discrete(of.sizes * count)
    low, high = (
        tuple(np.tile(np.reshape(bound, of.shape), count).ravel()) if isinstance(bound, tuple) else bound
        for bound in (of.low, of.high)
    )
    return Box((*of.shape[:-1], of.shape[-1] * count), low, high, of.dtype)


def sample(of: Space, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> Any:
    """Random values: uniform within finite bounds, else standard normal.

    Args:
      of: The space.
      rng: The only source of randomness.
      batch: Leading axes.
    """

    def leaf(part: Box | Discrete) -> np.ndarray:
        if isinstance(part, Discrete):
            draws = [rng.integers(n, size=batch) for n in part.sizes]
            return np.asarray(draws[0] if part.shape == () else np.stack(draws, axis=-1), np.int32)
        shape = (*batch, *part.shape)
        low, high = (np.broadcast_to(np.reshape(b, part.shape if np.ndim(b) else ()), part.shape) for b in bounds(part))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return rng.standard_normal(shape).astype(part.dtype)
        if part.dtype in ("uint8", "int32", "bool"):
            return rng.integers(low, high + 1, shape).astype(part.dtype)
        return rng.uniform(low, high, shape).astype(part.dtype)

    return tree_map(leaf, of)


def bounds(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """`low` and `high` as float64 arrays, scalar or flat."""
    return np.asarray(box.low, np.float64), np.asarray(box.high, np.float64)


def nbytes(of: Space) -> int:
    """Memory of one value."""
    if isinstance(of, Tree):
        return sum(nbytes(inner) for _, inner in of.items)
    return math.prod(of.shape) * np.dtype(of.dtype).itemsize


def difference(have: Space, want: Space) -> str | None:
    """What keeps values of one space from being used where another is wanted; None if nothing does (bounds aside)."""
    if isinstance(have, Tree) and isinstance(want, Tree):
        if [name for name, _ in have.items] != [name for name, _ in want.items]:
            return f"it has {[name for name, _ in have.items]}, not {[name for name, _ in want.items]}"
        lines = [(name, difference(inner, want[name])) for name, inner in have.items]
        return next((f"{name}: {line}" for name, line in lines if line), None)
    if isinstance(have, Discrete) and isinstance(want, Discrete):
        return None if have.sizes == want.sizes else f"it has {have.n} choices, not {want.n}"
    if not (isinstance(have, Box) and isinstance(want, Box)):
        return f"it is a {type(have).__name__}, not a {type(want).__name__}"
    if have.shape != want.shape:
        return f"its shape is {have.shape}, not {want.shape}"
    floats = have.dtype.startswith("float") and want.dtype.startswith("float")
    return None if floats or have.dtype == want.dtype else f"its type is {have.dtype}, not {want.dtype}"


def to_json(of: Space) -> dict[str, Any]:
    """Plain values; `from_json` reads them back."""
    if isinstance(of, Tree):
        return {"kind": "tree", "items": {name: to_json(inner) for name, inner in of.items}}
    if isinstance(of, Discrete):
        return {"kind": "discrete", "n": of.n if isinstance(of.n, int) else list(of.n)}
    bounds = {name: _plain(getattr(of, name)) for name in ("low", "high")}
    return {"kind": "box", "shape": list(of.shape), **bounds, "dtype": of.dtype}


def from_json(data: Mapping[str, Any]) -> Space:
    """The inverse of `to_json`.

    Raises:
      ValueError: If it is not the form of a space.
    """
    try:
        if data["kind"] == "tree":
            return Tree({name: from_json(inner) for name, inner in data["items"].items()})
        if data["kind"] == "discrete":
            return Discrete(data["n"] if isinstance(data["n"], int) else tuple(data["n"]))
        if data["kind"] == "box":
            return Box(tuple(data["shape"]), _bound(data["low"]), _bound(data["high"]), data["dtype"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the description of a space: {data!r} ({error})") from None
    raise ValueError(f"the kind of a space must be box, discrete or tree, got {data['kind']!r}")


def _plain(bound: float | tuple[float, ...]) -> Any:
    if isinstance(bound, tuple):
        return [_plain(x) for x in bound]
    return bound if math.isfinite(bound) else repr(bound)  # JSON has no infinity


def _bound(value: Any) -> Any:
    return tuple(float(x) for x in value) if isinstance(value, list) else float(value)
