"""Measures one data set's way from the disk to the devices, part by part."""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data import order
from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.read_ahead import PREFETCHED
from inception_jax.data.sources import Example, Source
from inception_jax.tasks import make_task
from inception_jax.tools.benchmark import throughput
from inception_jax.tools.benchmark.peers import process
from inception_jax.tools.benchmark.throughput import Speed
from inception_jax.training.input import training_batches

_ENDLESS = 2**40  # steps
_STEPS_APART = 100_000  # more than a measurement takes: each reads other batches

Result = dict[str, Any]


class InputMeasurement:
    """Repeated measurements of one data set: reading, decoding, the pipeline, the peer."""

    def __init__(self, source: Source, config: ConfigDict, mesh: Mesh, seconds: float):
        self.peer: process.Peer | None = None
        self._source, self._config, self._mesh = source, config, mesh
        self._seconds, self._started = seconds, 0
        # Batches in each thread, read ahead, and on the way to the devices.
        self._warm_up_batches = 2 * config.data.threads + PREFETCHED + 2
        self._speeds: dict[str, list[Speed]] = {}
        self._resident: list[float] = []  # MB

    def start(self, peer: str) -> contextlib.AbstractContextManager[process.Peer]:
        """Starts a peer on the same examples."""
        data = self._config.data
        fields = (
            "threads", "batch_size", "image_size", "crop_area", "crop_aspect_ratio", "flip",
            "interpolations", "exact_decoding",
        )  # fmt: skip
        spec = {field: data[field] for field in fields} | {
            "examples": len(self._source),
            "seconds": self._seconds,
            "warm_up_batches": self._warm_up_batches,
        }
        read = (self._source.read([index])[0] for index in range(len(self._source)))
        return process.start(peer, spec, ((example.label, example.encoded) for example in read))

    def repeat(self) -> None:
        """Measures everything once more, on batches that were not read before."""
        self._add("read", self._measure(self._read_ahead(self._read)))
        self._add("decode", self._measure(self._read_ahead(self._decode)))
        self._add("pipeline", self._measure(self._pipeline()))
        if self.peer:
            self._add("tf_data", self.peer.measure())

    def _add(self, name: str, speed: Speed) -> None:
        self._speeds.setdefault(name, []).append(speed)

    def _measure(self, opened: contextlib.AbstractContextManager[Iterator]) -> Speed:
        """Measures a stream of batches."""
        batch_size = self._config.data.batch_size
        with opened as batches:
            return throughput.measure(batches, batch_size, self._warm_up_batches, self._seconds)

    def _steps(self) -> range:
        """Steps of a training that no other measurement has."""
        self._started += 1
        return range(self._started * _STEPS_APART, _ENDLESS)

    @contextlib.contextmanager
    def _read_ahead(self, work: Callable[[int], int]) -> Iterator[Iterator[int]]:
        """Maps `work` over steps in as many threads as the pipeline has, by the same means."""
        steps, threads = self._steps(), self._config.data.threads
        done = grain.MapDataset.range(steps.start, steps.stop).map(work)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
        iterator = iter(done.to_iter_dataset(options))
        try:
            yield iterator
        finally:
            iterator.close()

    def _read(self, step: int) -> int:
        """Reads the examples of a batch; returns their bytes."""
        return sum(len(example.encoded) for example in self._examples(step))

    def _decode(self, step: int) -> int:
        """Reads and decodes the examples of a batch, all of each image; returns their pixels."""
        pixels = 0
        for example in self._examples(step):
            with contextlib.suppress(UnreadableImageError):
                image = EncodedImage(example.encoded, example.name)
                height, width = image.height, image.width
                pixels += image.decode_box((0, 0, height, width), max(height, width)).size
        return pixels

    def _examples(self, step: int) -> list[Example]:
        batch_size, seed = self._config.data.batch_size, self._config.seed
        return self._source.read(order.batch_order(seed, step, batch_size, len(self._source))[1])

    @contextlib.contextmanager
    def _pipeline(self) -> Iterator[Iterator]:
        """Training batches on the devices; records the memory before and after."""
        steps, task = self._steps(), make_task(self._config)
        with training_batches(task, self._source, steps.start, steps.stop, self._mesh) as batches:
            self._resident.append(resident_mb())
            yield map(jax.block_until_ready, batches)
            self._resident.append(resident_mb())

    def result(self, first: "InputMeasurement") -> Result:
        """The fields of --json: speeds, and ratios to the peer here and on the first data set."""
        result: Result = {"images": len(self._source)}
        for name, speeds in self._speeds.items():
            for field in Speed._fields:
                values = [getattr(speed, field) for speed in speeds]
                result[f"{name}_{field}"] = throughput.spread(values)
        result["resident_mb"] = {"start": self._resident[0], "end": self._resident[-1]}
        if self.peer:
            result["peer_parallel_calls"] = self.peer.about["parallel_calls"]
            result["ratio"] = self._ratio(self)
            result["ratio_to_first"] = self._ratio(first)
        return result

    def _ratio(self, other: "InputMeasurement") -> Result:
        """The pipeline's images per second divided by the peer's on `other`, repeat by repeat."""
        pairs = zip(self._speeds["pipeline"], other._speeds["tf_data"], strict=True)
        return throughput.spread([speed[0] / of_peer[0] for speed, of_peer in pairs])


def resident_mb() -> float:
    """Memory of this process in MB: now on Linux, elsewhere the largest so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if sys.platform == "darwin" else largest / 1e3
