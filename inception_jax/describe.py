"""Describe a network: output shapes, parameters and multiply-adds of each layer, for one image."""

import argparse
import dataclasses
import json

from rich.table import Table

from inception_jax import cli, configuration
from inception_jax.data import from_data
from inception_jax.models.describe import describe
from inception_jax.models.network import network_config
from inception_jax.reporting import console


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints a table, or with --json one JSON object."""
    config = from_data.resolve(configuration.load(flags.config, overrides))
    description = describe(network_config(config))
    if flags.json:
        print(json.dumps({"config_name": config.name, **dataclasses.asdict(description)}))
        return
    table = Table(title=f"{config.name}, {config.data.image_size} pixels")
    table.add_column("layer", overflow="fold")
    for heading in ("output", "parameters", "multiply-adds"):
        table.add_column(heading, justify="right")
    for layer in description.layers:
        output = "x".join(map(str, layer.output))
        table.add_row(layer.name, output, f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
    table.add_section()
    parameters, multiply_adds = description.parameters, description.multiply_adds
    table.add_row("inference", "", f"{parameters:,}", f"{multiply_adds:,}")
    table.add_row("training, with auxiliary heads", "", f"{description.training_parameters:,}", "")
    console.stdout.print(table)
    print(f"{description.convolutions} convolutions, {multiply_adds / 1e6:,.1f} M multiply-adds")


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_config()
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    cli.run(main, parser)
