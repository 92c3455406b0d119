"""Test crops by their geometry, on images whose pixels say where they come from."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS, Geometry

# Names, (height, width) and top left corners of the three squares when the shorter side is 256.
SHAPES = {
    "landscape": (256, 401, [(0, 0), (0, 72), (0, 145)]),  # 72.5 is rounded to even
    "portrait": (384, 256, [(0, 0), (64, 0), (128, 0)]),
    "square": (256, 256, [(0, 0), (0, 0), (0, 0)]),
}
PAPERS = Geometry(size=224, short_side=256, resize="short_side", interpolation="area")


def painted(height: int, width: int) -> np.ndarray:
    """An image no two pixels of which are alike: they say which row and column they are in."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 256, columns % 256, rows // 256 * 16 + columns // 256], -1).astype("u1")


def ramp(height: int, width: int) -> np.ndarray:
    """Red rises to the right, green to the bottom, from 0 to 255."""
    rows, columns = np.mgrid[:height, :width]
    red, green = columns * 255 / max(1, width - 1), rows * 255 / max(1, height - 1)
    return np.stack([red, green, np.zeros_like(red)], axis=-1).round().astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height * width)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def cut(image: np.ndarray, count: int, geometry: Geometry = PAPERS) -> np.ndarray:
    """All crops of a protocol with their mirror images, [count, size, size, 3]."""
    protocol = PROTOCOLS[count]
    out = np.empty((len(protocol.crops), geometry.size, geometry.size, 3), np.uint8)
    geometry.cut(image, protocol.crops, out)
    return np.concatenate([out, out[:, :, ::-1]]) if protocol.mirrored else out


def five(square: np.ndarray) -> list[np.ndarray]:
    """The four corners and the centre, as Krizhevsky et al. have them."""
    low, middle = square.shape[0] - 224, (square.shape[0] - 224) // 2
    starts = [(0, 0), (0, low), (low, 0), (low, low), (middle, middle)]
    return [square[top : top + 224, left : left + 224] for top, left in starts]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_and_ten_crops_are_of_the_central_square(shape):
    height, width, squares = SHAPES[shape]
    image = painted(height, width)
    top, left = squares[1]
    expected = five(image[top : top + 256, left : left + 256])
    np.testing.assert_array_equal(cut(image, 1), expected[4:])
    mirrored = [np.fliplr(one) for one in expected]
    np.testing.assert_array_equal(cut(image, 10), expected + mirrored)


def in_breadth(*values: object) -> object:
    """Values of parameters that `make test` leaves to the breadth."""
    return pytest.param(*values, marks=pytest.mark.breadth)


@pytest.mark.parametrize(
    ("scale", "shape"),
    [  # each scale and each shape
        (0, "landscape"), (1, "portrait"), (2, "square"), (3, "landscape"),
        in_breadth(0, "portrait"), in_breadth(0, "square"),
        in_breadth(1, "landscape"), in_breadth(1, "square"),
        in_breadth(2, "landscape"), in_breadth(2, "portrait"),
        in_breadth(3, "portrait"), in_breadth(3, "square"),
    ],
)  # fmt: skip
def test_the_papers_crops_of_one_scale(scale, shape):
    """On an image of that very size, so that only the whole squares are resized."""
    side = (256, 288, 320, 352)[scale]
    height, width, squares = SHAPES[shape]
    image = painted(height + side - 256, width + side - 256)  # the same squares, but larger
    found = cut(image, 144)
    expected = []
    for top, left in squares:
        square = image[top : top + side, left : left + side]
        expected += [*five(square), cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)]
    of_scale = slice(18 * scale, 18 * scale + 18)
    np.testing.assert_array_equal(found[:72][of_scale], expected)
    np.testing.assert_array_equal(found[72:][of_scale], [np.fliplr(one) for one in expected])


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [  # of the resized image, the longer side rounded down
        (480, 640, [(256, 341), (288, 384), (320, 426), (352, 469)]),
        (501, 375, [(342, 256), (384, 288), (427, 320), (470, 352)]),
        in_breadth(150, 100, [(384, 256), (432, 288), (480, 320), (528, 352)]),
    ],
)
def test_resized_images_keep_their_aspect_ratio(height, width, sizes):
    """Every pixel of every crop is where it was in the image, to within a step of the colour."""
    found = cut(ramp(height, width), 144)[:72].astype(float).reshape(4, 3, 6, 224, 224, 3)
    for scale, (side, (tall, wide)) in enumerate(zip((256, 288, 320, 352), sizes, strict=True)):
        low, middle = side - 224, (side - 224) // 2
        starts = [(0, 0), (0, low), (low, 0), (low, low), (middle, middle)]
        steps = np.arange(224) + 0.5
        for square, share in enumerate((0, 0.5, 1)):
            down, across = share * (tall - side), share * (wide - side)
            places = [(down + top + steps, across + left + steps) for top, left in starts]
            places += [(down + steps * side / 224, across + steps * side / 224)]
            for view, (rows, columns) in enumerate(places):
                shown = found[scale, square, view]
                expected = (columns * width / wide - 0.5) * 255 / (width - 1)
                np.testing.assert_allclose(shown[112, :, 0], expected.clip(0, 255), atol=2.1)
                expected = (rows * height / tall - 0.5) * 255 / (height - 1)
                np.testing.assert_allclose(shown[:, 112, 1], expected.clip(0, 255), atol=2.1)


@pytest.mark.parametrize(("height", "width"), [(300, 420), (420, 300)])
@pytest.mark.parametrize("interpolation", ["area", "bilinear"])
def test_all_144_crops_are_different(height, width, interpolation):
    geometry = Geometry(224, 256, "short_side", interpolation)
    assert len({crop.tobytes() for crop in cut(noise(height, width), 144, geometry)}) == 144


@pytest.mark.parametrize("resize", ["short_side", "squeeze"])
def test_the_crops_of_a_smaller_protocol_are_among_those_of_a_larger_one(resize):
    geometry, image = Geometry(224, 256, resize, "area"), noise(300, 420)
    for larger, smaller in itertools.combinations_with_replacement((144, 10, 1), 2):
        indices = PROTOCOLS[larger].indices_of(PROTOCOLS[smaller])
        assert len(set(indices)) == smaller == PROTOCOLS[smaller].count
        among = cut(image, larger, geometry)[indices]
        np.testing.assert_array_equal(among, cut(image, smaller, geometry))


def test_a_scale_does_not_depend_on_the_network():
    """A network of 16 pixels sees the same parts as one of 224: scales follow the short side."""
    geometry = Geometry(size=14, short_side=16, resize="short_side", interpolation="area")
    for scale, side in enumerate((16, 18, 20, 22)):
        image = painted(side, side + 5)
        found = cut(image, 144, geometry)[18 * scale : 18 * scale + 18]
        last = image[:, 5:]
        np.testing.assert_array_equal(found[15], last[side - 14 :, side - 14 :])
        middle = (side - 14) // 2
        np.testing.assert_array_equal(found[4], image[middle:, middle:][:14, :14])


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (2, 1), (1, 7), (8, 8), (100, 900), (500, 375), (40_000, 1), (1, 200_000)],
)
@pytest.mark.parametrize("resize", ["short_side", "squeeze"])
def test_images_of_any_shape_have_all_crops(height, width, resize):
    """The longest would take 70 GB, resized as a whole."""
    image = np.full((height, width, 3), 77, np.uint8)
    assert np.all(cut(image, 144, Geometry(224, 256, resize, "area")) == 77)


def test_a_very_long_image_is_seen_at_its_ends_and_in_its_middle():
    image = np.zeros((4, 3000, 3), np.uint8)
    image[:, :4] = 10
    image[:, 1498:1502] = 20
    image[:, -4:] = 30
    for turned in (image, image.transpose(1, 0, 2)):
        squares = cut(turned, 144)[:72].reshape(4, 3, 6, 224, 224, 3)
        for position, colour in enumerate((10, 20, 30)):
            inner = squares[0, position, 4, 28:-28, 28:-28]  # beyond, neighbours are mixed in
            assert np.all(inner == colour)


def test_squeezed_images_are_seen_whole():
    geometry = Geometry(size=224, short_side=256, resize="squeeze", interpolation="area")
    image = noise(300, 500)
    square = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(cut(image, 1, geometry)[0], square[16:240, 16:240])
    found = cut(image, 144, geometry)[:72].reshape(4, 3, 6, 224, 224, 3)
    for scale, side in enumerate((256, 288, 320, 352)):
        # Area averaging where both sides shrink.
        method = cv2.INTER_AREA if side <= 300 else cv2.INTER_LINEAR
        square = cv2.resize(image, (side, side), interpolation=method)
        whole = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
        for position in range(3):
            np.testing.assert_array_equal(found[scale, position], [*five(square), whole])


def test_the_squeezed_crop_of_a_network_of_that_size_is_the_whole_image():
    geometry = Geometry(size=32, short_side=32, resize="squeeze", interpolation="bilinear")
    image = noise(50, 90)
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(cut(image, 1, geometry)[0], np.asarray(expected))


def torchvisions(image: np.ndarray) -> np.ndarray:
    """Resize(256) and CenterCrop(224) of torchvision.transforms on a PIL image, written out."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    new_long = int(256 * long / short)
    size = (256, new_long) if width <= height else (new_long, 256)
    resized = Image.fromarray(image)
    if short != 256:
        resized = resized.resize(size, Image.Resampling.BILINEAR)
    width, height = resized.size
    top, left = round((height - 224) / 2.0), round((width - 224) / 2.0)
    return np.asarray(resized.crop((left, top, left + 224, top + 224)))


@pytest.mark.parametrize(
    ("height", "width"),
    [(333, 500), (500, 333), (375, 501), (257, 256), (256, 341), (343, 256), (256, 256),
     (1000, 257), (100, 131), (131, 100), (301, 777), (7, 9)],
)  # fmt: skip
def test_bilinear_is_torchvisions_to_the_bit(height, width):
    geometry = Geometry(size=224, short_side=256, resize="short_side", interpolation="bilinear")
    image = noise(height, width)
    np.testing.assert_array_equal(cut(image, 1, geometry)[0], torchvisions(image))


def test_the_centre_of_a_small_image_is_exact():
    image = painted(200, 256)
    geometry = Geometry(size=200, short_side=200, resize="short_side", interpolation="area")
    np.testing.assert_array_equal(cut(image, 1, geometry)[0], image[:, 28:228])
    turned = image.transpose(1, 0, 2)
    np.testing.assert_array_equal(cut(turned, 1, geometry)[0], turned[28:228])


def test_where_an_image_shrinks_areas_are_averaged():
    """Halved: each pixel is the mean of four; where it grows, a linear ramp stays one."""
    image = noise(512, 600)
    means = image.reshape(256, 2, 300, 2, 3).mean(axis=(1, 3))
    shown = cut(image, 1)[0]
    np.testing.assert_allclose(shown, means[16:240, 38:262], atol=0.51)
    columns = np.linspace(0, 255, 128)
    image = np.broadcast_to(columns[None, :, None], (128, 128, 3)).astype(np.uint8)
    expected = np.interp((np.arange(16, 240) + 0.5) / 2 - 0.5, np.arange(128), image[0, :, 0])
    np.testing.assert_allclose(cut(image, 1)[0, 100, :, 0], expected, atol=1)
