"""Your own images, prepared from a folder: classes, names and image size come from the data.

Command: python -m inception_jax.prepare folder --images DIR --data_dir data
         python -m inception_jax.train --config configs/folder.py --workdir runs/mine
Cost: 30 epochs; at 224 pixels about 13 images/s on two CPU cores: on a laptop add
  --config.data.image_size=96 --config.model.width=0.25.
Expected: depends on the images. Fine-tuning needs far fewer of them
  (--config.model.init_from=WORKDIR/checkpoints/STEP, with the model fields of that run).

Arguments: `configs/folder.py:name=flowers` for another --name; `batch_size=64` scales the learning
rate with it.

Batch normalisation and a cosine schedule: the paper's LRN and initialisation stay on a plateau for
long where data is little.
"""

from ml_collections import ConfigDict

from configs import googlenet
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields."""
    arguments = parse_arguments(argument, name="folder", batch_size=32)
    config = googlenet.get_config()
    config.name = arguments.name
    config.model.update(
        num_classes=0,  # as many as the data has
        stem="auto",  # small for images below 96 pixels
        norm="batch",
        initialization="he",
    )
    config.data.update(
        name=arguments.name,
        batch_size=arguments.batch_size,
        image_size=0,  # near the images' shorter side, 32 to 224 pixels
        crop_area=(0.25, 1.0),  # a twelfth of a picture seldom shows what it is of
    )
    config.optimizer.nesterov = True
    learning_rate = 0.05 * arguments.batch_size / 32
    config.schedule.update(name="cosine", learning_rate=learning_rate, warmup="1 epochs")
    config.training.update(
        total="30 epochs", average_decay=0.99, average_start="10 epochs", log_every="10 steps"
    )
    # bad_images: one unreadable file must not end a run of hours at its first evaluation.
    config.evaluation.update(every="5 epochs", bad_images="wrong")
    config.checkpoints.every = "5 epochs"
    return config
