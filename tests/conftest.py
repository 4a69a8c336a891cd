"""XLA's flags for all tests, before JAX starts: four CPU devices, and programs that are compiled in half the time."""

import os

_FLAGS = {"--xla_force_host_platform_device_count": 4, "--xla_backend_optimization_level": 0}
for _flag, _value in _FLAGS.items():
    if _flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}={_value}".strip()

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Thousands of compiled programs would take several gigabytes by the end of a session."""
    yield
    jax.clear_caches()
