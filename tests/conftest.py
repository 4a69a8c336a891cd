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


# Files of few tests that take minutes. xdist hands out the files with the most tests first; these would come last, and
# one process would wait for the other.
SLOW = ("test_notebooks.py", "test_robustness.py", "test_docs.py", "test_crabs.py", "test_processes.py", "test_many.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in SLOW)
