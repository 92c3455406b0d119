"""Describe a network: output shapes, parameters and multiply-adds of each layer, for one image.

--compare shows several networks side by side: the paper compares at equal computation.
"""

import argparse
import dataclasses
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from inception_jax import cli
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.errors import UsageError
from inception_jax.models.cost import NetworkCost, network_cost
from inception_jax.models.options import network_config
from inception_jax.runtime import console
from inception_jax.storage import json_files


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints a table, or with --json one JSON object."""
    if (flags.config is None) == (flags.compare is None):
        raise UsageError("give either --config FILE or --compare FILE FILE... (see --help)")
    if flags.compare:
        configs = [_load(file, overrides) for file in flags.compare]
        rows = [cost(config, flags.batch_size) for config in configs]
        if flags.json:
            print(json_files.to_text({"batch_size": flags.batch_size, "configs": rows}))
        else:
            console.stdout.print(comparison_table(rows, flags.batch_size))
        return
    config = _load(flags.config, overrides)
    costs = network_cost(network_config(config))
    if flags.json:
        print(json_files.to_text({"config_name": config.name, **dataclasses.asdict(costs)}))
        return
    console.stdout.print(layer_table(costs, f"{config.name}, {config.data.image_size} pixels"))
    print(f"{costs.convolutions} convolutions, {costs.multiply_adds / 1e6:,.1f} M multiply-adds")


def layer_table(costs: NetworkCost, title: str) -> Table:
    """A table of all layers and of their sums."""
    table = Table(title=title)
    table.add_column("layer", overflow="fold")
    for heading in ("output", "parameters", "multiply-adds"):
        table.add_column(heading, justify="right")
    for layer in costs.layers:
        output = "x".join(map(str, layer.output))
        table.add_row(layer.name, output, f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
    table.add_section()
    table.add_row("inference", "", f"{costs.parameters:,}", f"{costs.multiply_adds:,}")
    table.add_row("training, with auxiliary heads", "", f"{costs.training_parameters:,}", "")
    return table


def cost(config: ConfigDict, batch_size: int) -> dict[str, Any]:
    """A row of a comparison; `activation_bytes` are those of a training step's whole batch."""
    # Imported here: JAX takes a second to load, and the costs of one network do not need it.
    from inception_jax.models.network import build
    from inception_jax.models.traced_cost import activation_bytes

    options = network_config(config)
    costs = network_cost(options)
    return {
        "config_name": config.name,
        "image_size": options.image_size,
        "parameters": costs.parameters,
        "training_parameters": costs.training_parameters,
        "multiply_adds": costs.multiply_adds,
        "activation_bytes": activation_bytes(build(options), batch_size),
    }


def comparison_table(rows: list[dict[str, Any]], batch_size: int) -> Table:
    """A table of several networks; in brackets, multiples of the first one."""
    table = Table(
        caption="In millions: parameters, and multiply-adds of one image, forward. Activations: "
        f"kept for the gradient of {batch_size} images. In brackets: multiples of the first row."
    )
    table.add_column("config", overflow="fold")
    for heading in ("parameters", "in training", "multiply-adds", "activations"):
        table.add_column(heading, justify="right")
    for row in rows:
        multiply_adds, kept = (
            row[name] / rows[0][name] for name in ("multiply_adds", "activation_bytes")
        )
        table.add_row(
            f"{row['config_name']}, {row['image_size']} px",
            f"{row['parameters'] / 1e6:,.2f}",
            f"{row['training_parameters'] / 1e6:,.2f}",
            f"{row['multiply_adds'] / 1e6:,.1f} ({multiply_adds:.2f})",
            f"{row['activation_bytes'] / 2**20:,.0f} MiB ({kept:.2f})",
        )
    return table


def _load(file: str, overrides: list[str]) -> ConfigDict:
    return resolve(load_config(file, overrides))


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--config", metavar="FILE", help="as configs/x.py[:name=value]")
    parser.add_argument(
        "--compare", nargs="+", metavar="FILE", help="config files, side by side; the first is 1.00"
    )
    parser.add_argument(
        "--batch_size",
        type=cli.positive,
        default=32,
        metavar="N",
        help="images whose activations are compared; default: 32",
    )
    parser.allow_overrides("the configs")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
