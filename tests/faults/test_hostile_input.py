"""Files from somebody who means harm: refused in one line, and nothing in them runs."""

import io
import os
import pickle
import resource
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from ilsvrc_archive import train_files, validation_files, write_archives

from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.preparing import archives
from inception_jax.errors import UserError
from inception_jax.runtime.console import printable
from inception_jax.tools.interop import published

SIDE = 50_000  # pixels: 7.5 GB as RGB


def png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(side // 8 * 100)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def jpeg(side: int) -> bytes:
    encoded = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = encoded.index(b"\xff\xc0") + 5
    encoded[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(encoded)


def bmp(side: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + header + bytes(100)


def gif(side: int) -> bytes:
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + screen + image


def webp(side: int) -> bytes:
    side = min(side, 2**14)  # all it can say
    data = b"\x2f" + struct.pack("<I", (side - 1) | ((side - 1) << 14)) + bytes(50)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def ppm(side: int) -> bytes:
    return b"P6\n%d %d\n255\n" % (side, side) + bytes(100)


def tiff(side: int) -> bytes:
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1),
            (273, 4, 200), (277, 3, 1), (278, 4, side), (279, 4, 100)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    file = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return file.ljust(200, b"\0") + bytes(100)


@pytest.mark.parametrize("bomb", [png, jpeg, bmp, gif, webp, ppm, tiff])
def test_an_image_that_claims_gigabytes_takes_none(bomb, capfd):
    """All that reads images goes through EncodedImage."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImageError, match=r"^photo (is not a readable image|says it has)"):
        EncodedImage(bomb(SIDE), "photo").decode()
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < 200_000  # kilobytes
    assert capfd.readouterr().err == ""  # OpenCV has words of its own, in many lines


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path):
        self._trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self._trace}'",)


def hostile_files(trace: Path) -> dict[str, bytes]:
    payload = Payload(trace)
    files = {f"pickle {protocol}": pickle.dumps(payload, protocol) for protocol in (0, 2, 4, 5)}
    array = io.BytesIO()
    np.save(array, np.array([payload], object), allow_pickle=True)
    files["npy"] = array.getvalue()
    for name, members in {
        "npz": {"a.npy": array.getvalue()},
        "torch": {"archive/data.pkl": files["pickle 2"], "archive/version": b"3"},
        "torchscript": {"a/constants.pkl": files["pickle 2"], "a/data.pkl": files["pickle 2"]},
        "outside": {"../outside.npy": array.getvalue()},
    }.items():
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        files[name] = packed.getvalue()
    return files


@pytest.mark.parametrize(
    "suffixes",
    [
        (".npz", ".npy", ".pth", ".pt", ".safetensors", ".onnx"),
        pytest.param((".index",), marks=pytest.mark.breadth),  # imports TensorFlow
    ],
)
def test_what_would_run_code_is_refused_and_does_not_run(suffixes, tmp_path):
    """Under every name that weights have, by every reader."""
    trace, folder = tmp_path / "it_ran", tmp_path / "files"
    folder.mkdir()
    files = hostile_files(trace)
    pickle.loads(files["pickle 0"])
    assert trace.exists()  # the payload works
    trace.unlink()
    for name, content in files.items():
        for suffix in suffixes:
            path = folder / f"weights{suffix}"
            path.write_bytes(content)
            for form in published.FORMATS:
                with pytest.raises(UserError) as error:
                    published.read_weights(form, path)
                assert str(path) in str(error.value), name
            path.unlink()
    assert [path.name for path in tmp_path.rglob("*")] == ["files"]


def test_commands_that_take_files_refuse_it_too(small_network, refused, tmp_path):
    trace, weights = tmp_path / "it_ran", tmp_path / "weights.npz"
    weights.write_bytes(pickle.dumps(Payload(trace)))
    for form in published.FORMATS:
        line = refused(
            "convert", "--from", form, "--weights", weights, "--output", tmp_path / "out"
        )
        assert str(weights) in line
    line = refused("predict", "--checkpoint", small_network, "--images", weights)
    assert f"{weights} is not a readable image" in line
    for name, *others in (["evaluate"], ["predict", "--images", weights]):
        line = refused(name, "--checkpoint", weights, *others)
        assert f"{weights} is not a good checkpoint" in line
    names = tmp_path / "names.txt"
    names.write_bytes(bytes(range(256)))
    assert {path.name for path in tmp_path.iterdir()} == {"weights.npz", "names.txt"}


def test_names_cannot_steer_a_terminal():
    assert printable("ümlaut 猫.png") == "ümlaut 猫.png"
    assert printable("a\x1b[2J\rb\x9b1m\x7f\u202e.png") == r"a\x1b[2J\rb\x9b1m\x7f\u202e.png"
    assert printable("\udcff.png") == r"\udcff.png"


def test_a_file_name_with_escapes_is_shown_and_not_obeyed(small_network, refused, tmp_path):
    image = tmp_path / "\x1b[31mred\nerror: none.png"
    image.write_bytes(b"none")
    line = refused("predict", "--checkpoint", small_network, "--images", image)
    assert r"\x1b[31mred" in line  # and the fixture sees that all of it can be printed


def archive(*members: tuple[str, bytes]) -> bytes:
    """A tar archive of members by name and kind; files have eight bytes."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../outside"
            member.size = 8 * (kind == tarfile.REGTYPE)
            tar.addfile(member, io.BytesIO(bytes(8)))
    return written.getvalue()


HOSTILE_MEMBERS = [
    ("../outside.JPEG", tarfile.REGTYPE),
    ("a/../../outside.JPEG", tarfile.REGTYPE),
    ("a/../inside.JPEG", tarfile.REGTYPE),
    ("/outside.JPEG", tarfile.REGTYPE),
    ("link.JPEG", tarfile.SYMTYPE),
    ("link.JPEG", tarfile.LNKTYPE),
    ("device.JPEG", tarfile.CHRTYPE),
    ("pipe.JPEG", tarfile.FIFOTYPE),
]


@pytest.mark.parametrize(("name", "kind"), HOSTILE_MEMBERS)
def test_an_archive_that_leads_out_of_itself_is_refused(name, kind):
    good = ("a/b.JPEG", tarfile.REGTYPE)
    archives.check(io.BytesIO(archive(good)), "x.tar")
    with pytest.raises(UserError, match=r"x\.tar is not to be trusted: .*JPEG"):
        archives.check(io.BytesIO(archive(good, (name, kind))), "x.tar")


@pytest.mark.parametrize("nested", [pytest.param(False, marks=pytest.mark.breadth), True])
def test_nothing_is_prepared_from_such_an_archive(refused, tmp_path, nested):
    """Whether it is the archive of all classes or the one in it of a class."""
    manual = tmp_path / "manual"
    write_archives(manual, train_files(1), validation_files(1))
    name = "ILSVRC2012_img_train.tar" if nested else "ILSVRC2012_img_val.tar"
    hostile = archive(("../outside.JPEG", tarfile.REGTYPE))
    with tarfile.open(manual / name, "a") as tar:
        member = tarfile.TarInfo("n15075141.tar" if nested else "../outside.JPEG")
        member.size = len(hostile)
        tar.addfile(member, io.BytesIO(hostile))
    line = refused("prepare", "ilsvrc2012", "--manual_dir", manual, "--data_dir", tmp_path / "data")
    assert "outside.JPEG" in line
    assert name in line
    assert not (tmp_path / "data" / "imagenet2012" / "5.1.0").exists()
    assert not list(tmp_path.rglob("outside*"))
