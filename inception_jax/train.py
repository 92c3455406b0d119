"""Train a network. The same command again goes on where it stopped."""

import argparse
from pathlib import Path

import jax

from inception_jax import cli, configuration
from inception_jax.reporting import console
from inception_jax.training import loop

log = cli.log


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Trains `flags.config` in `flags.workdir`."""
    config = configuration.load(flags.config, overrides)
    console.add_file(cli.log, flags.workdir / "logs" / f"process_{jax.process_index()}.log")
    result = loop.train(config, flags.workdir)
    log.info(
        f"trained {config.name} for {result['step']} steps: {config.evaluation.split} top-1 "
        f"{result['top1']:.4f}, top-5 {result['top5']:.4f}"
    )
    for name in ("config.json", "metrics.jsonl", "tensorboard", "logs", "checkpoints"):
        log.info(f"  {flags.workdir / name}")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_config()
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    cli.run(main, parser)
