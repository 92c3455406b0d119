"""The filters of the first convolution as pictures."""

import jax
import numpy as np

from inception_jax.models.network import Network
from inception_jax.models.row_types import ConvolutionRow


def first_filters(network: Network, params: dict) -> list[np.ndarray]:
    """Each filter as uint8 [height, width, 3]: gray is 0, and the largest weight of each is full.

    Its three input channels are red, green and blue.
    """
    row = network.config.rows()[0]
    assert isinstance(row, ConvolutionRow)  # every stem begins with one
    unit = params
    for part in row.name.split("/"):
        unit = unit[part]
    kernel = np.asarray(jax.device_get(unit["kernel"]))  # [height, width, 3, filters]
    largest = np.abs(kernel).max(axis=(0, 1, 2), keepdims=True)
    shades = np.round(127.5 * (1 + kernel / np.maximum(largest, 1e-12))).astype(np.uint8)
    return list(np.moveaxis(shades, -1, 0))
