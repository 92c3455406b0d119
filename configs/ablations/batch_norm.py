"""Batch normalisation in place of LRN?

Paper: it came a year later: "remove local response normalization" (Ioffe & Szegedy 2015, arXiv
  1502.03167, section 4.2.1). BN-GoogLeNet: 26.8 % top-1 error, GoogLeNet: 29 %, one crop (Szegedy
  et al. 2015, arXiv 1512.00567, table 3); their other changes of the recipe are not in here.
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train --config configs/ablations/batch_norm.py \\
             --workdir runs/batch_norm
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_batch_norm"
    config.model.norm = "batch"
    return config
