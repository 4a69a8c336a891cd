"""Where rows go besides progress.csv: TensorBoard, Weights & Biases."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Events:
    """TensorBoard scalars, written in the calling thread so that a full disk is an `OSError` here and no hang.

    Args:
      folder: Where the event file goes.
      done: Environment steps at the start of this session. TensorBoard keeps the events of earlier files up to that
        step, and hides later ones.
    """

    def __init__(self, folder: str | os.PathLike, done: int = 0):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(Path(folder) / "events"), f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=done + 1, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one step and flushes them."""
        scalars = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=scalars)))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            self._writer.close()


class WandbRun:
    """The same rows on Weights & Biases; a resumed run continues its curve.

    Args:
      folder: Run folder; its name is the run's name, and files for offline mode lie in it.
      config: What to record as the run's configuration.
      project, group, tags: Where it is filed.

    Raises:
      ValueError: If wandb is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        config: Mapping[str, Any],
        project: str = "jsafe",
        group: str | None = None,
        tags: Sequence[str] = (),
    ):
        try:
            import wandb
        except ImportError:
            raise ValueError("wandb is not installed: pip install 'jsafe[wandb]', or leave --wandb out") from None
        folder = Path(folder).resolve()
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._run = wandb.init(
            project=project,
            group=group,
            tags=list(tags),
            name=folder.name,
            id=name,
            resume="allow",
            dir=str(folder),
            config=dict(config),
            reinit="create_new",  # runs of one program each have their own
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the scalars of one step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the session."""
        self._run.finish()
