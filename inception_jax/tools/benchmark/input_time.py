"""How fast training images come from the disk to the devices, and what holds them up.

Of each data set, in images a second, in data.threads threads and in the order of training:
read, the encoded examples alone; decode, reading and decoding whole images in the fast mode;
pipeline, what training does: reading, decoding what the crop needs, cropping, mirroring, copying to
the devices. Everything is consumed as fast as it comes. The CPU time of an image, in milliseconds
over all threads, tells the same with less noise where other programs run at the same time.

With a peer, it does the work of `pipeline` on the same images, and all is measured on a sample of
at most 2,000 of them spread over the split, over and over. Each reads from where it reads best: we
from the ArrayRecord files, tf.data (which cannot) from a TFRecord file in a temporary folder. Both
are in the system's cache after the first round. We and the peer take turns within each repeat, and
who is not measured rests, so that both see the same machine. A sample has to be JPEG files, for
which tf.data has its fast decoder: up to 1 % of others are left out for both.
"""

import contextlib
import logging
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from inception_jax.config.resolve import resolve
from inception_jax.data import order
from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.read_ahead import PREFETCHED
from inception_jax.data.sources import Example, Source, open_source
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import devices, progress
from inception_jax.tasks.classification.batches import training_batches
from inception_jax.tools.benchmark import environment, throughput
from inception_jax.tools.benchmark.peers import process
from inception_jax.tools.benchmark.throughput import Speed

log = logging.getLogger(__name__)

SAMPLE = 2000  # images, where there is a peer
OTHER_FORMATS = 0.01  # largest share of them that may be no JPEG files

PEERS = ("tf.data",)
OURS = ("read", "decode", "pipeline")
LIBRARIES = ("jax", "numpy", "grain", "array_record", "simplejpeg", "opencv-python-headless")

_ENDLESS = 2**40  # steps
_STEPS_APART = 100_000  # more than a measurement takes: each reads other batches

Result = dict[str, Any]


def measure(
    config: ConfigDict,
    names: Sequence[str],
    split: str | None,
    peer: str | None,
    seconds: float,
    repeats: int,
) -> Result:
    """Measures data sets by turns.

    Args:
      config: of a training; its data.name does not count.
      names: of prepared data sets in its data.data_dir.
      split: of each; None for its data.train_split.
      peer: one of PEERS to compare with, or None.
      seconds: of each measurement.
      repeats: of each measurement.

    Returns:
      What --json prints. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError, UsageError: as `open_source`; a peer that cannot be run, or not on this data.
    """
    config = _resolved(config, names[0], split)
    data, mesh = config.data, devices.make_mesh()
    devices.check_batch_size(data.batch_size, mesh)
    if peer and data.crop != "inception":
        raise UsageError(f"{peer} is there for data.crop=inception, and not for {data.crop!r}")
    with contextlib.ExitStack() as stack:
        measurements = []
        for name in names:
            source = _open(config, name)
            if peer:
                source = Sample(source, jpeg_files(source, SAMPLE))
            measurement = SplitEvaluation(source, config, mesh, seconds)
            if peer:
                log.info(f"{name}: {len(source)} images to {peer}")
                measurement.peer = stack.enter_context(measurement.start(peer))
            measurements.append(measurement)
        for _ in progress.track(range(repeats), "repeat", repeats):
            for measurement in measurements:
                measurement.repeat()
    about = [measurement.peer.about for measurement in measurements if measurement.peer]
    return {
        "machine": environment.environment_of(LIBRARIES),
        "peer": {"name": peer, "version": about[0]["version"]} if about else None,
        "threads": data.threads,
        "batch_size": data.batch_size,
        "image_size": data.image_size,
        "interpolations": list(data.interpolations),
        "seconds": seconds,
        "data": [
            {"name": name, "split": data.train_split, **measurement.result(measurements[0])}
            for name, measurement in zip(names, measurements, strict=True)
        ],
    }


def _resolved(config: ConfigDict, name: str, split: str | None) -> ConfigDict:
    """What the config leaves to the data is taken from the first data set."""
    config = config.copy_and_resolve_references()
    config.data.name = name
    config.data.train_split = split or config.data.train_split
    if config.data.source != "fake":
        config.model.num_classes = 0  # as many as there are
    return resolve(config)


def _open(config: ConfigDict, name: str) -> Source:
    data = config.data.copy_and_resolve_references()
    data.name = name
    num_classes = config.model.num_classes if data.source == "fake" else 0
    return open_source(data, data.train_split, num_classes)


class Sample:
    """Some examples of a source, as a source."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, indices
        self.class_names, self.fingerprint = source.class_names, source.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Iterable[int]) -> list[Example]:
        return self._source.read([self._indices[index] for index in indices])


def jpeg_files(source: Source, most: int) -> list[int]:
    """The JPEG files among at most `most` examples spread over the source.

    Raises:
      UserError: too many are of another format.
    """
    step = -(-len(source) // most)
    found, others = [], []
    for index in range(0, len(source), step):
        example = source.read([index])[0]
        if example.encoded.startswith(b"\xff\xd8"):
            found.append(index)
        else:
            others.append(example.name)
    if len(others) > OTHER_FORMATS * (len(found) + len(others)):
        raise UserError(
            f"{others[0]} is no JPEG file, and tf.data crops no other while it decodes: "
            "measure without --peer"
        )
    if others:
        log.info(f"left out {len(others)} images that are no JPEG files, as {others[0]}")
    return found


class SplitEvaluation:
    """Of one data set: everything once in each repeat."""

    def __init__(self, source: Source, config: ConfigDict, mesh: Mesh, seconds: float):
        self.peer: process.Peer | None = None
        self._source, self._config, self._mesh = source, config, mesh
        self._seconds, self._started = seconds, 0
        # In each thread, read ahead, and on the way to the devices.
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
        """Consumes a stream of batches."""
        batch_size = self._config.data.batch_size
        with opened as batches:
            return throughput.measure(batches, batch_size, self._warm_up_batches, self._seconds)

    def _steps(self) -> range:
        """Of a training, for one measurement."""
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
        """Batches as training has them, on the devices; also notes the memory."""
        steps, data, seed = self._steps(), self._config.data, self._config.seed
        with training_batches(
            self._source, data, seed, steps.start, steps.stop, self._mesh
        ) as batches:
            self._resident.append(resident_mb())
            yield map(jax.block_until_ready, batches)
            self._resident.append(resident_mb())

    def result(self, first: "SplitEvaluation") -> Result:
        """What was measured, and how it compares with the peer here and on the first data set."""
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

    def _ratio(self, other: "SplitEvaluation") -> Result:
        """Of our images per second to the peer's on `other`, repeat by repeat."""
        pairs = zip(self._speeds["pipeline"], other._speeds["tf_data"], strict=True)
        return throughput.spread([ours[0] / theirs[0] for ours, theirs in pairs])


def resident_mb() -> float:
    """Memory of this process now, in MB; where the system does not say, its largest so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if sys.platform == "darwin" else largest / 1e3


def table(result: Result) -> Table:
    """Speeds, and the ratios of our pipeline's images per second to the peer's."""
    first = result["data"][0]
    lines = Table(title=f"training input, split {first['split']}")
    lines.add_column("data", overflow="fold")
    lines.add_column("what", overflow="fold")
    for heading in ("images/s", "min..max", "CPU ms/image"):
        lines.add_column(heading, justify="right", no_wrap=True)
    for entry in result["data"]:
        for number, row in enumerate(_rows(entry, result["peer"], first["name"])):
            lines.add_row("" if number else entry["name"], *row)
        lines.add_section()
    return lines


def _rows(entry: Result, peer: Result | None, first: str) -> Iterator[tuple[str, ...]]:
    measured = {name: name for name in OURS} | ({"tf_data": peer["name"]} if peer else {})
    for field, name in measured.items():
        cpu_ms = entry[f"{field}_cpu_ms_per_image"]["median"]
        yield name, *throughput.cells(entry[f"{field}_images_per_second"], 0), f"{cpu_ms:.2f}"
    if peer:
        yield f"ratio to {peer['name']}", *throughput.cells(entry["ratio"], 2)
        if entry["name"] != first:
            yield (
                f"ratio to {peer['name']} on {first}",
                *throughput.cells(entry["ratio_to_first"], 2),
            )


def summary(result: Result) -> list[str]:
    """What limits each pipeline, and on what machine with what it was measured."""
    about, peer = result["machine"], result["peer"]
    versions = about["versions"] | ({"tensorflow": peer["version"]} if peer else {})
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        *(f"{entry['name']}: {bottleneck(entry)}" for entry in result["data"]),
        f"{result['threads']} threads on {about['cpus']} CPUs ({about['processor']}), batches "
        f"of {result['batch_size']}, interpolation {', '.join(result['interpolations'])}; "
        f"Python {about['python']}, {libraries}",
    ]


def bottleneck(entry: Result) -> str:
    """The part that takes most of the pipeline's time, as far as the three speeds tell."""
    read, decode, whole = (1 / entry[f"{name}_images_per_second"]["median"] for name in OURS)
    reading = read / whole
    decoding = max(0.0, decode - read) / whole  # of whole images: the most that it can be
    shares = f"reading alone would take {reading:.0%} of its time, decoding whole images"
    if reading > 0.5:
        return f"reading limits the pipeline ({shares} {decoding:.0%})"
    if decoding > 0.5:
        return f"decoding limits the pipeline ({shares} {decoding:.0%})"
    return f"what comes after decoding limits the pipeline ({shares} {decoding:.0%})"
