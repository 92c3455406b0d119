"""Photometric distortions against a float64 reference and against Pillow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict
from PIL import Image, ImageEnhance

from inception_jax.config import configuration
from inception_jax.data.augmentation import photometric
from inception_jax.data.augmentation.photometric import Distortion

PAPER = configuration.load("configs/googlenet.py").photometric

apply = jax.jit(photometric.apply)


@jax.jit
def draw(seed: int, epochs: jax.Array, indices: jax.Array) -> Distortion:
    """Draws with the paper's config."""
    return photometric.draw(seed, epochs, indices, PAPER)


def reference(image: np.ndarray, order, factors, lighting) -> np.ndarray:
    """One image, float64, written from the description of PIL's ImageEnhance."""
    image = image.astype(np.float64)
    for kind in order:
        luminance = image[..., 0] * 0.299 + image[..., 1] * 0.587 + image[..., 2] * 0.114
        if kind == 0:
            image = image * factors[0]
        elif kind == 1:
            image = luminance.mean() * (1 - factors[1]) + image * factors[1]
        else:
            image = luminance[..., None] * (1 - factors[2]) + image * factors[2]
        image = np.minimum(np.maximum(image, 0), 255)
    values = [0.2175, 0.0188, 0.0045]
    vectors = [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]]
    for value, vector, alpha in zip(values, vectors, lighting, strict=True):
        image = image + 255 * alpha * value * np.array(vector)
    return image


def test_every_order_agrees_with_float64():
    generator = np.random.default_rng(0)
    orders = np.array(list(itertools.permutations(range(3))) * 2, np.int32)
    images = generator.uniform(0, 255, (12, 9, 7, 3)).astype(np.float32)
    factors = generator.uniform(0.5, 1.5, (12, 3)).astype(np.float32)
    lighting = generator.normal(0, 0.1, (12, 3)).astype(np.float32)
    result = apply(images, Distortion(*map(jnp.asarray, (orders, factors, lighting))))
    for row in range(12):
        expected = reference(images[row], orders[row], factors[row], lighting[row])
        np.testing.assert_allclose(result[row], expected, atol=1e-3)  # of 255


@pytest.mark.parametrize(
    ("kind", "enhance"),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)],
)
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.5])
def test_each_is_pillows_to_within_rounding(kind, enhance, factor):
    pixels = np.random.default_rng(kind).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    expected = np.asarray(enhance(Image.fromarray(pixels)).enhance(factor), float)
    order = np.array([[kind, (kind + 1) % 3, (kind + 2) % 3]])
    factors = np.ones((1, 3), np.float32)
    factors[0, kind] = factor
    distortion = Distortion(jnp.asarray(order), jnp.asarray(factors), jnp.zeros((1, 3)))
    result = apply(jnp.asarray(pixels[None], jnp.float32), distortion)
    np.testing.assert_allclose(result[0], expected, atol=1.01)  # Pillow cuts fractions off


def test_draws_are_those_of_the_paper():
    epochs, indices = np.divmod(np.arange(4000), 100)
    drawn = draw(0, epochs, indices)
    assert drawn.factors.min() >= 0.5
    assert drawn.factors.max() <= 1.5
    for column in range(3):
        uniform = np.sort(np.asarray(drawn.factors[:, column])) - 0.5
        assert np.abs(uniform - np.linspace(0, 1, 4000)).max() < 1.63 / 4000**0.5  # KS, 1 %
    np.testing.assert_allclose(np.std(drawn.lighting, axis=0), 0.1, rtol=0.05)
    _, counts = np.unique(np.asarray(drawn.order) @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 550


def test_draws_depend_on_seed_epoch_and_index_alone():
    def factors(seed: int, epochs: list[int], indices: list[int]) -> np.ndarray:
        return np.asarray(draw(seed, jnp.array(epochs), jnp.array(indices)).factors)

    batch = factors(0, [2, 2, 3], [5, 6, 5])
    np.testing.assert_array_equal(batch[1], factors(0, [2, 9, 9], [6, 8, 7])[0])
    others = [batch[0], batch[1], batch[2], factors(1, [2, 2, 3], [5, 6, 5])[0]]
    assert len({tuple(row) for row in others}) == 4


def test_switched_off_nothing_changes():
    off = configuration.load("configs/digits.py").photometric
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    numbers = jnp.arange(2)
    result = photometric.distort(jnp.asarray(images), numbers, numbers, 0, off)
    np.testing.assert_array_equal(result, images)
    some = ConfigDict(off.to_dict() | {"brightness": (0.5, 0.5)})
    result = jax.jit(photometric.distort, static_argnums=(3, 4))(
        jnp.asarray(images), numbers, numbers, 0, FrozenConfigDict(some)
    )
    np.testing.assert_allclose(result, images * 0.5, atol=1e-4)
