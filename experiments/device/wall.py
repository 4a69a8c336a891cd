"""Learning curves by wall time, in the program beside on the host's engine.

    python experiments/device/wall.py RUN... -o experiments/device/wall.png --csv experiments/device/wall.csv

One line per run, labelled by algorithm and backend; RUN is a folder of `jsafe train`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

from jsafe.report import plot
from jsafe.runs.folder import read

COLUMNS = ("env_steps", "time/wall_seconds", "episode/return", "episode/cost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, default=Path("wall.png"))
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    fig = Figure(figsize=(9, 3.6), layout="constrained")
    axes = fig.subplots(1, 2)
    rows, colors = [], {}
    for folder in given.runs:
        run, backend = plot.load(folder), read(folder).config.backend
        color = colors.setdefault(run.algorithm, f"C{len(colors)}")
        found = [run.columns[name] for name in COLUMNS]
        rows += [(run.algorithm, backend, *(f"{x:g}" for x in row)) for row in zip(*found)]
        for axis, values in zip(axes, found[2:]):
            style = "-" if backend == "device" else "--"
            axis.plot(found[1], values, style, color=color, label=f"{run.algorithm}, {backend}")
    for axis, name in zip(axes, ("return per episode", "cost per episode")):
        axis.set(xlabel="wall time, seconds", ylabel=name)
        axis.grid(alpha=0.3)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    plot.write(fig, given.output)
    if given.csv is not None:
        with open(given.csv, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("algorithm", "backend", *COLUMNS), *rows])


if __name__ == "__main__":
    main()
