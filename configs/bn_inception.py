"""BN-Inception, as its published weights have it (Ioffe & Szegedy 2015, arXiv 1502.03167).

Command: python -m inception_jax.train --config configs/bn_inception.py --workdir runs/bn_inception
Cost: 11,295,240 parameters; 2.03 G multiply-adds an image, forward.
Expected: 72.05 % top-1 and 90.87 % top-5 after 30 epochs, published by lim0606/caffe-googlenet-bn;
  the paper has 25.2 % and 7.82 % error with one crop (table 3 of arXiv 1512.00567: 25.2, 7.8). Not
  yet run here on ImageNet.

Arguments: `configs/bn_inception.py:batch_size=256` scales the learning rate with the batch.

The recipe changes the base's as section 4.2.1 says: no LRN, no dropout, a fifth of the weight
decay, a learning rate of 0.0075 (BN-x5: five times their Inception's 0.0015), which decays six
times faster, and fewer photometric distortions (here: none, since the paper does not say which).
Images are drawn in another order in each epoch, as they always are here. The paper does not say
whether auxiliary heads stayed: there are none here.
"""

from ml_collections import ConfigDict

from configs import googlenet
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields."""
    arguments = parse_arguments(argument, batch_size=32)  # section 4.2
    config = googlenet.get_config()
    config.name = "bn_inception"
    config.model.update(
        architecture="bn_inception",
        norm="batch",
        batch_norm_bias=True,
        auxiliary=False,
        dropout=0.0,
    )
    config.data.batch_size = arguments.batch_size
    config.photometric.update(
        brightness=(1.0, 1.0), contrast=(1.0, 1.0), saturation=(1.0, 1.0), lighting=0.0
    )
    config.optimizer.weight_decay /= 5
    learning_rate = 0.0075 * arguments.batch_size / 32
    # 8 epochs / 6 are 4/3.
    config.schedule.update(learning_rate=learning_rate, decay_every="1.3333 epochs")
    config.training.total = "60 epochs"  # BN-x5 has 72.2 % after 2.1 M steps: 52 epochs
    return config
