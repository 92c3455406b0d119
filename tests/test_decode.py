"""Decoding, and cutting JPEG files before they are decoded."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from tensorflow_datasets.proto import tf_example_pb2

from inception_jax.data import MAX_PIXELS, jpeg
from inception_jax.data.decode import EncodedImage, UnreadableImageError, decode
from inception_jax.data.preparing import conversion
from inception_jax.errors import UserError

PHOTO = Image.fromarray(load_sample_images().images[0])


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def blockwise(image: Image.Image, quality: int = 90, table: bool = True) -> bytes:
    """Encodes as `prepare --short_side` does: a restart marker after each block."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    pixels = np.asarray(image.convert("RGB"))[..., ::-1]
    content = cv2.imencode(".jpg", np.ascontiguousarray(pixels), options)[1].tobytes()
    return jpeg.add_table(content) if table else content


def random_boxes(height: int, width: int, count: int) -> list[tuple[int, int, int, int]]:
    generator = np.random.default_rng(0)
    boxes = [(0, 0, height, width), (height - 1, width - 1, 1, 1), (0, 0, 1, 1)]
    for _ in range(count):
        tops, lefts = np.sort(generator.integers(0, [[height + 1], [width + 1]], (2, 2)), axis=1)
        top, left = min(tops[0], height - 1), min(lefts[0], width - 1)
        boxes.append((top, left, max(1, tops[1] - top), max(1, lefts[1] - left)))
    return [(int(top), int(left), int(h), int(w)) for top, left, h, w in boxes]


FILES = {
    "4:2:0": lambda image: encoded(image, subsampling="4:2:0", quality=94),
    "4:2:2": lambda image: encoded(image, subsampling="4:2:2"),
    "4:4:4": lambda image: encoded(image, subsampling="4:4:4"),
    "gray": lambda image: encoded(image.convert("L")),
    "progressive": lambda image: encoded(image, progressive=True),
    "restarts by row": lambda image: encoded(image, restart_marker_rows=1),
    "restarts by block": lambda image: blockwise(image, table=False),
    "blockwise": blockwise,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("size", [(427, 320), (33, 47), (16, 16), (7, 5)])
def test_a_box_decodes_to_the_pixels_of_the_whole(kind, size):
    content = FILES[kind](PHOTO.resize(size))
    image = EncodedImage(content, "x")
    height, width = size[::-1]
    assert (image.height, image.width) == (height, width)
    whole = image.decode_box((0, 0, height, width), 1000)
    for top, left, box_height, box_width in random_boxes(height, width, 20):
        box = image.decode_box((top, left, box_height, box_width), 1000)
        expected = whole[top : top + box_height, left : left + box_width]
        np.testing.assert_array_equal(box, expected)


def test_a_cut_file_is_a_jpeg_for_others_too():
    content = blockwise(PHOTO)
    file, *part = jpeg.cut(content, jpeg.read_layout(content), (100, 200, 50, 70))
    assert part == [96, 192, 64, 80]
    cut, whole = (np.asarray(Image.open(io.BytesIO(f)), np.int16) for f in (bytes(file), content))
    assert cut.shape == (64, 80, 3)
    # Pillow smooths colours across the edges of the cut; inside, pixels are the same.
    inner = np.abs(cut - whole[96:160, 192:272])[2:-2, 2:-2]
    assert inner.max() == 0
    assert len(file) < len(content) / 10


def test_blocks_are_left_out_only_where_the_table_fits():
    content = blockwise(PHOTO)
    layout = jpeg.read_layout(content)
    edited = content[:-2] + b"\xff\xfe\x00\x04hi" + content[-2:]  # a comment behind the blocks
    for file in (blockwise(PHOTO, table=False), edited, encoded(PHOTO, restart_marker_rows=1)):
        cut = jpeg.cut(file, jpeg.read_layout(file), (100, 0, 50, 70))
        assert (cut.top, cut.left) == (0, 0)
        header = jpeg.read_layout(cut.file)
        assert (cut.height, cut.width) == (header.height, header.width) == (150, layout.width)
    assert jpeg.cut(content, layout, (100, 0, 50, 70)).top == 96


def test_large_boxes_are_reduced_while_decoding():
    gray = np.add.outer(np.arange(512) / 4, np.arange(768) / 8).astype(np.uint8)
    content = encoded(Image.fromarray(gray).convert("RGB"), quality=95)
    for size, factor in [(300, 1), (256, 2), (128, 4), (60, 8), (10, 8)]:
        box = EncodedImage(content, "x").decode_box((0, 0, 512, 512), size)
        assert box.shape == (512 // factor, 512 // factor, 3)
        expected = gray[:512, :512].reshape(512 // factor, factor, 512 // factor, factor)
        np.testing.assert_allclose(box[..., 0], expected.mean(axis=(1, 3)), atol=3)
    corner = EncodedImage(content, "x").decode_box((101, 203, 300, 301), 70)
    assert corner.shape == (75, 75, 3)
    np.testing.assert_allclose(corner[0, 0, 0], gray[101:105, 203:207].mean(), atol=3)


@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "4:4:4", "gray", "progressive", "blockwise"])
def test_exact_decoding_is_pillows(kind):
    content = FILES[kind](PHOTO)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)
    exact = decode(content, "x")
    assert np.abs(exact - expected).mean() < 0.01
    fast = EncodedImage(content, "x").decode_box((0, 0, *exact.shape[:2]), 1000)
    assert np.abs(fast - expected).mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "LA", "1"])
def test_png_of_any_mode_gives_rgb(mode):
    small = PHOTO.resize((40, 30))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 256 + 128)
        expected = np.repeat(np.asarray(small.convert("L"))[..., None], 3, axis=2)
    else:
        image = small.convert(mode)
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), "x.jpg"), expected)


def test_cmyk_gives_rgb():
    content = encoded(PHOTO.convert("CMYK"), quality=95)
    expected = np.asarray(PHOTO, float)
    for pixels in (
        decode(content, "x"),
        EncodedImage(content, "x").decode_box((0, 0, 427, 640), 9),
    ):
        assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("exif", [b"broken", b"Exif\0\0MM\0*\xff\xff\xff\xff", None])
def test_exif_is_ignored(exif):
    if exif is None:
        rotated = Image.Exif()
        rotated[0x0112] = 6
        exif = rotated.tobytes()
    content = encoded(PHOTO, exif=exif)
    np.testing.assert_array_equal(decode(content, "x"), decode(encoded(PHOTO), "x"))


JPEG, PNG = encoded(PHOTO), encoded(PHOTO, "PNG")


def forged(side: int, kind: str) -> bytes:
    """A file that claims to be of that many pixels a side."""
    if kind == "jpeg":
        at = jpeg.read_layout(JPEG).size_at
        return JPEG[:at] + side.to_bytes(2, "big") * 2 + JPEG[at + 4 :]
    return PNG[:16] + side.to_bytes(4, "big") * 2 + PNG[24:]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty, 0 bytes"),
        (b"not an image", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "0x0 pixels"),
        (forged(0, "jpeg"), "0x0 pixels"),
        (PNG[:60], "damaged"),
        (JPEG[:20], "ends within its headers"),
        (JPEG[:2], "ends within its headers"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-2], "truncated"),
        (blockwise(PHOTO)[:-500], "truncated"),
        (b"\xff\xd8\xff\xd9", ""),
        (b"\xff\xd8" + b"\0" * 100, "no marker where one belongs"),
        (forged(30_000, "jpeg"), f"30000x30000 pixels; {MAX_PIXELS} are allowed"),
        (forged(30_000, "png"), f"30000x30000 pixels; {MAX_PIXELS} are allowed"),
    ],
)
def test_what_is_no_image_is_named(content, why):
    with pytest.raises(UnreadableImageError, match=r"^photo\.jpg ") as error:
        decode(content, "photo.jpg")
    assert why in str(error.value)
    assert isinstance(error.value, UserError)
    with pytest.raises(UnreadableImageError):
        EncodedImage(content, "photo.jpg").decode_box((0, 0, 1, 1), 8)


def test_what_follows_the_image_is_ignored():
    """Phones append a whole video to a photograph."""
    for content in (JPEG, blockwise(PHOTO)):
        longer = content + bytes(200_000)
        np.testing.assert_array_equal(decode(longer, "x"), decode(content, "x"))
        one, other = (
            EncodedImage(c, "x").decode_box((9, 9, 99, 99), 500) for c in (content, longer)
        )
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [270, pytest.param(3000, marks=pytest.mark.breadth)])
def test_damaged_bytes_never_crash(count):
    """Three bytes changed: a file gives pixels or UnreadableImageError, and nothing else."""
    generator = np.random.default_rng(count)
    files = [FILES[kind](PHOTO.resize((64, 48))) for kind in FILES] + [PNG[:5000]]
    outcomes = set()
    for number in range(count):
        content = bytearray(files[number % len(files)])
        for at in generator.integers(0, min(len(content), 800), 3):
            content[at] = generator.integers(256)
        try:
            image = EncodedImage(bytes(content), "x")
            image.decode()
            pixels = image.decode_box((0, 0, image.height // 2 + 1, image.width // 2 + 1), 9)
            outcomes.add(pixels.shape[2])
        except UnreadableImageError:
            outcomes.add("bad")
    assert outcomes == {3, "bad"}


def test_shrinking_keeps_the_aspect_and_never_enlarges():
    def example(content: bytes) -> bytes:
        made = tf_example_pb2.Example()
        made.features.feature["image"].bytes_list.value.append(content)
        made.features.feature["label"].int64_list.value.append(3)
        return made.SerializeToString()

    def shrunk(content: bytes) -> bytes:
        made = tf_example_pb2.Example.FromString(conversion.shrink(100)(example(content)))
        assert made.features.feature["label"].int64_list.value[0] == 3
        return made.features.feature["image"].bytes_list.value[0]

    pixels = decode(shrunk(JPEG), "x")
    assert pixels.shape == (100, 150, 3)
    expected = np.asarray(PHOTO.resize((150, 100), Image.Resampling.BOX), float)
    assert np.abs(pixels - expected).mean() < 6  # quality 90 of fine detail
    small = encoded(PHOTO.resize((90, 400)))
    assert shrunk(small) == small
    assert shrunk(JPEG[:100]) == JPEG[:100]
