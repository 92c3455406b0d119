"""Flags of commands that show images to networks: over which crops, and how they are averaged."""

import argparse

from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS

AVERAGES = ("probabilities", "max")  # over crops; over networks it is always probabilities


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --crops and --average."""
    parser.add_argument(
        "--crops",
        type=int,
        choices=PROTOCOLS,
        help="of each image; default: the config's, 1",
    )
    parser.add_argument(
        "--average",
        choices=AVERAGES,
        default=AVERAGES[0],
        help="over crops: their mean (default) or maximum",
    )
