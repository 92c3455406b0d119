"""GoogLeNet with what the field has found since: the recipe of today for the network of 2014.

Command: python -m inception_jax.train --config configs/modern.py --workdir runs/modern
Cost: 200 epochs at 1.58 G multiply-adds an image, forward.
Expected: 72.87 % top-1, published by GluonCV for this recipe on its variant (3x3 for 5x5);
  72 to 73.5 % for this file is an estimate. Not yet run here on ImageNet.

Arguments: `configs/modern.py:batch_size=256` scales the learning rate with the batch.

Batch normalisation, a cosine schedule with warm-up, label smoothing, mixup, an exponential average
of the weights, no decay of norms and biases (GluonCV, scripts/classification/imagenet,
googlenet_mixup.sh; the average is ours). Each is a field of its own, to be switched back:
--config.training.mixup=0.0, label_smoothing=0.0, average_decay=0.0;
--config.optimizer.decay_all=True; --config.schedule.name=staircase; --config.model.norm=lrn. Heavy
regularisation can hurt so small a network on short schedules: switch mixup off below 100 epochs.
"""

from ml_collections import ConfigDict

from configs import googlenet
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields."""
    arguments = parse_arguments(argument, batch_size=1024)
    config = googlenet.get_config()
    config.name = "modern"
    config.model.update(norm="batch", initialization="he", dropout=0.2, auxiliary=False)
    config.data.batch_size = arguments.batch_size
    config.data.update(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    config.photometric.update(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4))
    config.optimizer.update(nesterov=True, weight_decay=1e-4)
    learning_rate = 0.4 * arguments.batch_size / 1024
    config.schedule.update(name="cosine", learning_rate=learning_rate, warmup="5 epochs")
    config.training.update(total="200 epochs", label_smoothing=0.1, mixup=0.2)
    return config
