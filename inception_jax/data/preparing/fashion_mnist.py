"""Fashion-MNIST: 70,000 grayscale images of 28x28 pixels, ten kinds of clothing.

From the four IDX files as their authors publish them (Xiao et al. 2017, arXiv 1708.07747), packed
by gzip or not; Debian's package dataset-fashion-mnist has them, so that no network is needed.
"""

import argparse
import gzip
import zlib
from pathlib import Path

import numpy as np

from inception_jax import cli
from inception_jax.data.preparing import records
from inception_jax.data.preparing.records import Record
from inception_jax.errors import UserError

DESCRIPTION = records.DatasetDescription(
    name="fashion_mnist",
    version="1.0.0",
    text=__doc__,
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    image_shape=(28, 28, 1),
)

PREFIXES = {"train": "train", "test": "t10k"}  # of the file names

COMPLETE = {"train": 60_000, "test": 10_000}  # images

_UNSIGNED_BYTES = 8  # IDX's code of the type


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --source_dir, the folder of the four files."""
    parser.add_argument(
        "--source_dir",
        type=cli.path,
        required=True,
        help="folder with train-images-idx3-ubyte[.gz] and the other three; "
        "Debian: /usr/share/datasets/fashion-mnist",
    )


def prepare(flags: argparse.Namespace) -> Path:
    """Writes each image as a PNG."""
    splits = {}
    for split, prefix in PREFIXES.items():
        count = COMPLETE[split]
        images = read_idx(flags.source_dir, f"{prefix}-images-idx3-ubyte", (count, 28, 28))
        labels = read_idx(flags.source_dir, f"{prefix}-labels-idx1-ubyte", (count,))
        splits[split] = [
            Record.of_pixels(image, f"{split}_{number:05}.png", int(label))
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    return records.write(DESCRIPTION, splits, flags.data_dir)


def read_idx(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads FOLDER/NAME or FOLDER/NAME.gz, uint8 of the given shape.

    Raises:
      UserError: there is no such file, or it is damaged, or of another shape.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            break
    else:
        raise UserError(f"no file {name} or {name}.gz in {folder}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    header = np.array([_UNSIGNED_BYTES << 8 | len(shape), *shape], ">u4").tobytes()
    if not content.startswith(header) or len(content) != len(header) + np.prod(shape):
        raise UserError(f"{path} is not an IDX file of {'x'.join(map(str, shape))} bytes")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
