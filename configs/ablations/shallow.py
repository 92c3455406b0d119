"""Is it depth? One Inception module a resolution (3a, 4a, 5a) instead of nine in all.

Paper: "the most straightforward way of improving the performance of deep neural networks is by
  increasing their size. This includes both increasing the depth" (section 3); depth is not varied.
Budget: 1.00 of the base's multiply-adds, by more filters: without that it would be 0.45.
  The auxiliary head on 4d goes with its module.
Command: python -m inception_jax.train --config configs/ablations/shallow.py \\
             --workdir runs/shallow
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation

# Of the base's, with which the multiply-adds are the base's; on a base not named, nearly.
WIDTH = {"googlenet": 1.54, "fashion_mnist": 1.58}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument)
    config.name += "_shallow"
    config.model.architecture = "shallow"
    config.model.width *= WIDTH.get(arguments.base, WIDTH["googlenet"])
    return config
