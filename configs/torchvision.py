"""torchvision's GoogLeNet and its preprocessing, on ILSVRC2012: the config of its weights.

Command: python -m inception_jax.convert --from torchvision --weights googlenet-1378be20.pth \\
             --output checkpoints/torchvision
         python -m inception_jax.evaluate --checkpoint checkpoints/torchvision
Cost: 1.50 G multiply-adds an image, forward.
Expected: 69.778 % top-1, 89.530 % top-5, published by torchvision for IMAGENET1K_V1; not measured
  by us. The published auxiliary heads were never trained.

The network differs from the paper's in batch normalisation for LRN, 3x3 convolutions for 5x5, a
last pool of 2x2, dropout 0.2, and auxiliary heads that pool to 4x4 whatever the image size
(pytorch/vision, torchvision/models/googlenet.py). It can be trained from scratch with this file, in
the way of configs/googlenet.py; nobody has published a recipe.
"""

from ml_collections import ConfigDict

from configs import googlenet


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; takes the base's arguments."""
    config = googlenet.get_config(argument)
    config.name = "torchvision"
    config.model.update(
        norm="batch", large_kernel=3, last_pool=2, auxiliary_pool="adaptive", dropout=0.2
    )
    # RGB in [-1, 1]: what its normalisation and then its transform_input come to.
    config.data.update(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    config.evaluation.interpolation = "bilinear"
    return config
