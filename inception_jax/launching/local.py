"""Run a command in several processes on this machine, on the CPU or on its NVIDIA GPUs.

  python launch/local.py --processes 2 -- --config configs/digits.py --workdir runs/digits
  python launch/local.py --processes 2 --command evaluate -- --workdir runs/digits

Each process takes its share of the GPUs. SIGTERM and Ctrl-C are sent on to all: after SIGTERM they
save what is done and end with 42, and the same command goes on. Exit codes: 0 all are done, 1 one
failed, 2 wrong usage, 42 start me again.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from inception_jax.errors import ExitCode
from inception_jax.launching import child_processes, gpus
from inception_jax.launching.prefixed_output import PrefixedOutput

# JAX is not loaded here: it would take the accelerators that the processes need.

COMMANDS = ("train", "evaluate", "doctor")
PROCESS_FLAGS = ("--coordinator", "--num_processes", "--process_id")
# After one process has ended badly, the others find out by themselves, name it and end.
SECONDS_TO_NOTICE = 60


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see --help)", file=sys.stderr)
        sys.exit(ExitCode.WRONG_USAGE)


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
    available = gpus.count_gpus()
    if 0 < available < asked.processes:
        parser.error(
            f"{asked.processes} processes cannot share {available} GPU{'s' * (available > 1)}: "
            f"--processes {available}, or JAX_PLATFORMS=cpu for the CPU"
        )
    coordinator = f"127.0.0.1:{free_port()}"
    processes: list[subprocess.Popen[bytes]] = []
    with child_processes.recorded_signals() as received:
        for k in range(asked.processes):
            if received:  # those that run are going to end; another one would wait for them
                break
            command = [
                sys.executable, "-m", f"inception_jax.{asked.command}", *asked.flags,
                "--coordinator", coordinator,
                "--num_processes", str(asked.processes), "--process_id", str(k),
            ]  # fmt: skip
            processes.append(start(k, command, gpus.for_process(k, asked.processes, available)))
        with contextlib.closing(PrefixedOutput(processes)) as output:
            codes = wait(processes, output, received)
    return exit_code(codes, terminated=signal.SIGTERM in received)


def free_port() -> int:
    """A port that is free now; process 0 takes it seconds later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(k: int, command: list[str], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts process k; 0 writes where this program writes, the others to pipes."""
    if k == 0:
        return child_processes.start(command, variables)
    return child_processes.start(
        command, variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait(
    processes: Sequence[subprocess.Popen[bytes]], output: PrefixedOutput, received: Sequence[int]
) -> list[int]:
    """Waits for all processes, passes signals on, and kills those that outlive a failed one.

    Args:
      processes: all that were started.
      output: theirs.
      received: signals for all processes; grows while this waits.

    Returns:
      The exit codes, one a process; -N where signal N killed it.
    """
    first_failed: tuple[int, int] | None = None  # its number and exit code
    deadline = float("inf")
    sent: Counter[int] = Counter()
    while None in (codes := [process.poll() for process in processes]):
        child_processes.pass_on(received, processes, sent)
        if first_failed is None:
            first_failed = next(((k, code) for k, code in enumerate(codes) if code), None)
            deadline = time.monotonic() + SECONDS_TO_NOTICE if first_failed else deadline
        elif time.monotonic() > deadline:
            for k, process in enumerate(processes):
                if codes[k] is None:
                    print(
                        f"killed process {k}: still running {SECONDS_TO_NOTICE} s after process "
                        f"{first_failed[0]} ended with {first_failed[1]}",
                        file=sys.stderr,
                    )
                    os.killpg(process.pid, signal.SIGKILL)
            break
        output.write(seconds=0.05)
    ended = [process.wait() for process in processes]
    deadline = time.monotonic() + 5  # not for ever: what they leave behind can hold an output
    while output.write(seconds=0.05) and time.monotonic() < deadline:
        pass
    return ended


def exit_code(codes: Sequence[int], terminated: bool) -> int:
    """Joins exit codes: a failure counts before a restart, and that before success.

    A process that died of the SIGTERM sent on to it had not begun to listen: it was preempted.
    """
    preempted = {ExitCode.RESTART, -signal.SIGTERM} if terminated else {ExitCode.RESTART}
    failures = set(codes) - preempted - {ExitCode.DONE}
    if failures:
        only_usage = failures == {ExitCode.WRONG_USAGE}
        return ExitCode.WRONG_USAGE if only_usage else ExitCode.ERROR
    return ExitCode.RESTART if set(codes) & preempted else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
