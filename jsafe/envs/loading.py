"""MuJoCo, imported whatever MUJOCO_GL says: drawing alone needs a GL library, and looks for one when it is asked to."""

from __future__ import annotations

import os
import sys

_ANYWHERE = ("", "enable", "enabled", "on", "true", "1", "disable", "disabled", "off", "false", "0", "glfw")
_HERE = {"linux": ("glx", "egl", "osmesa"), "win32": ("wgl",), "darwin": ("cgl",)}


def fits_here(choice: str) -> bool:
    """Whether a value of MUJOCO_GL is one for this system."""
    return choice in (*_ANYWHERE, *_HERE.get(sys.platform, ()))


_GIVEN = os.environ.get("MUJOCO_GL")
_fits = _GIVEN is None or fits_here(_GIVEN.lower().strip())
try:
    if not _fits:
        os.environ["MUJOCO_GL"] = "off"  # MuJoCo would not even be imported
    try:
        import mujoco
    except Exception:  # nor without the library that was asked for: PyOpenGL fails with an AttributeError, say
        if _GIVEN is None or not _fits:
            raise
        os.environ["MUJOCO_GL"] = "off"
        import mujoco
finally:
    if _GIVEN is not None:
        os.environ["MUJOCO_GL"] = _GIVEN

__all__ = ["fits_here", "mujoco"]
