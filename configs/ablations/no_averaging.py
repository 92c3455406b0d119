"""What does Polyak averaging bring?

Paper: it was "used to create the final model used at inference time" (section 6), with no figure.
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/no_averaging.py \\
             --workdir runs/no_averaging
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_no_averaging"
    config.training.average_decay = 0.0
    return config
