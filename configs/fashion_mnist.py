"""A small GoogLeNet on Fashion-MNIST.

Command: python -m inception_jax.prepare fashion_mnist --data_dir data \\
             --source_dir /usr/share/datasets/fashion-mnist
         python -m inception_jax.train --config configs/fashion_mnist.py --workdir runs/fashion
Cost: 75 M multiply-adds an image, forward.
Expected: not known: it has not been trained yet, and its settings are a first guess.

Arguments: `configs/fashion_mnist.py:epochs=3` for short runs, as the ablations' are; `holdout=True`
trains on 50,000 of the 60,000 images and tests on the others: for choosing, so that the test set is
used once.

All nine modules with a quarter of the filters on the images as they are, 28 pixels: 28x28 in 3a,
14x14 in 4a to 4e, 7x7 in 5a and 5b. Batch normalisation, for the reason in configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import googlenet
from inception_jax.configuration import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields."""
    arguments = parse_arguments(argument, epochs=12, holdout=False)
    config = googlenet.get_config()
    config.name = "fashion_mnist"
    config.model.update(num_classes=10, norm="batch", stem="small", width=0.25, initialization="he")
    config.data.update(
        name="fashion_mnist",
        batch_size=128,
        image_size=28,
        crop_area=(0.7, 1.0),
        crop_aspect_ratio=(0.85, 1 / 0.85),
        interpolations=("bilinear",),
        mean=(73.0, 73.0, 73.0),  # of the training images
        std=(90.0, 90.0, 90.0),
    )
    # Gray images have no colours to distort.
    config.photometric.update(brightness=(1.0, 1.0), contrast=(1.0, 1.0), saturation=(1.0, 1.0))
    config.photometric.lighting = 0.0
    config.optimizer.update(nesterov=True, weight_decay=5e-4)
    config.schedule.update(name="cosine", learning_rate=0.15, warmup="0.5 epochs")
    config.training.update(
        total=f"{arguments.epochs} epochs",
        average_decay=0.998,
        average_start=f"{arguments.epochs // 2} epochs",
        log_every="50 steps",
    )
    config.evaluation.update(split="test", every=f"{arguments.epochs} epochs", short_side=28)
    config.checkpoints.every = "1 epochs"
    if arguments.holdout:
        config.data.train_split, config.evaluation.split = "train[:50000]", "train[50000:]"
    return config
