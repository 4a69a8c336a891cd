"""The command line: `jsafe train | sweep | reproduce | evaluate | play | export | plot | truth | dataset | list`."""

from __future__ import annotations

import importlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # until `main` waits for Ctrl-C, nothing is imported that takes time
    from collections.abc import Sequence
    from typing import Any

USAGE = """usage: jsafe COMMAND ...

  jsafe train NAME --env ID [options]   train an algorithm on a task
  jsafe train NAME --data FILE          train an offline algorithm on a data set
  jsafe train --resume RUN              continue a run exactly where it was saved
  jsafe sweep FILE [options]            train a grid of runs, several at a time; one table and one plot
  jsafe reproduce CELL... [options]     rerun cells of the benchmark, set them beside earlier and published results
  jsafe evaluate RUN [options]          run the trained policy, write evaluation.json (and a video)
  jsafe play ID [options]               film a task: a run's policy, one of the zoo, or random actions
  jsafe export RUN -o FILE              the trained policy as .npz (numpy), .onnx or .stablehlo
  jsafe plot RUN... [-o curves.png]     draw learning curves: mean and spread over seeds, cost limits
  jsafe truth RUN [options]             ask a run's critics about states, and find out by branched rollouts
  jsafe dataset COMMAND ...             record, look at, filter, import and export data sets
  jsafe list [algorithms|tasks|policies]   what there is, with presets, papers and results (--json for programs)
  jsafe completion bash|zsh             a script for the shell: words appear at the tabulator

`jsafe train NAME --help` lists the options of an algorithm. Modules of the current folder can be used: `--import
MODULE` imports one that registers tasks or algorithms. Exit status: 0 when done, 1 after a failure, 2 for wrong
arguments, 130 or 143 when a signal ended the run (which is then saved and can be resumed)."""

_NAMES = ("train", "sweep", "reproduce", "evaluate", "play", "export", "plot", "truth", "dataset", "completion")
COMMANDS = {name: f"jsafe.cli.{name}" for name in _NAMES}
COMMANDS["list"] = "jsafe.cli.listing"  # a module named like a builtin would take its place here
_WRITERS = ("train", "sweep", "reproduce", "evaluate", "play", "export")
"""Commands whose output is not what they are there for: they do not fail when nobody reads it."""
_COMPUTING = ("train", "evaluate", "play", "export", "truth")
"""Commands that need JAX at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line (by default this process's own); returns the exit status."""
    if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        return _with_streams(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _leave(number: int, _frame: Any) -> None:
    """Ends the process where nothing has begun: an exception can get lost while large libraries are imported."""
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


def interruptible() -> None:
    """From here on Ctrl-C is an exception, so that what is shown or half written is cleaned up."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _with_streams(arguments: list[str]) -> int:
    import warnings

    from jsafe.curves import screen

    _fill_standard_descriptors()
    before, show = (sys.stdout, sys.stderr), warnings.showwarning
    sys.stdout, sys.stderr = map(screen.steady, before)
    warnings.showwarning = _Warnings()
    try:
        status = _run(arguments)
        sys.stdout.flush()
        if status == 0 and sys.stdout.lost and arguments[:1] and arguments[0] not in _WRITERS:
            status = 128 + signal.SIGPIPE
        return status
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.finish()
        sys.stdout, sys.stderr = before
        warnings.showwarning = show


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    import contextlib

    from jsafe import errors

    name, *rest = arguments
    if name == "--version" and not rest:
        import jsafe

        print(jsafe.__version__)
        return 0
    if name not in COMMANDS:
        return _fail(
            f"{name} takes nothing more, got {rest[0]}"
            if name == "--version"
            else errors.unknown("command", name, COMMANDS)
        )
    with contextlib.suppress(OSError):  # it may have been removed under the shell
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)  # last: a file of the user's never stands in for a package
    from jsafe.envs.api import RenderError
    from jsafe.envs.outside.workers import WorkerError
    from jsafe.runs.checkpoint import CheckpointError
    from jsafe.runs.folder import RunError

    try:
        if name in _COMPUTING and not {"-h", "--help", "--distributed"} & set(rest):  # processes have to meet first
            _check_platforms()
        command = importlib.import_module(COMMANDS[name]).main
        if name != "train":  # which notes signals when it begins
            interruptible()
        return command(rest)
    except ValueError as error:
        return _fail(str(error))
    except (RunError, CheckpointError, WorkerError, RenderError) as error:
        return _fail(str(error), 1)
    except MemoryError as error:
        return _fail(f"not enough memory: {error or 'no more is said'}", 1)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{where}{error.strerror or error}", 1)
    except SystemExit as end:  # after --help
        return end.code if isinstance(end.code, int) else 0


def _check_platforms() -> None:
    """Raises ValueError if JAX_PLATFORMS asks for what is not there: JAX would say so deep inside the first program."""
    given = os.environ.get("JAX_PLATFORMS")
    if not given:
        return
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise ValueError(f"JAX_PLATFORMS={given} cannot be used here{reason}") from None


def _fail(message: str, status: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


class _Warnings:
    """Prints a warning as a line, and none twice."""

    def __init__(self):
        self._shown: set[str] = set()

    def __call__(self, message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in self._shown:
            self._shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)


def _fill_standard_descriptors() -> None:
    """Where standard streams are closed, the next file to be opened would take their place, and get what C libraries
    print."""
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
