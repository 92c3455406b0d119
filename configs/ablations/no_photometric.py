"""Do photometric distortions help?

Paper: "useful to combat overfitting to some extent" (section 6), with no figure.
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/no_photometric.py \\
             --workdir runs/no_photometric
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_no_photometric"
    config.photometric.update(
        brightness=(1.0, 1.0), contrast=(1.0, 1.0), saturation=(1.0, 1.0), lighting=0.0
    )
    return config
