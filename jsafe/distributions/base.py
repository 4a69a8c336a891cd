"""What every distribution of actions can do, dispatched on its type.

A distribution is a NamedTuple of arrays; its module registers its functions here. Parameters have the batch axes of
the observations, or none where all observations share them (the log standard deviation of a `Gaussian`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from jsafe.types import Array, Key

Dist = TypeVar("Dist")


def _missing(name: str) -> Callable[..., Any]:
    def missing(dist, *args):
        raise TypeError(f"no {name} is registered for {type(dist).__name__}")

    return missing


_log_prob, _entropy, _kl, _sample, _mode, _fisher, _expand, _figures = (
    functools.singledispatch(_missing(name))
    for name in ("log_prob", "entropy", "kl", "sample", "mode", "fisher_metric", "expand", "figures")
)


def log_prob(dist: Any, action: Array) -> Array:
    """Log density or log probability `[...]` of actions."""
    return _log_prob(dist, action)


def entropy(dist: Any) -> Array:
    """Entropy `[...]` in nats."""
    return _entropy(dist)


def kl(p: Dist, q: Dist) -> Array:
    """`KL(p || q)` `[...]` in nats."""
    return _kl(p, q)


def sample(dist: Any, key: Key) -> Array:
    """One action for each observation."""
    return _sample(dist, key)


def mode(dist: Any) -> Array:
    """The most likely action for each observation."""
    return _mode(dist)


def fisher_metric(dist: Dist, tangent: Dist) -> Dist:
    """The Fisher matrix in the coordinates of the distribution, applied to a tangent (of an expanded one)."""
    return _fisher(dist, tangent)


def expand(dist: Dist) -> Dist:
    """The same distribution with the batch axes on every parameter."""
    return _expand(dist)


def figures(dist: Any) -> dict[str, Array]:
    """Metrics of its own, `policy/*`, as arrays to average."""
    return _figures(dist)


def register(
    kind: type, *, log_prob, entropy, kl, sample, mode, fisher_metric, expand, figures=lambda dist: {}
) -> None:
    """Makes a type of distribution known."""
    for table, function in (
        (_log_prob, log_prob),
        (_entropy, entropy),
        (_kl, kl),
        (_sample, sample),
        (_mode, mode),
        (_fisher, fisher_metric),
        (_expand, expand),
        (_figures, figures),
    ):
        table.register(kind, function)
