"""Four CPU devices for all tests: they have to exist before JAX starts."""

import os

_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=4".strip()

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Thousands of compiled programs would take several gigabytes by the end of a session."""
    yield
    jax.clear_caches()
