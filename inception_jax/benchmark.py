"""Measure how fast a part of the program is on this machine, and next to others' programs."""

import argparse
import json
from collections.abc import Callable

from inception_jax import cli, configuration
from inception_jax.benchmarking import input
from inception_jax.benchmarking.peers.process import PEERS
from inception_jax.reporting import console

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints what was measured as a table, or with --json as one JSON object."""
    if flags.peer:
        overrides = with_bilinear(overrides)
    config = configuration.load(flags.config, overrides)
    result = input.measure(
        config, flags.data or [config.data.name], flags.split, flags.peer, flags.seconds,
        flags.repeats,
    )  # fmt: skip
    if flags.json:
        print(json.dumps(result))
        return
    console.stdout.print(input.table(result))
    for line in input.summary(result):
        print(line)


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
    parser.add_argument(
        "--config",
        default="configs/googlenet.py",
        metavar="FILE",
        help="config file, as configs/x.py[:name=value,...]; default: configs/googlenet.py",
    )
    parser.allow_overrides("the config")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="NAME",
        help="prepared data sets in the config's data.data_dir; default: its data.name",
    )
    parser.add_argument("--peer", choices=sorted(PEERS), help="compare with it, on the same images")
    parser.add_argument("--split", help="default: the config's data.train_split")
    parser.add_argument(
        "--seconds", type=_positive(float), default=5.0, help="of a measurement; default: 5"
    )
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


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.allow_overrides("the config")
    names = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    summary = input.__doc__.splitlines()[0]
    add_input_flags(names.add_parser("input", help=summary, description=input.__doc__))
    cli.run(main, parser)
