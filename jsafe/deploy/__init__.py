"""Trained policies where they are used: `load` one from a run or a file, `export` it, or take one from the `zoo`."""

from jsafe.deploy.reading import load as load
from jsafe.deploy.writing import export as export
