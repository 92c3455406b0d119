"""Cuts a JPEG file down to the bytes that a crop needs, before it is decoded.

A decoder spends its time on every block of an image, though a training crop shows half of them on
average. Two edits of the file, made before it is decoded, leave blocks out; what remains decodes to
the same pixels as before, bit for bit, as long as the decoder's upsampling of the colours does not
look across the cut (its fast mode does not):

- A lower height in the header: the decoder stops at the last row that the crop needs.
- Where a restart marker follows each block (ITU T.81, B.2.4.4), blocks are independent of one
  another, and only those of the crop are kept. `preparing/conversion.py` writes such files, with a
  table of the blocks' lengths in an application segment, since looking for the markers takes longer
  than decoding the blocks that they save.

Both are for baseline files alone: a progressive one comes in several passes over all blocks.
"""

from typing import NamedTuple

import numpy as np

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = (0xC0, 0xC1)
_RESTART_INTERVAL, _START_OF_SCAN = 0xDD, 0xDA
_STAND_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length
_TABLE = 0xEB  # an APP11 segment: this name, and uint16 lengths, big-endian
_TABLE_NAME = b"inception_jax blocks\0"
_RESTARTS = np.arange(2**16, dtype=np.uint8) % 8 + 0xD0  # the markers' second bytes, in order


class Layout(NamedTuple):
    """The contents of a JPEG file's headers; offsets in bytes, sizes in pixels."""

    height: int
    width: int
    components: int  # 1 gray, 3 colour, 4 CMYK
    baseline: bool  # of a single pass
    block_height: int  # of the unit that is coded together (the MCU)
    block_width: int
    restart_interval: int  # in blocks, 0 for none
    size_at: int  # of the height and width
    table: slice | None  # of the lengths of the blocks
    scan_header_at: int
    scan_at: int  # of the first coded block


class Cut(NamedTuple):
    """A smaller file, and the part of the whole image that it shows, in pixels."""

    file: bytes | bytearray
    top: int
    left: int
    height: int
    width: int


class NotAJpegError(ValueError):
    """The headers are damaged, or those of another format."""


def read_layout(encoded: bytes | bytearray) -> Layout:
    """Reads the headers up to the first scan.

    Raises:
      NotAJpegError: they are not a JPEG's; the message says why.
    """
    if encoded[:2] != b"\xff\xd8":
        raise NotAJpegError("no start of image")
    at, restart_interval, frame, table = 2, 0, 0, None
    try:
        while True:
            if encoded[at] != 0xFF:
                raise NotAJpegError("no marker where one belongs")
            marker = encoded[at + 1]
            if marker == 0xFF:  # padding
                at += 1
                continue
            if marker in _STAND_ALONE:
                at += 2
                continue
            length = encoded[at + 2] << 8 | encoded[at + 3]
            if marker in _START_OF_FRAME:
                frame = at
            elif marker == _RESTART_INTERVAL:
                restart_interval = encoded[at + 4] << 8 | encoded[at + 5]
            elif marker == _TABLE and encoded[at + 4 : at + 4 + len(_TABLE_NAME)] == _TABLE_NAME:
                table = slice(at + 4 + len(_TABLE_NAME), at + 2 + length)
            elif marker == _START_OF_SCAN:
                break
            at += 2 + length
        if not frame:
            raise NotAJpegError("no frame header")
        components = encoded[frame + 9]
        sampling = [encoded[frame + 11 + 3 * i] for i in range(components)]
        scanned = encoded[at + 4]  # components in the first scan
    except IndexError:
        raise NotAJpegError("it ends within its headers") from None
    # A lone component is never interleaved: its block is 8x8 whatever its sampling says.
    rows = max(s & 15 for s in sampling) if components > 1 else 1
    columns = max(s >> 4 for s in sampling) if components > 1 else 1
    return Layout(
        height=encoded[frame + 5] << 8 | encoded[frame + 6],
        width=encoded[frame + 7] << 8 | encoded[frame + 8],
        components=components,
        baseline=encoded[frame + 1] in _BASELINE and scanned == components,
        block_height=8 * rows,
        block_width=8 * columns,
        restart_interval=restart_interval,
        size_at=frame + 5,
        table=table,
        scan_header_at=at,
        scan_at=at + 2 + length,
    )


def ends(encoded: bytes, layout: Layout) -> bool:
    """True if the file has its end-of-image marker: a truncated one has not.

    Something may follow it: phones append whole videos.
    """
    end = b"\xff\xd9"
    return encoded.endswith(end) or encoded.find(end, layout.scan_at) >= 0


def cut(encoded: bytes, layout: Layout, box: tuple[int, int, int, int]) -> Cut:
    """A smaller file whose image contains `box` (top, left, height, width in pixels)."""
    whole = Cut(encoded, 0, 0, layout.height, layout.width)
    if not layout.baseline:
        return whole
    blocks = _block_ends(encoded, layout)
    if blocks is not None:
        return _cut_blocks(encoded, layout, blocks, box)
    top, _, height, _ = box
    if top + height == layout.height:
        return whole
    file = bytearray(encoded)
    file[layout.size_at : layout.size_at + 2] = (top + height).to_bytes(2, "big")
    return whole._replace(file=file, height=top + height)


def _shape(layout: Layout) -> tuple[int, int]:
    """The number of rows and of columns of blocks."""
    return -(-layout.height // layout.block_height), -(-layout.width // layout.block_width)


def add_table(encoded: bytes) -> bytes:
    """Adds the table of lengths to a file with a restart marker after each block.

    A file of another kind, or with more blocks than a segment can list, is returned unchanged.
    """
    layout = read_layout(encoded)
    rows, columns = _shape(layout)
    content = np.frombuffer(encoded, np.uint8, offset=layout.scan_at)
    found = np.flatnonzero(content[:-1] == 0xFF)
    markers = found[content[found + 1] & 0xF8 == 0xD0]
    ends = np.append(markers, len(content) - 2) + 2
    lengths = np.diff(ends, prepend=0).astype(">u2").tobytes()
    segment = _TABLE_NAME + lengths
    ordinary = layout.baseline and layout.restart_interval == 1 and len(ends) == rows * columns
    if not ordinary or not encoded.endswith(b"\xff\xd9") or len(segment) + 2 >= 2**16:
        return encoded
    header = bytes([0xFF, _TABLE]) + (len(segment) + 2).to_bytes(2, "big")
    at = layout.scan_header_at
    return encoded[:at] + header + segment + encoded[at:]


def _block_ends(encoded: bytes, layout: Layout) -> np.ndarray | None:
    """The end of each block and its marker, int64 [rows, columns]; None without a good table."""
    if layout.table is None or layout.restart_interval != 1:
        return None
    ends = np.frombuffer(encoded[layout.table], ">u2").cumsum(dtype=np.int64) + layout.scan_at
    rows, columns = _shape(layout)
    if len(ends) != rows * columns or ends[-1] != len(encoded):
        return None  # another program has edited the file
    return ends.reshape(rows, columns)


def _cut_blocks(
    encoded: bytes, layout: Layout, ends: np.ndarray, box: tuple[int, int, int, int]
) -> Cut:
    """Keeps the blocks that `box` touches; each row of them lies in one piece."""
    top, left, height, width = box
    first_row, last_row = top // layout.block_height, (top + height - 1) // layout.block_height
    first, last = left // layout.block_width, (left + width - 1) // layout.block_width
    kept = ends[first_row : last_row + 1, first : last + 1]
    # A piece begins where the block before it ends.
    if first > 0:
        starts = ends[first_row : last_row + 1, first - 1].tolist()
    else:
        before = [layout.scan_at] if first_row == 0 else [int(ends[first_row - 1, -1])]
        starts = before + ends[first_row:last_row, -1].tolist()
    size = layout.scan_at
    pieces, moves = [encoded[:size]], []
    for start, stop in zip(starts, kept[:, -1].tolist(), strict=True):
        pieces.append(encoded[start:stop])
        moves.append(size - start)
        size += stop - start
    file = bytearray(b"".join(pieces))
    # Restart markers count from 0 to 7 and over again; the last one becomes the end of the image.
    markers = (kept + np.array(moves)[:, None]).reshape(-1)
    content = np.frombuffer(file, np.uint8)
    content[markers - 1] = _RESTARTS[: len(markers)]
    content[-1] = 0xD9
    row, column = first_row * layout.block_height, first * layout.block_width
    new_height = min(layout.height, (last_row + 1) * layout.block_height) - row
    new_width = min(layout.width, (last + 1) * layout.block_width) - column
    at = layout.size_at
    file[at : at + 4] = new_height.to_bytes(2, "big") + new_width.to_bytes(2, "big")
    return Cut(file, row, column, new_height, new_width)
