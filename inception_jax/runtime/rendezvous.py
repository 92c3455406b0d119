"""The meeting of all processes of a job at the coordinator's address, or the names of missing ones.

JAX's own start-up aborts in C++ when a process does not come, without a name. So the processes meet
here first, over plain TCP, at the address where JAX's service listens a moment later.
"""

import contextlib
import json
import socket
import time
from typing import Any

from inception_jax.errors import UserError

_GREETING = "inception_jax"  # tells our processes from other programs that connect to the port
_SECONDS_BETWEEN_TRIES = 0.2
_SECONDS_FOR_A_LINE = 5.0  # a stranger that connects and says nothing keeps others waiting so long
_LONGEST_LINE = 1 << 20


def meet(coordinator: str, count: int, index: int, *, seconds: float) -> tuple[str, ...]:
    """Waits for all processes of a job, and returns their host names in their order.

    Args:
      coordinator: HOST:PORT of process 0; the port is free again afterwards.
      count: of processes.
      index: which one this is.
      seconds: how long to wait for the others.

    Raises:
      UserError: some did not come, and which; or two have the same index.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + seconds
    if index == 0:
        return _receive_all(int(port), count, deadline, seconds)
    return _report((host.strip("[]"), int(port)), count, index, deadline, seconds)


def _receive_all(port: int, count: int, deadline: float, seconds: float) -> tuple[str, ...]:
    """The part of process 0: waits for all others and sends them the host names."""
    hosts = {0: socket.gethostname()}
    waiting: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        try:
            while _missing(hosts, waiting, count):
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    raise UserError(_who_is_missing(hosts, count, seconds)) from None
                stack.enter_context(connection)
                hello = _receive(connection, _SECONDS_FOR_A_LINE)
                if hello is None or hello.get("greeting") != _GREETING:
                    connection.close()
                    continue
                try:
                    _check(hello, count, hosts, waiting)
                except UserError as error:
                    _send(connection, {"error": str(error)})
                    raise
                hosts[hello["index"]], waiting[hello["index"]] = hello["host"], connection
        except UserError as error:
            for connection in waiting.values():
                _send(connection, {"error": str(error)})
            raise
        names = [hosts[index] for index in range(count)]
        for connection in waiting.values():
            _send(connection, {"hosts": names})
    return tuple(names)


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at the coordinator's port {port} ({error.strerror})"
            ": choose another port"
        ) from None


def _check(
    hello: dict[str, Any], count: int, hosts: dict[int, str], waiting: dict[int, socket.socket]
) -> None:
    """Raises UserError if a process does not fit to those that have come."""
    index, host = hello["index"], hello["host"]
    if hello["count"] != count:
        raise UserError(
            f"process {index} on {host} was told of {hello['count']} processes and process 0 of "
            f"{count}: give all the same --num_processes"
        )
    if not 0 <= index < count:
        raise UserError(f"a process on {host} has the id {index}, of {count} from 0 on")
    if index in hosts and not (index in waiting and _is_closed(waiting[index])):
        raise UserError(
            f"two processes have the id {index}, on {hosts[index]} and on {host}: give each its own"
            " --process_id"
        )


def _missing(hosts: dict[int, str], waiting: dict[int, socket.socket], count: int) -> bool:
    """Tells if some have not come, or have gone again, and forgets the latter."""
    if len(hosts) < count:
        return True
    for index in [index for index, connection in waiting.items() if _is_closed(connection)]:
        del hosts[index], waiting[index]
    return len(hosts) < count


def _who_is_missing(hosts: dict[int, str], count: int, seconds: float) -> str:
    absent = [str(index) for index in range(count) if index not in hosts]
    here = ", ".join(f"{index} on {host}" for index, host in sorted(hosts.items()))
    return (
        f"of {count} processes {', '.join(absent)} did not come within {seconds:.0f} s (here: "
        f"{here}): see the logs of the missing, and whether a firewall keeps them from process 0; "
        "--num_processes 1 for a job of one process"
    )


def _report(
    address: tuple[str, int], count: int, index: int, deadline: float, seconds: float
) -> tuple[str, ...]:
    """The part of the others: says that this process is there, and waits for the rest."""
    hello = {
        "greeting": _GREETING,
        "count": count,
        "index": index,
        "host": socket.gethostname(),
    }
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as connection:
                _send(connection, hello)
                # Process 0 may have begun to wait later: it is the one to give up, and says so.
                answer = _receive(connection, left + seconds)
        except OSError as error:
            problem, answer = error.strerror or str(error), None
        if answer is None:
            time.sleep(_SECONDS_BETWEEN_TRIES)
            continue
        if "error" in answer:
            raise UserError(answer["error"])
        return tuple(answer["hosts"])
    where = ":".join(map(str, address))
    raise UserError(
        f"process {index} did not reach process 0 at {where} within {seconds:.0f} s ({problem}): "
        "is it running, is --coordinator its address, and can the port be reached from here?"
    )


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has gone: the others will miss it
        connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket, seconds: float) -> dict[str, Any] | None:
    """The JSON object that the other side sends as a line; None if it does not send one."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb") as lines:
            message = json.loads(lines.readline(_LONGEST_LINE))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
