"""Prepare a data set: write it as ArrayRecord files that training reads by index."""

import argparse
from types import ModuleType

from inception_jax import cli
from inception_jax.data.preparing import (
    digits,
    fashion_mnist,
    folder,
    ilsvrc2012,
    tfds_builder,
    verification,
)
from inception_jax.errors import UserError
from inception_jax.storage import disk

log = cli.log

# The module that `prepare NAME` runs.
PREPARERS: dict[str, ModuleType] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "folder": folder,
    "ilsvrc2012": ilsvrc2012,
    "tfds": tfds_builder,
}


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prepares `flags.dataset` in `flags.data_dir`, verifies it and reports its images."""
    preparer = PREPARERS[flags.dataset]
    try:
        with disk.writing(flags.data_dir):
            prepared = preparer.prepare(flags)
    except ImportError as error:
        raise UserError(
            f"preparing {flags.dataset} this way needs TensorFlow; "
            f"pip install 'inception_jax[prepare]' brings it ({error})"
        ) from error
    splits = verification.verify(prepared)
    verification.report(prepared, splits, preparer.COMPLETE)
    counts = ", ".join(f"{split.name} {split.images:,}" for split in splits)
    log.info(f"prepared {prepared}: {counts} images")


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    names = parser.add_subparsers(dest="dataset", required=True, metavar="NAME")
    for name, preparer in sorted(PREPARERS.items()):
        summary = (preparer.__doc__ or "").partition("\n")[0]
        subparser = names.add_parser(name, help=summary, description=preparer.__doc__)
        preparer.add_flags(subparser)
        subparser.add_argument("--data_dir", type=cli.path, default="data", help="default: data")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
