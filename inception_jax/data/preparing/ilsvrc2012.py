"""ILSVRC2012, the paper's data: 1,281,167 training and 50,000 validation images, 1,000 classes.

From whichever of these --manual_dir has:
  the official archives, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar;
  folders, train/WNID/*.JPEG and val/*.JPEG or val/WNID/*.JPEG;
  a TFDS directory prepared as TFRecord or ArrayRecord (imagenet2012/5.1.0, or one above).
"""

import argparse
import logging
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from inception_jax import cli
from inception_jax.data import image_files
from inception_jax.data.preparing import archives, conversion, folder, records
from inception_jax.data.preparing.records import Record
from inception_jax.data.tfds_source import TfdsSource
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import progress
from inception_jax.storage import locks

log = logging.getLogger(__name__)

NAME, VERSION = "imagenet2012", "5.1.0"
COMPLETE = {"train": 1_281_167, "validation": 50_000}  # images
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
_TRAIN, _VALIDATION = ("train", "ILSVRC2012_img_train"), ("val", "validation", "ILSVRC2012_img_val")
_VALIDATION_FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds flags for the folder of the images, their labels, and the size to store them in."""
    parser.add_argument("--manual_dir", type=cli.path, help="where the images are: see above")
    parser.add_argument(
        "--validation_labels",
        type=cli.path,
        help="for val/*.JPEG: lines of a file name and its WNID (Kaggle's LOC_val_solution.csv) or "
        "class number (Caffe's val.txt); default: the official labels by file number",
    )
    conversion.add_short_side_flag(parser)


def prepare(flags: argparse.Namespace) -> Path:
    """Writes data_dir/imagenet2012/5.1.0, unless it is there; with --short_side the compact set.

    Returns:
      The folder of that set.
    """
    source = _find_prepared(flags.data_dir / NAME)
    if source is None and flags.manual_dir is None:
        raise UsageError(
            f"no {NAME} in {flags.data_dir} yet: --manual_dir says where the images are"
        )
    if source is not None and flags.manual_dir is not None:
        log.warning(f"{source} is there already: {flags.manual_dir} is not read")
    if source is None:
        source = _find_prepared(flags.manual_dir) or _write_base(flags)
    target = flags.data_dir / NAME / conversion.version(source)
    if flags.short_side is not None:
        target = conversion.compact(source, flags.data_dir, flags.short_side)
    elif target != source:
        conversion.convert(source, target)
    if TfdsSource.from_folder(target, "train").class_names != class_names():
        raise UserError(f"{target} has other classes than ILSVRC2012: delete it")
    return target


def class_names() -> tuple[str, ...]:
    """The 1,000 WNIDs, sorted: class 0 is n01440764, the tench."""
    return tuple(_packaged("labels.txt"))


def _packaged(name: str) -> list[str]:
    """Reads a list that comes with TFDS."""
    return tfds.core.tfds_path(f"datasets/{NAME}/{name}").read_text().split()


def _find_prepared(folder: Path) -> Path | None:
    """The newest version folder of TFDS: the folder itself, or one or two levels below it."""
    version = "[0-9]*.[0-9]*.[0-9]*"
    for below in (
        conversion.INFO,
        f"{version}/{conversion.INFO}",
        f"{NAME}/{version}/{conversion.INFO}",
    ):
        if found := [path.parent for path in folder.glob(below)]:
            return max(
                found, key=lambda path: [int(n) for n in conversion.version(path).split(".")]
            )
    return None


def _write_base(flags: argparse.Namespace) -> Path:
    source, base = flags.manual_dir, flags.data_dir / NAME / VERSION
    if not source.is_dir():
        raise UserError(f"no folder {str(source)!r}")
    found = [name for name in ARCHIVES if (source / name).exists()]
    if found:
        if missing := set(ARCHIVES) - set(found):
            raise UserError(f"{source} has {found[0]}, but no {missing.pop()}")
        _from_archives(source, base)
    else:
        _from_folders(source, flags.validation_labels, flags.data_dir)
    return base


def _from_archives(manual_dir: Path, base: Path) -> None:
    """Runs TFDS's own builder, which also turns the known CMYK and PNG files into RGB JPEGs."""
    data_dir = base.parent.parent
    with locks.hold(base.parent, "preparing data"):
        if base.exists():
            raise UserError(f"{base} is there without its {conversion.INFO}: delete it")
        records.remove_unfinished(base)
        builder = tfds.builder(
            NAME, version=VERSION, data_dir=str(data_dir), file_format=records.FILE_FORMAT
        )
        generate = builder._generate_examples

        def shown(archive: Any, **options: Any) -> Iterator:
            split = "validation" if options.get("validation_labels") else "train"
            if split == "train":
                archive = archives.checked(archive, ARCHIVES[0])
            examples = generate(archive, **options)
            return progress.track(examples, f"reading {split}", COMPLETE[split])

        builder._generate_examples = shown
        config = tfds.download.DownloadConfig(manual_dir=str(manual_dir))
        log.info(f"reading {' and '.join(ARCHIVES)}; the full set takes an hour or more")
        with tempfile.TemporaryDirectory() as nothing_downloaded, records.quiet():
            try:
                for name in ARCHIVES:
                    with (manual_dir / name).open("rb") as file:
                        archives.check(file, str(manual_dir / name))
                builder.download_and_prepare(
                    download_config=config, download_dir=nothing_downloaded
                )
            except tarfile.TarError as error:
                raise UserError(f"an archive in {manual_dir} is damaged: {error}") from None


def _from_folders(images: Path, labels: Path | None, data_dir: Path) -> None:
    train, validation = (_one_of(images, names) for names in (_TRAIN, _VALIDATION))
    label_of = {wnid: label for label, wnid in enumerate(class_names())}

    def by_class(root: Path) -> list[Record]:
        classes = folder.find_classes(root)
        if unknown := [wnid for wnid in classes if wnid not in label_of]:
            raise UserError(f"{root / unknown[0]} is not named by a WNID of ILSVRC2012")
        return [
            Record.of_file(path, path.name, label_of[wnid])
            for wnid, paths in classes.items()
            for path in paths
        ]

    if any(subfolder.name in label_of for subfolder in folder.subfolders(validation)):
        validation_records = by_class(validation)
    else:
        wnids = read_validation_labels(labels)
        validation_records = [
            Record.of_file(path, path.name, label_of[_label(path, wnids)])
            for path in image_files.walk(validation)
            if image_files.is_image(path)
        ]
    description = records.DatasetDescription(
        name=NAME,
        version=VERSION,
        text="ILSVRC2012 from folders, the files as they were.",
        homepage="https://image-net.org/",
        class_names=class_names(),
    )
    records.write(
        description, {"train": by_class(train), "validation": validation_records}, data_dir
    )


def _one_of(images: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (images / name).is_dir():
            return images / name
    raise UserError(
        f"{images} has neither {ARCHIVES[0]} nor a folder {' or '.join(names)} "
        "nor a prepared imagenet2012"
    )


def _label(path: Path, wnids: dict[str, str]) -> str:
    if path.name not in wnids:
        raise UserError(f"{path} has no label: --validation_labels FILE gives them")
    return wnids[path.name]


def read_validation_labels(path: Path | None) -> dict[str, str]:
    """Maps names of validation files to WNIDs; by the official numbering if `path` is None.

    Raises:
      UserError: a line has none of the forms that the help lists.
    """
    if path is None:
        official = enumerate(_packaged("validation_labels.txt"), 1)
        return {f"ILSVRC2012_val_{number:08}.JPEG": wnid for number, wnid in official}
    names = class_names()
    labels = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name, label, *_ = [*re.split(r"[,\s]+", line.strip()), ""]
        if number == 1 and label == "PredictionString":  # Kaggle's heading
            continue
        name = name.removesuffix(".JPEG") + ".JPEG"
        if label.isdecimal() and int(label) < len(names):
            label = names[int(label)]
        if label not in names or not _VALIDATION_FILE.fullmatch(name):
            raise UserError(f"{path}, line {number}: expected a file name and a WNID or 0..999")
        labels[name] = label
    return labels
