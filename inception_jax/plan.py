"""Compile the training step for a TPU slice that you do not have: memory, work, time by layer.

The TPU compiler runs on any Linux x86 machine: pip install 'inception_jax[plan]'. All that is
printed is its estimate; nothing runs.
"""

import argparse
import json

import jax

from inception_jax import cli, configuration
from inception_jax.data import from_data
from inception_jax.planning import estimate, table, topology
from inception_jax.reporting import console


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints tables, or with --json one JSON object."""
    jax.config.update("jax_platforms", "cpu")  # where there is a TPU, it stays free
    # JAX cannot read programs for absent devices back, and would warn each time.
    jax.config.update("jax_enable_compilation_cache", False)
    if flags.batch_size:
        overrides = [*overrides, f"--config.data.batch_size={flags.batch_size}"]
    config = configuration.load(flags.config, overrides)
    slice = topology.find_slice(flags.topology)
    found = estimate.estimate(from_data.resolve(config), slice, search=flags.search)
    if flags.json:
        print(json.dumps(found))
        return
    console.stdout.print(table.memory(found))
    if found["fits"]:
        console.stdout.print(table.cycles(found))
    for line in table.summary(found):
        print(line)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_config()
    known = ", ".join(topology.GENERATIONS)
    parser.add_argument(
        "--topology", required=True, metavar="NAME", help=f"slice, as v5e:2x4; one of {known}"
    )
    parser.add_argument(
        "--batch_size", type=cli.positive, metavar="N", help="images a step; default: the config's"
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help=f"find the largest batch by compiling at most {estimate.COMPILATIONS} more",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    cli.run(main, parser)
