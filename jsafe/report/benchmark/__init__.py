"""A benchmark as data: its cells, what others published, what our runs scored; tables and pictures made from them.

    BENCHMARK/cells.csv          what can be rerun: a row is a cell
    BENCHMARK/published/*.csv    means and standard deviations of others
    BENCHMARK/results/scores.csv what our runs scored: a row is a run, evaluated with its most likely actions
    BENCHMARK/results/critics.csv what their critics say beside what happens: a row is a signal of a run

`jsafe reproduce` runs cells (`jsafe.sweeps.reproduce`); here is only what reads and shows.
"""

from jsafe.report.benchmark.comparisons import Comparison as Comparison
from jsafe.report.benchmark.comparisons import against as against
from jsafe.report.benchmark.comparisons import compare as compare
from jsafe.report.benchmark.comparisons import critics_markdown as critics_markdown
from jsafe.report.benchmark.comparisons import markdown as markdown
from jsafe.report.benchmark.comparisons import table as table
from jsafe.report.benchmark.comparisons import verdict as verdict
from jsafe.report.benchmark.comparisons import write_table as write_table
from jsafe.report.benchmark.pictures import pareto as pareto
from jsafe.report.benchmark.records import Cell as Cell
from jsafe.report.benchmark.records import Critic as Critic
from jsafe.report.benchmark.records import Published as Published
from jsafe.report.benchmark.records import Score as Score
from jsafe.report.benchmark.records import best as best
from jsafe.report.benchmark.records import choose as choose
from jsafe.report.benchmark.records import merge as merge
from jsafe.report.benchmark.records import read_cells as read_cells
from jsafe.report.benchmark.records import read_published as read_published
from jsafe.report.benchmark.records import read_rows as read_rows
from jsafe.report.benchmark.records import write_rows as write_rows
