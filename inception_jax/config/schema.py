"""TEMPORARY."""

import importlib

TASKS = {"classification": "inception_jax.tasks.classification"}


def task_module(name):
    return importlib.import_module(TASKS[name])
