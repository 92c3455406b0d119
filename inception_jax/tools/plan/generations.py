"""Generations of TPUs, and how their slices are named."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Generation:
    """The names of a generation's slices, and libtpu's options for them."""

    dimensions: int  # of the grid of chips
    example: str
    devices_per_chip: int = 1
    options: tuple[tuple[str, Any], ...] = ()


# libtpu decides which shapes exist. v2, v3 and tpu7x show each half of a chip as a device.
GENERATIONS = {
    "v2": Generation(2, "2x2", devices_per_chip=2),
    "v3": Generation(2, "2x2", devices_per_chip=2),
    # Both cores of a chip as one device, as TPU machines run them.
    "v4": Generation(3, "2x2x2", options=(("chip_config_name", "megacore"),)),
    "v5e": Generation(2, "2x4"),
    "v5p": Generation(3, "2x2x2"),
    "v6e": Generation(2, "2x4"),
    "tpu7x": Generation(3, "2x2x1", devices_per_chip=2),
}
