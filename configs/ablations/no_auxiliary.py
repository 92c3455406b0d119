"""Do the auxiliary classifiers help?

Paper: they were to encourage discrimination in the lower stages, to increase the gradient that
  comes back, and to regularize (section 5). Szegedy et al. 2015 (arXiv 1512.00567,
  section 4) saw no early benefit, and a slightly higher plateau at the end.
Budget: 1.00 of the base's multiply-adds at inference; a training step has 8.4 M fewer of 1,591 M
  (forward, 224 pixels).
Command: python -m inception_jax.train --config configs/ablations/no_auxiliary.py \\
             --workdir runs/no_auxiliary
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, _ = parse_ablation(argument)
    config.name += "_no_auxiliary"
    config.model.auxiliary = False
    return config
