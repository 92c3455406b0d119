"""Do the 1x1 reductions earn their place, at the same computation?

Paper: "even a modest number of 5x5 convolutions can be prohibitively expensive" without them
  (section 4); the naive module (figure 2a) is never measured.
Budget: 1.00 of the base's multiply-adds, by fewer filters: without that it would be 7.9 (and 97.5 M
  parameters).
Command: python -m inception_jax.train --config configs/ablations/naive.py \\
             --workdir runs/naive
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation

# Of the base's, with which the multiply-adds are the base's; on a base not named, nearly.
WIDTH = {"googlenet": 0.3525, "fashion_mnist": 0.346}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument)
    config.name += "_naive"
    config.model.module = "naive"
    config.model.width *= WIDTH.get(arguments.base, WIDTH["googlenet"])
    return config
