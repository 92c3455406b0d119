"""Is one auxiliary classifier as good as two?

Paper: nothing. Szegedy et al. 2015 (arXiv 1512.00567, section 4) could remove the lower one
  at no loss of quality.
Budget: 1.00 of the base's multiply-adds at inference; a training step has 4.2 M fewer of 1,591 M
  (forward, 224 pixels).
Command: python -m inception_jax.train --config configs/ablations/one_auxiliary.py \\
             --workdir runs/one_auxiliary

Arguments: `:after=inception_4a` keeps the lower one.
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument, after="inception_4d")
    config.name += "_one_auxiliary"
    config.model.update(auxiliary=True, auxiliary_after=(arguments.after,))
    return config
