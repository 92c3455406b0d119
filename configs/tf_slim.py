"""TF-slim's inception_v1 and its preprocessing, on ILSVRC2012: the config of its weights.

Command: python -m inception_jax.convert --from tf_slim --weights inception_v1.ckpt \\
             --output checkpoints/tf_slim
         python -m inception_jax.evaluate --checkpoint checkpoints/tf_slim
Cost: 1.50 G multiply-adds an image, forward.
Expected: 69.8 % top-1, 89.6 % top-5, published by TF-slim for inception_v1_2016_08_28; not measured
  by us.

The network differs from the paper's in batch normalisation for LRN, 3x3 convolutions for 5x5,
TensorFlow's padding, a last pool of 2x2, dropout 0.2, and no auxiliary heads
(google-research/tf-slim, tf_slim/nets/inception_v1.py). Slim cuts the central 87.5 % of an image
and squeezes that to 224x224: here the image is squeezed to 256x256 and the centre cut, the same but
for the order. It can be trained from scratch with this file, in the way of configs/googlenet.py; no
recipe is published.
"""

from ml_collections import ConfigDict

from configs import googlenet


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields; takes the base's arguments."""
    config = googlenet.get_config(argument)
    config.name = "tf_slim"
    config.model.update(
        norm="batch", large_kernel=3, padding="same", last_pool=2, auxiliary=False, dropout=0.2
    )
    config.data.update(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))  # RGB in [-1, 1]
    config.evaluation.update(resize="squeeze", interpolation="bilinear")
    return config
