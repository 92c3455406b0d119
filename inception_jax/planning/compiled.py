"""What a compiled TPU program says of itself: memory, work, transfers between chips, cycles."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import jax
from jax.stages import Compiled, Lowered

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

# Where the compiler has lost a name, mostly in what it made up itself.
UNNAMED = "(no name)"
# Named, but of no layer.
OTHER = "(outside the layers)"

BYTES = {unit: 2**power for unit, power in zip(" KMGTP", range(0, 60, 10), strict=True)}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The compiler's refusal, in bytes on one device; what it needs is rounded by the compiler."""

    needed: int
    available: int


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of the program of one device."""

    operation: str  # fusion, all-reduce, ...
    arrays: tuple[tuple[str, tuple[int, ...]], ...]  # of the result: ("bf16", (7, 7, 3, 64))
    name: str  # where it comes from: jit(train_step)/jvp(conv1/7x7_s2)/conv_general_dilated, or ""
    cycles: int  # the compiler's estimate; 0 for what it estimates none for


@dataclasses.dataclass(frozen=True)
class Collective:
    """All transfers of a kind in a type; `bytes` are those of their results on one device."""

    kind: str
    dtype: str
    arrays: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class LayerCycles:
    """Estimated cycles of one layer on one device."""

    name: str
    forward: int
    backward: int


def compile_or_refuse(lowered: Lowered) -> Compiled | Refusal:
    """Compiles a program; one that takes more memory than a device has is an answer, too."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = parse_refusal(str(error))
        if refusal is None:
            raise
        return refusal


def parse_refusal(message: str) -> Refusal | None:
    """Reads "... (24.06G) exceeds available HBM (15.75G)" and "Used 24.06G of 15.75G hbm"."""
    size = r"([\d.]+)([KMGTP]?)"
    match = re.search(rf"\({size}\) exceeds available HBM \({size}\)", message)
    match = match or re.search(rf"Used {size} of {size} hbm", message)
    if match is None:
        return None
    needed, available = (
        round(float(number) * BYTES[unit or " "])
        for number, unit in (match.groups()[:2], match.groups()[2:])
    )
    return Refusal(needed, available)


def instructions(text: str) -> Iterator[Instruction]:
    """Of a program's text; a loop's body counts once, since how often it runs is not in there."""
    for line in text.splitlines():
        match = re.match(r"\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][a-z\d-]*)\(", line)
        if match is None:
            continue
        name = re.search(r'\bop_name="([^"]*)"', line)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
        yield Instruction(
            operation=match[2],
            arrays=tuple(
                (dtype, tuple(int(size) for size in sizes.split(",") if size))
                for dtype, sizes in re.findall(r"\b([a-z][a-z\d]*)\[([\d,]*)\]", match[1])
            ),
            name=name[1] if name else "",
            cycles=int(cycles[1]) if cycles else 0,
        )


def collectives(program: Sequence[Instruction]) -> list[Collective]:
    """What the chips tell one another, the largest first."""
    arrays: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for instruction in program:
        kind = instruction.operation.removesuffix("-done")  # a start's result has more than that
        if kind not in COLLECTIVES:
            continue
        for dtype, shape in instruction.arrays:
            arrays[kind, dtype] += 1
            size[kind, dtype] += math.ceil(math.prod(shape) * _bits(dtype) / 8)
    return [
        Collective(kind, dtype, arrays[kind, dtype], total)
        for (kind, dtype), total in size.most_common()
    ]


def cycles_by_layer(program: Sequence[Instruction], layers: Sequence[str]) -> list[LayerCycles]:
    """In the order of `layers`; then what is in none, and what has no name.

    A fusion counts for the layer that its result is named after.
    """
    forward: Counter[str] = Counter()
    backward: Counter[str] = Counter()
    for instruction in program:
        layer = layer_of(instruction.name, layers)
        (backward if "transpose(" in instruction.name else forward)[layer] += instruction.cycles
    return [
        LayerCycles(layer, forward[layer], backward[layer])
        for layer in (*layers, OTHER, UNNAMED)
        if forward[layer] or backward[layer]
    ]


def layer_of(name: str, layers: Sequence[str]) -> str:
    """jit(train_step)/transpose(jvp(loss3))/classifier/dot_general -> loss3/classifier."""
    if not name:
        return UNNAMED
    _, _, scope = name.partition("/")
    scope = re.sub(r"\b\w+\(|\)", "", scope) + "/"
    found = [layer for layer in layers if scope.startswith(f"{layer}/")]
    return max(found, key=len, default=OTHER)


def _bits(dtype: str) -> int:
    """bf16, f8e4m3fn, s32, pred, ...: the first number is the size."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 * (dtype == "pred")
