"""The processes of a job: how they meet, agree, and end.

The only module that starts JAX's distributed runtime and uses its key-value store. In a job of one
process nothing here does anything. JAX is imported when processes meet: every command has these
flags, also to say that one of them is wrong.
"""

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import time
from typing import Any

from inception_jax.errors import ExitCode, UsageError, UserError
from inception_jax.runtime import console, preemption
from inception_jax.runtime.lost_processes import Liveness
from inception_jax.runtime.rendezvous import meet

log = logging.getLogger(__name__)

SECONDS_TO_MEET = 300.0
SECONDS_AT_A_BARRIER = 1800.0  # process 0 may be verifying checkpoints on a slow disk

_ROOT = "inception_jax"  # of our keys in the store

_liveness: Liveness | None = None
_client: Any = None
_index = 0
_hosts: tuple[str, ...] = (socket.gethostname(),)
_coordinator = ""
_texts_told = 0
_texts_gathered = 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `join`; Slurm, Open MPI, Cloud TPU and Kubernetes are found without."""
    group = parser.add_argument_group("several processes; clusters are found without these flags")
    group.add_argument(
        "--coordinator", type=_address, metavar="HOST:PORT", help="of process 0; any free port"
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="1: look for no others")
    group.add_argument("--process_id", type=int, metavar="K", help="0 to N-1")


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def join(flags: argparse.Namespace) -> None:
    """Meets the other processes of the job, if there are any, before a device is used.

    Afterwards all end when one is lost, and only process 0 prints results and progress.

    Raises:
      UsageError: flags that do not fit together.
      UserError: a process did not come; which.
    """
    given = (flags.coordinator, flags.num_processes, flags.process_id)
    if flags.num_processes == 1:
        return
    if flags.num_processes is not None and flags.num_processes < 1:
        raise UsageError(f"--num_processes {flags.num_processes}: at least 1")
    coordinator, count, index, local_devices = _detect(*given)
    if (coordinator, count, index) == (None, None, None) or (count == 1 and not flags.coordinator):
        return
    if coordinator is None or count is None or index is None:
        raise UsageError(
            "--coordinator, --num_processes and --process_id go together, outside of a cluster "
            "that JAX knows"
        )
    if not 0 <= index < count:
        raise UsageError(f"--process_id {index} of {count} processes: it is from 0 to {count - 1}")
    _join(coordinator, count, index, local_devices)


def _detect(coordinator: str | None, count: int | None, index: int | None) -> tuple[Any, ...]:
    """Coordinator, count, index, local devices: from the flags, else from a cluster, or None."""
    local_devices = _local_devices()
    if coordinator and count is not None and index is not None:
        return coordinator, count, index, local_devices
    from inception_jax.runtime import jax_internals

    try:
        return jax_internals.detect_cluster(
            coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
            count,
            index,
            local_devices,
            int(SECONDS_TO_MEET),
        )
    except Exception as error:  # whatever a cluster's own programs and servers say
        raise UserError(
            f"this looks like a cluster, but its processes cannot be found "
            f"({' '.join(str(error).split())}): use --coordinator, --num_processes and "
            "--process_id, or --num_processes 1 for a job of one process"
        ) from error


def _local_devices() -> list[int] | None:
    chosen = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    try:
        return [int(number) for number in chosen.split(",")] if chosen else None
    except ValueError:
        raise UsageError(f"JAX_LOCAL_DEVICE_IDS is {chosen!r}: it takes numbers, as 0,1") from None


def _join(coordinator: str, count: int, index: int, local_devices: list[int] | None) -> None:
    global _liveness, _client, _index, _hosts, _coordinator
    import jax
    from jax.experimental import multihost_utils

    from inception_jax.runtime import devices, jax_internals

    _keep_libraries_off_stdout()
    if index != 0:
        console.only_warnings()
    log.info(f"process {index} of {count} meets the others at {coordinator}")
    _hosts = meet(coordinator, count, index, seconds=SECONDS_TO_MEET)
    with preemption.stopping_at_checks():
        jax.distributed.initialize(
            coordinator, count, index, local_devices, cluster_detection_method="deactivate"
        )
        preemption.hand_over(multihost_utils.reached_preemption_sync_point)
    _index, _client = index, jax_internals.coordinator_client()
    _coordinator = coordinator
    _liveness = Liveness(_client, index, _hosts, coordinator)
    expected, found = broadcast_json(jax.local_device_count()), jax.local_device_count()
    if found != expected:
        raise UserError(
            f"it has {found} devices and process 0 has {expected}: give all the same number"
        )
    devices.first_collective()


def _keep_libraries_off_stdout() -> None:
    """Sends what Gloo prints to file descriptor 1, where results go, to standard error."""
    if sys.stdout is None:  # closed
        return
    sys.stdout.flush()
    results = os.fdopen(
        os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors
    )
    os.dup2(2, 1)
    sys.stdout = results


def is_multi_process() -> bool:
    """Tells if the job has other processes."""
    return _liveness is not None


def is_primary() -> bool:
    """Tells if this is the primary process, which writes metrics, checkpoints and results."""
    return _index == 0


def hosts() -> tuple[str, ...]:
    """The names of the machines, one for each process."""
    return _hosts


def coordinator() -> str:
    """HOST:PORT where the processes have met; empty in a job of one process."""
    return _coordinator


def barrier(name: str, seconds: float = SECONDS_AT_A_BARRIER) -> None:
    """Waits for all processes.

    Args:
      name: another one each time.
      seconds: how long to wait at most.

    Raises:
      UserError: a process did not come; which.
    """
    if not is_multi_process():
        return
    arrived = f"{_ROOT}/arrived/{name}"
    _client.key_value_set(f"{arrived}/{_index}", "")
    try:
        _client.wait_at_barrier(name, int(1000 * seconds))
    except Exception as error:  # JAX has many kinds of errors
        here = {int(key.rpartition("/")[2]) for key, _ in _client.key_value_dir_get(arrived)}
        missing = [f"{index} on {host}" for index, host in enumerate(_hosts) if index not in here]
        if not missing:
            raise
        raise UserError(
            f"process {', '.join(missing)} did not come to {name!r} within {seconds:.0f} s: see "
            "its log"
        ) from error


def broadcast_json(value: Any) -> Any:
    """The value of process 0, as JSON, in every process."""
    global _texts_told
    if not is_multi_process():
        return value
    key = f"{_ROOT}/told/{_texts_told}"
    _texts_told += 1
    if _index == 0:
        _client.key_value_set(key, json.dumps(value))
    return json.loads(_client.blocking_key_value_get(key, int(1000 * SECONDS_AT_A_BARRIER)))


def gather(value: Any) -> list[Any]:
    """The values of all processes, as JSON, in their order, in every process.

    Raises:
      UserError: a process did not come; which.
    """
    global _texts_gathered
    if not is_multi_process():
        return [value]
    name = f"gathered/{_texts_gathered}"
    _texts_gathered += 1
    _client.key_value_set(f"{_ROOT}/{name}/{_index}", json.dumps(value))
    barrier(name)
    texts = {
        int(key.rpartition("/")[2]): text
        for key, text in _client.key_value_dir_get(f"{_ROOT}/{name}")
    }
    return [json.loads(texts[index]) for index in range(len(_hosts))]


def round_trip_seconds() -> float:
    """Seconds that the coordinator takes to answer: the fastest of five times."""
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        _client.key_value_set(f"{_ROOT}/round_trip/{_index}", "", allow_overwrite=True)
        durations.append(time.perf_counter() - start)
    return min(durations)


def wait_for_failure_report() -> None:
    """Waits, after an error, until a lost process is named, which ends this one.

    Returns if all others are well.
    """
    if _liveness is not None:
        _liveness.wait_for_verdict()


def leave(exit_code: int, message: str) -> None:
    """Ends the process after a command; after an error the others are told of it.

    Args:
      exit_code: how it ended.
      message: what the error was.
    """
    if _liveness is None:
        return
    if exit_code not in (ExitCode.DONE, ExitCode.RESTART):
        _liveness.tell_failure(message, exit_code)
    else:
        with contextlib.suppress(Exception):  # JAX has many kinds of errors; the work is done
            barrier("leaving")
            _liveness.stop()
            _shut_down()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # JAX would wait at its exit for those that are gone


def _shut_down() -> None:
    import jax

    jax.distributed.shutdown()
