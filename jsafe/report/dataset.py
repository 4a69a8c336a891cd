"""What a data set holds: numbers, and a picture of cost against return."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from jsafe.data.datasets import Episodes, checksum
from jsafe.data.datasets.scores import reference

LIMITS = (10.0, 20.0, 25.0, 40.0, 80.0)
"""Limits per episode whose share of episodes is told: those that the literature uses."""
MOST_NAMED = 10
"""Policies that a picture names; more have shades, in their order."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def describe(episodes: Episodes, limits: Sequence[float] = LIMITS) -> dict[str, Any]:
    """Plain values: sizes, quantiles of return, cost and length over episodes, shares within limits, who acted, sha256.

    Shares count the episodes whose every cost is at most the limit. Policies without an episode are left out.
    """
    about, costs = episodes.about, episodes.costs
    names = [f"cost {name}" for name in about.cost_names] if len(about.cost_names) > 1 else ["cost"]
    columns = {"return": episodes.returns, **dict(zip(names, costs.T)), "length": episodes.lengths}
    flat = episodes.rows()
    seen = episodes.obs[flat]
    who = np.zeros(len(episodes), int) if episodes.behaviour is None else episodes.behaviour
    behaviours = [
        {**dict(each), "episodes": int((who == i).sum()), "return": _mean(columns["return"][who == i])}
        | {"cost": _mean(costs[who == i].max(axis=1))}
        for i, each in enumerate(about.behaviours)
        if (who == i).any()  # of many policies a filter may leave none
    ]
    return {
        "env": about.env,
        "env_options": dict(about.env_options),
        "source": about.source,
        "horizon": about.horizon,
        "episodes": len(episodes),
        "finished": int(episodes.finished.sum()),
        "steps": episodes.transitions,
        "bytes": episodes.nbytes(),
        "obs": {
            "shape": list(seen.shape[1:]),
            "dtype": str(seen.dtype),
            "low": float(seen.min()),
            "high": float(seen.max()),
        },
        "action": {"shape": list(episodes.action.shape[1:]), "low": float(episodes.action.min())}
        | {"high": float(episodes.action.max())},
        "quantiles": {
            name: dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist()))
            for name, values in columns.items()
        },
        "mean": {name: _mean(values) for name, values in columns.items()},
        "within": {f"{limit:g}": float((costs <= limit).all(axis=1).mean()) for limit in limits},
        "cost_names": list(about.cost_names),
        "term_names": list(about.term_names),
        "terminated": int(episodes.terminated.sum()),
        "next_obs": "stored" if episodes.next_obs is not None else "the next row",
        "states": sorted(episodes.states),
        "behaviours": behaviours,
        "sha256": checksum(episodes),
    }


def figure(episodes: Episodes, limits: Sequence[float] = (25.0,)) -> Figure:
    """Cost against return, a dot for each episode, coloured by who acted; a panel for each cost, limits dashed."""
    costs, returns = episodes.costs, episodes.returns
    who = np.zeros(len(episodes), int) if episodes.behaviour is None else episodes.behaviour
    count = costs.shape[1]
    actors = np.unique(who)
    colors = colormaps["viridis" if len(actors) > MOST_NAMED else "tab10"](
        np.arange(len(actors)) / max(len(actors) - 1, 9)
    )
    fig = Figure(figsize=(5.2 * count, 4.0), layout="constrained")
    axes = fig.subplots(1, count, squeeze=False)[0]
    for axis, cost, name in zip(axes, costs.T, episodes.about.cost_names):
        for i, color in zip(actors, colors):
            chosen = who == i
            label = _label(episodes, int(i))
            axis.scatter(cost[chosen], returns[chosen], s=9, alpha=0.6, lw=0, color=color, label=label)
        for limit in limits:
            axis.axvline(limit, color="black", ls="--", lw=1)
            place = {"xycoords": ("data", "axes fraction"), "xytext": (3, -10), "textcoords": "offset points"}
            axis.annotate(f"limit {limit:g}", (limit, 1), fontsize="small", **place)
        axis.set(xlabel=f"cost per episode{f' ({name})' if count > 1 else ''} ↓", ylabel="return ↑")
        axis.grid(alpha=0.3)
    if 1 < len(actors) <= MOST_NAMED:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    if episodes.about.env:
        known = reference(episodes.about.env)
        extra = "" if known is None else f" (DSRL: return {known.low:.0f} to {known.high:.0f})"
        fig.suptitle(f"{episodes.about.env}, {len(episodes)} episodes{extra}", fontsize="medium")
    return fig


def save(episodes: Episodes, output: str | os.PathLike, limits: Sequence[float] = (25.0,)) -> Path:
    """Draws a data set into a file (png, pdf, svg).

    Raises:
      ValueError: For a file type that cannot be drawn, or a file that cannot be written.
    """
    from jsafe.report import plot

    return plot.write(figure(episodes, limits), output)


def _label(episodes: Episodes, number: int) -> str:
    known = dict(episodes.about.behaviours[number]) if number < len(episodes.about.behaviours) else {}
    words = [str(known.get("run") or known.get("algorithm") or f"policy {number}")]
    if known.get("iteration") is not None:
        words.append(f"@{known['iteration']}")
    return "".join(words)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
