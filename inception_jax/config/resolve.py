"""Fills in the fields that a config leaves to the data or the machine."""

import os

from ml_collections import ConfigDict

from inception_jax.config import checking, task_registry

SMALL_STEM_BELOW = 96  # pixels: less is too small for the paper's stem and auxiliary heads
MAX_THREADS = 8  # more wait for Python's lock


def resolve(config: ConfigDict) -> ConfigDict:
    """A locked copy in which the fields that were left open have a value.

    model.num_classes = 0, data.image_size = 0: the task asks the data.
    model.stem = "auto": small for images below 96 pixels, else imagenet.
    data.threads = 0: one for each CPU of this machine, at most 8.
    evaluation.short_side = 0: 256/224 of the image size (section 7); equal with the small stem.

    Raises:
      UserError, UsageError: the data cannot be read, or the fields do not fit one another.
    """
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(
        task_registry.task_module(config.task).fields_from_data(config)
    )
    config.data.threads = config.data.threads or min(MAX_THREADS, available_cpus())
    if config.model.stem == "auto":
        config.model.stem = "small" if config.data.image_size < SMALL_STEM_BELOW else "imagenet"
    ratio = 1 if config.model.stem == "small" else 256 / 224
    for section in (config.evaluation, *config.evaluations.values()):
        if section.get("short_side") == 0:
            section.short_side = round(config.data.image_size * ratio)
    checking.check(config.to_dict())
    return config.lock()


def evaluation_sections(config: ConfigDict) -> dict[str, ConfigDict]:
    """The evaluations of a run: the section `evaluation` as "", the further ones by their names.

    A further one has the fields that it does not name from the section `evaluation`. The names are
    sorted.
    """
    sections = {"": config.evaluation}
    for name, own in config.evaluations.items():
        section = config.evaluation.copy_and_resolve_references()
        section.update(own)
        sections[name] = section.lock()
    return sections


def available_cpus() -> int:
    """CPUs that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
