"""Measure how fast a part of the program is on this machine, alone or beside other programs."""

import argparse
from collections.abc import Callable
from types import ModuleType

from inception_jax import cli
from inception_jax.config.load import load_config
from inception_jax.runtime import compiled_programs, console
from inception_jax.storage import json_files
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS
from inception_jax.tools.benchmark import evaluation_time, input_time, startup_time, step_time

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints the measurements as a table, or with --json as one JSON object."""
    module, measure, _ = BENCHMARKS[flags.benchmark]
    result = measure(flags, overrides)
    if flags.json:
        print(json_files.to_text(result))
        return
    console.stdout.print(module.result_table(result))
    for line in module.summary(result):
        print(line)


def measure_input(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """Runs `benchmark input`."""
    if flags.peer:
        overrides = with_bilinear(overrides)
    config = load_config(flags.config, overrides)
    return input_time.measure(
        config, flags.data or [config.data.name], flags.split, flags.peer, flags.seconds,
        flags.repeats,
    )  # fmt: skip


def measure_evaluate(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """Runs `benchmark evaluate`."""
    config = load_config(flags.config, overrides)
    compiled_programs.keep()
    return evaluation_time.measure(config, flags.crops, flags.seconds, flags.repeats)


def measure_step(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """Runs `benchmark step`."""
    if flags.batch_size:
        overrides = [*overrides, f"--config.data.batch_size={flags.batch_size}"]
    config = load_config(flags.config, overrides)
    compiled_programs.keep()
    return step_time.measure(config, flags.peer, flags.seconds, flags.repeats)


def measure_startup(flags: argparse.Namespace, overrides: list[str]) -> dict:
    """Runs `benchmark startup`."""
    config = load_config(flags.config, overrides)
    return startup_time.measure(config, flags.config, overrides, flags.repeats)


def with_bilinear(overrides: list[str]) -> list[str]:
    """Adds bilinear interpolation to the overrides, unless they choose another one."""
    field = "--config.data.interpolations"
    if any(argument.partition("=")[0] == field for argument in overrides):
        return overrides
    log.info(
        "interpolation: bilinear in both pipelines, because TensorFlow's area and bicubic kernels "
        f"are slow and the comparison would be unfair; {field}=... chooses others"
    )
    return [*overrides, f"{field}=('bilinear',)"]


def add_input_flags(parser: cli.Parser) -> None:
    """Adds the flags of `benchmark input`: data sets, peer, split."""
    add_seconds(parser)
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="NAME",
        help="prepared data sets in the config's data.data_dir; default: its data.name",
    )
    parser.add_argument(
        "--peer", choices=input_time.PEERS, help="program to compare with, on the same images"
    )
    parser.add_argument("--split", help="default: the config's data.train_split")


def add_evaluate_flags(parser: cli.Parser) -> None:
    """Adds the flags of `benchmark evaluate`: the number of crops."""
    add_seconds(parser)
    counts = [count for count in PROTOCOLS if count > 1]
    parser.add_argument(
        "--crops", type=int, choices=counts, default=max(counts), help=f"default: {max(counts)}"
    )


def add_step_flags(parser: cli.Parser) -> None:
    """Adds the flags of `benchmark step`: batch size, peer."""
    add_seconds(parser)
    parser.add_argument(
        "--batch_size", type=cli.positive, metavar="N", help="images a step; default: the config's"
    )
    parser.add_argument(
        "--peer", choices=step_time.PEERS, help="program to compare with (CPU only)"
    )


def add_startup_flags(parser: cli.Parser) -> None:
    """Adds nothing: a start has no fixed time."""


def add_seconds(parser: cli.Parser) -> None:
    """Adds --seconds to benchmarks that run for a fixed time."""
    parser.add_argument(
        "--seconds", type=_positive(float), default=5.0, help="time of one measurement; default: 5"
    )


def add_common_flags(parser: cli.Parser) -> None:
    """Adds the flags of all benchmarks."""
    parser.add_argument(
        "--config",
        default="configs/googlenet.py",
        metavar="FILE",
        help="config file, as configs/x.py[:name=value,...]; default: configs/googlenet.py",
    )
    parser.allow_overrides("the config")
    parser.add_argument(
        "--repeats", type=_positive(int), default=5, help="measurements of each kind; default: 5"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A type of flag: a finite number above 0."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    parse.__name__ = kind.__name__  # argparse puts the name into its message
    return parse


# By name: the module with `result_table` and `summary`, the function that measures, and its flags.
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
