"""What robots see: pictures of many environments at once, drawn by threads."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jsafe.envs import threads
from jsafe.envs.safety_gym.drawing import overlays
from jsafe.envs.safety_gym.drawing.painter import Painter, model_of
from jsafe.envs.safety_gym.simulation import Simulation


class Eyes:
    """Draws through the robots' cameras.

    A GL context belongs to one thread, so there are threads that do nothing else, each with a painter of its own. They
    only read the simulation. MuJoCo lets go of Python's lock while it draws.

    Args:
      sim: The environments.
      cameras: Names of cameras, whose pictures stand side by side.
      size: Width and height of each, pixels.
      detail: `full` or `low` (`model_of`).
      num_threads: How many at most; there are no more than environments.

    Raises:
      ValueError: If there is no such camera.
      RenderError: If there is no GL library, or it does not start.
    """

    def __init__(self, sim: Simulation, cameras: Sequence[str], size: int, detail: str, num_threads: int):
        self._sim, self._cameras, self._size, self._detail = sim, tuple(cameras), size, detail
        self._count = min(num_threads, sim.num_envs)
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="jsafe-eyes")
        try:
            self._threads.submit(self._check).result()
        except BaseException:
            self.close()
            raise

    def look(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """What the robots of some environments see now, uint8 `[n, size, size * cameras, 3]`."""
        out = np.empty((len(rows), self._size, self._size * len(self._cameras), 3), np.uint8)
        jobs = [(int(i), out[k]) for k, i in enumerate(rows)]
        parts = [self._threads.submit(self._draw, [jobs[k] for k in chunk]) for chunk in self._chunks(len(jobs))]
        for part in parts:
            part.result()
        return out

    def close(self) -> None:
        """Ends the threads and gives their GL contexts back."""
        together = threading.Barrier(self._count)  # so that each thread gets one of the calls
        for _ in range(self._count):
            self._threads.submit(self._leave, together)
        self._threads.shutdown()

    def _chunks(self, count: int) -> list[Sequence[int]]:
        return threads.split(count, self._count) if count else []

    def _painter(self) -> Painter:
        """This thread's."""
        if not hasattr(self._own, "painter"):
            self._own.painter = Painter(model_of(self._sim.world.xml, self._detail, self._size))
        return self._own.painter

    def _check(self) -> None:
        self._painter().check(self._cameras)

    def _draw(self, jobs: Sequence[tuple[int, np.ndarray]]) -> None:
        sim, size, painter = self._sim, self._size, self._painter()
        for i, out in jobs:
            shapes, opacity = overlays.passive(sim, i), overlays.opacity(sim, i)
            for k, camera in enumerate(self._cameras):
                out[:, k * size : (k + 1) * size] = painter.paint(
                    sim.physics.data[i],
                    shapes,
                    functools.partial(overlays.halo, sim, i),
                    opacity=opacity,
                    camera=camera,
                    target=sim.scene.agent_pos[i],
                    width=size,
                    height=size,
                )

    def _leave(self, together: threading.Barrier) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(10)
        if hasattr(self._own, "painter"):
            self._own.painter.close()
            del self._own.painter
