"""Instructions, transfers and cycles read from the text of a compiled TPU program. Experimental.

The text (HLO) and the cycles in it are no documented interface: they are the compiler's estimate,
and another version of the compiler may write them in another way, or not at all.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Sequence

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

# Instructions without a name, mostly those that the compiler adds.
UNNAMED = "(no name)"
# Instructions with a name, but outside of all layers.
OTHER = "(outside the layers)"

# Instructions that cost next to nothing, or run beside the others: no estimate is missed.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "ConcatBitcast",
    *(f"{move}-{end}" for move in ("copy", "slice") for end in ("start", "done")),
    *(f"{kind}-start" for kind in COLLECTIVES),
}
SMALL = 1024  # elements: those of a vector register


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of the program of one device."""

    operation: str  # fusion, all-reduce, ...; the target of a custom-call
    arrays: tuple[tuple[str, tuple[int, ...]], ...]  # of the result: ("bf16", (7, 7, 3, 64))
    name: str  # its origin: jit(train_step)/jvp(conv1/7x7_s2)/conv_general_dilated, or ""
    cycles: int | None  # the compiler's estimate, where there is one
    fused: bool  # inside of another instruction, whose estimate counts

    @property
    def unestimated(self) -> bool:
        """True for work without an estimate."""
        free = self.fused or self.operation in FREE or self.collective
        elements = sum(math.prod(shape) for _, shape in self.arrays)
        return self.cycles is None and not free and elements > SMALL

    @property
    def collective(self) -> str | None:
        """The kind of transfer between devices; None for a start: its done has the result."""
        kind = self.operation.removesuffix("-done")
        return kind if kind in COLLECTIVES else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """The transfers of one kind and dtype; `bytes` are those of their results on one device."""

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
    unestimated: int  # instructions without an estimate


def instructions(text: str) -> list[Instruction]:
    """Parses a program's text; a loop's body counts once: the text has no number of repeats."""
    found = []
    insides = set(re.findall(r"\b(?:calls|to_apply|select|scatter)=%?([\w.-]+)", text))
    fused = False
    for line in text.splitlines():
        if computation := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            fused = computation[1] in insides
        match = re.match(r"\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][a-z\d-]*)\(", line)
        if match is None:
            continue
        target = re.search(r'\bcustom_call_target="([^"]*)"', line)
        name = re.search(r'\bop_name="([^"]*)"', line)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
        arrays = re.findall(r"\b([a-z][a-z\d]*)\[([\d,]*)\]", match[1])
        found.append(
            Instruction(
                operation=target[1] if target else match[2],
                arrays=tuple((dtype, _sizes(sizes)) for dtype, sizes in arrays),
                name=name[1] if name else "",
                cycles=int(cycles[1]) if cycles else None,
                fused=fused,
            )
        )
    return found


def total_cycles(program: Sequence[Instruction]) -> int:
    """Estimated cycles of all instructions, one after the other."""
    return sum(instruction.cycles or 0 for instruction in program if not instruction.fused)


def unestimated(program: Sequence[Instruction]) -> dict[str, int]:
    """Counts work without an estimate, as {"select-and-scatter": 13}; the most frequent first."""
    return dict(Counter(one.operation for one in program if one.unestimated).most_common())


def collectives(program: Sequence[Instruction]) -> list[Collective]:
    """Sums the transfers between devices by kind and dtype, the largest first."""
    arrays: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for instruction in program:
        kind = instruction.collective
        if kind is None:
            continue
        for dtype, shape in instruction.arrays:
            arrays[kind, dtype] += 1
            size[kind, dtype] += math.ceil(math.prod(shape) * _bits(dtype) / 8)
    return [
        Collective(kind, dtype, arrays[kind, dtype], total)
        for (kind, dtype), total in size.most_common()
    ]


def cycles_by_layer(program: Sequence[Instruction], layers: Sequence[str]) -> list[LayerCycles]:
    """Sums estimated cycles by layer, in the order of `layers`; then OTHER and UNNAMED.

    A fusion counts for the layer that its result is named after.
    """
    forward: Counter[str] = Counter()
    backward: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for instruction in program:
        if instruction.fused:
            continue
        layer = layer_of(instruction.name, layers)
        direction = backward if "transpose(" in instruction.name else forward
        direction[layer] += instruction.cycles or 0
        missing[layer] += instruction.unestimated
    return [
        LayerCycles(layer, forward[layer], backward[layer], missing[layer])
        for layer in (*layers, OTHER, UNNAMED)
        if forward[layer] or backward[layer] or missing[layer]
    ]


def layer_of(name: str, layers: Sequence[str]) -> str:
    """The layer in an instruction's name.

    jit(train_step)/transpose(jvp(loss3))/classifier/dot_general is in loss3/classifier.
    """
    if not name:
        return UNNAMED
    _, _, scope = name.partition("/")
    scope = "/" + re.sub(r"\b\w+\(|\)", "", scope) + "/"
    # The innermost, and of two that begin there the longer: convolutions apply the pool after them.
    found = [(scope.rfind(f"/{layer}/"), len(layer), layer) for layer in layers]
    position, _, layer = max(found, default=(-1, 0, OTHER))
    return layer if position >= 0 else OTHER


def _sizes(text: str) -> tuple[int, ...]:
    """Parses "7,7,3,64"; "" is a scalar's."""
    return tuple(int(size) for size in text.split(",") if size)


def _bits(dtype: str) -> int:
    """Bits of bf16, f8e4m3fn, s32, pred, ...: the first number in the name."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 * (dtype == "pred")
