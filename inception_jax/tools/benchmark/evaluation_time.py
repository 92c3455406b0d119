"""Speed of an evaluation over many crops, beside one crop and the network alone.

All have the same batch size and are measured by turns, both evaluations on the same images over and
over: reading, decoding, cutting the crops, the network, averaging and the counts on the host. The
relative cost is the time of an image over n crops, divided by n times that of one crop: 1 means
that cutting and averaging cost nothing. The forward pass is that of `benchmark step`, on random
images that lie on the devices; the share of it is the speed of crops divided by its speed. Weights
are the initial ones: all have the same speed.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from inception_jax.config.resolve import resolve
from inception_jax.data.sources import Example, Source, open_source
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, progress
from inception_jax.tasks.classification.metrics import Tally
from inception_jax.tasks.classification.predictor import Predictor
from inception_jax.tools.benchmark import environment, step_time, throughput
from inception_jax.tools.fake_batch import fake_batch

LIBRARIES = ("jax", "jaxlib", "flax", "numpy")

Result = dict[str, Any]


class RepeatedSource:
    """A source whose examples repeat without end."""

    def __init__(self, source: Source):
        self._source = source
        self.class_names, self.fingerprint = source.class_names, source.fingerprint

    def __len__(self) -> int:
        return 2**30

    def read(self, indices: Iterable[int]) -> list[Example]:
        return self._source.read([index % len(self._source) for index in indices])


def measure(config: ConfigDict, crops: int, seconds: float, repeats: int) -> Result:
    """Measures both evaluations and the network by turns.

    Args:
      config: data.batch_size is in crops; images are those of evaluation.split.
      crops: the number of crops of each image, 10 or 144.
      seconds: the time of each measurement, with one batch of images at least.
      repeats: measurements of each kind.

    Returns:
      The fields of --json. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError, UsageError: as `open_source`; a batch that devices cannot share evenly.
    """
    config, mesh = resolve(config), devices.make_mesh()
    devices.check_batch_size(config.data.batch_size, mesh)
    source = open_source(config.data, config.evaluation.split, config.model.num_classes)
    network = build(network_config(config))
    evaluations = [_Evaluation(network, config, mesh, source, count) for count in (1, crops)]
    batch_size = config.data.batch_size
    batch = fake_batch(config, slice(batch_size))
    forward_passes = step_time.forward_passes(config, network, batch, mesh)
    forward: list[float] = []
    for _ in progress.track(range(repeats), "repeat", repeats):
        for evaluation in evaluations:
            evaluation.repeat(seconds)
        network_alone = throughput.measure(
            forward_passes, batch_size, step_time.WARM_UP_STEPS, seconds
        )
        forward.append(network_alone.images_per_second)
    single, many = (evaluation.images_per_second for evaluation in evaluations)
    return {
        "machine": environment.environment_of(LIBRARIES),
        "config_name": config.name,
        "batch_size": batch_size,
        "image_size": config.data.image_size,
        "crops": crops,
        "images_per_second": throughput.spread(many),
        "crops_per_second": throughput.spread([crops * speed for speed in many]),
        "one_crop_images_per_second": throughput.spread(single),
        "relative_cost": throughput.spread(
            [one / (crops * speed) for one, speed in zip(single, many, strict=True)]
        ),
        "forward_images_per_second": throughput.spread(forward),
        "share_of_forward": throughput.spread(
            [crops * speed / alone for speed, alone in zip(many, forward, strict=True)]
        ),
    }


class _Evaluation:
    """An evaluation over so many crops, and its speeds so far."""

    def __init__(
        self, network: Network, config: ConfigDict, mesh: Mesh, source: Source, crops: int
    ):
        self._predictor = Predictor([(network, config)], mesh, crops=crops)
        self._weights = devices.replicate(network.initial(config.seed), mesh)
        self._source = RepeatedSource(source)
        self.images_per_second: list[float] = []

    def repeat(self, seconds: float) -> None:
        """Warms up, which compiles the first time, and measures."""
        tally = Tally(self._predictor.num_classes)
        with self._counted_batches(tally) as batches:
            next(batches)
            next(batches)
            start, images = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds or not images:
                images += next(batches)
        self.images_per_second.append(images / passed)

    @contextlib.contextmanager
    def _counted_batches(self, tally: Tally) -> Iterator[Iterator[int]]:
        """Counts hits as an evaluation does; yields the number of images in each batch."""
        classes = np.arange(len(self._source.class_names))
        with self._predictor.predict([self._weights], self._source, classes) as predictions:

            def counted() -> Iterator[int]:
                for batch in predictions:
                    tally.add(batch.log_probabilities[-1], batch.labels, batch.bad)
                    yield len(batch.index)

            yield counted()


def result_table(result: Result) -> Table:
    """A table of speeds and of the relative cost."""
    title = f"evaluation of {result['config_name']}, {result['image_size']} pixels, batches of "
    lines = Table(title=f"{title}{result['batch_size']} crops")
    lines.add_column("what")
    for heading in ("median", "min..max"):
        lines.add_column(heading, justify="right", no_wrap=True)
    crops = result["crops"]
    for what, field, places in (
        ("images/s, 1 crop", "one_crop_images_per_second", 2),
        (f"images/s, {crops} crops", "images_per_second", 3),
        (f"crops/s, {crops} crops", "crops_per_second", 2),
        (f"cost relative to {crops} x 1 crop", "relative_cost", 3),
        ("images/s, forward pass alone", "forward_images_per_second", 2),
        ("crops/s, share of it", "share_of_forward", 3),
    ):
        lines.add_row(what, *throughput.cells(result[field], places))
    return lines


def summary(result: Result) -> list[str]:
    """The machine with which it was measured."""
    return environment.summary(result["machine"])
