"""Classification of images, the paper's first task."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

if TYPE_CHECKING:
    from inception_jax.tasks.classification.task import Classification

SECTIONS: dict[str, type] = {}


def make_task(config: ConfigDict) -> "Classification":
    """Makes the task of a resolved config."""
    from inception_jax.tasks.classification.task import Classification

    return Classification(config)
