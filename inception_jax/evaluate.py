"""Evaluate a checkpoint on a whole split: top-1, top-5 and loss, every example exactly once."""

import argparse
import time

from inception_jax import cli, json_files, workdir
from inception_jax.data.pipeline import check_data
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.errors import UserError
from inception_jax.evaluation import results, trained
from inception_jax.evaluation.protocol import make_evaluate
from inception_jax.reporting import progress


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints the result as JSON and writes it to the run's results folder.

    `images_per_second` is of the whole evaluation, compilation included.
    """
    mesh = devices.make_mesh()
    checkpoint = flags.checkpoint or trained.newest_in(flags.workdir)
    model = trained.load(checkpoint, mesh, weights=flags.weights, overrides=overrides)
    config = model.config
    split = flags.split or config.evaluation.split
    check_data(config)
    source = open_source(config.data, split, model.network.config.num_classes)
    check_class_names(source.class_names, model.class_names)
    evaluate = make_evaluate(model.network, config, source, mesh)
    with progress.show(f"evaluating {checkpoint} on {split}", len(source)) as show:
        start = time.perf_counter()
        measured = evaluate(model.params, model.batch_stats, show)
        seconds = time.perf_counter() - start
    result = measured | {
        "crops": 1,
        "models": 1,
        "weights": model.weights,
        "checkpoints": [str(checkpoint)],
        "step": model.step,
        "split": split,
        "config_name": config.name,
        "overrides": overrides,
        "data_fingerprint": source.fingerprint,
        "images_per_second": measured["examples"] / seconds,
    }
    print(json_files.to_text(result, indent=2))
    folder = workdir.of_checkpoint(checkpoint) / workdir.RESULTS
    cli.log.info(f"wrote {results.write(result, folder)}")


def check_class_names(data: tuple[str, ...], model: tuple[str, ...]) -> None:
    """Raises UserError if class numbers mean other things in the data than in the checkpoint."""
    for label, (one, other) in enumerate(zip(data, model, strict=True)):
        if one != other:
            raise UserError(f"class {label} is {one!r} in the data and {other!r} in the checkpoint")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=cli.path, help="a run: its newest good checkpoint")
    which.add_argument("--checkpoint", type=cli.path, help="a checkpoint: WORKDIR/checkpoints/STEP")
    parser.add_argument("--split", help="another split, slices allowed; default: the config's")
    parser.add_argument("--weights", choices=trained.WEIGHTS, help="default: average if kept")
    parser.allow_overrides("the checkpoint's config")
    cli.run(main, parser)
