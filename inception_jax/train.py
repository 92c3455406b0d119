"""Train a network. The same command again goes on where it stopped."""

import argparse

from inception_jax import cli, configuration, workdir
from inception_jax.training import loop

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Trains `flags.config` in `flags.workdir`."""
    config = configuration.load(flags.config, overrides)
    result = loop.train(config, flags.workdir)
    log.info(
        f"trained {config.name} for {result['step']} steps: {config.evaluation.split} top-1 "
        f"{result['top1']:.4f}, top-5 {result['top5']:.4f}"
    )
    for name in (
        workdir.CONFIG,
        workdir.METRICS,
        workdir.TENSORBOARD,
        workdir.LOGS,
        workdir.CHECKPOINTS,
    ):
        log.info(f"  {flags.workdir / name}")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_config()
    parser.add_argument("--workdir", required=True, type=cli.path, help="folder of the run")
    cli.run(main, parser)
