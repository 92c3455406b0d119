"""Checks of a job: its processes, how they reach one another, and a sum over all devices."""

import collections
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

from inception_jax.errors import UserError
from inception_jax.runtime import devices, processes
from inception_jax.tools.doctor.check_result import CheckResult, Status
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Check

SLOW_ROUND_TRIP = 0.1  # seconds; agreements of the processes take some of them
CLOCKS_APART = 5.0  # seconds: then logs of several hosts are hard to read side by side
VALUES = 1 << 20  # float32 of each device in the sum: 4 MiB
SECONDS_FOR_A_SUM = 180.0
HANGS = (
    "devices hang, or a firewall is between the hosts (every port has to be open among them), or "
    "they talk over the wrong network: on GPUs NCCL_DEBUG=INFO tells, NCCL_SOCKET_IFNAME chooses"
)

Result = TypeVar("Result")


def processes_and_hosts(_: Context) -> CheckResult:
    """Counts the processes and names their hosts."""
    hosts = processes.hosts()
    if len(hosts) == 1:
        return CheckResult(Status.OK, f"1, on {hosts[0]}")
    places = [f"{host} ({count})" for host, count in collections.Counter(hosts).items()]
    return CheckResult(Status.OK, f"{len(hosts)}, on {', '.join(places)}")


def coordinator(_: Context) -> CheckResult:
    """Measures how fast process 0's store answers."""
    durations = processes.gather(processes.round_trip_seconds())
    slowest = durations.index(max(durations))
    found = (
        f"{processes.coordinator()} answers process {slowest} on {processes.hosts()[slowest]}, the "
        f"slowest, in {1000 * durations[slowest]:.1f} ms"
    )
    if durations[slowest] > SLOW_ROUND_TRIP:
        remedy = "see whether process 0's machine is overloaded, or far away from the others"
        return CheckResult(Status.WARNING, found, remedy)
    return CheckResult(Status.OK, found)


def clock(_: Context) -> CheckResult:
    """Compares this host's clock with process 0's at nearly the same moment."""
    processes.barrier("clocks")
    here = time.time()
    return compare_clocks(here, processes.broadcast_json(here))


def compare_clocks(here: float, of_first: float) -> CheckResult:
    """Compares two clocks, both in seconds."""
    difference = here - of_first
    if abs(difference) > CLOCKS_APART:
        return CheckResult(
            Status.WARNING,
            f"the clock is {difference:+,.0f} s off process 0's: logs are hard to read together",
            "let NTP set the clocks",
        )
    return CheckResult(Status.OK, f"all within {CLOCKS_APART:.0f} s")


def collective(_: Context) -> CheckResult | None:
    """Sums whole numbers over all devices: the result is exact in whatever order."""
    seconds = within(SECONDS_FOR_A_SUM, "a sum over all devices", sum_over_devices)
    if not processes.is_primary():
        return None
    size = f"{4 * VALUES / 2**20:.0f} MiB of each of {jax.device_count()} devices"
    return CheckResult(Status.OK, f"{size}: {1000 * seconds:.1f} ms, exact")


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


def within(seconds: float, name: str, work: Callable[[], Result]) -> Result:
    """The result of `work`, which may hang.

    Raises:
      UserError: it took longer than `seconds`; its thread is left alone then.
    """
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    if not concurrent.futures.wait([future], seconds).done:
        raise UserError(f"{name} did not end within {seconds:.0f} s: {HANGS}")
    return future.result()


CHECKS = (
    Check("processes", processes_and_hosts),
    Check("coordinator", coordinator, given=("other_processes",)),
    Check("clocks", clock, given=("other_processes",)),
    Check("collective", collective, needs=("devices",)),
)
