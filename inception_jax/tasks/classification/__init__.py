"""Classification of images, the paper's first task.

Importing it is cheap: what needs JAX, OpenCV or TFDS is imported where it is called.
"""

from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

if TYPE_CHECKING:
    from inception_jax.tasks.classification.task import Classification

SECTIONS: dict[str, type] = {}  # of the config: the common ones are all


def fields_from_data(config: ConfigDict) -> dict[str, Any]:
    """Values for fields that are 0.

    model.num_classes: as many as the data has.
    data.image_size: the median shorter side of 64 images, a multiple of 32 in 32..224.

    Raises:
      UserError, UsageError: as `open_source`.
    """
    data, num_classes = config.data, config.model.num_classes
    if num_classes and data.image_size:
        return {}
    # Not before: TFDS and OpenCV take a second to load, and most configs ask the data nothing.
    from inception_jax.data.image_size import fitting_size
    from inception_jax.data.sources import open_source

    source = open_source(data, data.train_split, num_classes)
    return {
        "model.num_classes": len(source.class_names),
        "data.image_size": data.image_size or fitting_size(source),
    }


def make_task(config: ConfigDict) -> "Classification":
    """Makes the task of a resolved config."""
    from inception_jax.tasks.classification.task import Classification

    return Classification(config)
