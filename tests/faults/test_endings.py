"""How a process ends that is terminated, stuck, or whose output nobody reads: without JAX."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from faults.jobs import ROOT
from inception_jax.runtime import hang_in_c_code, watchdog


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(stream: IO[str] | None) -> str:
    """The next line."""
    assert stream
    return stream.readline()


LISTEN = """
    import hashlib, logging, sys, time
    from inception_jax.runtime import preemption
    from inception_jax.errors import PreemptedError
    preemption.listen()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
"""


@pytest.mark.parametrize(
    "work",
    # The second computes in C, as a compilation does: the main thread does not look up.
    ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"],
)
def test_with_nothing_to_save_it_ends_at_once(work):
    process = start(LISTEN + f"    print('ready', flush=True)\n    {work}\n")
    assert said(process.stdout) == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 42
    assert stderr == "terminated: there is nothing to save\n"


def test_work_at_stake_is_saved_at_the_next_check():
    process = start(
        LISTEN
        + """
    with preemption.stopping_at_checks():
        for step in range(10**6):
            print(step, flush=True)
            time.sleep(0.2)
            try:
                preemption.check()
            except PreemptedError:
                print(f"saved {step}", flush=True)
                sys.exit(42)
    """
    )
    assert said(process.stdout) == "0\n"
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 42
    assert stdout.splitlines()[-1].startswith("saved ")


def test_a_second_one_does_not_wait():
    process = start(
        LISTEN
        + """
    with preemption.stopping_at_checks():
        print("ready", flush=True)
        time.sleep(60)
    """
    )
    assert said(process.stdout) == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert said(process.stderr) == "terminated: saving the last step\n"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 42
    assert stderr == "terminated: at once\n"


def test_what_is_stuck_ends_and_says_where():
    """A beat each half second keeps it alive; then none comes."""
    process = start("""
    import logging, time
    from inception_jax.runtime import watchdog
    logging.basicConfig(level=logging.DEBUG, format="%(message)s")

    def read_from_a_disk_that_is_gone():
        time.sleep(60)

    with watchdog.watch(minutes=2 / 60):
        for _ in range(8):
            time.sleep(0.5)
            watchdog.beat()
        print("alive", flush=True)
        read_from_a_disk_that_is_gone()
    """)
    stdout, stderr = process.communicate(timeout=30)
    assert stdout == "alive\n"
    assert process.returncode == 42
    lines = stderr.splitlines()
    assert lines[0].startswith("error: no step for 0.0333333 minutes: stuck")
    assert "in read_from_a_disk_that_is_gone" in stderr
    assert "thread MainThread" in stderr


def test_what_is_stuck_in_c_ends_and_says_where():
    """PyDLL keeps Python's lock, as an extension that hangs does: no thread of Python runs."""
    process = start("""
    import ctypes, logging
    from inception_jax.runtime import watchdog
    logging.basicConfig(level=logging.DEBUG, format="%(message)s")

    def call_an_extension_that_hangs():
        ctypes.PyDLL(None).sleep(60)

    with watchdog.watch(minutes=2 / 60):
        print("alive", flush=True)
        call_an_extension_that_hangs()
    print("it has returned")
    """)
    stdout, stderr = process.communicate(timeout=30)
    assert stdout == "alive\n"
    assert process.returncode == 42
    assert stderr.startswith("error: Python has not run for 0.0")
    assert "in call_an_extension_that_hangs" in stderr
    assert "in look" in stderr  # another thread


HANG_IN_C = """
    import ctypes, os, signal
    from inception_jax.runtime import watchdog

    def fill(pipe):
        os.set_blocking(pipe, False)
        try:
            while True:
                os.write(pipe, b"x")
        except BlockingIOError:
            os.set_blocking(pipe, True)

    with watchdog.watch(minutes=1 / 60):
        {first}
        print("alive", flush=True)
        ctypes.PyDLL(None).sleep(40)
"""


def test_what_is_stuck_in_c_ends_when_nobody_reads_what_it_says():
    process = start(HANG_IN_C.format(first="pass"))
    with process:  # closes what is left open
        assert said(process.stdout) == "alive\n"
        assert process.stderr is not None
        process.stderr.close()
        assert process.wait(30) == 42


def test_what_is_stuck_in_c_ends_when_its_reader_is_stuck():
    """A full pipe would block the message, and the writing of the stacks."""
    process = start(HANG_IN_C.format(first="fill(2)"))
    with process:
        assert said(process.stdout) == "alive\n"
        assert process.wait(30) == 42


def test_what_is_stuck_in_c_ends_without_any_standard_error(tmp_path):
    """Its number is that of another file then, here of one that is to stay as it is."""
    file = tmp_path / "file"
    program = f"""
    file = open({str(file)!r}, "w")
    assert file.fileno() == 2
    """
    program = textwrap.dedent(program) + textwrap.dedent(HANG_IN_C.format(first="pass"))
    ended = subprocess.run(
        ["bash", "-c", 'exec "$@" 2>&-', "bash", sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, file.read_text()) == (42, "alive\n", "")


def test_what_is_stuck_in_c_and_answers_no_signal_is_killed():
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))"
    program = HANG_IN_C.replace("    with watchdog", f"    {block}\n    with watchdog")
    process = start(program.format(first="pass"))
    with process:
        assert said(process.stdout) == "alive\n"
        assert process.wait(30) == -signal.SIGKILL


def test_what_was_stopped_for_long_goes_on():
    """As a job that Slurm suspends, or a laptop that sleeps."""
    process = start("""
    import time
    from inception_jax.runtime import watchdog
    with watchdog.watch(minutes=2 / 60):
        print("alive", flush=True)
        for _ in range(12):
            time.sleep(0.5)
            watchdog.beat()
    print("done")
    """)
    assert said(process.stdout) == "alive\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "done\n", "")


def test_what_is_stopped_in_a_step_is_not_ended_when_it_goes_on():
    """Its supervisor, which is not stopped, tells it from what is stuck."""
    process = start("""
    import ctypes
    from inception_jax.runtime import watchdog
    with watchdog.watch(minutes=2 / 60):
        print("alive", flush=True)
        ctypes.PyDLL(None).usleep(300_000)
        ctypes.PyDLL(None).usleep(300_000)
    print("done")
    """)
    assert said(process.stdout) == "alive\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "done\n", "")


def test_a_supervisor_ends_with_its_process():
    """However that ends: here it is killed."""
    process = start("""
    import time
    from inception_jax.runtime import watchdog
    with watchdog.watch(minutes=1):
        print("alive", flush=True)
        time.sleep(60)
    """)
    assert said(process.stdout) == "alive\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (supervisor,) = children.read_text().split()
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{supervisor}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_goes_on_when_somebody_kills_its_supervisor():
    process = start("""
    import time
    from inception_jax.runtime import watchdog
    with watchdog.watch(minutes=1 / 60):
        print("alive", flush=True)
        for _ in range(8):
            time.sleep(0.2)
            watchdog.beat()
    print("done")
    """)
    assert said(process.stdout) == "alive\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    os.kill(int(children.read_text()), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "done\n", "")


def test_no_sign_of_life_is_given_after_the_end(monkeypatch):
    """Its pipe is closed then: the number may be that of another file."""
    in_time = []

    @contextlib.contextmanager
    def armed(seconds):
        ended = threading.Event()

        def say_alive():
            time.sleep(0.3)
            in_time.append(not ended.is_set())

        yield say_alive
        ended.set()

    monkeypatch.setattr(hang_in_c_code, "armed", armed)
    with watchdog.watch(minutes=1 / 60):
        time.sleep(0.2)
    time.sleep(0.5)
    assert in_time == [True]


def test_a_late_signal_of_the_supervisor_does_not_kill_a_run_that_is_done(tmp_path):
    """A stand-in sends it when the run is done with it."""
    stand_in = tmp_path / "supervisor.py"
    stand_in.write_text("""
import os, sys
while os.read(0, 1):
    pass
os.kill(int(sys.argv[1]), int(sys.argv[2]))
""")
    process = start(f"""
    from pathlib import Path
    from inception_jax.runtime import hang_in_c_code
    hang_in_c_code._SUPERVISOR = Path({str(stand_in)!r})
    with hang_in_c_code.armed(60):
        pass
    """)
    process.communicate(timeout=30)
    assert process.returncode in (0, 42)


def handlers_left() -> bool:
    """Tells if signal 42 has a handler, and sets the default one."""
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    found = set_handler(42, None)
    faulthandler.unregister(42)  # it would put back what was there before
    set_handler(42, None)
    return found is not None


def test_a_run_goes_on_where_no_supervisor_can_be_started(monkeypatch, caplog):
    assert not handlers_left()
    with watchdog.watch(minutes=1):
        assert caplog.messages == []
    assert not handlers_left()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with watchdog.watch(minutes=1):
        assert not handlers_left()
    (message,) = caplog.messages
    assert "\n" not in message
    assert "No such file or directory" in message
    assert [thread.name for thread in threading.enumerate() if thread.name == "watchdog"] == []


def test_a_run_goes_on_when_nobody_reads_what_it_says():
    process = start("""
    import logging, time
    from inception_jax.runtime import console
    log = logging.getLogger("inception_jax")
    console.attach(log)
    time.sleep(0.5)  # until nobody reads
    for _ in range(1000):
        log.info("a line" * 100)
    print("done")
    """)
    with process:  # closes what is left open
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout.read() == "done\n"
        assert process.wait(20) == 0
