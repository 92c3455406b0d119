"""Your own images: DIR/CLASS/*, or DIR/{train,validation,test}/CLASS/*."""

import argparse
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from inception_jax import cli
from inception_jax.data import image_files
from inception_jax.data.preparing import conversion, records
from inception_jax.data.preparing.records import Record
from inception_jax.data.sources import PREPARED_BY
from inception_jax.errors import UsageError, UserError

log = logging.getLogger(__name__)

# The names that people give their splits, in any case, and their names here.
SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}

COMPLETE: Mapping[str, int] = {}  # not known

NAMED_AT_MOST = 5  # files, in a message


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds flags for the folder of the images, the name of the data set, and the split."""
    parser.add_argument(
        "--images", type=cli.path, required=True, help="DIR/CLASS/* or DIR/{train,validation}/..."
    )
    parser.add_argument("--name", default="folder", help="of the data set; default: folder")
    parser.add_argument(
        "--validation_fraction",
        type=float,
        default=0.2,
        help="share of each class, where no validation folder is given; default: 0.2",
    )
    parser.add_argument("--seed", type=int, default=0, help="which images those are; default: 0")
    conversion.add_short_side_flag(parser)


def prepare(flags: argparse.Namespace) -> Path:
    """Writes the images as they are, without decoding them; with --short_side also smaller."""
    if not flags.name.isidentifier() or flags.name != flags.name.lower():
        raise UsageError(f"--name is {flags.name!r}: use lower-case letters, digits and _")
    if flags.name in PREPARED_BY:
        raise UsageError(f"--name {flags.name} is the name of another data set: use another")
    if not 0 < flags.validation_fraction < 1:
        raise UsageError(f"--validation_fraction is {flags.validation_fraction}, not in 0..1")
    splits = find_splits(flags.images, flags.validation_fraction, flags.seed)
    class_names = tuple(sorted(splits["train"]))
    description = records.DatasetDescription(
        name=flags.name,
        version="1.0.0",
        text=f"Images in folders, one a class: {flags.images.name}.",
        homepage="https://arxiv.org/abs/1409.4842",
        class_names=class_names,
    )
    label_of = {name: label for label, name in enumerate(class_names)}
    written = {
        split: [
            Record.of_file(path, path.relative_to(flags.images).as_posix(), label_of[name])
            for name, paths in classes.items()
            for path in paths
        ]
        for split, classes in splits.items()
    }
    folder = records.write(description, written, flags.data_dir)
    if flags.short_side is not None:
        folder = conversion.compact(folder, flags.data_dir, flags.short_side)
    return folder


Classes = Mapping[str, list[Path]]  # class name -> its files


def find_splits(images: Path, validation_fraction: float, seed: int) -> dict[str, Classes]:
    """Finds the files of "train", "validation", and "test" if it has a folder, by class.

    Raises:
      UserError: the folder is laid out in another way.
    """
    if not images.is_dir():
        raise UserError(f"no folder {str(images)!r}")
    found: dict[str, Classes] = {}
    others = []
    for subfolder in subfolders(images):
        name = SPLITS.get(subfolder.name.lower())
        if name is None or not subfolders(subfolder):  # a class, which may be called train
            others.append(subfolder)
        elif name in found:
            raise UserError(f"{images} has two folders for {name}; {subfolder.name} is the second")
        else:
            found[name] = find_classes(subfolder)
    if found and others:
        raise UserError(
            f"{images} has folders of splits, and {others[0].name}, which is not one: move it"
        )
    if found and "train" not in found:
        raise UserError(f"{images} has a folder for {min(found)}, but not for train: add it")
    if not found:
        found = {"train": find_classes(images)}
    if "validation" not in found:
        found |= split(found["train"], validation_fraction, seed)
    for name, classes in found.items():
        if unknown := sorted(set(classes) - set(found["train"])):
            raise UserError(f"{images}: class {unknown[0]} is in {name} and not in train")
    if len(found["train"]) < 2:
        raise UserError(f"{images} has only the class {min(found['train'])}: two are needed")
    return found


def find_classes(folder: Path) -> Classes:
    """Finds the image files below each subfolder, and names other files in the log.

    Raises:
      UserError: there are no subfolders, or one has no images; a name cannot be stored.
    """
    classes: dict[str, list[Path]] = {}
    others = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    for subfolder in subfolders(folder):
        files = list(image_files.walk(subfolder))
        for path in (subfolder, *files):
            check_name(path)
        classes[subfolder.name] = [path for path in files if image_files.is_image(path)]
        others += [path for path in files if not image_files.is_image(path)]
        if not classes[subfolder.name]:
            raise UserError(f"no images in {subfolder} ({', '.join(image_files.SUFFIXES)})")
    if not classes:
        raise UserError(f"no class folders in {folder}: images belong in {folder}/CLASS/")
    if others:
        names = ", ".join(str(path) for path in others[:NAMED_AT_MOST])
        more = ", ..." if len(others) > NAMED_AT_MOST else ""
        log.warning(f"left out {len(others)} files that are not images in a class: {names}{more}")
    return classes


def check_name(path: Path) -> None:
    """Checks that a name can be written to a text file and read again.

    Raises:
      UserError: it is not UTF-8, has a line break, or has spaces around it.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path!a} has a name that is not UTF-8: rename it") from None
    if path.name != path.name.strip() or "\n" in path.name:
        raise UserError(
            f"{str(path)!r} begins or ends with a space, or has a line break: rename it"
        )


def subfolders(folder: Path) -> list[Path]:
    """The subfolders of a folder, sorted, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def split(classes: Classes, fraction: float, seed: int) -> dict[str, Classes]:
    """Divides each class, at least one file on each side, by a hash of (seed, class, file name).

    So most files keep their side when others come or go.

    Raises:
      UserError: a class has one image.
    """

    def rank(path: Path) -> bytes:
        return hashlib.sha256(f"{seed}/{path.parent.name}/{path.name}".encode()).digest()

    train, validation = {}, {}
    for name, paths in classes.items():
        if len(paths) < 2:
            raise UserError(f"class {name} has one image: two are needed, one to validate on")
        count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
        chosen = set(sorted(paths, key=rank)[:count])
        validation[name] = [path for path in paths if path in chosen]
        train[name] = [path for path in paths if path not in chosen]
    return {"train": train, "validation": validation}
