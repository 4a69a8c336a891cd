"""How many pictures of the robots' cameras one core draws in a second, and what bounds it.

    python experiments/benchmarks/vision.py --sizes 64 256 --core 0

Prints a row for each task, size and detail: frames per second of one core's time (a step with its picture), the
milliseconds of a frame, and what they are made of: the step without a picture; placing what is drawn (kinematics, the
scene, Python); everything that GL does. Below: what multisampling and reflections cost, as pictures without them. The
process is bound to one core and its own CPU time is counted, so that other load hardly matters; every number is the
best of the repetitions.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from unittest import mock

import numpy as np

from jsafe import envs
from jsafe.envs.loading import mujoco
from jsafe.envs.safety_gym.drawing import gl, overlays
from jsafe.envs.safety_gym.drawing.painter import Painter, model_of

TASKS = ("SafetyPointGoal1Vision-v0", "SafetyPointGoal2Vision-v0", "SafetyCarButton1Vision-v0")


def seconds(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one call, the best of some; the first one does not count."""
    call()
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def row(id: str, size: int, detail: str, num_envs: int, repeats: int) -> str:
    """Frames per second and milliseconds of one kind of pictures."""
    env = envs.make(id, num_envs=num_envs, num_threads=1, size=size, detail=detail)
    env.reset(seed=0)
    still = np.zeros((num_envs, env.spec.act_dim))
    whole = seconds(lambda: env.step(still), repeats) / num_envs
    blind = seconds(lambda: env.env.step(still), repeats) / num_envs
    nothing = mock.Mock()
    with mock.patch.object(mujoco, "mjr_render", nothing), mock.patch.object(mujoco, "mjr_readPixels", nothing):
        placing = seconds(lambda: env.step(still), repeats) / num_envs - blind
    env.close()
    parts = [1e3 * part for part in (whole, blind, placing, whole - blind - placing)]
    return f"| {id} | {size} | {detail} | {1 / whole:.0f} | {' | '.join(f'{part:.2f}' for part in parts)} |"


def without(id: str, size: int, samples: int, reflectance: float, num_envs: int, repeats: int) -> float:
    """Milliseconds of drawing one picture with fewer samples, or another reflectance of the floor."""
    env = envs.make(id.replace("Vision", ""), num_envs=num_envs, num_threads=1)
    env.reset(seed=0)
    model = model_of(env.simulation.world.xml, "full", size)
    model.vis.quality.offsamples, model.mat_reflectance[:] = samples, reflectance
    painter = Painter(model)

    def draw():
        for i, data in enumerate(env.physics.data):
            shapes = overlays.passive(env.simulation, i)
            painter.paint(data, shapes, camera="vision", width=size, height=size)

    try:
        return 1e3 * seconds(draw, repeats) / num_envs
    finally:
        painter.close()
        env.close()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, default=0, help="the core to be bound to")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    print(f"drawn with {gl.platform()}")
    print("| id | pixels | detail | frames/s | ms: all | step | placing | GL |")
    print("|---|---|---|---|---|---|---|---|")
    for size in options.sizes:
        for id in TASKS:
            for detail in ("full", "low"):
                print(row(id, size, detail, options.num_envs, options.repeats), flush=True)
    print("| pixels | samples | reflections | ms of drawing |")
    print("|---|---|---|---|")
    for size in options.sizes:
        for samples, reflectance in ((4, 0.1), (4, 0.0), (0, 0.1), (0, 0.0)):
            told = without(TASKS[0], size, samples, reflectance, options.num_envs, options.repeats)
            print(f"| {size} | {samples} | {'yes' if reflectance else 'no'} | {told:.2f} |", flush=True)


if __name__ == "__main__":
    main()
