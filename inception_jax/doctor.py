"""Check a machine or a job before training: versions, devices, processes, data, disk.

Give it the flags of `train`. Each check has a verdict, and a remedy where it is not ok.
"""

import argparse

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import processes


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints a table of all checks, or with --json one JSON object."""
    if overrides and not flags.config:
        raise UsageError(f"{overrides[0]} needs --config")
    try:
        from inception_jax.tools.doctor import all_checks
    except (ImportError, RuntimeError) as error:  # RuntimeError: JAX with another jaxlib
        raise UserError(f"{error}: python -m pip install -r requirements.txt") from error
    all_checks.check(flags, overrides)


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--config", metavar="FILE", help="also checks its data: configs/x.py[:name=value,...]"
    )
    parser.allow_overrides("the config")
    parser.add_argument(
        "--workdir", type=cli.path, metavar="DIR", help="also checks this run's folder"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    processes.add_flags(parser)
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
