"""Train all runs of a sweep on this machine, or write them down for a Slurm array.

  python launch/sweep.py configs/sweeps/digits.py --output runs/digits_sweep
  python launch/sweep.py configs/sweeps/digits.py --output runs/digits_sweep --slurm

Each run is a folder in --output. Stopped or killed, the same command goes on; no run is done twice.
On GPUs each of --jobs has its share of them. Exit codes: 0 all are done, 1 some failed, 2 wrong
usage, 42 start me again.
"""

import argparse
import shlex
from collections.abc import Sequence

from inception_jax import cli
from inception_jax.errors import UserError
from inception_jax.launching import run_queue, sweeps
from inception_jax.launching.sweep_record import LOGS, SweepRecord
from inception_jax.launching.sweeps import Run
from inception_jax.runtime import console
from inception_jax.storage import json_files, locks


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Trains the runs that are not done."""
    runs = sweeps.read_sweep(flags.sweep, overrides)
    with locks.hold(flags.output, "running a sweep"):
        record = SweepRecord(runs, flags.output, overrides)
        wanted = {"open", "failed"} if flags.retry else {"open"}
        todo = [run for run in runs if record.state(run) in wanted]
        if flags.slurm:
            write_for_slurm(todo, record)
            return
        run_queue.train_all(todo, record, flags.jobs)
        console.stdout.print(record.status_table())
        states = [record.state(run) for run in runs]
    if failed := states.count("failed"):
        raise UserError(
            f"{failed} of {len(runs)} runs failed: {flags.output / LOGS} has their output; "
            "--retry starts them again"
        )


def write_for_slurm(todo: Sequence[Run], record: SweepRecord) -> None:
    """Writes a line of flags for each run, and prints the command for Slurm."""
    if not todo:
        print(f"nothing to do in {record.output}")
        return
    path = record.output / "flags.txt"
    json_files.replace(path, sweeps.flags_file(todo, record.output, record.overrides))
    array = f"--array=1-{len(todo)}"
    print(shlex.join(["sbatch", "--nodes=1", array, "launch/slurm/sweep.sbatch", str(path)]))


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("sweep", metavar="FILE", help="sweep file, as configs/sweeps/x.py")
    parser.add_argument("--output", type=cli.path, required=True, metavar="DIR")
    parser.add_argument(
        "--jobs", type=cli.positive, default=1, metavar="N", help="runs at a time; default: 1"
    )
    parser.add_argument("--retry", action="store_true", help="also those that failed before")
    parser.add_argument(
        "--slurm", action="store_true", help="run nothing: write flags.txt, print the sbatch line"
    )
    parser.allow_overrides("all runs")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
