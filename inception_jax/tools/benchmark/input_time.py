"""Speed of training images from the disk to the devices, and the part that limits it.

Each data set is measured in data.threads threads and in the order of training. `read` reads the
encoded examples alone; `decode` reads and decodes whole images in the fast mode; `pipeline` does
what training does: it reads, decodes what the crop needs, crops, mirrors, copies to the devices.
Everything is consumed as fast as it comes. The CPU time of an image, in milliseconds over all
threads, has less noise than images a second where other programs run at the same time.

A peer does the work of `pipeline` on the same images, and all is measured on a sample of at most
2,000 of them spread over the split, over and over. Each reads from its best format: this package
from the ArrayRecord files, tf.data (which cannot) from a TFRecord file in a temporary folder. Both
are in the system's cache after the first round. Both sides take turns within each repeat, and the
one that is not measured rests, so that both see the same machine. A sample has to be JPEG files,
for which tf.data has its fast decoder: up to 1 % of others are left out for both.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from inception_jax.config.resolve import resolve
from inception_jax.data.sources import Source, open_source
from inception_jax.errors import UsageError
from inception_jax.runtime import devices, progress
from inception_jax.tools.benchmark import environment, throughput
from inception_jax.tools.benchmark.input_measurement import InputMeasurement
from inception_jax.tools.benchmark.jpeg_sample import SAMPLE, Sample, jpeg_files

log = logging.getLogger(__name__)

PEERS = ("tf.data",)
PARTS = ("read", "decode", "pipeline")
LIBRARIES = ("jax", "numpy", "grain", "array_record", "simplejpeg", "opencv-python-headless")

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
      config: a training config; `names` replace its data.name.
      names: prepared data sets in its data.data_dir.
      split: the split of each; None for its data.train_split.
      peer: one of PEERS to compare with, or None.
      seconds: the time of each measurement.
      repeats: measurements of each kind.

    Returns:
      The fields of --json. Speeds and ratios are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError, UsageError: as `open_source`; a peer that cannot be run, or not on this data.
    """
    config = _resolved(config, names[0], split)
    data, mesh = config.data, devices.make_mesh()
    devices.check_batch_size(data.batch_size, mesh)
    if peer and data.crop != "inception":
        raise UsageError(f"{peer} can do data.crop=inception, and not {data.crop!r}")
    with contextlib.ExitStack() as stack:
        measurements = []
        for name in names:
            source = _open(config, name)
            if peer:
                source = Sample(source, jpeg_files(source, SAMPLE))
            measurement = InputMeasurement(source, config, mesh, seconds)
            if peer:
                log.info(f"{name}: {len(source)} images to {peer}")
                measurement.peer = stack.enter_context(measurement.start(peer))
            measurements.append(measurement)
        for _ in progress.track(range(repeats), "repeat", repeats):
            for measurement in measurements:
                measurement.repeat()
    peers = [measurement.peer.about for measurement in measurements if measurement.peer]
    return {
        "machine": environment.environment_of(LIBRARIES),
        "peer": {"name": peer, "version": peers[0]["version"]} if peers else None,
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
    """The resolved config; fields that it leaves to the data are those of data set `name`."""
    config = config.copy_and_resolve_references()
    config.data.name = name
    config.data.train_split = split or config.data.train_split
    if config.data.source != "fake":
        config.model.num_classes = 0  # as many as the data set has
    return resolve(config)


def _open(config: ConfigDict, name: str) -> Source:
    data = config.data.copy_and_resolve_references()
    data.name = name
    num_classes = config.model.num_classes if data.source == "fake" else 0
    return open_source(data, data.train_split, num_classes)


def result_table(result: Result) -> Table:
    """A table of speeds, and of the ratios of the pipeline's images a second to the peer's."""
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
    measured = {name: name for name in PARTS} | ({"tf_data": peer["name"]} if peer else {})
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
    """The part that limits each pipeline, and the machine with which it was measured."""
    machine, peer = result["machine"], result["peer"]
    versions = machine["versions"] | ({"tensorflow": peer["version"]} if peer else {})
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        *(f"{entry['name']}: {bottleneck(entry)}" for entry in result["data"]),
        f"{result['threads']} threads on {machine['cpus']} CPUs ({machine['processor']}), batches "
        f"of {result['batch_size']}, interpolation {', '.join(result['interpolations'])}; "
        f"Python {machine['python']}, {libraries}",
    ]


def bottleneck(entry: Result) -> str:
    """The part that takes most of the pipeline's time, judged by the three speeds."""
    read, decode, whole = (1 / entry[f"{name}_images_per_second"]["median"] for name in PARTS)
    reading = read / whole
    decoding = max(0.0, decode - read) / whole  # of whole images: an upper bound
    shares = f"reading alone would take {reading:.0%} of its time, decoding whole images"
    if reading > 0.5:
        return f"reading limits the pipeline ({shares} {decoding:.0%})"
    if decoding > 0.5:
        return f"decoding limits the pipeline ({shares} {decoding:.0%})"
    return f"what comes after decoding limits the pipeline ({shares} {decoding:.0%})"
