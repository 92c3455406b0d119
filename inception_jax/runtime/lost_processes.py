"""Detects lost processes: dead, stopped or failed ones. All others name the lost one, and end.

A collective waits for ever for a process that is gone (on CPUs it fails, without a name). So each
process counts up a number in the coordinator's key-value store. Process 0, where that store is,
gives up a process whose number stays the same for long: it writes a verdict to the store, which
ends all. The others give up process 0 when the store does not answer.
"""

import contextlib
import ctypes
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from inception_jax.errors import ExitCode
from inception_jax.runtime import immediate_exit

log = logging.getLogger(__name__)

SECONDS_BETWEEN_BEATS = 2.0
SECONDS_OF_SILENCE = 30.0
_SECONDS_BETWEEN_LOOKS = 0.5  # for an abort

_ALIVE, _FAILED, _VERDICT = "inception_jax/alive", "inception_jax/failed", "inception_jax/verdict"


class Liveness:
    """Watches the processes of a job, from threads in each of them."""

    def __init__(self, client: Any, index: int, hosts: Sequence[str], coordinator: str):
        """Begins to watch.

        Args:
          client: of JAX's distributed runtime; its key-value store is used.
          index: which process this is.
          hosts: names, one a process.
          coordinator: HOST:PORT of process 0.
        """
        self._client, self._index, self._hosts = client, index, hosts
        self._coordinator = coordinator
        self._answered = time.monotonic()  # when the store did, last
        self._leaving = threading.Event()
        self._end_when_aborted()
        for work in (self._beat, self._watch_the_store):
            threading.Thread(target=work, name=f"liveness{work.__name__}", daemon=True).start()

    def tell_failure(self, message: str, exit_code: int) -> None:
        """Tells the others why this process ends, and gives them the time to read it."""
        self._leaving.set()
        if self._index == 0:
            judgement = self._judgement(0, f"failed: {message}", exit_code)
            immediate_exit.within_seconds(lambda: self._announce(judgement))
        else:
            failure = json.dumps({"message": message, "exit_code": int(exit_code)})
            where = f"{_FAILED}/{self._index}"
            immediate_exit.within_seconds(lambda: self._client.key_value_set(where, failure))

    def wait_for_verdict(self) -> None:
        """Waits for a verdict on another process, which ends this one; returns if there is none."""
        time.sleep(SECONDS_OF_SILENCE + 10 * SECONDS_BETWEEN_BEATS)

    def stop(self) -> None:
        """Ends the watch, since all processes are about to end: silence means nothing now."""
        self._leaving.set()

    def _beat(self) -> None:
        now = time.monotonic()  # a process that dies before its first beat is silent, too
        seen = {f"{_ALIVE}/{index}": ("", now) for index in range(len(self._hosts))}
        count = 0
        while not self._leaving.wait(SECONDS_BETWEEN_BEATS if count else 0):
            count += 1
            try:
                self._client.key_value_set(
                    f"{_ALIVE}/{self._index}", str(count), allow_overwrite=True
                )
                if self._index == 0:
                    self._judge(seen)
                verdicts = self._client.key_value_dir_get(_VERDICT)
            except Exception as error:  # JAX has a kind for each; see `_watch_the_store`
                log.debug(f"the coordinator does not answer: {error!r}")
                continue
            self._answered = time.monotonic()
            for _, verdict in verdicts:
                if not self._leaving.is_set():
                    immediate_exit.end(**json.loads(verdict))

    def _judge(self, seen: dict[str, tuple[str, float]]) -> None:
        """Gives up one that has failed or was silent; `seen` has its last number, and when."""
        now = time.monotonic()
        for key, failure in self._client.key_value_dir_get(_FAILED):
            told = json.loads(failure)
            judgement = self._judgement(
                _index(key), f"failed: {told['message']}", told["exit_code"]
            )
            self._announce(judgement)
            return
        for key, number in self._client.key_value_dir_get(_ALIVE):
            if seen[key][0] != number:
                seen[key] = number, now
        silent = {key: now - since for key, (_, since) in seen.items()}
        key = max(silent, key=silent.__getitem__)
        if silent[key] > SECONDS_OF_SILENCE:
            said = f"has been silent for {silent[key]:.0f} s: dead, stopped or cut off"
            self._announce(self._judgement(_index(key), said, ExitCode.RESTART))

    def _judgement(self, index: int, what: str, exit_code: int) -> dict[str, Any]:
        message = f"process {index} of {len(self._hosts)}, on {self._hosts[index]}, {what}"
        return {"message": message, "exit_code": int(exit_code)}

    def _announce(self, judgement: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # there is a verdict: the first counts
            self._client.key_value_set(f"{_VERDICT}/0", json.dumps(judgement))
        # The store ends with this process: the others need time to read it.
        time.sleep(2 * SECONDS_BETWEEN_BEATS)

    def _watch_the_store(self) -> None:
        while not self._leaving.wait(SECONDS_BETWEEN_BEATS):
            silence = time.monotonic() - self._answered
            if silence > SECONDS_OF_SILENCE:
                said = f"has not answered for {silence:.0f} s: dead, stopped or cut off"
                immediate_exit.end(**self._judgement(0, said, ExitCode.RESTART))

    def _end_when_aborted(self) -> None:
        """Names process 0 when JAX aborts this one from C++, as it does when process 0 is gone.

        JAX aborts within a second, by whatever of its settings, and the thread that aborts must not
        run Python: who holds Python's lock may wait for that thread. So the handler of the signal
        is `sleep` of the C library. It takes the number of the signal, 6, as seconds; then the
        abort goes its way. Meanwhile a thread of Python looks. It knows of the abort since the
        handler is set in the way of System V: it is gone once it was called.
        """
        libc = ctypes.CDLL(None)
        set_handler = getattr(libc, "sysv_signal", None)
        if set_handler is None:  # not glibc: JAX's abort ends the process, without a name
            return
        set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
        set_handler.restype = ctypes.c_void_p
        sleep = ctypes.cast(libc.sleep, ctypes.c_void_p)

        def look() -> None:
            while set_handler(signal.SIGABRT, sleep) is not None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            if self._index != 0 and self._process_0_is_gone():
                immediate_exit.end(**self._judgement(0, "is gone", ExitCode.RESTART))
            log.debug(f"aborted; stacks of all threads:\n{immediate_exit.stacks()}")

        set_handler(signal.SIGABRT, sleep)
        threading.Thread(target=look, name="liveness_aborts", daemon=True).start()

    def _process_0_is_gone(self) -> bool:
        host, _, port = self._coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return True
        return False


def _index(key: str) -> int:
    return int(key.rpartition("/")[2])
