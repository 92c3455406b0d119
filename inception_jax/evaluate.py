"""Evaluate checkpoints on a whole split: top-1, top-5 and loss, every example exactly once.

Several checkpoints, with commas between them, are one ensemble: their probabilities are averaged.
"""

from inception_jax.runtime import preemption

if __name__ == "__main__":
    preemption.listen()  # the imports below take seconds

import argparse

from inception_jax import cli
from inception_jax.checkpoints import ensemble
from inception_jax.errors import UsageError
from inception_jax.runtime import processes, watchdog
from inception_jax.storage import json_files, workdir
from inception_jax.tasks.classification import crop_options

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints the result as JSON and writes it to the results folder of the (first) run."""
    every = flags.all_checkpoints or flags.follow
    if every and (flags.checkpoint or flags.save_predictions):
        raise UsageError("--all_checkpoints and --follow go with --workdir alone")
    # JAX, which a wrong flag need not wait for.
    from inception_jax.runtime import compiled_programs, devices
    from inception_jax.tasks.classification import every_checkpoint, results
    from inception_jax.tasks.classification.evaluation import EvaluationSpec, SplitEvaluation

    processes.join(flags)
    compiled_programs.keep()
    spec = EvaluationSpec(flags.split, flags.crops, flags.average, flags.table, tuple(overrides))
    mesh = devices.make_mesh()
    if every:
        if processes.is_multi_process():
            raise UsageError("--all_checkpoints and --follow are for one process")
        every_checkpoint.evaluate(
            flags.workdir, spec, mesh, weights=flags.weights, follow=flags.follow, show=print_line
        )
        return
    models = ensemble.load_ensemble(flags, mesh, overrides, task="classification")
    with watchdog.watch(models[0].config.training.watchdog):
        result = SplitEvaluation(models, spec, mesh).run(models, flags.save_predictions)
    if not processes.is_primary():
        return
    if flags.table:
        print_table(result)
    print(json_files.to_text(results.summary(result), indent=2))
    folder = workdir.of_checkpoint(models[0].checkpoint) / workdir.RESULTS
    for path in results.write(result, folder):
        log.info(f"wrote {path}")


def print_line(result: dict) -> None:
    """Prints a result as one line of JSON, and flushes it."""
    from inception_jax.storage import json_files
    from inception_jax.tasks.classification import results

    print(json_files.to_text(results.summary(result)), flush=True)


def print_table(result: dict) -> None:
    """Prints Table 3 to standard error, beside the JSON."""
    from rich.table import Table

    from inception_jax.runtime import console
    from inception_jax.tasks.classification import table_3

    lines = Table(*table_3.COLUMNS, caption=", ".join(result["checkpoints"]))
    for row in result["table"]:
        lines.add_row(*table_3.cells(row, result["table"][0]))
    console.stderr.print(lines)


def make_parser() -> cli.Parser:
    """Makes the parser of the command's flags."""
    usage = "%(prog)s (--workdir DIR | --checkpoint DIR[,DIR...]) [flags]"  # all take six lines
    parser = cli.Parser(__doc__, usage=usage)
    ensemble.add_flags(parser)
    crop_options.add_flags(parser)
    parser.add_argument("--split", help="with slices if need be; default: the config's")
    parser.add_argument(
        "--table",
        action="store_true",
        help="fewer crops and each model alone, too: Table 3",
    )
    parser.add_argument(
        "--all_checkpoints",
        action="store_true",
        help="of --workdir, once each; a JSON line each",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="also those that the run goes on to write",
    )
    parser.add_argument(
        "--save_predictions",
        type=cli.file_to_write,
        metavar="FILE.npz",
        help="log-probabilities and labels",
    )
    processes.add_flags(parser)
    parser.allow_overrides("the checkpoint's config")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
