"""A small ILSVRC2012 in the layouts in which people have the large one.

Each image shows its class number as three gray squares, so that labels can be checked by pixels.
"""

import functools
import io
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

# The two kinds of files that TFDS knows by name and turns into RGB JPEGs.
CMYK_NAME, PNG_NAME = "n01739381_1309.JPEG", "n02105855_2933.JPEG"

TRAIN_WNIDS = ("n01440764", "n01739381", "n02105855", "n04263257", "n15075141")

_SQUARE = 20  # pixels


class ImageFile(NamedTuple):
    """A file of the data set."""

    name: str
    wnid: str
    content: bytes

    @property
    def label(self) -> int:
        return wnids().index(self.wnid)

    @property
    def pixels(self) -> np.ndarray:
        return pixels(self.content)


def pixels(content: bytes) -> np.ndarray:
    """An image file as Pillow reads it, RGB."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@functools.cache
def wnids() -> list[str]:
    """The classes, as TFDS has them."""
    return tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()


@functools.cache
def validation_wnids() -> list[str]:
    """The class of each validation image, as TFDS has them."""
    return tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()


def train_files(per_class: int = 4) -> list[ImageFile]:
    """Images of five classes, among them the PNG and a CMYK one."""
    files = []
    for wnid in TRAIN_WNIDS:
        names = [f"{wnid}_{10026 + 7 * number}.JPEG" for number in range(per_class)]
        for special in (CMYK_NAME, PNG_NAME):
            if special.startswith(wnid):
                names[0] = special
        files += [_file(name, wnid) for name in names]
    return files


def validation_files(count: int = 9) -> list[ImageFile]:
    """The first images, whose classes are those of the true ones."""
    return [
        _file(f"ILSVRC2012_val_{number:08}.JPEG", wnid)
        for number, wnid in enumerate(validation_wnids()[:count], 1)
    ]


def write_archives(
    folder: Path, train: Iterable[ImageFile], validation: Iterable[ImageFile]
) -> Path:
    """The two official archives; in that of the validation images the order is none."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid, files in _by_wnid(train).items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for file in files:
                    _add(of_class, file.name, file.content)
            _add(archive, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        files = list(validation)
        random.Random(0).shuffle(files)
        for file in files:
            _add(archive, file.name, file.content)
    return folder


def write_folders(
    folder: Path,
    train: Iterable[ImageFile],
    validation: Iterable[ImageFile],
    *,
    val_by_class: bool = False,
) -> Path:
    """The archives' content as folders: train/WNID/*, and val/* or val/WNID/*."""
    for file in train:
        _write(folder / "train" / file.wnid / file.name, file.content)
    for file in validation:
        place = folder / "val" / file.wnid if val_by_class else folder / "val"
        _write(place / file.name, file.content)
    return folder


def class_number(image: np.ndarray) -> int:
    """What the squares of an image [height, width, 3] say."""
    middles = [
        image[5 : _SQUARE - 5, at * _SQUARE + 5 : (at + 1) * _SQUARE - 5].mean() for at in range(3)
    ]
    hundreds, tens, ones = (round((middle - 15) / 25) for middle in middles)
    return 100 * hundreds + 10 * tens + ones


def photograph(seed: object, mode: str = "RGB") -> Image.Image:
    """A part of one of scikit-learn's two photographs, 64 to 120 pixels a side, tinted."""
    draw = random.Random(str(seed))
    photo = Image.fromarray(draw.choice(_photographs()))
    width, height = draw.randint(64, 120), draw.randint(64, 120)
    left, top = draw.randint(0, 640 - 2 * width), draw.randint(0, 427 - 2 * height)
    photo = photo.crop((left, top, left + 2 * width, top + 2 * height)).resize((width, height))
    tint = Image.new("RGB", photo.size, tuple(draw.randint(0, 255) for _ in range(3)))
    return Image.blend(photo, tint, 0.2).convert(mode)


def encode(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


def _file(name: str, wnid: str) -> ImageFile:
    image = photograph(name)
    for at, digit in enumerate(f"{wnids().index(wnid):03}"):
        image.paste((15 + 25 * int(digit),) * 3, (at * _SQUARE, 0, (at + 1) * _SQUARE, _SQUARE))
    if name == CMYK_NAME:
        content = encode(image.convert("CMYK"), quality=95)
    elif name == PNG_NAME:
        content = encode(image, "PNG")
    elif name.endswith(("4.JPEG", "40.JPEG")):  # there are some gray ones in the true set, too
        content = encode(ImageOps.grayscale(image), quality=95)
    else:
        content = encode(image, quality=95)
    return ImageFile(name, wnid, content)


@functools.cache
def _photographs() -> list[np.ndarray]:
    return load_sample_images().images


def _by_wnid(files: Iterable[ImageFile]) -> dict[str, list[ImageFile]]:
    classes: dict[str, list[ImageFile]] = {}
    for file in files:
        classes.setdefault(file.wnid, []).append(file)
    return classes


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
