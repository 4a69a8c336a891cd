"""Pictures of environments, drawn offscreen by MuJoCo.

Physics needs no GL library: it is looked for when the first picture is asked for. A painter draws from its own copy of
the model and of the state, so that a picture leaves no trace in the simulation. Objects without a body in the physics
model (goal, hazards, ...) and overlays are added to the scene as shapes.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ctypes.util
import dataclasses
import difflib
import importlib
import os
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from jsafe.envs.safety_gym.objects import DRIVEN, PASSIVE, STATIC, Objects
from jsafe.envs.safety_gym.observe import rotation

if TYPE_CHECKING:
    from jsafe.envs.safety_gym.engine import VectorEnv

CAMERAS = ("track", "vision", "fixednear", "fixedfar", "free")
"""Official cameras; `vision` sits on the robot. Other cameras of the robot's model can be named too."""

MAX_SIZE = 4096
"""Largest width and height of a picture, pixels."""

_MODULES = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw", "glx": "mujoco.glfw",
            "wgl": "mujoco.glfw", "cgl": "mujoco.cgl"}  # fmt: skip
_OFF = ("disable", "disabled", "off", "false", "0")
_AUTOMATIC = ("", "enable", "enabled", "on", "true", "1")
_HELP = (
    "MuJoCo draws with a GL library: EGL with a GPU driver, or OSMesa without one (Debian and Ubuntu: "
    "apt-get install libosmesa6). MUJOCO_GL=egl, osmesa or glfw chooses one by hand"
)
_SHAPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
}
_TRACK = 2.0
"""The tracking camera is this far above, and to the side of, what it follows, metres."""
_SPHERES, _RING, _RING_HEIGHT, _RING_STEP = 16, 0.15, 0.5, 0.06


class RenderError(RuntimeError):
    """Pictures cannot be drawn on this machine; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Something drawn that the physics model does not hold.

    Attributes:
      kind: `sphere` (size: radius), `cylinder` (radius, half height) or `box` (three half sizes).
      size: Metres, as above.
      pos: Centre `[3]`, metres.
      rgba: Colour and opacity `[4]`.
      rot: Rotation matrix `[3, 3]`.
    """

    kind: str
    size: Sequence[float]
    pos: Sequence[float]
    rgba: Sequence[float]
    rot: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))


# ---- the GL library --------------------------------------------------------------------------------------------------


def platform() -> str:
    """The GL platform that pictures are drawn with: the user's MUJOCO_GL, else EGL where it starts, else OSMesa.

    Raises:
      RenderError: If MUJOCO_GL switches drawing off, or is not a platform.
    """
    given = os.environ.get("MUJOCO_GL", "").lower().strip()
    if given in _OFF:
        raise RenderError(f"MUJOCO_GL={given} switches drawing off")
    if given in _MODULES:
        return given
    if given not in _AUTOMATIC:
        raise RenderError(f"MUJOCO_GL must be one of {', '.join(sorted(_MODULES))}, got {given!r}")
    if sys.platform != "linux":
        return "cgl" if sys.platform == "darwin" else "glfw"
    loaded = os.environ.get("PYOPENGL_PLATFORM", "").lower()  # PyOpenGL knows one platform in a process
    if loaded in ("egl", "osmesa"):
        return loaded
    return "egl" if _egl_starts() else "osmesa"


def _egl_starts() -> bool:
    """Whether some EGL device starts. Asked without PyOpenGL, which could not change to OSMesa any more."""
    library = ctypes.util.find_library("EGL")
    if library is None:
        return False
    try:
        egl = ctypes.CDLL(library)
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    except (OSError, AttributeError):
        return False
    if None in addresses:
        return False
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    query = ctypes.CFUNCTYPE(ctypes.c_uint, integer, ctypes.POINTER(pointer), ctypes.POINTER(integer))(addresses[0])
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(addresses[1])
    devices, count = (pointer * 32)(), integer()
    if not query(32, devices, ctypes.byref(count)):
        return False
    chosen = os.environ.get("MUJOCO_EGL_DEVICE_ID", "")
    candidates = devices[: count.value]
    if chosen.isdigit():
        candidates = candidates[int(chosen) : int(chosen) + 1]
    for device in candidates:
        display = display_of(0x313F, device, None)  # EGL_PLATFORM_DEVICE_EXT
        if display and egl.eglInitialize(pointer(display), None, None):
            return True
    return False


def _open(model: mujoco.MjModel | None = None) -> tuple[Any, mujoco.MjrContext | None]:
    """A fresh GL context, current on this thread, and MuJoCo's in it."""
    name = platform()
    try:
        context = importlib.import_module(_MODULES[name]).GLContext(64, 64)
        context.make_current()
        return context, None if model is None else mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
    except Exception as error:  # PyOpenGL fails with whatever it has at hand, AttributeError included
        raise RenderError(f"cannot draw with {name} ({type(error).__name__}: {error}). {_HELP}") from error


def available() -> bool:
    """Whether pictures can be drawn here (tried once, with a real context)."""
    try:
        _open()[0].free()
    except RenderError:
        return False
    return True


# ---- one painter for each environment --------------------------------------------------------------------------------

_PAINTERS: weakref.WeakSet[Painter] = weakref.WeakSet()


def _close_all() -> None:
    for painter in list(_PAINTERS):
        painter.close()


class Painter:
    """Draws states of one model on its own copy of it.

    Args:
      model: MuJoCo model; it becomes the painter's own (its frame buffer size changes).

    Raises:
      RenderError: If there is no GL library, or it does not start.
    """

    def __init__(self, model: mujoco.MjModel):
        self._closed = True
        self._gl, self._context = _open(model)
        if not len(_PAINTERS):
            # Registered after MuJoCo's own exit function, so that it runs before it.
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        self._model = model
        self._model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)  # kinematics of everything, always
        self._data = mujoco.MjData(model)
        self._size = (model.vis.global_.offwidth, model.vis.global_.offheight)
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=2000 + 2 * model.ngeom)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 1
        self._closed = False
        _PAINTERS.add(self)

    def paint(
        self,
        state: mujoco.MjData,
        shapes: Iterable[Shape] = (),
        overlays: Iterable[Shape] = (),
        *,
        camera: str = "track",
        target: Sequence[float] = (0.0, 0.0, 0.0),
        width: int = 256,
        height: int = 256,
        caption: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """Draws a state.

        Args:
          state: Where positions are read from; it is left as it is.
          shapes: Objects that the model does not hold.
          overlays: What to draw besides; the free camera pays no heed to it.
          camera: One of `CAMERAS`, or a camera of the model.
          target: What the tracking camera follows `[3]`, metres (unless the model has a camera `track`).
          width, height: Pixels.
          caption: Names and values in the upper left corner.

        Returns:
          uint8 `[height, width, 3]`.

        Raises:
          ValueError: If the camera is unknown or a size is not in 1 ... 4096.
        """
        for name, value in (("width", width), ("height", height)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= MAX_SIZE:
                raise ValueError(f"{name} must be an integer in 1 ... {MAX_SIZE}, got {value!r}")
        width, height, shapes = int(width), int(height), list(shapes)
        data, model = self._data, self._model
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = state.qpos, state.mocap_pos, state.mocap_quat
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        view = self._view(camera, target, shapes)
        self._gl.make_current()
        if self._size[0] < width or self._size[1] < height:
            self._size = (max(width, self._size[0]), max(height, self._size[1]))
            mujoco.mjr_resizeOffscreen(*self._size, self._context)
        every = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(model, data, self._option, None, view, every, self._scene)
        for shape in (*shapes, *overlays):
            self._add(shape)
        rect = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(rect, self._scene, self._context)
        if caption:
            names, values = "\n".join(map(str, caption)), "\n".join(map(str, caption.values()))
            where = int(mujoco.mjtGridPos.mjGRID_TOPLEFT)
            mujoco.mjr_overlay(int(mujoco.mjtFont.mjFONT_NORMAL), where, rect, names, values, self._context)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, rect, self._context)
        return pixels[::-1].copy()

    def _add(self, shape: Shape) -> None:
        scene = self._scene
        if scene.ngeom >= scene.maxgeom:
            raise ValueError(f"too many shapes: at most {scene.maxgeom} things fit into a picture")
        size = np.zeros(3)
        size[: len(shape.size)] = shape.size
        geom = scene.geoms[scene.ngeom]
        pos, rot, rgba = np.asarray(shape.pos, float), np.asarray(shape.rot, float).ravel(), np.asarray(shape.rgba)
        mujoco.mjv_initGeom(geom, int(_SHAPES[shape.kind]), size, pos, rot, rgba.astype(np.float32))
        geom.category = int(mujoco.mjtCatBit.mjCAT_DECOR)
        scene.ngeom += 1

    def _view(self, camera: str, target: Sequence[float], shapes: list[Shape]) -> mujoco.MjvCamera:
        model, view = self._model, mujoco.MjvCamera()
        own = [model.camera(i).name for i in range(model.ncam)]
        if camera in own:
            view.type, view.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), own.index(camera)
            return view
        if camera not in ("track", "free"):
            known = [name for name in dict.fromkeys((*CAMERAS, *own)) if name in ("track", "free") or name in own]
            close = difflib.get_close_matches(str(camera), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown camera {camera!r}{hint} (known: {', '.join(known)})")
        view.type, view.elevation = int(mujoco.mjtCamera.mjCAMERA_FREE), -45
        if camera == "track":
            view.lookat[:], view.azimuth, view.distance = target, -90, _TRACK * np.sqrt(2)
            return view
        bodies = model.geom_type != int(mujoco.mjtGeom.mjGEOM_PLANE)
        points = np.array([*self._data.geom_xpos[bodies], *(shape.pos for shape in shapes)])
        spread = np.quantile(points, 0.98, axis=0) - np.quantile(points, 0.02, axis=0)
        view.lookat[:], view.azimuth = np.median(points, axis=0), 90
        view.distance = np.clip(1.5 * spread.max(), 3.0, 15.0)
        return view

    def close(self) -> None:
        """Gives the GL context back."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):  # GL may be gone already when the interpreter exits
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None  # its destructor needs modules that are gone at the very end

    def __del__(self):
        self.close()


def model_of(xml: str) -> mujoco.MjModel:
    """A model to draw from: the same, under a starry sky, with a near clipping plane 4 cm away."""
    spec = mujoco.MjSpec.from_string(xml)
    sky = spec.texture("sky")
    if sky is not None:
        sky.width = sky.height = 512
        sky.mark, sky.random, sky.markrgb = mujoco.mjtMark.mjMARK_RANDOM, 0.002, [0.9, 0.9, 1.0]
        sky.rgb1, sky.rgb2 = [0.10, 0.12, 0.20], [0.0, 0.0, 0.02]
    model = spec.compile()
    model.stat.extent = 4.0
    model.vis.quality.numslices = 64  # the circle is 3 m wide
    return model


# ---- the navigation tasks --------------------------------------------------------------------------------------------


def render(
    env: VectorEnv,
    i: int = 0,
    camera: str = "track",
    width: int = 256,
    height: int = 256,
    overlays: bool = True,
    caption: Mapping[str, object] | None = None,
) -> np.ndarray:
    """A picture of environment i: see `VectorEnv.render`."""
    if env._painter is None:
        env._painter = Painter(model_of(env._world.xml))
    markers = halo(env, i) + alarm(env, i) if overlays else []
    return env._painter.paint(
        env._physics.data[i],
        passive(env, i),
        markers,
        camera=camera,
        target=env._scene.agent_pos[i],
        width=width,
        height=height,
        caption=caption,
    )


def passive(env: VectorEnv, i: int) -> list[Shape]:
    """What stands in environment i without a body: passive objects, and the ghosts that pull the driven ones."""
    world, data, shapes = env._world, env._physics.data[i], []
    solid = {kind.size[0] for kind in world.groups if kind.shape == "cylinder" and kind.motion == STATIC}
    for kind in world.groups:
        rows = world.slices[kind.group]
        if kind.motion == PASSIVE:
            turns, size = rotation(env._quat[i, rows]), kind.size
            if kind.group == "goal" and size[0] in solid:
                size = (size[0] + 0.05, size[1])  # a goal as wide as its button would hide in it
            shapes += [Shape(kind.shape, size, pos, kind.rgba, rot) for pos, rot in zip(env._pos[i, rows], turns)]
        elif kind.motion == DRIVEN:
            mocap, rgba = world.mocap[rows], (*kind.rgba[:3], 0.1)
            turns = rotation(data.mocap_quat[mocap])
            shapes += [Shape(kind.shape, kind.size, pos, rgba, rot) for pos, rot in zip(data.mocap_pos[mocap], turns)]
    return shapes


def halo(env: VectorEnv, i: int) -> list[Shape]:
    """What the robot's lidars see, as rings of small spheres above it: one for each group, brighter where closer.

    Rings are 0.15 m wide; the first is 0.5 m above the robot's origin, each group of objects adds 0.06 m, sensed or
    not. There is a sphere in the middle of each bin; of more than 31 rays, neighbours share one that shows the
    largest value.
    """
    lidar, scene = env.task.lidar, env._scene
    obs = env._observer(scene.rows([i]), env._physics.sensors[[i]])[0]
    share = max(1, lidar.bins // _SPHERES)
    first = np.arange(0, lidar.bins, share)
    angle = 2 * np.pi * (first + (0.5 if lidar.kind == "pseudo" else 0.5 * (share - 1))) / lidar.bins
    shapes = []
    for number, kind in enumerate(env._world.groups):
        if not kind.lidar:
            continue
        start, stop = env.spec.obs_slices[kind.lidar_key]
        values = np.maximum.reduceat(obs[start:stop], first)
        height = np.full(len(angle), _RING_HEIGHT + _RING_STEP * number)
        ring = np.stack([_RING * np.cos(angle), _RING * np.sin(angle), height], axis=1)
        points = scene.agent_pos[i] + ring @ scene.agent_rot[i].T
        shapes += [Shape("sphere", (0.025,), point, _glow(kind, value)) for point, value in zip(points, values)]
    return shapes


def _glow(kind: Objects, value: float) -> np.ndarray:
    return np.array([*kind.rgba[:3], 1.0]) * min(1.0, max(value, 0.0) + 0.1)


def alarm(env: VectorEnv, i: int) -> list[Shape]:
    """A red sphere around a robot whose last step cost something."""
    if not env._last_cost[i] > 0:
        return []
    return [Shape("sphere", (0.25,), env._scene.agent_pos[i], (0.5, 0.0, 0.0, 0.5))]


# ---- the velocity tasks ----------------------------------------------------------------------------------------------


def speedometer(torso: Sequence[float], speed: float, threshold: float, cost: float) -> Shape:
    """A sphere 0.6 m above the torso: green that fades as the speed nears the threshold, dark red where it costs.

    Args:
      torso: Where the torso is `[3]`, metres.
      speed: What the threshold is compared with, m/s.
      threshold: Above it the speed costs, m/s.
      cost: Of the last step.
    """
    calm = np.array([0.2, 0.8, 0.2, 0.5]) * (1 - np.clip(speed / threshold, 0.0, 1.0))
    rgba = (0.5, 0.0, 0.0, 0.5) if cost > 0 else calm
    return Shape("sphere", (0.2,), np.add(torso, (0.0, 0.0, 0.6)), rgba)
