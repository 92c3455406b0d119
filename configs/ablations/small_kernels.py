"""3x3 convolutions in place of 5x5, as torchvision and TF-slim have them?

Paper: 5x5, "based more on convenience rather than necessity" (section 4).
Budget: 0.95 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/small_kernels.py \\
             --workdir runs/small_kernels
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_small_kernels"
    config.model.large_kernel = 3
    return config
