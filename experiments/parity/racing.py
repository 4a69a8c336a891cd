"""Replays recordings of SafeRacing on Box2D, every step from its recorded state.

    python experiments/parity/racing.py --golden FOLDER      # of racing-*.npz and spawn.npz
    python experiments/parity/racing.py --golden FOLDER --subset tests/envs/data/racing.npz

Prints one row per episode, and fails (exit status 1) if a bar is missed: 99.9 % of all steps within the bounds after
one step; every reward, visit, event and contact equal; 99.5 % of all pixels within one grey level; 50 steps of gentle
driving within 1 mm. With `--subset` it writes the steps that the tests keep.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "envs" / "device"))
import racing_recordings as recordings

from jsafe.envs.device.racing import spawn, track


def chosen(episode: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Steps worth keeping: events, steering stops, locked wheels, the first ones, and some at random."""
    events = episode["hit"] | episode["left_road"] | episode["done"]
    stops = (np.abs(episode["joint0"]) >= 0.4).any(1)
    new = np.isin(episode["step"], episode["first_visit"])
    steps = [0, 1, 2, *np.flatnonzero(events)]
    for some in (stops, new, episode["actions"][:, 2] > 0.8, np.ones(len(new), bool)):
        steps += rng.permutation(np.flatnonzero(some))[: count // 4].tolist()
    return np.unique(steps)


def write_subset(episodes: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """Keeps about fifty steps and five pictures of each episode, and all actions of its first fifty steps."""
    rng, arrays = np.random.default_rng(0), {}
    for name, episode in episodes.items():
        steps = chosen(episode, 40, rng)
        if name.endswith("random"):
            steps = np.union1d(steps, np.arange(recordings.OPENING - 1))
        frames = np.linspace(0, len(episode["frames"]) - 1, 5).astype(int)
        kept = recordings.subset(episode, steps, frames)
        for field, value in kept.items():
            owner = name.split("-")[0] if field in recordings.SHARED else name
            arrays[f"{owner}/{field}"] = small(value)
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes, {sum(len(arrays[f'{name}/step']) for name in episodes)} steps")


def small(value: np.ndarray) -> np.ndarray:
    """Integers as int32; the rest as it is."""
    return value.astype(np.int32) if value.dtype == np.int64 else value


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=pathlib.Path, required=True, help="folder of the recordings")
    parser.add_argument("--subset", type=pathlib.Path, help="write the tests' recording to this file")
    options = parser.parse_args()
    paths = sorted(options.golden.glob("racing-*.npz"))
    if not paths:
        parser.error(f"no racing-*.npz in {options.golden}")
    episodes = {path.stem.removeprefix("racing-"): recordings.read(path) for path in paths}
    if options.subset:
        write_subset(episodes, options.subset)

    replay = recordings.Replay(episodes)
    steps = outside = pixels = wrong_pixels = faults = 0
    gentle = 0.0
    print("| episode | steps | outside the bounds | position | velocity | angle | spin | events that differ |", end="")
    print(" contacts, differ | car vector | pixels that differ | drift after 50 steps |")
    print("|---|" + "---|" * 11)
    for name, episode in episodes.items():
        after, events = replay.step(name, episode)
        errors = replay.errors(episode, after)
        bad = np.any([errors[field] > bound for field, bound in recordings.BOUNDS.items()], axis=0)
        differ = sum(replay.event_faults(episode, after, events).values())
        contacts, contacts_differ = replay.contact_faults(name, episode)
        off = np.abs(replay.pictures(name, episode).astype(int) - episode["frames"]) > 1
        drift = replay.drift(name, episode, recordings.OPENING - 1)[-1]
        gentle = max(gentle, drift if name.endswith("random") else 0.0)
        worst = [max(errors[f].max() for f in group) for group in (("x", "y"), ("vx", "vy"), ("angle",), ("spin",))]
        row = [name, len(bad), f"{bad.sum()} {np.flatnonzero(bad).tolist()}", *(f"{w:.1e}" for w in worst), differ,
               f"{contacts}, {contacts_differ}", f"{replay.vector_error(episode):.1e}", f"{off.sum()} of {off.size}",
               f"{drift:.1e}"]  # fmt: skip
        print(f"| {' | '.join(map(str, row))} |")
        steps, outside, faults = steps + len(bad), outside + int(bad.sum()), faults + differ + contacts_differ
        pixels, wrong_pixels = pixels + off.size, wrong_pixels + int(off.sum())
    table = np.load(options.golden / "spawn.npz")["table"]
    car = jax.vmap(lambda angle: spawn.place(0.0, 0.0, angle))(table[:, 0])
    got = np.column_stack([car.x, car.y, car.angle - table[:, 0], car.joint])
    tracks = []
    for seed, name in enumerate(recordings.ROADS):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        made = track.courses(track.checkpoints(rng)[None])[0]
        tracks.append(float(np.abs(made - next(e["track"] for n, e in episodes.items() if n.startswith(name))).max()))
    print(f"\n{outside} of {steps} steps are outside the bounds ({100 - 100 * outside / steps:.3f} % within).")
    print(f"{faults} events or contacts differ.")
    print(f"{wrong_pixels} of {pixels} pixels differ by more than one grey level.")
    print(f"Starts differ by at most {np.abs(got - table[:, 1:]).max():.1e}, tracks by {max(tracks):.1e}.")
    missed = outside > steps / 1000 or faults or wrong_pixels > pixels / 200 or gentle > 1e-3
    sys.exit(int(bool(missed)))


if __name__ == "__main__":
    main()
