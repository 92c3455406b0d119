"""Which bytes of a JPEG file a crop needs.

A decoder spends its time on every block of an image, though a training crop shows half of them on
average. Two edits of the file, made before it is decoded, leave blocks out; what remains decodes to
the same pixels as before, bit for bit, as long as the decoder's upsampling of the colours does not
look across the cut (its fast mode does not):

- A lower height in the header: the decoder stops at the last row that the crop needs.
- Where a restart marker follows each block (ITU T.81, B.2.4.4), blocks are independent of one
  another, and only those of the crop are kept. `preparing/conversion.py` writes such files.

Both are for baseline files alone: a progressive one comes in several passes over all blocks.
"""

import dataclasses

import numpy as np

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = (0xC0, 0xC1)
_RESTART_INTERVAL, _START_OF_SCAN = 0xDD, 0xDA
_STAND_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the headers of a JPEG file say; offsets in bytes, sizes in pixels."""

    height: int
    width: int
    components: int  # 1 gray, 3 colour, 4 CMYK
    baseline: bool  # of a single pass
    block: tuple[int, int]  # height and width of the unit that is coded together (the MCU)
    restart_interval: int  # in blocks, 0 for none
    size_at: int  # of the height and width
    scan_at: int  # of the first coded block


class NotAJpegError(ValueError):
    """The headers are no JPEG's."""


def read_layout(encoded: bytes | bytearray) -> Layout:
    """Reads the headers up to the first scan.

    Raises:
      NotAJpegError: they are damaged, or those of another format.
    """
    if encoded[:2] != b"\xff\xd8":
        raise NotAJpegError("no start of image")
    at, restart_interval, frame = 2, 0, 0
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
        block=(8 * rows, 8 * columns),
        restart_interval=restart_interval,
        size_at=frame + 5,
        scan_at=at + 2 + length,
    )


def ends(encoded: bytes) -> bool:
    """Whether the file has its end-of-image marker; a truncated one has not.

    Some writers pad with a few bytes after it.
    """
    return encoded.rfind(b"\xff\xd9", -1024) >= 0


def cut(
    encoded: bytes, layout: Layout, box: tuple[int, int, int, int]
) -> tuple[bytes | bytearray, int, int]:
    """A smaller file whose image contains `box` (top, left, height, width in pixels).

    Returns:
      The file, and the row and column at which its image begins in that of `encoded`.
    """
    if not layout.baseline:
        return encoded, 0, 0
    if layout.restart_interval == 1:
        blocks = _blocks(encoded, layout)
        if blocks is not None:
            return _cut_blocks(encoded, layout, blocks, box)
    top, _, height, _ = box
    if top + height == layout.height:
        return encoded, 0, 0
    file = bytearray(encoded)
    file[layout.size_at : layout.size_at + 2] = (top + height).to_bytes(2, "big")
    return file, 0, 0


def _blocks(encoded: bytes, layout: Layout) -> np.ndarray | None:
    """Where each block ends, int64 [rows, columns]; None if their number is wrong."""
    rows = -(-layout.height // layout.block[0])
    columns = -(-layout.width // layout.block[1])
    content = np.frombuffer(encoded, np.uint8, offset=layout.scan_at)
    is_marker = (content[:-1] == 0xFF) & ((content[1:] & 0xF8) == 0xD0)
    markers = np.flatnonzero(is_marker) + layout.scan_at
    end = encoded.rfind(b"\xff\xd9")
    if len(markers) != rows * columns - 1 or end < markers[-1:].sum():
        return None
    return np.append(markers, end).reshape(rows, columns)


def _cut_blocks(
    encoded: bytes, layout: Layout, ends: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[bytearray, int, int]:
    top, left, height, width = box
    block_height, block_width = layout.block
    first_row, last_row = top // block_height, (top + height - 1) // block_height
    first, last = left // block_width, (left + width - 1) // block_width
    kept = ends[first_row : last_row + 1, first : last + 1]
    # A row of kept blocks lies in one piece, each block with the marker behind it.
    before = ends.reshape(-1)[np.arange(first_row, last_row + 1) * ends.shape[1] + first - 1] + 2
    if first_row == 0 and first == 0:
        before[0] = layout.scan_at
    after = kept[:, -1] + 2
    file = bytearray(encoded[: layout.scan_at])
    offsets = []  # from the place of a row in `encoded` to that in `file`
    for start, stop in zip(before.tolist(), after.tolist(), strict=True):
        offsets.append(len(file) - start)
        file += encoded[start:stop]
    # Restart markers count from 0 to 7 and over again; the last one becomes the end of the image.
    markers = (kept + np.array(offsets)[:, None]).reshape(-1)
    content = np.frombuffer(file, np.uint8)
    content[markers + 1] = 0xD0 + np.arange(len(markers)) % 8
    content[-1] = 0xD9
    row, column = first_row * block_height, first * block_width
    new_height = min(layout.height, (last_row + 1) * block_height) - row
    new_width = min(layout.width, (last + 1) * block_width) - column
    at = layout.size_at
    file[at : at + 4] = new_height.to_bytes(2, "big") + new_width.to_bytes(2, "big")
    return file, row, column
