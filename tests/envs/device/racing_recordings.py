"""Recorded steps of SafeRacing on Box2D, and how far this package's steps are from them.

An episode is a dictionary of arrays about k of its steps: `step` [k] is the number of each; names that end in 0 belong
to the state before it, those that end in 1 to the state after it (contacts: of the last and of this step).
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.racing import observe, picture, world
from jsafe.envs.device.racing.car import Car, wheels
from jsafe.envs.device.racing.contacts import touching
from jsafe.envs.device.racing.pool import Pool, pack, road

DATA = pathlib.Path(__file__).parents[1] / "data" / "racing.npz"
BOUNDS = {"x": 1e-4, "y": 1e-4, "vx": 1e-4, "vy": 1e-4, "wheel_vx": 1e-4, "wheel_vy": 1e-4,
          "spin": 1e-4, "omega": 1e-4, "angle": 3e-4, "joint": 3e-4}  # fmt: skip
"""Largest deviation after one step, in metres, radians and seconds."""
ROADS = ("plain", "obstacle")
OPENING = 51
"""States of an episode's beginning that are kept whole."""
SHARED = ("track", "obstacles", "start")
"""What all episodes on one road have in common."""
_WHOLE = (*SHARED, "first_visit", "opening")
_CHUNK = 256


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All steps of one recorded episode."""
    with np.load(path) as file:
        g = {name: file[name] for name in file.files}
    hull, bodies, at = g["state_hull"], g["state_wheels"], g["frame_at"]
    first_visit = np.full(len(g["track"]), 10**6)
    first_visit[g["new_tiles"][:, 1]] = g["new_tiles"][:, 0]
    first_visit[g["visited_at_reset"]] = -1
    out = {name: g[name] for name in ("track", "obstacles", "start", "actions", "reward", "hit", "left_road", "done")}
    out |= {"step": np.arange(len(g["actions"])), "first_visit": first_visit, "opening": hull[:OPENING, 2:5]}
    out |= {"frames": g["frames"], "frame_hull": hull[at, :3]}
    out |= {f"frame_{name}": g[f"state_{name}"][at] for name in ("joint", "phase")}
    states = {"angle": hull[:, 2], "x": hull[:, 3], "y": hull[:, 4], "vx": hull[:, 5], "vy": hull[:, 6],
              "spin": hull[:, 7], "wheel_vx": bodies[:, :, 5], "wheel_vy": bodies[:, :, 6], "joint": g["state_joint"],
              "joint_rate": g["state_joint_speed"], "omega": g["state_omega"], "phase": g["state_phase"],
              "gas": g["state_gas"][:, 2], "tiles": g["state_tiles"],
              "on_obstacle": g["state_obstacles"] > 0}  # fmt: skip
    out |= {f"{name}0": value[:-1] for name, value in states.items()}
    out |= {f"{name}1": value[1:] for name, value in states.items()}
    return out | {"car_vector": g["state_car"][1:]}


def subset(episode: dict[str, np.ndarray], steps: np.ndarray, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Some of an episode's steps and pictures."""
    return {
        name: value if name in _WHOLE else value[frames if name.startswith("frame") else steps]
        for name, value in episode.items()
    }


def load() -> dict[str, dict[str, np.ndarray]]:
    """The committed episodes by name."""
    out: dict[str, dict[str, np.ndarray]] = {}
    with np.load(DATA) as file:
        for key in file.files:
            name, field = key.split("/")
            out.setdefault(name, {})[field] = file[key]
    shared = {name: out.pop(name) for name in ROADS}
    return {name: episode | shared[name.split("-")[0]] for name, episode in out.items()}


class Replay:
    """Steps from recorded states on recorded roads.

    Args:
      episodes: By name; a name begins with that of its road.
    """

    def __init__(self, episodes: dict[str, dict[str, np.ndarray]]):
        tracks = [next(e["track"] for name, e in episodes.items() if name.startswith(road)) for road in ROADS]
        self.roads: Pool = jax.tree.map(jnp.asarray, pack([road(track) for track in tracks]))
        self._room = max(len(e["obstacles"]) for e in episodes.values())
        self._advance = jax.jit(jax.vmap(lambda state, action: world.advance(self.roads, state, action)))
        self._draw = jax.jit(jax.vmap(self._paint, in_axes=(0, 0, 0, None, None)))
        self._vector = jax.jit(jax.vmap(observe.car_vector))
        self._touch = jax.jit(jax.vmap(_touched, in_axes=(0, None)))
        self._enter = jax.jit(lambda *args: world.enter(self.roads, *args))

    def road(self, name: str) -> int:
        """Index of an episode's road."""
        return ROADS.index(name.split("-")[0])

    def obstacles(self, episode) -> np.ndarray:
        """Corners of the obstacles, clockwise, padded."""
        corners = np.full((self._room, 4, 2), 1e5, np.float32)
        corners[: len(episode["obstacles"])] = episode["obstacles"][:, ::-1]
        return corners

    def start(self, name: str, episode) -> world.World:
        """The state after the reset."""
        tile = np.int32(np.hypot(*(episode["track"][:, 2:] - episode["start"][1:]).T).argmin())
        angle, x, y = np.float32(episode["start"])
        return self._enter(np.int32(self.road(name)), tile, self.obstacles(episode), x, y, angle)

    def before(self, name: str, episode) -> world.World:
        """The states before the steps."""
        count, step, first = len(episode["step"]), episode["step"], episode["first_visit"]
        done = first[None] < step[:, None]
        on_obstacle = np.zeros((count, self._room), bool)
        on_obstacle[:, : len(episode["obstacles"])] = episode["on_obstacle0"]
        return world.World(
            car=Car(*[np.float32(episode[f"{field}0"]) for field in Car._fields]),
            road=np.full(count, self.road(name), np.int32),
            visited=words(done),
            left=(~done).sum(1).astype(np.int32),
            on_road=(episode["tiles0"] >= 0).any(-1),
            on_obstacle=on_obstacle,
            obstacles=np.repeat(self.obstacles(episode)[None], count, axis=0),
            steps=step.astype(np.int32),
            nearest=np.zeros(count, np.int32),
        )

    def step(self, name: str, episode) -> tuple[world.World, world.Events]:
        """What follows the recorded states, as numpy arrays."""
        return _chunked(self._advance, self.before(name, episode), np.float32(episode["actions"]))

    def errors(self, episode, after: world.World) -> dict[str, np.ndarray]:
        """Deviation of each part of the car's state after each step, the largest of its components `[k]`."""
        count = len(episode["step"])
        return {
            field: np.abs(getattr(after.car, field) - episode[f"{field}1"]).reshape(count, -1).max(1)
            for field in Car._fields
        }

    def event_faults(self, episode, after: world.World, events: world.Events) -> dict[str, int]:
        """Number of steps in which something differs from the recording."""
        first, step = episode["first_visit"], episode["step"]
        new = (first[None] == step[:, None]).sum(1)
        reward = 1000.0 / len(first) * events.new_tiles
        count = len(episode["obstacles"])
        wrong = {
            "reward": np.abs(reward - episode["reward"]) > 1e-9,
            "new tiles": events.new_tiles != new,
            "visited": (after.visited != words(first[None] <= step[:, None])).any(1),
            "hit": events.hit != episode["hit"],
            "left road": (events.left_road & (count == 0)) != episode["left_road"],  # with obstacles it is no event
            "done": (after.left == 0) != episode["done"],
            "wheels on road": (after.on_road != (episode["tiles1"] >= 0).any(-1)).any(1),
            "on obstacle": (after.on_obstacle[:, :count] != episode["on_obstacle1"]).any(1),
        }
        return {name: int(value.sum()) for name, value in wrong.items()}

    def contact_faults(self, name: str, episode) -> tuple[int, int]:
        """Wheel-on-tile contacts of all tiles, without the pool's index: how many there are, how many differ."""
        count = len(episode["track"])
        corners = np.array(self.roads.tiles[self.road(name)])
        got = _chunked(self._touch, self.before(name, episode).car, static=(corners,))[..., :count]
        steps, wheel, k = np.nonzero(episode["tiles1"] >= 0)
        want = np.zeros(got.shape, bool)
        want[steps, wheel, episode["tiles1"][steps, wheel, k]] = True
        return int(want.sum()), int((got != want).sum())

    def vector_error(self, episode) -> float:
        """Largest relative deviation of the car's vector of the recorded states after the steps."""
        left = (episode["first_visit"][None] > episode["step"][:, None]).mean(1)
        car = Car(*[np.float32(episode[f"{field}1"]) for field in Car._fields])
        got = _chunked(self._vector, car, np.float32(left))
        return float((np.abs(got - episode["car_vector"]) / (1 + np.abs(episode["car_vector"]))).max())

    def pictures(self, name: str, episode) -> np.ndarray:
        """uint8 `[F, 96, 96]`: our pictures of the recorded ones' states."""
        tiles = np.array(self.roads.tiles[self.road(name)])
        parts = (np.float32(episode[f"frame_{part}"]) for part in ("hull", "joint", "phase"))
        surfaces = _chunked(self._draw, *parts, static=(tiles, self.obstacles(episode)), size=16)
        return picture.palette(grey=True)[surfaces]

    def drift(self, name: str, episode, steps: int) -> np.ndarray:
        """`[steps]`: distance of the hull from the recorded one, driven from the reset by the recorded actions."""
        state, away = self.start(name, episode), []
        state = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], _CHUNK, axis=0), state)  # the compiled size
        for action, (_, x, y) in zip(np.float32(episode["actions"][:steps]), episode["opening"][1:]):
            state, _ = self._advance(state, np.repeat(action[None], _CHUNK, axis=0))
            away.append(float(np.hypot(state.car.x[0] - x, state.car.y[0] - y)))
        return np.array(away)

    @staticmethod
    def _paint(hull, joint, phase, tiles, obstacles):
        return picture.draw(hull[0], hull[1], hull[2], joint, phase, tiles, obstacles)


def words(chosen: np.ndarray) -> np.ndarray:
    """uint32 `[k, 12]`, the form of `World.visited`, of bool `[k, N]`."""
    bits = np.zeros((len(chosen), 384), bool)
    bits[:, : chosen.shape[1]] = chosen
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint32)


def _touched(car: Car, corners: jax.Array) -> jax.Array:
    return touching(wheels(car), corners[..., 0] - car.x, corners[..., 1] - car.y)


def _chunked(function, *trees, static=(), size=_CHUNK):
    """Calls a batched function on slices of one size, so that it is compiled once; the results are joined."""
    count = len(jax.tree.leaves(trees)[0])
    parts = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(function(*jax.tree.map(lambda leaf, rows=rows: leaf[rows], trees), *static))
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:count], *parts)
