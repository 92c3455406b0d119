"""The compiler's answer to a program: the compiled program, or that it takes too much memory."""

import dataclasses
import re

import jax
from jax.stages import Compiled, Lowered

BYTES = {unit: 2**power for unit, power in zip(" KMGTP", range(0, 60, 10), strict=True)}


@dataclasses.dataclass(frozen=True)
class OutOfMemory:
    """Memory needed and available, as the compiler reports them: bytes on one device, rounded."""

    needed: int
    available: int


def compile_within_memory(lowered: Lowered) -> Compiled | OutOfMemory:
    """Compiles a program; one that takes more memory than a device has is a result, too."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        out_of_memory = parse_out_of_memory(str(error))
        if out_of_memory is None:
            raise
        return out_of_memory


def parse_out_of_memory(message: str) -> OutOfMemory | None:
    """Reads "... (24.06G) exceeds available HBM (15.75G)" and "Used 24.06G of 15.75G hbm".

    Returns:
      None for any other message.
    """
    size = r"([\d.]+)([KMGTP]?)"
    match = re.search(rf"\({size}\) exceeds available HBM \({size}\)", message)
    match = match or re.search(rf"Used {size} of {size} hbm", message)
    if match is None:
        return None
    needed, available = (
        round(float(number) * BYTES[unit or " "])
        for number, unit in (match.groups()[:2], match.groups()[2:])
    )
    return OutOfMemory(needed, available)
