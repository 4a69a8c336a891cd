"""The GL library that pictures are drawn with: looked for when the first picture is asked for, never before."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import os
import sys
from typing import Any

from jsafe.envs.api import RenderError
from jsafe.envs.loading import fits_here, mujoco

_MODULES = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw", "glx": "mujoco.glfw",
            "wgl": "mujoco.glfw", "cgl": "mujoco.cgl"}  # fmt: skip
_OFF = ("disable", "disabled", "off", "false", "0")
_AUTOMATIC = ("", "enable", "enabled", "on", "true", "1")
_HELP = (
    "MuJoCo draws with a GL library: EGL with a GPU driver, or OSMesa without one (Debian and Ubuntu: "
    "apt-get install libosmesa6). MUJOCO_GL=egl, osmesa or glfw chooses one by hand"
)


def platform() -> str:
    """The GL platform that pictures are drawn with: the user's MUJOCO_GL, else EGL where it starts, else OSMesa.

    Raises:
      RenderError: If MUJOCO_GL switches drawing off, or is not a platform.
    """
    given = os.environ.get("MUJOCO_GL", "").lower().strip()
    if given in _OFF:
        raise RenderError(f"MUJOCO_GL={given} switches drawing off")
    if given not in _MODULES and given not in _AUTOMATIC:
        raise RenderError(f"MUJOCO_GL must be one of {', '.join(_choices())}, got {given!r}")
    if not fits_here(given):
        raise RenderError(f"MUJOCO_GL={given} is not for {sys.platform}: here it may be {', '.join(_choices())}")
    if given in _MODULES:
        return given
    if sys.platform != "linux":
        return "cgl" if sys.platform == "darwin" else "glfw"
    loaded = os.environ.get("PYOPENGL_PLATFORM", "").lower()  # PyOpenGL knows one platform in a process
    if loaded in ("egl", "osmesa"):
        return loaded
    return "egl" if _egl_starts() else "osmesa"


def _choices() -> list[str]:
    return sorted(name for name in _MODULES if fits_here(name))


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


def open_context(model: mujoco.MjModel | None = None) -> tuple[Any, Any]:
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
        open_context()[0].free()
    except RenderError:
        return False
    return True
