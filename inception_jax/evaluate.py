"""Evaluate a checkpoint on a whole split: top-1, top-5 and loss, every example exactly once."""

import argparse
import time
from pathlib import Path

from inception_jax import cli, json_files
from inception_jax.data.pipeline import check_data
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.evaluation import results, trained
from inception_jax.evaluation.protocol import make_evaluate
from inception_jax.reporting import progress


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints the result as JSON and writes it to the run's results folder."""
    mesh = devices.make_mesh()
    checkpoint = flags.checkpoint or trained.newest_in(flags.workdir)
    model = trained.load(checkpoint, mesh, weights=flags.weights, overrides=overrides)
    config = model.config
    split = flags.split or config.evaluation.split
    check_data(config)
    source = open_source(config.data, split, model.network.config.num_classes)
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
        "data_fingerprint": source.fingerprint,
        "images_per_second": measured["examples"] / seconds,
    }
    print(json_files.to_text(result, indent=2))
    # WORKDIR/checkpoints/STEP -> WORKDIR/results; beside a checkpoint that belongs to no run.
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    cli.log.info(f"wrote {results.write(result, run / 'results')}")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, help="a run: its newest good checkpoint")
    which.add_argument("--checkpoint", type=Path, help="a checkpoint: WORKDIR/checkpoints/STEP")
    parser.add_argument("--split", help="another split, slices allowed; default: the config's")
    parser.add_argument("--weights", choices=trained.WEIGHTS, help="default: average if kept")
    parser.allow_overrides("the checkpoint's config")
    cli.run(main, parser)
