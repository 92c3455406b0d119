"""How much dropout before the classifier, if any?

Paper: 40 % (table 1); "the use of dropout remained essential even after removing the fully
  connected layers" (section 5).
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/dropout.py \\
             --workdir runs/dropout

Arguments: `:rate=0.2`, share that is dropped.
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument, rate=0.0)
    config.name += f"_dropout_{arguments.rate}"
    config.model.dropout = arguments.rate
    return config
