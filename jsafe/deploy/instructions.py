"""From a traced function to a list of numpy operations that needs neither JAX nor this library."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from jsafe.deploy.policy_file import OPERATIONS, run

_SAME = {
    "abs": "absolute",
    "add": "add",
    "and": "bitwise_and",
    "argmax": "argmax",
    "argmin": "argmin",
    "ceil": "ceil",
    "cos": "cos",
    "div": "divide",
    "eq": "equal",
    "exp": "exp",
    "expm1": "expm1",
    "floor": "floor",
    "ge": "greater_equal",
    "gt": "greater",
    "is_finite": "isfinite",
    "le": "less_equal",
    "log": "log",
    "log1p": "log1p",
    "lt": "less",
    "max": "maximum",
    "min": "minimum",
    "mul": "multiply",
    "ne": "not_equal",
    "neg": "negative",
    "not": "invert",
    "or": "bitwise_or",
    "pow": "power",
    "rem": "fmod",
    "sign": "sign",
    "sin": "sin",
    "sqrt": "sqrt",
    "square": "square",
    "sub": "subtract",
    "tanh": "tanh",
    "xor": "bitwise_xor",
}
_REDUCTIONS = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod"}
_REDUCTIONS |= {"reduce_and": "all", "reduce_or": "any"}
_NOTHING = ("copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint", "reduce_precision")
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_UNKNOWN = "?"
FOLDED = 4096
"""Results of constants alone are computed now, if they have at most so many numbers."""


class Listing(NamedTuple):
    """A program: `[operation, inputs, options, output]` in order, its `arrays` and its `numbers` (value and dtype)."""

    program: list[list[Any]]
    arrays: dict[str, np.ndarray]
    numbers: dict[str, tuple[Any, str]]


def listing(
    function: Callable[[dict[str, Any]], dict[str, Any]], inputs: Mapping[str, jax.ShapeDtypeStruct]
) -> Listing:
    """The operations of a function of named arrays.

    Args:
      function: From arrays by name to arrays by name.
      inputs: Shapes and types; the first axis may be the symbolic size `n`.

    Returns:
      A program for `jsafe.deploy.policy_file.run`, without what its outputs do not need.

    Raises:
      ValueError: If it holds an operation that the file has no word for (loops, random numbers, ...).
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(dict(inputs))
    writer = _Writer()
    names = sorted(inputs)  # as jax flattens a dict
    outputs = writer.walk(traced.jaxpr, [writer.constant(value) for value in traced.consts], names)
    for name, given in zip(sorted(shapes), outputs, strict=True):
        writer.put("reshape", [given], {"shape": writer.shape(shapes[name].shape, free=True)}, name)
    return writer.finished(sorted(shapes))


class _Writer:
    def __init__(self):
        self.program: list[list[Any]] = []
        self.known: dict[str, np.ndarray] = {}
        self.count = 0

    def constant(self, value: Any) -> str:
        self.count += 1
        name = f"c{self.count}"
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            return _UNKNOWN  # the seed of actions that are not random
        self.known[name] = np.asarray(value)
        return name

    def put(self, operation: str, inputs: list[str], options: dict[str, Any], output: str | None = None) -> str:
        """Adds an operation, or the result if that is known now."""
        if output is None:
            self.count += 1
            output = f"v{self.count}"
            if operation in OPERATIONS and all(name in self.known for name in inputs) and "n" not in str(options):
                value = run([[operation, inputs, options, output]], self.known, 0)[output]
                if np.size(value) <= max(FOLDED, *(self.known[name].size for name in inputs)):
                    self.known[output] = np.ascontiguousarray(value).reshape(np.shape(value))
                    return output
        self.program.append([operation, inputs, options, output])
        return output

    def shape(self, sizes: Any, free: bool = False) -> list[int | str]:
        """Sizes as plain values; with `free` one that depends on the number of rows may be left to numpy."""
        plain: list[int | str] = []
        for size in sizes:
            if isinstance(size, int):
                plain.append(size)
            elif free and -1 not in plain:
                plain.append(-1)
            elif str(size) == "n":
                plain.append("n")
            else:
                raise ValueError(f"the program has an array with {size} rows, which a policy file cannot say")
        return plain

    def walk(self, jaxpr: Any, consts: list[str], inputs: list[str]) -> list[str]:
        """Adds the operations of a jaxpr; returns the names of its results."""
        names = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

        def read(atom: Any) -> str:
            if isinstance(atom, core.Literal):
                aval: Any = atom.aval
                return self.constant(np.asarray(atom.val, aval.dtype))
            return names[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self.equation(equation, given)
            names |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, given: list[str]) -> list[str]:
        """Adds one equation; returns the names of its results."""
        kind, p, avals = equation.primitive.name, equation.params, [atom.aval for atom in equation.invars]
        inner = next((p[key] for key in _INNER if key in p), None)
        if inner is not None and kind not in ("scan", "while", "cond"):
            closed = hasattr(inner, "consts")
            consts = [self.constant(value) for value in inner.consts] if closed else []
            return self.walk(inner.jaxpr if closed else inner, consts, given)
        if kind in _NOTHING:
            return given
        known = hasattr(self, f"_{kind}") or kind in (*_SAME, *_REDUCTIONS)
        if _UNKNOWN in given or not known:
            self.put(f"{_UNKNOWN}{kind}", given, {})  # an error only if something needs it
            return [self.program[-1][-1]] * len(equation.outvars)
        if kind in _REDUCTIONS:
            return [self.put(_REDUCTIONS[kind], given, {"axis": list(p["axes"])})]
        if kind in ("argmax", "argmin"):
            return [self.cast(self.put(kind, given, {"axis": p["axes"][0]}), p["index_dtype"])]
        if kind in _SAME:
            return [self.put(_SAME[kind], given, {})]
        return getattr(self, f"_{kind}")(given, p, avals)

    def finished(self, outputs: list[str]) -> Listing:
        """The program without what no output needs."""
        needed, kept = set(outputs), []
        for operation, inputs, options, output in reversed(self.program):
            if output in needed:
                if operation.startswith(_UNKNOWN):
                    raise ValueError(
                        f"a policy file has no word for {operation[1:]!r}, which this policy uses: export it as .onnx "
                        "or .stablehlo"
                    )
                needed |= set(inputs)
                kept.append([operation, inputs, options, output])
        used = {name: value for name, value in self.known.items() if name in needed}
        numbers = {name: (value.item(), str(value.dtype)) for name, value in used.items() if value.ndim == 0}
        arrays = {name: value for name, value in used.items() if value.ndim}
        return Listing(kept[::-1], arrays, numbers)

    def cast(self, name: str, dtype: Any) -> str:
        return self.put("cast", [name], {"dtype": str(np.dtype(dtype))})

    def number(self, value: float, dtype: Any) -> str:
        return self.constant(np.asarray(value, dtype))

    # ---- operations that numpy says otherwise -----------------------------------------------------------------------

    def _logistic(self, given, p, avals):
        half = self.number(0.5, avals[0].dtype)  # 0.5 tanh(x / 2) + 0.5 never overflows
        tanh = self.put("tanh", [self.put("multiply", [given[0], half], {})], {})
        return [self.put("add", [self.put("multiply", [tanh, half], {}), half], {})]

    def _rsqrt(self, given, p, avals):
        return [self.put("divide", [self.number(1, avals[0].dtype), self.put("sqrt", given, {})], {})]

    def _integer_pow(self, given, p, avals):
        if p["y"] == 2:
            return [self.put("square", given, {})]
        return [self.put("power", [given[0], self.number(p["y"], avals[0].dtype)], {})]

    def _clamp(self, given, p, avals):
        low, x, high = given
        return [self.put("minimum", [self.put("maximum", [x, low], {}), high], {})]

    def _select_n(self, given, p, avals):
        if len(given) != 3:
            return [self.put("?select_n", given, {})]
        which, off, on = given
        return [self.put("where", [self.cast(which, bool), on, off], {})]

    def _convert_element_type(self, given, p, avals):
        return [self.cast(given[0], p["new_dtype"])]

    def _reshape(self, given, p, avals):
        return [self.put("reshape", given[:1], {"shape": self.shape(p["new_sizes"], free=True)})]

    def _squeeze(self, given, p, avals):
        sizes = [size for i, size in enumerate(avals[0].shape) if i not in p["dimensions"]]
        return [self.put("reshape", given, {"shape": self.shape(sizes, free=True)})]

    def _broadcast_in_dim(self, given, p, avals):
        sizes = [1] * len(p["shape"])
        for size, axis in zip(avals[0].shape, p["broadcast_dimensions"]):
            sizes[axis] = size
        x = given[0]
        if tuple(sizes) != tuple(avals[0].shape):
            x = self.put("reshape", [x], {"shape": self.shape(sizes, free=True)})
        if tuple(sizes) == tuple(p["shape"]):
            return [x]
        return [self.put("broadcast", [x], {"shape": self.shape(p["shape"])})]

    def _transpose(self, given, p, avals):
        return [self.put("transpose", given, {"axes": list(p["permutation"])})]

    def _concatenate(self, given, p, avals):
        some = [name for name, aval in zip(given, avals) if 0 not in aval.shape] or given[:1]
        return some if len(some) == 1 else [self.put("concatenate", some, {"axis": p["dimension"]})]

    def _stack(self, given, p, avals):
        sizes = list(avals[0].shape)
        sizes.insert(p["axis"], 1)
        rows = [self.put("reshape", [name], {"shape": self.shape(sizes, free=True)}) for name in given]
        return [self.put("concatenate", rows, {"axis": p["axis"]})]

    def _slice(self, given, p, avals):
        return [self.slice(given[0], p["start_indices"], p["limit_indices"], avals[0].shape, p["strides"])]

    def _split(self, given, p, avals):
        shape, at = avals[0].shape, [0, *np.cumsum(p["sizes"]).tolist()]
        start, limit = [0] * len(shape), list(shape)
        results = []
        for start[p["axis"]], limit[p["axis"]] in itertools.pairwise(at):
            results.append(self.slice(given[0], start, limit, shape))
        return results

    def _rev(self, given, p, avals):
        return [self.put("flip", given, {"axis": list(p["dimensions"])})]

    def _cumsum(self, given, p, avals):
        return [self.put("?cumsum" if p["reverse"] else "cumsum", given, {"axis": p["axis"]})]

    def _iota(self, given, p, avals):
        axis = p["dimension"]
        line = self.constant(np.arange(self.shape(p["shape"])[axis], dtype=p["dtype"]))
        sizes = [size if i == axis else 1 for i, size in enumerate(p["shape"])]
        line = self.put("reshape", [line], {"shape": sizes})
        return [self.put("broadcast", [line], {"shape": self.shape(p["shape"])})]

    def _gather(self, given, p, avals):
        """A slice at fixed indices, as indexing gives it where an axis has a symbolic size."""
        numbers = p["dimension_numbers"]
        first = self.known.get(given[1])
        plain = not (numbers.operand_batching_dims or numbers.start_indices_batching_dims)
        if first is None or first.ndim != 1 or not plain:
            return [self.put("?gather", given, {})]
        shape = avals[0].shape
        start = [0] * len(shape)
        for axis, at in zip(numbers.start_index_map, first.tolist(), strict=True):
            start[axis] = at
        limit = [at + size if isinstance(size, int) else size for at, size in zip(start, p["slice_sizes"])]
        x = self.slice(given[0], start, limit, shape)
        left = [size for i, size in enumerate(p["slice_sizes"]) if i not in numbers.collapsed_slice_dims]
        return [self.put("reshape", [x], {"shape": self.shape(left, free=True)}) if len(left) < len(shape) else x]

    def _dot_general(self, given, p, avals):
        (left, right), (left_batch, right_batch) = p["dimension_numbers"]
        ranks = [len(aval.shape) for aval in avals]
        if not left_batch and tuple(left) == (ranks[0] - 1,) and tuple(right) == (0,) and ranks[1] == 2:
            return [self.put("matmul", given, {})]
        letters = iter(string.ascii_letters)
        a = [next(letters) for _ in range(ranks[0])]
        b = [next(letters) for _ in range(ranks[1])]
        for i, j in [*zip(left, right), *zip(left_batch, right_batch)]:
            b[j] = a[i]
        free = [x for i, x in enumerate(a) if i not in (*left, *left_batch)]
        free += [x for j, x in enumerate(b) if j not in (*right, *right_batch)]
        out = [a[i] for i in left_batch] + free
        return [self.put("einsum", given, {"axes": f"{''.join(a)},{''.join(b)}->{''.join(out)}"})]

    def _pad(self, given, p, avals):
        value = self.known.get(given[1])
        edges = [(low, high) for low, high, _ in p["padding_config"]]
        if value is None or any(inside for *_, inside in p["padding_config"]) or min(map(min, edges)) < 0:
            return [self.put("?pad", given, {})]
        return [self.put("pad", given[:1], {"pad_width": edges, "constant_values": value.item()})]

    def _conv_general_dilated(self, given, p, avals):
        """Windows of the picture times the kernel."""
        d = p["dimension_numbers"]
        axes, kernel = d.lhs_spec[2:], d.rhs_spec
        plain = {*p["lhs_dilation"], *p["rhs_dilation"], p["feature_group_count"], p["batch_group_count"]} == {1}
        if not plain:
            return [self.put("?conv_general_dilated", given, {})]
        x, rank = given[0], len(avals[0].shape)
        edges = [(0, 0)] * rank
        for axis, edge in zip(axes, p["padding"]):
            edges[axis] = edge
        if any(map(any, edges)):
            x = self.put("pad", [x], {"pad_width": [list(edge) for edge in edges], "constant_values": 0})
        sizes = [avals[1].shape[axis] for axis in kernel[2:]]
        x = self.put("windows", [x], {"size": sizes, "axis": list(axes)})
        steps = [1] * (rank + len(axes))
        for axis, stride in zip(axes, p["window_strides"]):
            steps[axis] = stride
        x = self.put("slice", [x], {"at": [[None, None, step] for step in steps]})
        letters = string.ascii_letters
        pictures, inside = letters[:rank], letters[rank : rank + len(axes)]
        new = letters[rank + len(axes)]
        names = dict(zip(kernel, [new, pictures[d.lhs_spec[1]], *inside]))
        out = dict(zip(d.out_spec, [pictures[d.lhs_spec[0]], new, *(pictures[axis] for axis in axes)]))
        spell = ["".join(table[i] for i in range(rank)) for table in (names, out)]
        return [self.put("einsum", [x, given[1]], {"axes": f"{pictures}{inside},{spell[0]}->{spell[1]}"})]

    def slice(self, name: str, start: Any, limit: Any, shape: Any, strides: Any = None) -> str:
        """A slice; axes that are whole are left open, whatever their size."""
        at: list[list[int | None]] = []
        for first, last, size, step in zip(start, limit, shape, strides or [1] * len(shape)):
            whole = (isinstance(first, int) and first == 0) and str(last) == str(size)
            at.append([None, None, step] if whole else [int(first), int(last), step])
        return name if at == [[None, None, 1]] * len(at) else self.put("slice", [name], {"at": at})
