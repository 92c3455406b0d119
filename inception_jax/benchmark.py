"""Measure how fast a part of the program is on this machine, and next to others' programs."""

import argparse
from collections.abc import Callable
from types import ModuleType

from inception_jax import cli
from inception_jax.config import configuration
from inception_jax.runtime import compiled_programs, console
from inception_jax.storage import json_files
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS
from inception_jax.tools.benchmark import evaluation_time, input_time, startup_time, step_time

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints what was measured as a table, or with --json as one JSON object."""
    module, measure, _ = BENCHMARKS[flags.benchmark]
    result = measure(flags, overrides)
    if flags.json:
        print(json_files.to_text(result))
        return
    console.stdout.print(module.table(result))
    for line in module.summary(result):
        print(line)


def measure_input(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """`benchmark input`."""
    if flags.peer:
        overrides = with_bilinear(overrides)
    config = configuration.load(flags.config, overrides)
    return input_time.measure(
        config, flags.data or [config.data.name], flags.split, flags.peer, flags.seconds,
        flags.repeats,
    )  # fmt: skip


def measure_evaluate(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """`benchmark evaluate`."""
    config = configuration.load(flags.config, overrides)
    compiled_programs.keep()
    return evaluation_time.measure(config, flags.crops, flags.seconds, flags.repeats)


def measure_step(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """`benchmark step`."""
    if flags.batch_size:
        overrides = [*overrides, f"--config.data.batch_size={flags.batch_size}"]
    config = configuration.load(flags.config, overrides)
    compiled_programs.keep()
    return step_time.measure(config, flags.peer, flags.seconds, flags.repeats)


def measure_startup(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """`benchmark startup`."""
    config = configuration.load(flags.config, overrides)
    return startup_time.measure(config, flags.config, overrides, flags.repeats)


def with_bilinear(overrides: list[str]) -> list[str]:
    """Adds bilinear interpolation for both sides, unless the overrides say another."""
    field = "--config.data.interpolations"
    if any(argument.partition("=")[0] == field for argument in overrides):
        return overrides
    log.info(
        "interpolation: bilinear in both pipelines, because TensorFlow's area and bicubic kernels "
        f"are slow and would flatter us; {field}=... takes others"
    )
    return [*overrides, f"{field}=('bilinear',)"]


def add_input_flags(parser: cli.Parser) -> None:
    """What is read, and how long each measurement takes."""
    add_seconds(parser)
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="NAME",
        help="prepared data sets in the config's data.data_dir; default: its data.name",
    )
    parser.add_argument(
        "--peer", choices=input_time.PEERS, help="compare with it, on the same images"
    )
    parser.add_argument("--split", help="default: the config's data.train_split")


def add_evaluate_flags(parser: cli.Parser) -> None:
    """Over how many crops."""
    add_seconds(parser)
    counts = [count for count in PROTOCOLS if count > 1]
    parser.add_argument(
        "--crops", type=int, choices=counts, default=max(counts), help=f"default: {max(counts)}"
    )


def add_step_flags(parser: cli.Parser) -> None:
    """The batch, and next to whom."""
    add_seconds(parser)
    parser.add_argument(
        "--batch_size", type=cli.positive, metavar="N", help="images a step; default: the config's"
    )
    parser.add_argument("--peer", choices=step_time.PEERS, help="compare with it, on the CPU")


def add_startup_flags(parser: cli.Parser) -> None:
    """None: a start takes as long as it takes."""


def add_seconds(parser: cli.Parser) -> None:
    """Of what goes on for as long as one likes."""
    parser.add_argument(
        "--seconds", type=_positive(float), default=5.0, help="of a measurement; default: 5"
    )


def add_common_flags(parser: cli.Parser) -> None:
    """Of every benchmark."""
    parser.add_argument(
        "--config",
        default="configs/googlenet.py",
        metavar="FILE",
        help="config file, as configs/x.py[:name=value,...]; default: configs/googlenet.py",
    )
    parser.allow_overrides("the config")
    parser.add_argument(
        "--repeats", type=_positive(int), default=5, help="of each measurement; default: 5"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    parse.__name__ = kind.__name__  # argparse names it in its message
    return parse


# Name: the module with `table` and `summary`, what measures, what adds flags.
BENCHMARKS: dict[str, tuple[ModuleType, Callable[..., dict], Callable[[cli.Parser], None]]] = {
    "input": (input_time, measure_input, add_input_flags),
    "evaluate": (evaluation_time, measure_evaluate, add_evaluate_flags),
    "step": (step_time, measure_step, add_step_flags),
    "startup": (startup_time, measure_startup, add_startup_flags),
}


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.allow_overrides("the config")
    names = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name, (module, _, add_flags) in BENCHMARKS.items():
        assert module.__doc__ is not None
        summary = module.__doc__.splitlines()[0]
        one = names.add_parser(name, help=summary, description=module.__doc__)
        add_flags(one)
        add_common_flags(one)
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
