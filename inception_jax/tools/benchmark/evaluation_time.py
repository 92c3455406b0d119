"""How fast images are evaluated over many crops, next to one crop of each and the network alone.

All at the same batch size, by turns, and both evaluations on the same images over and over:
reading, decoding, cutting the crops, the network, averaging and the counts on the host. The
relative cost is the time of an image over so many crops, divided by their number times that of one
crop: 1 means that nothing is lost by cutting, dealing out and averaging. The forward pass is that
of `benchmark step`, on random images that lie on the devices; the share of its speed that crops are
evaluated at says what all but the network costs. Weights are the initial ones: all have the same
speed.
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
from inception_jax.tasks.classification import batches
from inception_jax.tasks.classification.metrics import Tally
from inception_jax.tasks.classification.predictor import Predictor
from inception_jax.tools.benchmark import environment, step_time, throughput

LIBRARIES = ("jax", "jaxlib", "flax", "numpy")

Result = dict[str, Any]


class Endless:
    """A source over and over."""

    def __init__(self, source: Source):
        self._source = source
        self.class_names, self.fingerprint = source.class_names, source.fingerprint

    def __len__(self) -> int:
        return 2**30

    def read(self, indices: Iterable[int]) -> list[Example]:
        return self._source.read([index % len(self._source) for index in indices])


def measure(config: ConfigDict, crops: int, seconds: float, repeats: int) -> Result:
    """Measures by turns.

    Args:
      config: data.batch_size is in crops; images are those of evaluation.split.
      crops: 10 or 144.
      seconds: of each measurement; one batch of images at least.
      repeats: of each.

    Returns:
      What --json prints. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError, UsageError: as `open_source`; a batch that devices cannot share evenly.
    """
    config, mesh = resolve(config), devices.make_mesh()
    devices.check_batch_size(config.data.batch_size, mesh)
    source = open_source(config.data, config.evaluation.split, config.model.num_classes)
    network = build(network_config(config))
    measured = {count: _Measured(network, config, mesh, source, count) for count in (1, crops)}
    batch_size = config.data.batch_size
    batch = batches.read_fake_batch(config, slice(batch_size))
    forward_passes = step_time.forward_passes(config, network, batch, mesh)
    forward: list[float] = []
    for _ in progress.track(range(repeats), "repeat", repeats):
        for one in measured.values():
            one.repeat(seconds)
        network_alone = throughput.measure(
            forward_passes, batch_size, step_time.WARM_UP_STEPS, seconds
        )
        forward.append(network_alone.images_per_second)
    single, many = (one.images_per_second for one in measured.values())
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


class _Measured:
    def __init__(
        self, network: Network, config: ConfigDict, mesh: Mesh, source: Source, crops: int
    ):
        self._predictor = Predictor([(network, config)], mesh, crops=crops)
        self._weights = devices.replicate(network.initial(config.seed), mesh)
        self._source = Endless(source)
        self.images_per_second: list[float] = []

    def repeat(self, seconds: float) -> None:
        """Warms up, compiling the first time, and measures."""
        tally = Tally(self._predictor.num_classes)
        with self._answered(tally) as batches:
            next(batches)
            next(batches)
            start, images = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds or not images:
                images += next(batches)
        self.images_per_second.append(images / passed)

    @contextlib.contextmanager
    def _answered(self, tally: Tally) -> Iterator[Iterator[int]]:
        """Counts images as an evaluation does; yields how many there were in each batch."""
        classes = np.arange(len(self._source.class_names))
        with self._predictor.predict([self._weights], self._source, classes) as predictions:

            def counted() -> Iterator[int]:
                for batch in predictions:
                    tally.add(batch.log_probabilities[-1], batch.labels, batch.bad)
                    yield len(batch.index)

            yield counted()


def table(result: Result) -> Table:
    """Speeds and the relative cost."""
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
    """On what machine it was measured."""
    return environment.summary(result["machine"])
