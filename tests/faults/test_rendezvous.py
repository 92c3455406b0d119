"""Processes that meet, or say who is missing: over real sockets, in threads."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from faults.jobs import free_port
from inception_jax.errors import UserError
from inception_jax.runtime.rendezvous import meet


def all_meet(processes: list[tuple[int, int]], seconds: float = 10) -> list[Future]:
    """Lets processes, (count, index) each, meet; when all have met or given up."""
    coordinator = f"localhost:{free_port()}"
    with ThreadPoolExecutor(len(processes)) as pool:
        return [
            pool.submit(meet, coordinator, count, index, seconds=seconds)
            for count, index in processes
        ]


def test_all_learn_the_names_of_all():
    met = all_meet([(3, 2), (3, 0), (3, 1)])
    assert [one.result() for one in met] == [(socket.gethostname(),) * 3] * 3


def test_who_does_not_come_is_named_by_all():
    for one in all_meet([(4, 0), (4, 2)], seconds=0.5):
        with pytest.raises(UserError, match=r"of 4 processes 1, 3 did not come within"):
            one.result()


@pytest.mark.parametrize(
    ("other", "message"),
    [((3, 1), "was told of 3 processes and process 0 of 2"), ((2, 0), "two processes have the id")],
)
def test_who_does_not_fit_hears_of_it_at_once(other, message):
    """Process 0, one that does not fit, and no third: nobody waits for the whole time."""
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        zero = pool.submit(meet, f"localhost:{port}", 2, 0, seconds=60)
        line = json.dumps({"greeting": "inception_jax", "count": other[0], "index": other[1]}
                          | {"host": "b"}).encode()  # fmt: skip
        answer = json.loads(_say(port, line + b"\n"))
        assert message in answer["error"]
        with pytest.raises(UserError, match=message):
            zero.result(timeout=5)


def _say(port: int, line: bytes) -> bytes:
    """Sends a line as soon as somebody listens, and returns the line that comes back."""
    for _ in range(500):
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("localhost", port)) as connection,
        ):
            connection.sendall(line)
            return connection.makefile("rb").readline()
        time.sleep(0.01)
    raise AssertionError(f"nobody listens at {port}")


def test_who_has_gone_again_is_missing_and_strangers_do_not_count():
    """Process 1 comes and dies while process 2 is awaited; then it is started again."""
    port = free_port()
    hello = {"greeting": "inception_jax", "count": 3, "index": 1, "host": "gone"}
    with ThreadPoolExecutor(3) as pool:
        zero = pool.submit(meet, f"localhost:{port}", 3, 0, seconds=20)
        assert _say(port, b"GET / HTTP/1.1\r\n") == b""
        threading.Thread(target=_come_and_go, args=(port, hello)).start()
        time.sleep(0.3)
        two = pool.submit(meet, f"localhost:{port}", 3, 2, seconds=20)
        time.sleep(0.3)
        assert not zero.done(), zero.exception()
        again = pool.submit(meet, f"localhost:{port}", 3, 1, seconds=20)
        for one in (zero, two, again):
            assert "gone" not in one.result(timeout=10)


def _come_and_go(port: int, hello: dict) -> None:
    with socket.create_connection(("localhost", port)) as connection:
        connection.sendall(json.dumps(hello).encode() + b"\n")
        time.sleep(0.1)


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at the coordinator's port {port}"):
            meet(f"localhost:{port}", 2, 0, seconds=1)


def test_nobody_there_is_said():
    port = free_port()
    with pytest.raises(UserError, match=rf"did not reach process 0 at localhost:{port} within"):
        meet(f"localhost:{port}", 2, 1, seconds=0.5)
