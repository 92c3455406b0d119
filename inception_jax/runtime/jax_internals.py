"""The private names of JAX that this package uses, all of them.

JAX has no public ones for these, and may change them in any version. tests/test_jax_internals.py
says what to do when one is gone.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from jax._src import clusters, compilation_cache, distributed


def detect_cluster(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    local_devices: Sequence[int] | None,
    seconds: int,
) -> tuple[Any, ...]:
    """Finds what is None of its arguments in the environment of Slurm, Open MPI and others.

    `jax.distributed.initialize` does the same, but starts at once; here the processes first meet in
    a way that names those who do not come.

    Args:
      coordinator: HOST:PORT of process 0.
      count: number of processes.
      index: which process this is.
      local_devices: the numbers of its devices on this machine.
      seconds: how long to wait for the servers of a cluster.

    Returns:
      The first four arguments; None where there is no cluster.
    """
    return clusters.ClusterEnv.auto_detect_unset_distributed_params(
        coordinator, count, index, local_devices, None, seconds
    )


def coordinator_client() -> Any:
    """The client of JAX's distributed runtime, with a key-value store and barriers.

    What JAX has in public (`multihost_utils`) are collectives of the devices, which hang when a
    process is lost: that one has to be found out without them.
    """
    return distributed.global_state.client


class ProgramStore(Protocol):
    """The methods that JAX calls of what keeps compiled programs; `_path` is for its log."""

    _path: Any

    def get(self, key: str) -> bytes | None:
        """The program of a key."""

    def put(self, key: str, value: bytes) -> None:
        """Keeps a program."""


def keep_programs_in(store: ProgramStore) -> None:
    """Makes JAX keep compiled programs in a store instead of one of its own."""
    compilation_cache.reset_cache()
    compilation_cache._cache = store  # type: ignore[assignment]
