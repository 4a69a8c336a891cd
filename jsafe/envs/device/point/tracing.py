"""Errors of task code that cannot be traced, told in the words of the task's author."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax

from jsafe.envs.safety_gym.tasks import Task

_MEANT = (
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
)


@contextlib.contextmanager
def explained(task: Task) -> Iterator[None]:
    """Names the line of a task at which values were needed that are known only when the program runs.

    Raises:
      ValueError: In place of JAX's errors.
    """
    try:
        yield
    except _MEANT as error:
        files = {str(Path(inspect.getfile(kind)).resolve()) for kind in type(task).__mro__ if kind is not object}
        frames = [f for f in traceback.extract_tb(error.__traceback__) if str(Path(f.filename).resolve()) in files]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else "its own code"
        raise ValueError(
            f"{type(task).__name__} runs on the host only: a decision on values, or numpy, in {where} "
            "(in the program: scene.xp in place of numpy, `where` in place of `if`)"
        ) from error
