"""Prepare a data set: write it as ArrayRecord files that training reads by index."""

import argparse

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from inception_jax import cli
from inception_jax.data.preparing import PREPARERS
from inception_jax.data.sources import TfdsSource

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prepares `flags.name` in `flags.data_dir` and says what is there."""
    folder = PREPARERS[flags.name](flags.data_dir)
    splits = tfds.core.read_only_builder.builder_from_directory(str(folder)).info.splits
    for split in splits:  # opening reads some examples of each
        TfdsSource(ConfigDict({"name": flags.name, "data_dir": str(flags.data_dir)}), split, 0)
    counts = ", ".join(f"{name} {split.num_examples:,}" for name, split in splits.items())
    log.info(f"prepared {flags.name} in {folder}: {counts} examples")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("name", choices=sorted(PREPARERS), help="the data set")
    parser.add_argument("--data_dir", type=cli.path, default="data", help="default: data")
    cli.run(main, parser)
