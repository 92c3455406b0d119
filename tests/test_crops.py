"""Training crops by their geometry, on images whose pixels say where they come from."""

from typing import Any

import cv2
import numpy as np
import pytest

from inception_jax.data import order
from inception_jax.data.augmentation import random_crop
from inception_jax.data.augmentation.applied_crop import AppliedCrop
from inception_jax.data.augmentation.random_crop import Attempt, CropDraws
from inception_jax.data.decode import EncodedImage

AREA, ASPECT_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose red channel is the column, green the row (both below 256)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def sample_boxes(height: int, width: int, count: int = 4000) -> np.ndarray:
    draws = np.random.default_rng(0).random((count, 10, 4)).tolist()
    attempts = ([Attempt(*values) for values in of_box] for of_box in draws)
    return np.array(
        [random_crop.sample_box(height, width, some, AREA, ASPECT_RATIO) for some in attempts]
    )


def test_boxes_have_the_papers_area_and_aspect_ratio():
    top, left, height, width = sample_boxes(1000, 1000).T
    area, ratio = height * width / 1e6, width / height
    assert area.min() > 0.079
    assert area.max() <= 1
    assert ratio.min() > 0.749
    assert ratio.max() < 1.336
    # Uniform: a third of the areas in the lowest third (those near 1 often do not fit).
    small = area[area < 0.5]
    np.testing.assert_allclose(
        np.quantile(small, [0.25, 0.5, 0.75]), [0.185, 0.29, 0.395], atol=0.02
    )
    assert np.all(top + height <= 1000)
    assert np.all(left + width <= 1000)
    assert top.min() == left.min() == 0
    centres = (left + width / 2) / 1000
    assert centres.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (8, 8), (3, 1000)])
def test_every_image_has_a_box(height, width):
    top, left, box_height, box_width = sample_boxes(height, width, 200).T
    assert np.all((box_height >= 1) & (box_width >= 1))
    assert np.all((top >= 0) & (top + box_height <= height))
    assert np.all((left >= 0) & (left + box_width <= width))


def stored(image: np.ndarray) -> EncodedImage:
    """The image as a file, without loss."""
    return EncodedImage(cv2.imencode(".png", image[..., ::-1])[1].tobytes(), "x")


def crop(image: EncodedImage, draws: CropDraws, **changes: Any) -> np.ndarray:
    return apply(image, draws, **changes)[0]


def apply(image: EncodedImage, draws: CropDraws, **changes: Any) -> tuple[np.ndarray, AppliedCrop]:
    fields: dict[str, Any] = {
        "kind": "inception", "size": 32, "area": AREA, "aspect_ratio": ASPECT_RATIO, "flip": False,
        "interpolations": ("bilinear",), "exact": False,
    }  # fmt: skip
    training_crop = random_crop.TrainingCrop(**(fields | changes))
    out = np.empty((training_crop.size, training_crop.size, 3), np.uint8)
    return out, training_crop(image, draws, out)


def test_drawn_areas_and_aspect_ratios_are_uniform():
    """Kolmogorov-Smirnov at 1 %; small boxes, so that the first attempt always fits."""
    count, area = 5000, (0.08, 0.5)
    draws = [random_crop.draw(1, 0, index) for index in range(count)]
    boxes = [
        random_crop.sample_box(4000, 4000, drawn.attempts, area, ASPECT_RATIO) for drawn in draws
    ]
    _, _, height, width = np.array(boxes).T
    share = (height * width / 4000**2 - area[0]) / (area[1] - area[0])
    ratio = (width / height - ASPECT_RATIO[0]) / (ASPECT_RATIO[1] - ASPECT_RATIO[0])
    for values in (share, ratio):
        distance = np.abs(np.sort(values) - (np.arange(count) + 0.5) / count).max()
        assert distance < 1.63 / count**0.5
    assert abs(np.corrcoef(share, ratio)[0, 1]) < 0.04


@pytest.mark.parametrize("exact", [False, True])
def test_training_crop_shows_its_box_and_flips_half(exact):
    image = stored(coordinates(200, 240))
    flipped = 0
    for index in range(200):
        draws = random_crop.draw(0, 0, index)
        shown = crop(image, draws, flip=True, exact=exact).astype(int)
        box = random_crop.sample_box(200, 240, draws.attempts, AREA, ASPECT_RATIO)
        top, left, height, width = box
        columns, rows = shown[0, :, 0], shown[:, 0, 1]
        mirrored = columns[0] > columns[-1]
        flipped += mirrored
        columns = columns[::-1] if mirrored else columns
        np.testing.assert_allclose(columns, left + (np.arange(32) + 0.5) * width / 32 - 0.5, atol=1)
        np.testing.assert_allclose(rows, top + (np.arange(32) + 0.5) * height / 32 - 0.5, atol=1)
    assert 70 < flipped < 130


def test_training_crop_uses_every_interpolation():
    image = stored(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    names = tuple(random_crop.INTERPOLATIONS)

    def chosen(draw: float, interpolations: tuple[str, ...]) -> bytes:
        draws = CropDraws((Attempt(0.5, 0.5, 0.5, 0.5),), flip=0.5, interpolation=draw)
        return crop(image, draws, size=24, interpolations=interpolations).tobytes()

    mixed = [chosen((i + 0.5) / 4, names) for i in range(4)]
    assert mixed == [chosen(0.0, (name,)) for name in names]
    assert len(set(mixed)) == 4


def test_caffes_crop_is_a_window_of_the_squeezed_image():
    """256x256 whatever the shape, then 224x224 of it: every offset from 0 to 32 occurs."""
    image = stored(coordinates(128, 250))
    offsets = set()
    for index in range(300):
        draws = random_crop.draw(0, 0, index)
        shown = crop(image, draws, kind="caffe", size=224).astype(int)
        columns, rows = shown[0, :, 0], shown[:, 0, 1]
        left = round((columns[112] + 0.5) * 256 / 250 - 112.5)
        top = round((rows[112] + 0.5) * 256 / 128 - 112.5)
        expected = np.clip((left + np.arange(224) + 0.5) * 250 / 256 - 0.5, 0, 249)
        np.testing.assert_allclose(columns, expected, atol=1.5)
        assert -1 <= top <= 33
        offsets.add(left)
    assert min(offsets) <= 1
    assert max(offsets) >= 31
    mirrored = [
        crop(image, draws._replace(flip=drawn), kind="caffe", size=224, flip=True)
        for drawn in (0.2, 0.7)
    ]
    np.testing.assert_array_equal(mirrored[0], mirrored[1][:, ::-1])
    assert [random_crop.caffe_side(size) for size in (224, 112, 32)] == [256, 128, 37]


def test_draws_are_the_uniform_numbers_in_this_order():
    numbers = order.uniform_draws(3, 5, 7, 42).tolist()
    drawn = random_crop.draw(3, 5, 7)
    assert [*np.array(drawn.attempts).ravel(), drawn.flip, drawn.interpolation] == numbers
    first = drawn.attempts[0]
    assert [first.area, first.aspect_ratio, first.top, first.left] == numbers[:4]


RECTANGLE = 60, 30, 140, 90  # left, top, right, bottom


@pytest.mark.parametrize("decoding", ["exact", "fast", "reduced"])
@pytest.mark.parametrize("kind", random_crop.TRAINING_CROPS)
def test_boxes_follow_a_crop(kind, decoding):
    """A painted rectangle is found where its box is mapped to, at each edge that the crop shows."""
    scale = 8 if decoding == "reduced" else 1
    rectangle = [edge * scale for edge in RECTANGLE]
    left, top, right, bottom = rectangle
    painted = np.zeros((128 * scale, 250 * scale, 3), np.uint8)
    painted[top:bottom, left:right] = 255
    encoded = cv2.imencode(".jpg" if decoding == "reduced" else ".png", painted)[1].tobytes()
    size, edges = 96, 0
    for index in range(100):
        shown, applied = apply(
            EncodedImage(encoded, "x"), random_crop.draw(0, 0, index),
            kind=kind, size=size, flip=True, exact=decoding == "exact",
        )  # fmt: skip
        mapped = applied.map_boxes(np.array([rectangle, applied.box], np.float32))
        assert (mapped.dtype, mapped.shape) == (np.float32, (2, 4))
        np.testing.assert_allclose(mapped[1], [0, 0, size, size], atol=1e-3)
        inside = np.clip(mapped[0], 0, size)
        if min(inside[2] - inside[0], inside[3] - inside[1]) < 2:
            continue
        rows, columns = np.nonzero(shown[..., 0] > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found, inside, atol=1 if scale == 1 else 2)
        edges += int(np.sum(inside == mapped[0]))
    assert edges > 150


def test_boxes_are_mapped_by_hand():
    boxes = np.array([[10, 20, 30, 60], [0, 0, 10, 20]], np.float32)
    applied = AppliedCrop((10, 20, 50, 100), 20, flipped=False)
    assert applied.map_boxes(boxes).tolist() == [[0, 0, 10, 10], [-5, -5, 0, 0]]
    mirrored = AppliedCrop((10, 20, 50, 100), 20, flipped=True)
    assert mirrored.map_boxes(boxes).tolist() == [[10, 0, 20, 10], [20, -5, 25, 0]]
    assert applied.map_boxes(np.empty((0, 4), np.float32)).shape == (0, 4)
