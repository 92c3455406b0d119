"""The processes of a job: who they are, how they reach one another, and whether sums are right."""

import collections
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

from inception_jax.errors import UserError
from inception_jax.runtime import devices, processes
from inception_jax.tools.doctor.examination import Check
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict

SLOW_ROUND_TRIP = 0.1  # seconds; agreements of the processes take some of them
CLOCKS_APART = 5.0  # seconds: then logs of several hosts are hard to read side by side
VALUES = 1 << 20  # float32 of each device in the sum: 4 MiB
SECONDS_FOR_A_SUM = 180.0

Result = TypeVar("Result")


def who(_: Subject) -> Finding:
    """The processes and their hosts."""
    hosts = processes.hosts()
    if len(hosts) == 1:
        return Finding(Verdict.OK, f"1, on {hosts[0]}")
    places = [f"{host} ({count})" for host, count in collections.Counter(hosts).items()]
    return Finding(Verdict.OK, f"{len(hosts)}, on {', '.join(places)}")


def coordinator(_: Subject) -> Finding:
    """Whether process 0's store answers, and how fast."""
    durations = processes.gather(processes.round_trip_seconds())
    slowest = durations.index(max(durations))
    found = (
        f"{processes.coordinator()} answers process {slowest} on {processes.hosts()[slowest]}, the "
        f"slowest, in {1000 * durations[slowest]:.1f} ms"
    )
    if durations[slowest] > SLOW_ROUND_TRIP:
        remedy = "see whether process 0's machine is overloaded, or far away from the others"
        return Finding(Verdict.WARNING, found, remedy)
    return Finding(Verdict.OK, found)


def clock(_: Subject) -> Finding:
    """This host's, next to process 0's at nearly the same moment."""
    processes.barrier("clocks")
    here = time.time()
    return compare_clocks(here, processes.broadcast_json(here))


def compare_clocks(here: float, of_first: float) -> Finding:
    """Both in seconds."""
    difference = here - of_first
    if abs(difference) > CLOCKS_APART:
        return Finding(
            Verdict.WARNING,
            f"the clock is {difference:+,.0f} s off process 0's: logs are hard to read together",
            "let NTP set the clocks",
        )
    return Finding(Verdict.OK, f"all within {CLOCKS_APART:.0f} s")


def collective(_: Subject) -> Finding | None:
    """A sum over all devices, of whole numbers: the result is exact, however it is ordered."""
    seconds = within(SECONDS_FOR_A_SUM, "a sum over all devices", sum_over_devices)
    count, size = jax.device_count(), 4 * VALUES / 2**20
    if processes.is_primary():
        found = f"{size:.0f} MiB of each of {count} devices: {1000 * seconds:.1f} ms, exact"
        return Finding(Verdict.OK, found)
    return None


def sum_over_devices() -> float:
    """Sums rows of small whole numbers, one row a device.

    Returns:
      Seconds of the fastest of three.

    Raises:
      UserError: a result is wrong.
    """
    mesh = devices.make_mesh()
    columns = np.arange(VALUES, dtype=np.float32) % 64
    me = jax.process_index()
    here = [row for row, device in enumerate(mesh.devices.flat) if device.process_index == me]
    rows = devices.to_devices(np.stack([columns + row for row in here]), mesh)
    total = jax.jit(lambda values: values.sum(axis=0), out_shardings=devices.replicated(mesh))
    expected = mesh.size * columns + sum(range(mesh.size))
    durations = []
    for _ in range(4):  # the first one compiles
        start = time.perf_counter()
        result = total(rows).block_until_ready()
        durations.append(time.perf_counter() - start)
    for shard in result.addressable_shards:
        if wrong := np.count_nonzero(np.asarray(shard.data) != expected):
            raise UserError(
                f"{wrong:,} of {VALUES:,} sums are wrong on {shard.device}: its memory or its "
                "links are at fault; take this machine out of the job"
            )
    return min(durations[1:])


def within(seconds: float, what: str, work: Callable[[], Result]) -> Result:
    """The result of `work`, which may hang.

    Raises:
      UserError: it took longer than `seconds`; it is left alone then.
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise UserError(f"{what} did not end within {seconds:.0f} s: {STUCK}")
    return results[0]


STUCK = (
    "devices hang, or a firewall is between the hosts (every port has to be open among them), or "
    "they talk over the wrong network: on GPUs NCCL_DEBUG=INFO tells, NCCL_SOCKET_IFNAME chooses"
)

CHECKS = (
    Check("processes", who),
    Check("coordinator", coordinator, given=("others",)),
    Check("clocks", clock, given=("others",)),
    Check("collective", collective, needs=("devices",)),
)
