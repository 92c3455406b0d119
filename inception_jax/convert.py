"""Make a checkpoint of published GoogLeNet weights: torchvision's, Caffe's (ONNX) or TF-slim's.

The checkpoint has config and preprocessing inside: evaluate and predict take it as it is, and
--config.model.init_from starts a training from it. 1000 classes are ILSVRC2012's; for others give
--config.model.num_classes=N and --class_names.
"""

import argparse
from pathlib import Path

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.tools.interop.formats import IMPORTED


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Writes the checkpoint `flags.output`, or nothing."""
    if flags.output.exists() and not (flags.output.is_dir() and not any(flags.output.iterdir())):
        raise UsageError(f"{flags.output} exists already: use another --output")
    import jax

    from inception_jax.checkpoints import store
    from inception_jax.checkpoints.description import make_description
    from inception_jax.tools.interop import published

    weights = published.read_weights(flags.format, flags.weights, overrides)
    classes = name_classes(weights.config.model.num_classes, flags.class_names)
    description = make_description(weights.config, classes, data_fingerprint=None)
    store.write(flags.output, weights.tree, description | {"source": weights.source})
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights.tree["params"]))
    auxiliary = "with" if weights.config.model.auxiliary else "without"
    cli.log.info(f"wrote {flags.output}: {parameters:,} parameters, {auxiliary} auxiliary heads")


def name_classes(count: int, file: Path | None) -> tuple[str, ...]:
    """Returns the lines of a file; without a file, ILSVRC2012's WNIDs for 1000 classes, or numbers.

    Raises:
      UsageError: the file has another number of lines.
      UserError: the file is not text in UTF-8.
    """
    if file is not None:
        try:
            names = tuple(file.read_text(encoding="utf-8-sig").splitlines())
        except UnicodeDecodeError:
            raise UserError(f"{file} is not text in UTF-8") from None
        if len(names) != count:
            raise UsageError(f"{file} has {len(names)} lines and the network {count} classes")
        return names
    from inception_jax.data.preparing import ilsvrc2012

    wnids = ilsvrc2012.class_names()
    return wnids if len(wnids) == count else tuple(map(str, range(count)))


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--from", dest="format", choices=IMPORTED, required=True)
    parser.add_argument("--weights", type=cli.path, required=True, help="file of weights")
    parser.add_argument("--output", type=cli.path, required=True, help="the checkpoint, a folder")
    parser.add_argument("--class_names", type=cli.path, help="file with one name a line")
    parser.allow_overrides("the format's config")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
