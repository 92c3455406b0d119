"""A sample of a split's JPEG files, for which every pipeline has its fast decoder."""

import logging
from collections.abc import Iterable, Sequence

from inception_jax.data.sources import Example, Source
from inception_jax.errors import UserError

log = logging.getLogger(__name__)

SAMPLE = 2000  # images
OTHER_FORMATS = 0.01  # largest share of images in other formats, which are left out


class Sample:
    """A source of some examples of another source."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, indices
        self.class_names, self.fingerprint = source.class_names, source.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Iterable[int]) -> list[Example]:
        return self._source.read([self._indices[index] for index in indices])


def jpeg_files(source: Source, most: int) -> list[int]:
    """The indices of JPEG files among at most `most` examples spread over the source.

    Raises:
      UserError: more than OTHER_FORMATS of them are of another format.
    """
    step = -(-len(source) // most)
    found, others = [], []
    for index in range(0, len(source), step):
        example = source.read([index])[0]
        if example.encoded.startswith(b"\xff\xd8"):
            found.append(index)
        else:
            others.append(example.name)
    if len(others) > OTHER_FORMATS * (len(found) + len(others)):
        raise UserError(
            f"{others[0]} is not a JPEG file, and tf.data crops no other while it decodes: "
            "measure without --peer"
        )
    if others:
        log.info(f"left out {len(others)} images that are not JPEG files, as {others[0]}")
    return found
