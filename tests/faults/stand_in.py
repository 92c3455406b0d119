"""Stands in for a command of the package: says how it was called, and ends as it is told.

What it does at its n-th start is n-th in PLAN, a JSON object of a list for each process:
  an exit code; "die" by SIGKILL; "wait" for a signal, save, and end with 42; "deaf" to SIGTERM.
What it saw is in RECORD/PROCESS.START.json.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    process = name_of_this_process()
    record = Path(os.environ["RECORD"])
    start = len(list(record.glob(f"{process}.*.json")))
    action = json.loads(os.environ["PLAN"])[process][start]
    signals: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(signal.Signals(number).name))
    seen = {"arguments": sys.argv[1:], "environment": dict(os.environ), "pid": os.getpid()}
    write(record / f"{process}.{start}.json", seen)
    print(f"output of {process}", flush=True)
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while action == "deaf" or (action == "wait" and not signals):
        time.sleep(0.05)
    if action == "wait":
        time.sleep(0.5)  # saving takes its time, and a second signal would be seen
        write(record / f"{process}.{start}.json", seen | {"signals": signals})
        sys.exit(42)
    sys.exit(action)


def name_of_this_process() -> str:
    """By the flag, by Slurm (ARRAY_TASK-PROCESS in an array), or by the worker of a fake TPU."""
    if "--process_id" in sys.argv:
        return sys.argv[sys.argv.index("--process_id") + 1]
    process = os.environ.get("SLURM_PROCID") or os.environ["WORKER"]
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{task}-{process}" if task else process


def write(path: Path, seen: dict) -> None:
    """Whoever finds the file finds all of it."""
    path.with_suffix(".part").write_text(json.dumps(seen))
    path.with_suffix(".part").replace(path)


main()
