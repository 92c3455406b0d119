#!/usr/bin/env python3
"""Run a command in several processes on this machine, on the CPU or on its NVIDIA GPUs.

  python launch/local.py --processes 2 -- --config configs/digits.py --workdir runs/digits
  python launch/local.py --processes 2 --command evaluate -- --workdir runs/digits

Run it from the root of the repository. Each process takes its share of the GPUs. SIGTERM and Ctrl-C
are sent on to all: after SIGTERM they save what is done and end with 42, and the same line goes on.
Exit codes: 0 all are done, 1 one failed, 2 wrong usage, 42 start me again.
"""

import argparse
import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

COMMANDS = ("train", "evaluate", "doctor")
PROCESS_FLAGS = ("--coordinator", "--num_processes", "--process_id")
RESTART = 42
# After one process has ended badly, the others find out by themselves, name it and end.
SECONDS_TO_NOTICE = 60
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see --help)", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str]) -> int:
    """Runs all processes to their end; returns the exit code."""
    parser = Parser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="local.py --processes N [--command NAME] -- FLAGS",
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument("--command", choices=COMMANDS, default="train", help="default: train")
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="flags of the command")
    asked = parser.parse_args(arguments)
    if asked.processes < 1:
        parser.error(f"--processes {asked.processes}: at least one")
    for flag in asked.flags:
        if flag.split("=")[0] in PROCESS_FLAGS:
            parser.error(f"{flag}: local.py sets {', '.join(PROCESS_FLAGS)} itself")
    gpus = gpus_to_share()
    if 0 < gpus < asked.processes:
        parser.error(
            f"{asked.processes} processes cannot share {gpus} GPU{'s' if gpus > 1 else ''}: "
            f"--processes {gpus}, or JAX_PLATFORMS=cpu for the CPU"
        )
    share = gpus // asked.processes
    coordinator = f"127.0.0.1:{free_port()}"
    processes: list[subprocess.Popen[bytes]] = []
    with forwarded_signals(processes) as forwarded:
        for k in range(asked.processes):
            if forwarded:  # those that run have been told to end; a newcomer would wait for them
                break
            command = [
                sys.executable, "-m", f"inception_jax.{asked.command}", *asked.flags,
                "--coordinator", coordinator,
                "--num_processes", str(asked.processes), "--process_id", str(k),
            ]  # fmt: skip
            processes.append(start(k, command, list(range(k * share, (k + 1) * share))))
        with contextlib.closing(Outputs(processes)) as outputs:
            codes = wait(processes, outputs)
    return exit_code(codes, terminated=signal.SIGTERM in forwarded)


def gpus_to_share() -> int:
    """The number of GPUs that JAX would use; 0: it runs on something else."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = visible.split(",")
        # CUDA ends its list at the first that is none: "", "-1".
        return next((k for k, name in enumerate(names) if not name or name[0] == "-"), len(names))
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def free_port() -> int:
    """A port that is free now; process 0 takes it seconds later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(k: int, command: list[str], gpus: list[int]) -> subprocess.Popen[bytes]:
    """Starts process k. 0 writes where this program writes; the output of others is a pipe."""
    environment = dict(os.environ)
    if gpus:
        # Not CUDA_VISIBLE_DEVICES: it hides the other GPUs from NCCL, which looks for the fastest
        # way to them. These numbers are positions in CUDA_VISIBLE_DEVICES, where that is set.
        environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, gpus))
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if k == 0 else subprocess.PIPE,
        stderr=None if k == 0 else subprocess.STDOUT,
        # A group of its own: a terminal would send Ctrl-C to all, and forwarding made it the
        # second, which ends a process at once.
        process_group=0,
        preexec_fn=end_with(os.getpid()),
    )


def end_with(parent: int) -> Callable[[], None] | None:
    """What a child runs before its program, to get SIGTERM when this one is killed (on Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded here: not after the fork

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os.kill(os.getpid(), signal.SIGTERM)

    return prepare


class Outputs:
    """The pipes of processes, written line by line to standard error.

    Read without threads: where a process has several, the kernel sends its children the signal that
    it was killed once for each.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]):
        self._selector = selectors.DefaultSelector()
        self._pipes = {k: process.stdout for k, process in enumerate(processes) if process.stdout}
        self._begun = dict.fromkeys(self._pipes, b"")  # of the line that is not complete yet
        for k, pipe in self._pipes.items():
            self._selector.register(pipe, selectors.EVENT_READ, k)

    def pass_on(self, seconds: float) -> bool:
        """Writes what comes, and waits for it so long at most; false when all are closed."""
        for key, _ in self._selector.select(seconds):
            output = os.read(key.fd, 1 << 16)
            *lines, self._begun[key.data] = (self._begun[key.data] + output).split(b"\n")
            if not output:
                self._selector.unregister(key.fileobj)
                lines = [self._begun[key.data]] if self._begun[key.data] else []
            for line in lines:
                sys.stderr.write(f"[{key.data}] {line.decode(errors='replace')}\n")
            sys.stderr.flush()
        return bool(self._selector.get_map())

    def close(self) -> None:
        self._selector.close()
        for pipe in self._pipes.values():
            pipe.close()


@contextlib.contextmanager
def forwarded_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Sends SIGTERM and SIGINT on to all processes; yields those that came."""
    forwarded: list[int] = []

    def forward(number: int, frame: object) -> None:
        forwarded.append(number)
        for process in processes:
            process.send_signal(number)

    with handled(forward):
        yield forwarded


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """For the length of the block `handler` gets SIGTERM and SIGINT."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def wait(processes: Sequence[subprocess.Popen[bytes]], outputs: Outputs) -> list[int]:
    """Waits for all; kills those that outlive a failed one too long. Returns their exit codes."""
    first: tuple[int, int] | None = None  # of those that ended badly: its number and exit code
    deadline = float("inf")
    while None in (codes := [process.poll() for process in processes]):
        if first is None:
            first = next(((k, code) for k, code in enumerate(codes) if code), None)
            deadline = time.monotonic() + SECONDS_TO_NOTICE if first else deadline
        elif time.monotonic() > deadline:
            for k, process in enumerate(processes):
                if codes[k] is None:
                    print(
                        f"killed process {k}: still running {SECONDS_TO_NOTICE} s after process "
                        f"{first[0]} ended with {first[1]}",
                        file=sys.stderr,
                    )
                    os.killpg(process.pid, signal.SIGKILL)
            break
        outputs.pass_on(seconds=0.05)
    ended = [process.wait() for process in processes]
    deadline = time.monotonic() + 5  # not for ever: what they leave behind can hold an output
    while outputs.pass_on(seconds=0.05) and time.monotonic() < deadline:
        pass
    return ended


def exit_code(codes: Sequence[int], terminated: bool) -> int:
    """One code for all: a failure above a restart above success.

    A process that died of the SIGTERM sent on to it had not begun to listen: it was preempted.
    """
    preempted = {RESTART, -signal.SIGTERM} if terminated else {RESTART}
    failures = set(codes) - preempted - {0}
    if failures:
        return 2 if failures == {2} else 1
    return RESTART if set(codes) & preempted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
