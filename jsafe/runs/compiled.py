"""Compiled programs that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def keep_programs() -> None:
    """Keeps compiled programs in JAX_COMPILATION_CACHE_DIR or the user's cache folder; nowhere, if there is none."""
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        try:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # a user without a home folder
            return
        jax.config.update("jax_compilation_cache_dir", str(cache / "jsafe" / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
