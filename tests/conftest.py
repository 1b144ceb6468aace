"""Eight simulated devices, quick compilation, rank promotion as an error; before JAX starts."""

import os
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# tests compile far longer than they compute
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

# and many of them, and the processes they start, compile the same programs
_PROGRAMS = tempfile.TemporaryDirectory(prefix="fmjax-programs-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _PROGRAMS.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The work directory of a tiny run, trained and judged; only to be read."""
    import tiny

    workdir = tmp_path_factory.mktemp("finished")
    assert tiny.launched(workdir, config=tiny.JUDGED) == 0
    return workdir
