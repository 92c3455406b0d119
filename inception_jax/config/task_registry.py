"""The tasks by name, and the module of each."""

import importlib
import importlib.metadata
from types import ModuleType

from inception_jax.config.nearest_names import unknown
from inception_jax.errors import UsageError

# A task's module has `SECTIONS`, sections of its own as in `config/schema.py`;
# `fields_from_data(config)`, values for fields that the data decides; and `make_task(config)`.
# Tasks outside of this package are entry points of the group.
TASKS: dict[str, str] = {"classification": "inception_jax.tasks.classification"}
ENTRY_POINTS = "inception_jax.tasks"


def task_module(name: str) -> ModuleType:
    """Imports the module of a task.

    Raises:
      UsageError: there is no such task; the nearest name is given.
    """
    if name in TASKS:
        return _complete(name, importlib.import_module(TASKS[name]))
    installed = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in installed:
        raise UsageError(unknown(f"task {name!r}", name, [*TASKS, *installed]))
    return _complete(name, installed[name].load())


def _complete(name: str, module: ModuleType) -> ModuleType:
    """Raises UsageError unless a task's module has all that it needs."""
    for needed in ("SECTIONS", "fields_from_data", "make_task"):
        if not hasattr(module, needed):
            raise UsageError(f"the module {module.__name__} of the task {name!r} has no {needed}")
    return module
