"""A small GoogLeNet on Fashion-MNIST.

Command: python -m inception_jax.prepare fashion_mnist --data_dir data \\
             --source_dir /usr/share/datasets/fashion-mnist
         python -m inception_jax.train --config configs/fashion_mnist.py --workdir runs/fashion
         python -m inception_jax.evaluate --workdir runs/fashion --crops 10
Cost: 22.5 M multiply-adds an image, forward; 45 minutes on one core, with tcmalloc (README).
Measured: test top-1 0.9426, 0.9412 and 0.9401 (seeds 0, 1, 2), mean 0.9413, over the image and its
  mirror image, which ten crops of 28 pixels out of 28 are; over the image alone 0.9392, 0.9397 and
  0.9361, mean 0.9383. The list of results beside the data set has a GoogLeNet at 0.937, without
  augmentation.

Arguments: `configs/fashion_mnist.py:epochs=3` for short runs; `holdout=True` trains on 50,000 of
the 60,000 images and tests on the others: for choosing, which is not what the test set is for.

All nine modules with a quarter of the filters, on the images as they are, 28 pixels: both
convolutions of the stem at 28x28, 3a and 3b at 14x14, 4a to 4e at 7x7, 5a and 5b at 3x3. Batch
normalisation, for the reason in configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import googlenet
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the base with the changed fields."""
    arguments = parse_arguments(argument, epochs=12, holdout=False)
    config = googlenet.get_config()
    config.name = "fashion_mnist"
    config.model.update(
        num_classes=10, norm="batch", stem="medium", width=0.25, initialization="he"
    )
    config.model.dropout = 0.2
    config.data.update(
        name="fashion_mnist",
        batch_size=128,
        image_size=28,
        # Garments fill the picture: small crops would lose what tells them apart.
        crop_area=(0.85, 1.0),
        crop_aspect_ratio=(0.93, 1 / 0.93),
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
