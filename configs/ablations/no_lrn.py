"""Does local response normalisation help?

Paper: LRN is drawn in figure 3 and not discussed. For VGG it "does not improve the
  performance on the ILSVRC dataset" (Simonyan & Zisserman, arXiv 1409.1556, section 2.1).
Budget: 1.00 of the base's multiply-adds.
  LRN itself has none: it takes memory traffic.
Command: python -m inception_jax.train --config configs/ablations/no_lrn.py \\
             --workdir runs/no_lrn
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_no_lrn"
    config.model.norm = "none"
    return config
