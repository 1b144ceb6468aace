"""Eight simulated devices, quick compilation, rank promotion as an error; before JAX starts."""

import gc
import importlib.metadata
import os
import tempfile

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    # a process a core as it is: one thread compiles, and nothing is split up for others
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_xnnpack=false",
]
if importlib.metadata.version("jaxlib") < "0.11":  # later ones have no other emitters
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # these take twice as long
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# tests compile far longer than they compute
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

# and many of them, and the processes they start, compile the same programs
_PROGRAMS = tempfile.TemporaryDirectory(prefix="fmjax-programs-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _PROGRAMS.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402
import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
# what is imported by now stays, and traces are many objects: the collector looks less often
gc.freeze()
gc.set_threshold(20_000, 20, 20)


class ByConfig(LoadScopeScheduling):
    """All checks of one config in one process, which builds and compiles it once."""

    def _split_scope(self, nodeid):
        file, _, test = nodeid.partition("::")
        config = test.rpartition("[")[2].removesuffix("]").partition("-")[0]
        return f"{file}[{config}]" if "[" in test and "test_batteries" in file else nodeid


def pytest_xdist_make_scheduler(config, log):
    return ByConfig(config, log)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The work directory of a tiny run, trained and judged; only to be read."""
    import tiny

    workdir = tmp_path_factory.mktemp("finished")
    assert tiny.launched(workdir, config=tiny.JUDGED) == 0
    return workdir
