"""Processes that judge one another by a common store, and end: threads under one clock."""

import functools
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from faults.jobs import ROOT
from inception_jax.runtime import immediate_exit, lost_processes
from inception_jax.runtime.lost_processes import Liveness

HOSTS = ("a", "b", "c")


class Store:
    """A key-value store as JAX's coordinator has one, which can cease to answer."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.answers = True

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self._check()
        if key in self._values and not allow_overwrite:
            raise RuntimeError(f"ALREADY_EXISTS: {key}")
        self._values[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        self._check()
        return [(k, v) for k, v in list(self._values.items()) if k.startswith(f"{folder}/")]

    def _check(self) -> None:
        if not self.answers:
            raise RuntimeError("UNAVAILABLE")


class Job:
    """Processes of which each is a `Liveness` here; how each has ended is in `ends`.

    Their clock goes on when `wait_seconds` says so, and beats have come meanwhile.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.now = 0.0
        self.ends: dict[int, tuple[str, int]] = {}
        self._running: dict[int, Liveness] = {}

    def start(self, *indices: int) -> None:
        self._running |= {index: Liveness(self.store, index, HOSTS, "a:1") for index in indices}

    def lose(self, index: int) -> None:
        """It counts no more, and does not end."""
        self._running.pop(index).stop()

    def tell_failure(self, index: int, message: str) -> None:
        self._running.pop(index).tell_failure(message, exit_code=2)

    def end(self, message: str, exit_code: int) -> None:
        """Stands in for `immediate_exit.end`, which a thread of the process calls."""
        work = threading.current_thread()._target  # type: ignore[attr-defined]
        self.ends.setdefault(work.__self__._index, (message, exit_code))
        work.__self__.stop()

    def wait_seconds(self, seconds: float) -> None:
        while seconds > 0 and not self.ends:
            self.now += min(seconds, 10)
            seconds -= 10
            if not self.store.answers:
                time.sleep(0.05)  # for what was being answered
            eventually(functools.partial(self._have_beaten, self._counts()))

    def _have_beaten(self, before: dict[int, int]) -> bool:
        """So that each has looked at the store since then; or nobody can any more."""
        if self.ends or not self.store.answers:
            return True
        counts = self._counts()
        return all(counts[index] > before[index] + 2 for index in self._running)

    def _counts(self) -> dict[int, int]:
        counts = dict.fromkeys(self._running, 0)
        if self.store.answers:
            for key, count in self.store.key_value_dir_get("inception_jax/alive"):
                counts[int(key.rpartition("/")[2])] = int(count)
        return counts

    def ended(self, *indices: int) -> set[tuple[str, int]]:
        """How so many end, when they have."""
        eventually(lambda: self.ends.keys() >= set(indices))
        return {self.ends[index] for index in indices}

    def stop(self) -> None:
        """Returns when no thread is left: one would judge by the real clock, and really end."""
        for thread in threading.enumerate():
            work = getattr(thread, "_target", None)
            if isinstance(one := getattr(work, "__self__", None), Liveness):
                one.stop()
                thread.join()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    one = Job()
    monkeypatch.setattr(lost_processes, "SECONDS_BETWEEN_BEATS", 0.01)
    clock = SimpleNamespace(monotonic=lambda: one.now, sleep=time.sleep)
    monkeypatch.setattr(lost_processes, "time", clock)
    monkeypatch.setattr(immediate_exit, "end", one.end)
    # This process keeps its way to abort.
    monkeypatch.setattr(Liveness, "_end_when_aborted", lambda self: None)
    yield one
    one.stop()


def test_all_that_are_well_go_on(job):
    job.start(0, 1, 2)
    job.wait_seconds(100)
    assert job.ends == {}


@pytest.mark.parametrize("began", [True, False])
def test_the_silent_one_is_named_by_all(job, began):
    job.start(0, 1, *([2] if began else []))
    if began:
        job.wait_seconds(10)
        job.lose(2)
    job.wait_seconds(20)
    assert job.ends == {}
    job.wait_seconds(30)
    ((message, exit_code),) = job.ended(0, 1)
    assert re.match(
        r"process 2 of 3, on c, has been silent for [3-6]\d s: dead, stopped or cut off", message
    )
    assert exit_code == 42


def test_process_0_is_named_when_the_store_does_not_answer(job):
    job.start(0, 1, 2)
    job.store.answers = False
    job.wait_seconds(60)
    for message, exit_code in job.ended(1, 2):
        assert re.match(r"process 0 of 3, on a, has not answered for [3-6]\d s: dead", message)
        assert exit_code == 42


@pytest.mark.parametrize("failed", [0, 1])
def test_what_one_fails_of_is_said_by_all(job, failed):
    job.start(0, 1, 2)
    job.tell_failure(failed, "its config differs")
    said = f"process {failed} of 3, on {HOSTS[failed]}, failed: its config differs"
    assert job.ended(*({0, 1, 2} - {failed})) == {(said, 2)}


ABORT = """
import ctypes, logging, threading, time
from inception_jax.runtime.lost_processes import Liveness
logging.basicConfig(level=logging.INFO, format="%(message)s")

class Store:
    def key_value_set(self, *_, **__): pass
    def key_value_dir_get(self, _): return []

Liveness(Store(), {index}, ("a", "b"), "127.0.0.1:{port}")
time.sleep(0.5)
abort = ctypes.CDLL(None).abort  # without Python's lock, as a thread of JAX's
threading.Thread(target=abort, daemon=True).start()
{main}
"""


def how_it_ends(index: int, port: int, main: str = "time.sleep(60)") -> tuple[int, str]:
    """The exit code of a process in which a thread aborts, and the last line it says."""
    program = ABORT.format(index=index, port=port, main=main)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    return result.returncode, (result.stderr.splitlines() or [""])[-1]


@pytest.fixture
def port() -> Iterator[int]:
    """A port where somebody listens, as process 0 does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_when_jax_aborts_since_process_0_is_gone_that_one_is_named(port):
    nobody_listens = 1
    expected = 42, "error: process 0 of 2, on a, is gone"
    assert how_it_ends(1, nobody_listens) == expected


def test_other_aborts_go_their_way(port):
    assert how_it_ends(1, port) == (-signal.SIGABRT, "")
    assert how_it_ends(0, port) == (-signal.SIGABRT, "")


def test_an_abort_ends_the_process_although_python_cannot_run():
    """Who holds Python's lock may wait for the thread that aborts."""
    assert how_it_ends(1, 1, "ctypes.PyDLL(None).sleep(60)") == (-signal.SIGABRT, "")
