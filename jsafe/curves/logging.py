"""Until the runs room reads the modules themselves."""

from jsafe.curves.csv_table import WALL_COLUMNS as WALL_COLUMNS
from jsafe.curves.csv_table import CsvTable as CsvTable
from jsafe.curves.csv_table import read_csv as read_csv
from jsafe.curves.csv_table import read_progress as read_progress
from jsafe.curves.interval import Interval as Interval
from jsafe.curves.screen import Progress as Progress
from jsafe.curves.screen import count as count
from jsafe.curves.screen import duration as duration
from jsafe.curves.sinks import Events as Events
from jsafe.curves.sinks import WandbRun as WandbRun
