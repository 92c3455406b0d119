"""Compile the training step for a TPU slice that you do not have: memory, work, cycles by layer.

The TPU compiler runs on any Linux x86 machine: pip install 'inception_jax[plan]'. All that is
printed is its estimate; nothing runs. Cycles are experimental: no TPU has confirmed them yet.
"""

import argparse

from inception_jax import cli
from inception_jax.config.load import load_config
from inception_jax.runtime import console
from inception_jax.storage import json_files
from inception_jax.tools.plan.generations import GENERATIONS


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Prints tables, or with --json one JSON object."""
    if flags.batch_size:
        overrides = [*overrides, f"--config.data.batch_size={flags.batch_size}"]
    config = load_config(flags.config, overrides)
    import jax

    from inception_jax.config.resolve import resolve
    from inception_jax.tools.plan import estimate, estimate_tables, topology

    jax.config.update("jax_platforms", "cpu")  # where there is a TPU, it stays free
    # JAX cannot read programs for absent devices back, and would warn each time.
    jax.config.update("jax_enable_compilation_cache", False)
    tpu_slice = topology.find_slice(flags.topology)
    found = estimate.estimate(resolve(config), tpu_slice, search=flags.search)
    if flags.json:
        print(json_files.to_text(found))
        return
    console.stdout.print(estimate_tables.memory_table(found))
    if found["fits"]:
        console.stdout.print(estimate_tables.cycles_table(found))
    for line in estimate_tables.summary(found):
        print(line)


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_config()
    known = ", ".join(GENERATIONS)
    parser.add_argument(
        "--topology", required=True, metavar="NAME", help=f"slice, as v5e:2x4; one of {known}"
    )
    parser.add_argument(
        "--batch_size", type=cli.positive, metavar="N", help="images a step; default: the config's"
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="find the largest batch that fits, by compiling a few more",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
