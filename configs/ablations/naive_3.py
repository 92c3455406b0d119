"""Do the reductions matter where maps are large, in 3a and 3b alone?

Paper: reductions go "wherever the computational requirements would increase too much otherwise"
  (section 4).
Budget: 1.00 of the base's multiply-adds, by fewer filters everywhere: without that it
  would be 1.81.
Command: python -m inception_jax.train --config configs/ablations/naive_3.py \\
             --workdir runs/naive_3
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation

# Of the base's, with which the multiply-adds are the base's; on a base not named, nearly.
WIDTH = {"googlenet": 0.737, "fashion_mnist": 0.7225}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument)
    config.name += "_naive_3"
    config.model.module = "naive_3"
    config.model.width *= WIDTH.get(arguments.base, WIDTH["googlenet"])
    return config
