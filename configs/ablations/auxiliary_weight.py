"""How much should the auxiliary losses weigh?

Paper: 0.3 (section 5), without a reason. 0 is not `no_auxiliary`: weight decay still acts on the
  heads.
Budget: 1.00 of the base's multiply-adds.
Command: python -m inception_jax.train \\
             --config configs/ablations/auxiliary_weight.py:weight=1.0 \\
             --workdir runs/auxiliary_weight

Arguments: `:weight=0.1`.
"""

from ml_collections import ConfigDict

from inception_jax.config.load import parse_ablation


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; `:base=fashion_mnist` takes another base."""
    config, arguments = parse_ablation(argument, weight=1.0)
    config.name += f"_auxiliary_weight_{arguments.weight}"
    config.model.auxiliary = True
    config.training.auxiliary_weight = arguments.weight
    return config
