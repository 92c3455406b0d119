"""How does accuracy follow the number of filters?

Paper: the seven models of section 7 include "one wider version"; how much wider, and what it
  brought, is not said.
Budget: 0.27 of the base's multiply-adds at 0.5, 0.58 at 0.75, 1.54 at 1.25.
Command: python -m inception_jax.train --config configs/ablations/width.py:width=0.5 \\
             --workdir runs/width

Arguments: `:width=0.75`, times the base's.
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument, width=0.5)
    config.name += f"_width_{arguments.width}"
    config.model.width *= arguments.width
    return config
