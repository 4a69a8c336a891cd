"""The command line: `jsafe train | sweep | evaluate | play | plot | list`."""

from jsafe.cli.commands import main

__all__ = ["main"]
