"""Crops by their geometry, on images whose pixels say where they come from."""

from typing import Any

import numpy as np
import pytest

from inception_jax.data import crops, order

AREA, ASPECT_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose red channel is the column, green the row (both below 256)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def sample_boxes(height: int, width: int, count: int = 4000) -> np.ndarray:
    draws = np.random.default_rng(0).random((count, 10, 4))
    return np.array([crops.sample_box(height, width, d, AREA, ASPECT_RATIO) for d in draws])


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


def test_training_crop_shows_its_box_and_flips_half():
    image = coordinates(200, 240)
    flipped = 0
    for index in range(200):
        draws = order.uniform_draws(0, 0, index, crops.TRAINING_CROP_DRAWS)
        crop = crops.training_crop(
            image, draws, size=32, area=AREA, aspect_ratio=ASPECT_RATIO, flip=True,
            interpolations=("bilinear",),
        ).astype(int)  # fmt: skip
        box = crops.sample_box(200, 240, draws[:-2].reshape(-1, 4), AREA, ASPECT_RATIO)
        top, left, height, width = box
        columns, rows = crop[0, :, 0], crop[:, 0, 1]
        mirrored = columns[0] > columns[-1]
        flipped += mirrored
        columns = columns[::-1] if mirrored else columns
        np.testing.assert_allclose(columns, left + (np.arange(32) + 0.5) * width / 32 - 0.5, atol=1)
        np.testing.assert_allclose(rows, top + (np.arange(32) + 0.5) * height / 32 - 0.5, atol=1)
    assert 70 < flipped < 130


def test_training_crop_uses_every_interpolation():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    draws = np.full(crops.TRAINING_CROP_DRAWS, 0.5)
    names = tuple(crops.INTERPOLATIONS)
    options: dict[str, Any] = {"size": 24, "area": AREA, "aspect_ratio": ASPECT_RATIO}

    def crop(draw: float, interpolations: tuple[str, ...]) -> bytes:
        chosen = draws.copy()
        chosen[-1] = draw
        return crops.training_crop(
            image, chosen, interpolations=interpolations, flip=False, **options
        ).tobytes()

    mixed = [crop((i + 0.5) / 4, names) for i in range(4)]
    assert mixed == [crop(0.0, (name,)) for name in names]
    assert len(set(mixed)) == 4


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(256, 256, 16, 16), (200, 256, 0, 0), (256, 200, 0, 0)]
)
def test_center_crop_cuts_the_middle_exactly(height, width, top, left):
    size = 224 if height == width else 200
    image = coordinates(height, width)
    crop = crops.center_crop(image, short_side=min(height, width), size=size)
    top, left = (height - size) // 2, (width - size) // 2
    np.testing.assert_array_equal(crop, image[top : top + size, left : left + size])


@pytest.mark.parametrize(("height", "width"), [(500, 375), (100, 900), (1, 1), (8, 8), (40_000, 1)])
def test_center_crop_of_any_shape(height, width):
    image = np.full((height, width, 3), 77, np.uint8)
    crop = crops.center_crop(image, short_side=256, size=224)
    assert crop.shape == (224, 224, 3)
    assert np.all(crop == 77)


def test_center_crop_keeps_the_aspect_ratio():
    columns = np.linspace(0, 255, 500).astype(np.uint8)
    image = np.broadcast_to(columns[None, :, None], (300, 500, 3)).copy()
    crop = crops.center_crop(image, short_side=150, size=100)  # halves, then columns 75..175 of 250
    expected = np.interp((np.arange(75, 175) + 0.5) * 2 - 0.5, np.arange(500), columns)
    np.testing.assert_allclose(crop[50, :, 0], expected, atol=1.5)
