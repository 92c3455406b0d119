"""Classify image files: the five likeliest classes of each, as JSON lines and as a table."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from rich.table import Column, Table

from inception_jax import cli
from inception_jax.data import image_files
from inception_jax.data.crops import center_crop
from inception_jax.data.decode import decode
from inception_jax.data.pipeline import check_data
from inception_jax.distributed import devices
from inception_jax.errors import UserError
from inception_jax.evaluation import trained
from inception_jax.evaluation.protocol import make_logits
from inception_jax.reporting import console, progress

TOP = 5


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints one JSON object an image to standard output, and a table to standard error."""
    paths = list(find_images(flags.images))
    if flags.save_logits and not flags.save_logits.parent.is_dir():
        raise UserError(f"no folder {str(flags.save_logits.parent)!r} for --save_logits")
    mesh = devices.make_mesh()
    checkpoint = flags.checkpoint or trained.newest_in(flags.workdir)
    model = trained.load(checkpoint, mesh, weights=flags.weights, overrides=overrides)
    check_data(model.config)
    logits = predict(model, paths, mesh)
    if flags.save_logits:
        with flags.save_logits.open("wb") as file:  # np.save would add .npy to another name
            np.save(file, logits)
    table = Table(Column("image", overflow="fold"), *(f"{rank}." for rank in range(1, TOP + 1)))
    for path, row in zip(paths, logits, strict=True):
        top = likeliest(row, model.class_names)
        print(json.dumps({"image": str(path), "top": top}))
        table.add_row(str(path), *(f"{t['name']} {t['probability']:.1%}" for t in top))
    console.stderr.print(table)


def find_images(paths: list[Path]) -> Iterator[Path]:
    """The files themselves, and of folders all image files below them, sorted.

    Raises:
      UserError: a path that is not there, or a folder without images.
    """
    for path in paths:
        if path.is_dir():
            files = [file for file in image_files.walk(path) if image_files.is_image(file)]
            if not files:
                suffixes = ", ".join(image_files.SUFFIXES)
                raise UserError(f"no images in {path} (looked for {suffixes})")
            yield from files
        elif path.exists():
            yield path
        else:
            raise UserError(f"no file {str(path)!r}")


def predict(model: trained.Trained, paths: list[Path], mesh: Mesh) -> np.ndarray:
    """Logits, float32 [images, classes], of the centre crop of each image, in batches."""
    data, short_side = model.config.data, model.config.evaluation.short_side
    compute = make_logits(model.network, data, mesh)
    batch_size = -(-min(data.batch_size, len(paths)) // mesh.size) * mesh.size
    outputs = []
    with progress.show("classifying", len(paths)) as show:
        for start in range(0, len(paths), batch_size):
            images = np.zeros((batch_size, data.image_size, data.image_size, 3), np.uint8)
            chosen = paths[start : start + batch_size]
            for row, path in enumerate(chosen):
                image = decode(path.read_bytes(), str(path))
                images[row] = center_crop(image, short_side=short_side, size=data.image_size)
            batch = devices.to_devices({"image": images}, mesh)
            logits = compute(model.params, model.batch_stats, batch["image"])
            outputs.append(np.asarray(logits)[: len(chosen)])
            show(start + len(chosen))
    return np.concatenate(outputs)


def likeliest(logits: np.ndarray, class_names: tuple[str, ...]) -> list[dict]:
    """The TOP classes of largest probability: `label`, `name`, `probability` (softmax)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = exponentials / exponentials.sum()
    names = dict(enumerate(class_names))
    return [
        {
            "label": int(label),
            "name": names.get(int(label), str(label)),
            "probability": float(probabilities[label]),
        }
        for label in np.argsort(-probabilities, kind="stable")[:TOP]
    ]


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=cli.path, help="a checkpoint: WORKDIR/checkpoints/STEP")
    which.add_argument("--workdir", type=cli.path, help="a run: its newest good checkpoint")
    parser.add_argument("--images", type=cli.path, nargs="+", required=True, help="files, folders")
    parser.add_argument("--save_logits", type=cli.path, help="file for float32 [images, classes]")
    parser.add_argument("--weights", choices=trained.WEIGHTS, help="default: average if kept")
    parser.allow_overrides("the checkpoint's config")
    cli.run(main, parser)
