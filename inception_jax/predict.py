"""Classify image files: the five most likely classes, as JSON lines, a table and a picture.

Several checkpoints, with commas between them, are one ensemble: their probabilities are averaged.
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Column, Table

from inception_jax import cli
from inception_jax.checkpoints import ensemble
from inception_jax.data import image_files
from inception_jax.data.decode import decode
from inception_jax.errors import UserError
from inception_jax.runtime import console, pictures, progress
from inception_jax.storage import disk, json_files
from inception_jax.tasks.classification import crop_options

TOP = 5
THUMBNAIL = 300  # pixels, of an image in the picture
SHOWN = 60  # images in the table and in the picture; the JSON lines have all

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints one JSON object an image to standard output, and a table to standard error."""
    paths = list(image_files.find(flags.images))
    # JAX and OpenCV, after what a wrong flag needs.
    from inception_jax.data.sources import FileSource
    from inception_jax.runtime import compiled_programs, devices
    from inception_jax.tasks.classification.predictor import Predictor

    # One unreadable file ends the command: else its line would look like an answer.
    overrides = [*overrides, "--config.evaluation.bad_images=error"]
    compiled_programs.keep()
    mesh = devices.make_mesh()
    models = ensemble.load_ensemble(flags, mesh, overrides, task="classification")
    crops = flags.crops or models[0].config.evaluation.crops
    for model in models:
        with model.config.unlocked():  # a larger batch would be filled up
            data = model.config.data
            data.batch_size = min(data.batch_size, len(paths) * crops)
    predictor = Predictor(
        [(model.network, model.config) for model in models],
        mesh,
        crops=crops,
        average=flags.average,
    )
    weights = [(model.params, model.batch_stats) for model in models]
    classes = np.arange(predictor.num_classes)
    source = FileSource(paths)
    shown: list[tuple[Path, list[dict]]] = []
    with (
        predictor.predict(
            weights, source, classes, keep_logits=bool(flags.save_logits)
        ) as predictions,
        logits_file(flags.save_logits, len(paths)) as save,
    ):
        for batch in progress.track(predictions, "classifying", predictor.batches(len(paths))):
            save(batch.index, batch.logits)
            for index, row in zip(batch.index, batch.log_probabilities[-1], strict=True):
                if np.isnan(row).any():
                    raise UserError(
                        f"the prediction for {paths[index]} is not a number: the weights are bad"
                    )
                top = most_likely(row, models[0].class_names)
                print(json_files.to_text({"image": str(paths[index]), "top": top}))
                if len(shown) < SHOWN:
                    shown.append((paths[index], top))
    print_table(shown, len(paths))
    if flags.grid:
        images = [thumbnail(path) for path, _ in shown]
        titles = [path.name.encode("utf-8", "replace").decode() for path, _ in shown]
        pictures.predictions(images, titles, [top for _, top in shown], flags.grid)
        log.info(f"wrote {flags.grid}")


def thumbnail(path: Path) -> np.ndarray:
    """Reads an image, uint8 [height, width, 3], at most THUMBNAIL pixels on a side."""
    image = Image.fromarray(decode(path.read_bytes(), str(path)))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)


def most_likely(log_probabilities: np.ndarray, class_names: tuple[str, ...]) -> list[dict]:
    """Lists the TOP most probable classes: `label`, `name`, `probability`."""
    return [
        {
            "label": int(label),
            "name": class_names[label],
            "probability": float(np.exp(np.float64(log_probabilities[label]))),
        }
        for label in np.argsort(-log_probabilities, kind="stable")[:TOP]
    ]


@contextlib.contextmanager
def logits_file(
    path: Path | None, images: int
) -> Iterator[Callable[[np.ndarray, np.ndarray | None], None]]:
    """Opens `save(index, logits)` for a .npy file, which appears when all is written.

    float32 [images, classes], of several networks or crops [images, networks, crops, classes].
    """
    if path is None:
        yield lambda index, logits: None
        return
    partial = path.with_name(path.name + ".partial")
    written = 0

    # By write, and not as mapped memory: on a full disk the system kills who writes to that.
    def save(index: np.ndarray, logits: np.ndarray | None) -> None:
        nonlocal written
        assert logits is not None
        assert index[0] == written  # images come in order
        if logits.shape[1:3] == (1, 1):
            logits = logits[:, 0, 0]
        rows = np.asarray(logits, "<f4")
        with disk.writing(path.parent), partial.open("ab" if written else "wb") as file:
            if not written:
                shape = (images, *rows.shape[1:])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(rows.tobytes())
        written += len(rows)

    try:
        yield save
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def print_table(shown: Sequence[tuple[Path, list[dict]]], images: int) -> None:
    """Prints a table to standard error, beside the JSON lines."""
    table = Table(Column("image", overflow="fold"), *(f"{rank}." for rank in range(1, TOP + 1)))
    for path, top in shown:
        cells = [str(path), *(f"{t['name']} {t['probability']:.1%}" for t in top)]
        table.add_row(*map(console.printable, cells))
    if images > len(shown):
        table.caption = f"the first {len(shown)} of {images}"
    console.stderr.print(table)


def make_parser() -> cli.Parser:
    """Makes the parser of the command's flags."""
    parser = cli.Parser(__doc__)
    ensemble.add_flags(parser)
    crop_options.add_flags(parser)
    parser.add_argument("--images", type=cli.path, nargs="+", required=True, help="files, folders")
    parser.add_argument(
        "--save_logits",
        type=cli.file_to_write,
        metavar="FILE.npy",
        help="[images, classes], or [images, models, crops, classes]",
    )
    parser.add_argument(
        "--grid",
        type=cli.picture_to_write,
        metavar="FILE.png",
        help="a picture of images and answers",
    )
    parser.allow_overrides("the checkpoint's config")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
