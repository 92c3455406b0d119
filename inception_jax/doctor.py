"""Look whether a machine or a job will do: versions, devices, processes, data, disk.

Give it the flags of `train`. Each check has a verdict, and a remedy where it is not ok.
"""

import argparse

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import processes


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints what the checks found, or with --json one JSON object."""
    if overrides and not flags.config:
        raise UsageError(f"{overrides[0]} needs --config")
    try:
        from inception_jax.tools.doctor import all_checks
    except (ImportError, RuntimeError) as error:  # the latter is JAX's, of another jaxlib
        raise UserError(f"{error}: python -m pip install -r requirements.txt") from error
    all_checks.check(flags, overrides)


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--config", metavar="FILE", help="and its data: configs/x.py[:name=value,...]"
    )
    parser.allow_overrides("the config")
    parser.add_argument("--workdir", type=cli.path, metavar="DIR", help="folder of the run")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    processes.add_flags(parser)
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
