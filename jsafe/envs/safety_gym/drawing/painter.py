"""Pictures of MuJoCo states, drawn offscreen.

A painter draws from its own copy of the model and of the state, so that a picture leaves no trace in the simulation.
Objects without a body in the physics model (goal, hazards, ...) and overlays are added to the scene as shapes.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jsafe.envs import checks
from jsafe.envs.loading import mujoco
from jsafe.envs.safety_gym.drawing.frustum import Frustum
from jsafe.envs.safety_gym.drawing.gl import RenderError, open_context

CAMERAS = ("track", "vision", "fixednear", "fixedfar", "free")
"""Official cameras; `vision` sits on the robot. Other cameras of the robot's model can be named too."""

BACK = "vision_back"
"""What `vision` would be if the robot stood the other way round: half a turn about its vertical axis."""

MAX_SIZE = 4096
"""Largest width and height of a picture, pixels."""

_SHAPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
}
_TRACK = 2.0
"""The tracking camera is this far above, and to the side of, what it follows, metres."""


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
    pos: Sequence[float] | np.ndarray
    rgba: Sequence[float] | np.ndarray
    rot: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))

    @property
    def reach(self) -> float:
        """Radius of a ball around it, metres."""
        return self.size[0] if self.kind == "sphere" else math.hypot(*self.size)


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
        self._thread = threading.get_ident()
        self._gl, self._context = open_context(model)
        if not len(_PAINTERS):
            # Registered after MuJoCo's own exit function, so that it runs before it.
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        self._model = model
        self._model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)  # kinematics of everything, always
        self._data = mujoco.MjData(model)
        self._alphas = model.geom_rgba[:, 3].copy()
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
        overlays: Iterable[Shape] | Callable[[Frustum], Iterable[Shape]] = (),
        *,
        opacity: Mapping[str, float] = {},
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
          overlays: What to draw besides, or what returns it, given the view; the free camera pays no heed to it.
          opacity: Geoms by name that have lost some of their colour, and the share that is left.
          camera: One of `CAMERAS`, or a camera of the model.
          target: What the tracking camera follows `[3]`, metres (unless the model has a camera `track`).
          width, height: Pixels.
          caption: Names and values in the upper left corner.

        Returns:
          uint8 `[height, width, 3]`.

        Raises:
          ValueError: If the camera is unknown or a size is not in 1 ... 4096.
          RenderError: If another thread made the painter: GL contexts belong to one thread.
        """
        width, height = (
            checks.integer(name, value, 1, MAX_SIZE) for name, value in (("width", width), ("height", height))
        )
        if threading.get_ident() != self._thread:
            raise RenderError("an environment is drawn by one thread: the one that asked for its first picture")
        shapes = list(shapes)
        data, model = self._data, self._model
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = state.qpos, state.mocap_pos, state.mocap_quat
        model.geom_rgba[:, 3] = self._alphas
        for name, share in opacity.items():
            model.geom(name).rgba[3] *= share
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
        seen = Frustum(self._scene.camera, width / height)
        shapes += overlays(seen) if callable(overlays) else overlays
        for shape in shapes:
            if seen.sees(shape.pos, shape.reach):
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

    def check(self, cameras: Iterable[str]) -> None:
        """ValueError for a camera that there is not."""
        own = self._cameras()
        for camera in cameras:
            if camera not in own and camera not in ("track", "free"):
                known = [name for name in dict.fromkeys((*CAMERAS, *own)) if name in ("track", "free") or name in own]
                checks.one_of("camera", camera, known)

    def _cameras(self) -> list[str]:
        return [self._model.camera(i).name for i in range(self._model.ncam)]

    def _view(self, camera: str, target: Sequence[float], shapes: list[Shape]) -> mujoco.MjvCamera:
        self.check([camera])
        model, view, own = self._model, mujoco.MjvCamera(), self._cameras()
        if camera in own:
            view.type, view.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), own.index(camera)
            return view
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


def model_of(xml: str, detail: str = "fine", size: int | None = None) -> mujoco.MjModel:
    """A model to draw from: the same, under a starry sky, with a near clipping plane 4 cm away.

    Args:
      xml: The MJCF text.
      detail: `fine`: round things are very round (the circle is 3 m wide). `full`: MuJoCo's own roundness, as
        officially. `low`: less round, a coarser sky, no reflections, one sample for each pixel instead of four.
      size: Width and height of the largest picture, pixels: all of the buffer is worked on for every picture.
    """
    spec = mujoco.MjSpec.from_string(xml)
    sky = spec.texture("sky")
    if sky is not None:
        sky.width = sky.height = 128 if detail == "low" else 512
        sky.mark, sky.random, sky.markrgb = mujoco.mjtMark.mjMARK_RANDOM, 0.002, [0.9, 0.9, 1.0]
        sky.rgb1, sky.rgb2 = [0.10, 0.12, 0.20], [0.0, 0.0, 0.02]
    model = spec.compile()
    front = spec.camera("vision")
    if front is not None:
        pos, quat = model.camera("vision").pos, model.camera("vision").quat
        turned = [-quat[3], -quat[2], quat[1], quat[0]]  # times (0, 0, 0, 1) from the left
        front.parent.add_camera(
            name=BACK, pos=[-pos[0], -pos[1], pos[2]], quat=turned, fovy=model.camera("vision").fovy[0]
        )
        model = spec.compile()
    model.stat.extent = 4.0
    if detail == "fine":
        model.vis.quality.numslices = 64
    if detail == "low":
        model.vis.quality.numstacks, model.vis.quality.offsamples = 8, 0
        model.mat_reflectance[:] = 0
    if size is not None:
        model.vis.global_.offwidth = model.vis.global_.offheight = size
    return model
