"""Point's tasks as device environments: the task's own file decides, the motion is in closed form.

| | how |
|---|---|
| robot, floor, sensors, lidars, rewards, costs, ends | as on the host (`body`: exact where nothing is touched) |
| buttons and pillars | resist (`meeting.resist`: MuJoCo's soft contact with the friction cone simplified) |
| vases | are pushed out of the robot's way, take its speed and slide to rest; the robot does not feel them |
| gremlins | follow the points that pull them round, and go aside where the robot is; the robot does not feel them |
| push box | pushes back, turns, slides, is stopped by buttons and pillars (`box`); vases and gremlins pass through it |

Vases slide with a deceleration of 4.25 m/s^2 and, once slower than about 0.12 m/s, halve their speed in a step: fitted
to MuJoCo's vases after their last contact (37 of them).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.api import Spec, Step
from jsafe.envs.device.api import DeviceEnv
from jsafe.envs.device.batch import sometimes
from jsafe.envs.device.point import contacts as meeting
from jsafe.envs.device.point import tracing
from jsafe.envs.device.point.body import SENSORS, SUBSTEPS, Body, H, forces, sensors, substep
from jsafe.envs.device.point.box import PushBox
from jsafe.envs.device.point.episode import Sampler, TracedEpisode
from jsafe.envs.safety_gym.objects import DRIVEN, FREE, PASSIVE, STATIC, in_order
from jsafe.envs.safety_gym.observe import Observer
from jsafe.envs.safety_gym.plan import plan_of
from jsafe.envs.safety_gym.robots import Robot
from jsafe.envs.safety_gym.tasks import Scene, Task
from jsafe.envs.safety_gym.tasks.base import cost_columns
from jsafe.spaces import Box

DT = H * SUBSTEPS
LAG = 0.0881
"""Seconds by which a gremlin follows what pulls it: MuJoCo's weld is overdamped."""
SLIDING, HALVING = 4.25, 0.5
"""Deceleration of a vase, m/s^2; what is left of a small speed after a step."""
SUNK = 1.04e-5
"""How deep the push box's weight presses it into the floor, metres."""


class State(NamedTuple):
    """One episode.

    Attributes:
      body: The robot.
      xy: Where the objects are `[K, 2]`, in the order of the scene: passive and static, free, driven.
      yaw: Their turns `[K]`.
      vel: Velocities of the free and driven ones `[F, 2]`.
      spin: Of the push box, rad/s `[1]`, or `[0]`.
      height: Its height, metres `[1]`, or `[0]`: it stays.
      centre: Of the driven ones' circles `[D, 2]`.
      memory: What the task remembers.
      steps: Taken in the episode, int32.
    """

    body: Body
    xy: Any
    yaw: Any
    vel: Any
    spin: Any
    height: Any
    centre: Any
    memory: dict[str, Any]
    steps: Any


class Contacts(NamedTuple):
    """What the robot touches: bool `[K_g]` for each colliding group."""

    touch: dict[str, Any]


class PointEnv:
    """The functions of a task of Point; `env` is the `DeviceEnv` of them.

    Args:
      id: Name in the spec.
      robot: Point.
      task: Its per-step functions must run on traced arrays.
      costs: `sum` or `separate`, as in `jsafe.envs.make`.

    Raises:
      ValueError: If something of the task has no closed form, or its code does not run on traced arrays (naming the
        line).
    """

    def __init__(self, id: str, robot: Robot, task: Task, costs: str = "sum"):
        if robot.name != "Point":
            raise ValueError(f"{id!r} has no closed form of {robot.name}: use backend='host'")
        groups = in_order(task.objects)
        for kind in groups:
            flat = {STATIC: ("sphere", "cylinder"), FREE: ("box", "push_box"), DRIVEN: ("box",)}.get(kind.motion)
            if flat is not None and kind.shape not in flat:
                raise ValueError(
                    f"{id!r}: {kind.motion} {kind.group!r} of shape {kind.shape!r} have no closed form: "
                    "use backend='host'"
                )
        self.id, self.task, self.groups, self.robot = id, task, groups, robot
        self.plan = plan_of(task)
        self.sampler = Sampler(task, self.plan)
        self.observer = Observer(groups, SENSORS, robot.parts, task)
        self.slices, count = {}, 0
        for kind in groups:
            self.slices[kind.group] = slice(count, count + kind.count)
            count += kind.count
        motions = [kind.motion for kind in groups for _ in range(kind.count)]
        self._free = next((i for i, motion in enumerate(motions) if motion in (FREE, DRIVEN)), count)
        self._driven = next((i for i, motion in enumerate(motions) if motion == DRIVEN), count)
        self._count = count
        self._still = [kind for kind in groups if kind.motion == STATIC]
        boxes = [kind for kind in groups if kind.shape == "push_box" and kind.motion == FREE]
        if sum(kind.count for kind in boxes) > 1:
            raise ValueError(f"{id!r}: more than one push box has no closed form: use backend='host'")
        self._loose = [kind for kind in groups if kind.motion in (FREE, DRIVEN) and kind not in boxes]
        self._box = PushBox(boxes[0].size[0], boxes[0].size[1], boxes[0].density) if boxes else None
        self._boxes = [self.slices[kind.group].start for kind in boxes]
        travel = [kind.travel for kind in groups if kind.motion == DRIVEN for _ in range(kind.count)]
        self._travel = np.array(travel).reshape(-1, 1)
        self._heights = self.plan.heights + np.array(
            [kind.lift if kind.motion == DRIVEN else 0.0 for kind in groups for _ in range(kind.count)]
        )
        self._turning = task.lidar.kind == "natural"
        self._columns = dict(task.cost_groups) if costs == "separate" and task.cost_groups else None
        self.spec = Spec(
            id=id,
            obs=Box((self.observer.dim,)),
            action=Box((2,), -1.0, 1.0),
            num_costs=len(self._columns) if self._columns else 1,
            horizon=task.horizon,
            cost_names=tuple(self._columns) if self._columns else ("sum",),
            obs_slices=dict(self.observer.slices),
            dt=DT,
        )
        self.env = DeviceEnv(self.spec, self.reset, self.step)
        with tracing.explained(task):
            key = jax.random.key(0)
            state, _ = jax.eval_shape(self.reset, key)
            again, _ = jax.eval_shape(self.step, state, jax.ShapeDtypeStruct((2,), float), key)
        if jax.tree.map(lambda x: (x.shape, x.dtype), again) != jax.tree.map(lambda x: (x.shape, x.dtype), state):
            raise ValueError(f"{id!r}: a step changes the shapes or types of what {type(task).__name__} remembers")

    # ---- episodes ------------------------------------------------------------------------------------------------

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        """A new episode, and its first observation; NaN if there is no room for it."""
        layout_key, turn_key, task_key = jax.random.split(key, 3)
        layout = self.sampler.layout(layout_key)
        own = self.plan.fixed
        places = jnp.where(np.isnan(own), layout[1:], jnp.asarray(np.nan_to_num(own), layout.dtype))
        turns = 2 * np.pi * jax.random.uniform(turn_key, (1 + self._count,), layout.dtype)
        fixed = np.array([np.nan if yaw is None else yaw for yaw in self.plan.yaws])
        yaw = jnp.where(np.isnan(fixed), turns[1:], jnp.asarray(np.nan_to_num(fixed), layout.dtype))
        zero = jnp.zeros((), layout.dtype)
        episode = self._episode(
            task_key, layout[0], places, layout[1 + self._driven :], dict.fromkeys(self.task.memory, zero)
        )
        ok = self.task.begin(episode)
        xy = jnp.where(ok, episode.places, jnp.nan)
        state = State(
            body=Body(layout[0, 0], layout[0, 1], turns[0], zero, zero, zero),
            xy=xy,
            yaw=yaw,
            vel=jnp.zeros((self._count - self._free, 2), layout.dtype),
            spin=jnp.zeros(len(self._boxes), layout.dtype),
            height=jnp.asarray(self._heights[self._boxes] - SUNK, layout.dtype),
            centre=xy[self._driven :],
            memory=_scalars(episode.memory, layout.dtype),
            steps=jnp.int32(0),
        )
        touch = self._touches(state)
        state = state._replace(memory=self._remembered(state, touch))
        return state, self.observe(state, jnp.zeros(2, layout.dtype), touch)

    def enter(self, saved: dict) -> tuple[State, Contacts]:
        """The state of an environment of the host (`SafetyGymEnv.get_state`), and what is touched there."""
        joints, bodies = saved["joints"], saved["bodies"]
        (x, vx, _), (y, vy, _), (yaw, w, _) = (joints[name] for name in ("x", "y", "z"))
        xy, turn, vel, spin, height, centre = [], [], [], [], [], []
        for kind in self.groups:
            for name in kind.names:
                if kind.motion in (FREE, DRIVEN):
                    pose, speed, _ = joints[name if kind.motion == FREE else f"{name}obj"]
                    vel.append(np.asarray(speed)[:2])
                    if kind.shape == "push_box":
                        spin.append(np.asarray(speed)[5])
                        height.append(np.asarray(pose)[2])
                else:
                    pose = np.concatenate(bodies[name])
                if kind.motion == DRIVEN:
                    centre.append(np.asarray(bodies[f"{name}obj"][0])[:2])
                xy.append(np.asarray(pose)[:2])
                turn.append(2 * np.arctan2(pose[6], pose[3]))
        real = jnp.zeros(()).dtype
        state = State(
            body=Body(*(jnp.asarray(np.ravel(value)[0], real) for value in (x, y, yaw, vx, vy, w))),
            xy=jnp.asarray(np.reshape(xy, (-1, 2)), real),
            yaw=jnp.asarray(turn, real),
            vel=jnp.asarray(np.reshape(vel, (-1, 2)), real),
            spin=jnp.asarray(spin, real),
            height=jnp.asarray(height, real),
            centre=jnp.asarray(np.reshape(centre, (-1, 2)), real),
            memory={name: jnp.asarray(saved["task"].get(name, 0.0), real) for name in self.task.memory},
            steps=jnp.int32(saved["step"]),
        )
        return state, self._touches(state)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def advance(self, state: State, action: Any) -> tuple[State, Contacts]:
        """The motion of one step, and what the robot touches after it."""
        state = state._replace(steps=state.steps + 1)
        if self._box is not None:
            return self._loosened(self._shoved(state, action))
        push, body = self._push(state), state.body
        for _ in range(SUBSTEPS):
            body = substep(body, action, push)
        return self._loosened(state._replace(body=body))

    def step(self, state: State, action: Any, key: jax.Array) -> tuple[State, Step]:
        """One step; see `DeviceEnv`."""
        task = self.task
        action = jnp.clip(action.astype(state.xy.dtype), -1.0, 1.0)
        state, contacts = self.advance(state, action)
        scene = self._scene(state, contacts)
        now = task.measure(scene)
        met = task.met(scene, now)
        reward = jnp.asarray(task.reward(scene, now, met), state.xy.dtype)
        if task.reward_clip is not None:
            reward = jnp.clip(reward, -task.reward_clip, task.reward_clip)
        cost, info = cost_columns(task.costs(scene), scene, task.indicator, self._columns)
        updates: dict[str, Any] = {name: value[0] for name, value in (task.tick(scene) | now).items()}
        state = state._replace(memory=_scalars(state.memory | updates, state.xy.dtype))
        xy, memory, ok = sometimes(
            met[0], self._next_goal, (key, state, contacts), (state.xy, state.memory, jnp.asarray(True))
        )
        state = state._replace(xy=xy, memory=memory)
        truncated = state.steps >= task.horizon
        if task.success_ends:
            truncated |= met[0]
        obs = self.observe(state, action, contacts)
        flags: dict[str, Any] = {name: jnp.asarray(value[0], state.xy.dtype) for name, value in info.items()}
        flags |= {"success": met[0], "diverged": jnp.asarray(False)}
        return state, Step(obs, reward[0], cost[0].astype(state.xy.dtype), ~ok, truncated, obs, flags)

    def observe(self, state: State, action: Any, contacts: Contacts) -> Any:
        """The observation `[O]` of a state that this action has led to."""
        felt = sensors(state.body, action, self._push(state))
        return self.observer(self._scene(state, contacts), felt[None])[0]

    # ---- inside --------------------------------------------------------------------------------------------------

    def _push(self, state: State) -> Any:
        """The forces of contacts; None where there is nothing that the robot feels."""
        if self._box is not None:
            box = self._box_of(state)
            return lambda body, cos, sin, *force: self._shove(state, body, box, cos, sin, force)[0][0]
        if not self._still:
            return None

        def push(body, cos, sin, ahead, aside, turn):
            return meeting.resist(body, cos, sin, ahead, aside, turn, self._obstacles(state, body))

        return push

    def _obstacles(self, state: State, body: Body) -> Any:
        touches = [meeting.disks(body, state.xy[self.slices[kind.group]], kind.radius) for kind in self._still]
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *touches)

    def _box_of(self, state: State) -> Body:
        (at,), moving = self._boxes, self._boxes[0] - self._free
        (x, y), (vx, vy) = state.xy[at], state.vel[moving]
        return Body(x, y, state.yaw[at], vx, vy, state.spin[0])

    def _shove(self, state: State, body: Body, box: Body, cos: Any, sin: Any, force: Any, start: Any = None) -> Any:
        """`meeting.press` of the robot and the push box."""
        assert self._box is not None
        if self._still:
            radii = np.concatenate([np.full(kind.count, kind.radius) for kind in self._still])
            disks = jnp.concatenate([state.xy[self.slices[kind.group]] for kind in self._still])
            meetings = self._box.meet(body, cos, sin, box, disks, jnp.asarray(radii, disks.dtype))
            meetings = meetings.join(meeting.deepest(body, cos, sin, self._obstacles(state, body)))
        else:
            meetings = self._box.meet(body, cos, sin, box)
        return meeting.press([meeting.solid(body, cos, sin, force), self._box.moved(box, cos, sin)], meetings, start)

    def _shoved(self, state: State, action: Any) -> State:
        """Robot and push box after the substeps of one step."""
        shape = self._box
        assert shape is not None

        def turn(carry, _):
            body, box, start = carry
            cos, sin = jax.lax.optimization_barrier((jnp.cos(body.yaw), jnp.sin(body.yaw)))
            totals, start = self._shove(state, body, box, cos, sin, forces(body, cos, sin, action), start)
            body = substep(body, action, lambda *_: totals[0])
            return (body, shape.substep(box, cos, sin, totals[1]), start), None

        start = jnp.zeros(14 if self._still else 8, state.xy.dtype)
        (body, box, _), _ = jax.lax.scan(turn, (state.body, self._box_of(state), start), length=SUBSTEPS)
        (at,), moving = self._boxes, self._boxes[0] - self._free
        return state._replace(
            body=body,
            xy=state.xy.at[at].set(jnp.stack([box.x, box.y])),
            yaw=state.yaw.at[at].set(box.yaw),
            vel=state.vel.at[moving].set(jnp.stack([box.vx, box.vy])),
            spin=box.w[None],
        )

    def _touch_of(self, state: State, kind: Any) -> Any:
        rows = self.slices[kind.group]
        if kind.motion == STATIC:
            return meeting.disks(state.body, state.xy[rows], kind.radius)
        return meeting.squares(state.body, state.xy[rows], state.yaw[rows], kind.size[0])

    def _touches(self, state: State) -> Contacts:
        return Contacts({k.group: self._touched(state, k) for k in self.groups if k.motion != PASSIVE})

    def _touched(self, state: State, kind: Any) -> Any:
        """Which objects of a group the robot touches `[K]`."""
        if self._box is None or self.slices[kind.group].start not in self._boxes:
            return self._touch_of(state, kind).any
        cos, sin = jnp.cos(state.body.yaw), jnp.sin(state.body.yaw)
        return self._box.meet(state.body, cos, sin, self._box_of(state)).depth.max(keepdims=True) > 0

    def _loosened(self, state: State) -> tuple[State, Contacts]:
        """Vases and gremlins after the robot has moved."""
        hard = [*self._still, *(kind for kind in self.groups if self.slices[kind.group].start in self._boxes)]
        found = {kind.group: self._touched(state, kind) for kind in hard}
        for kind in self._loose:
            rows = self.slices[kind.group]
            moving = slice(rows.start - self._free, rows.stop - self._free)
            xy, vel = state.xy[rows], state.vel[moving]
            if kind.motion == DRIVEN:
                own = slice(rows.start - self._driven, rows.stop - self._driven)
                time = (state.steps.astype(xy.dtype) - 0.5) * DT - H
                circle = jnp.stack([jnp.sin(time), jnp.cos(time)]) * jnp.asarray(self._travel[own], xy.dtype)
                fresh = xy + (1 - np.exp(-DT / LAG)) * (state.centre[own] + circle - xy)
                vel = (fresh - xy) / DT
            else:
                speed = jnp.sqrt((vel * vel).sum(axis=1, keepdims=True))
                left = jnp.maximum(speed - SLIDING * DT, HALVING * speed)
                vel = vel * jnp.where(speed > 1e-6, left / jnp.maximum(speed, 1e-6), 0.0)
                fresh = xy + DT * vel
            state = state._replace(xy=state.xy.at[rows].set(fresh))
            touch = self._touch_of(state, kind)
            found[kind.group] = touch.any
            deepest = touch.depth.argmax(axis=0)
            each = jnp.arange(kind.count)
            depth, normal, point = (x[deepest, each] for x in touch)
            body = state.body
            surface = jnp.stack(
                [body.vx - body.w * (point[:, 1] - body.y), body.vy + body.w * (point[:, 0] - body.x)], axis=1
            )
            gain = jnp.maximum(((surface - vel) * normal).sum(axis=1), 0.0)
            hit = depth > 0
            vel = vel + jnp.where(hit, gain, 0.0)[:, None] * normal
            fresh = fresh + jnp.where(hit, depth, 0.0)[:, None] * normal
            state = state._replace(xy=state.xy.at[rows].set(fresh), vel=state.vel.at[moving].set(vel))
        return state, Contacts(found)

    def _scene(self, state: State, contacts: Contacts) -> Scene:
        """What the task sees, n = 1."""
        body, kind = state.body, state.xy.dtype
        height = jnp.asarray(self._heights, kind)
        if self._boxes:
            height = height.at[np.array(self._boxes)].set(state.height)
        pos = jnp.concatenate([state.xy, height[:, None]], axis=1)[None]
        rot = _turned(state.yaw)[None] if self._turning else None
        vel: dict[str, Any] = {}
        for group in self.task.moving:
            if group == "agent":
                vel[group] = jnp.stack([body.vx, body.vy, jnp.zeros_like(body.vx)])[None, None]
            else:
                rows = self.slices[group]
                flat = state.vel[rows.start - self._free : rows.stop - self._free]
                vel[group] = jnp.concatenate([flat, jnp.zeros_like(flat[:, :1])], axis=1)[None]
        return Scene(
            agent_pos=jnp.stack([body.x, body.y, jnp.asarray(self.robot.height, kind)])[None],
            agent_rot=_turned(body.yaw)[None],
            pos={group: pos[:, rows] for group, rows in self.slices.items()},
            rot={} if rot is None else {group: rot[:, rows] for group, rows in self.slices.items()},
            vel=vel,
            touch={group: contacts.touch[group].astype(kind)[None] for group in self.task.touching},
            memory={name: value[None] for name, value in state.memory.items()},
        )

    def _episode(self, key: Any, agent: Any, xy: Any, centre: Any, memory: dict[str, Any]) -> TracedEpisode:
        def standing(places):
            return jnp.concatenate([places[: self._driven], centre])

        return TracedEpisode(key, self.sampler, self.slices, agent, xy, standing, memory)

    def _next_goal(self, key: Any, state: State, contacts: Contacts) -> tuple[Any, dict[str, Any], Any]:
        agent = jnp.stack([state.body.x, state.body.y])
        episode = self._episode(jax.random.fold_in(key, 2), agent, state.xy, state.centre, state.memory)
        ok = self.task.next_goal(episode)
        state = state._replace(xy=episode.places, memory=_scalars(episode.memory, state.xy.dtype))
        return state.xy, self._remembered(state, contacts), jnp.asarray(ok, bool)

    def _remembered(self, state: State, contacts: Contacts) -> dict[str, Any]:
        now = self.task.measure(self._scene(state, contacts))
        return _scalars(state.memory | {name: value[0] for name, value in now.items()}, state.xy.dtype)


def _scalars(memory: dict[str, Any], kind: Any) -> dict[str, Any]:
    return {name: jnp.asarray(value, kind) for name, value in memory.items()}


def _turned(yaw: Any) -> Any:
    """Rotation matrices `[..., 3, 3]` about the vertical."""
    c, s, zero = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)
    rows = [jnp.stack(row, axis=-1) for row in ((c, -s, zero), (s, c, zero), (zero, zero, zero + 1))]
    return jnp.stack(rows, axis=-2)
