"""Tasks: how data is read, what is minimised and how it is tested."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from inception_jax.config import task_registry

if TYPE_CHECKING:
    from inception_jax.tasks.base import Task


def make_task(config: ConfigDict) -> "Task":
    """Makes the task of a resolved config.

    Raises:
      UsageError: there is no task of this name.
    """
    return task_registry.task_module(config.task).make_task(config)
