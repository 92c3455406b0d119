"""What a config leaves to the data and the machine: classes, image size, stem, threads."""

import os

from ml_collections import ConfigDict

SMALL_STEM_BELOW = 96  # pixels: less is too small for the paper's stem and auxiliary heads
MAX_THREADS = 8  # more wait for Python's lock


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy in which these fields have a value, if they were left open.

    model.num_classes = 0: as many as the data has.
    data.image_size = 0: the median shorter side of 64 images, a multiple of 32 in 32..224.
    model.stem = "auto": small for images below 96 pixels, else imagenet.
    data.threads = 0: one for each CPU of this machine, at most 8.
    evaluation.short_side = 0: 256/224 of the image size (section 7); equal with the small stem.

    Raises:
      UserError, UsageError: as `open_source`.
    """
    config = config.copy_and_resolve_references()
    if not config.model.num_classes or not config.data.image_size:
        # Not before: TFDS and OpenCV take a second to load, and most configs ask the data nothing.
        from inception_jax.data.image_size import fitting_size
        from inception_jax.data.sources import open_source

        source = open_source(config.data, config.data.train_split, config.model.num_classes)
        config.model.num_classes = len(source.class_names)
        config.data.image_size = config.data.image_size or fitting_size(source)
    config.data.threads = config.data.threads or min(MAX_THREADS, available_cpus())
    if config.model.stem == "auto":
        config.model.stem = "small" if config.data.image_size < SMALL_STEM_BELOW else "imagenet"
    if not config.evaluation.short_side:
        ratio = 1 if config.model.stem == "small" else 256 / 224
        config.evaluation.short_side = round(config.data.image_size * ratio)
    return config.lock()


def available_cpus() -> int:
    """Those that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def evaluation_sections(config: ConfigDict) -> dict[str, ConfigDict]:
    """TEMPORARY."""
    return {"": config.evaluation}
