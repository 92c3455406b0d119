"""Inception modules lower down, in place of the second convolution?

Paper: "it seemed beneficial to start using Inception modules only at higher layers while keeping
  the lower layers in traditional convolutional fashion" (section 4), for reasons of memory.
Budget: 1.00 of the base's multiply-adds.
  The module has the convolution's output, 192 channels.
Command: python -m inception_jax.train --config configs/ablations/lower_modules.py \\
             --workdir runs/lower_modules
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation

STEMS = {"medium": "medium_inception", "small": "small_inception"}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_lower_modules"
    config.model.stem = STEMS.get(config.model.stem, "inception")
    return config
