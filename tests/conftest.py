"""What JAX has to know before it starts: four CPU devices, and programs that are compiled in half the time."""

import os

_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=4".strip()
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for the programs of other processes, too

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Thousands of compiled programs would take several gigabytes by the end of a session."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _optimized(request):
    """The mark `optimized`: tests that run long take longer without what compiling them well would cost."""
    if request.node.get_closest_marker("optimized") is None:
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# Files of few tests that take minutes. xdist hands out the files with the most tests first; these would come last, and
# one process would wait for the other.
SLOW = ("test_notebooks.py", "test_robustness.py", "test_docs.py", "test_crabs.py", "test_processes.py", "test_many.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in SLOW)
