"""Train a network; the same command again goes on where it stopped."""

from inception_jax.runtime import preemption

if __name__ == "__main__":
    preemption.listen()  # the imports below take seconds

import argparse

from inception_jax import cli
from inception_jax.config.load import load_config
from inception_jax.runtime import processes
from inception_jax.storage import workdir

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Trains `flags.config` in `flags.workdir`, or only shows what it would train on."""
    config = load_config(flags.config, overrides)
    from inception_jax.runtime import compiled_programs  # JAX, after what a wrong flag needs
    from inception_jax.training import loop
    from inception_jax.training.preview import preview

    if flags.preview is not None:
        picture = flags.workdir / workdir.PREVIEW
        preview(config, flags.preview, picture)
        log.info(f"wrote {picture}; nothing was trained")
        return
    processes.join(flags)
    compiled_programs.keep()
    loop.train(config, flags.workdir)
    for name in (
        workdir.CONFIG,
        workdir.METRICS,
        workdir.TENSORBOARD,
        workdir.LOGS,
        workdir.CHECKPOINTS,
    ):
        log.info(f"  {flags.workdir / name}")


def make_parser() -> cli.Parser:
    """Makes the parser of the command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_config()
    parser.add_argument("--workdir", required=True, type=cli.path, help="folder of the run")
    parser.add_argument(
        "--preview",
        type=cli.positive,
        metavar="N",
        help=f"write WORKDIR/{workdir.PREVIEW} with the first N augmented images, and stop",
    )
    processes.add_flags(parser)
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
