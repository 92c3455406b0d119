"""tf.data as a peer on the same images: the only place where a benchmark imports TensorFlow.

The pipeline is what TensorFlow's own guides arrive at: a TFRecord file, repeated; in parallel, the
crop drawn by `sample_distorted_bounding_box`, only that part decoded by `decode_and_crop_jpeg` in
libjpeg's fast modes, resized, mirrored, to uint8; batches; prefetching. A private pool of as many
threads as this package has (data.threads), kernels that take one thread each, no fixed order.
AUTOTUNE and a fixed number of parallel calls are measured first, and the faster one is kept.

Most differences are to its advantage: it reads the file in order, without shuffling; its crop draws
the height uniformly and not the area, so its boxes are smaller (of an image of 500x375, 37 % on
average, in this package 44 %); pixel values are truncated, not rounded; its batches stay in its
memory. One is to its disadvantage: it has no reduced decoding of boxes that are at least twice as
large as the result.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

try:
    import tensorflow as tf
except ImportError as error:
    reason = f"{' '.join(str(error).split())}; pip install '.[prepare]' installs TensorFlow"
    print(json.dumps({"error": reason}), flush=True)
    sys.exit(1)

from inception_jax.tools.benchmark import throughput
from inception_jax.tools.benchmark.peers.answering import answer, come_to_rest, read_spec, serve


def main() -> None:
    """Answers a benchmark by the protocol that `process` describes."""
    spec = read_spec()
    try:
        path = Path(spec["folder"]) / "examples.tfrecord"
        write_examples(path, spec["examples"], sys.stdin.buffer)
        serve_fastest(path, spec)
    except tf.errors.OpError as error:
        answer(error=" ".join(error.message.split()))


def write_examples(path: Path, count: int, stream: BinaryIO) -> None:
    """Writes the examples that come in `stream` to a TFRecord file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            header = json.loads(stream.readline())
            example = tf.train.Example()
            example.features.feature["label"].int64_list.value.append(header["label"])
            image = stream.read(header["bytes"])
            example.features.feature["image"].bytes_list.value.append(image)
            writer.write(example.SerializeToString())


def serve_fastest(path: Path, spec: dict[str, Any]) -> None:
    """Chooses the faster setting and measures it once for each request."""

    def measure(batches: Iterator) -> throughput.Speed:
        return throughput.measure(
            batches, spec["batch_size"], spec["warm_up_batches"], spec["seconds"]
        )

    settings = {"AUTOTUNE": tf.data.AUTOTUNE, "data.threads": spec["threads"]}
    running = {name: iter(dataset(path, spec, calls)) for name, calls in settings.items()}
    speeds = {}
    for name, batches in running.items():
        measure(batches)  # AUTOTUNE finds its way
        speeds[name] = measure(batches).images_per_second
        come_to_rest()
    best = max(speeds, key=lambda name: speeds[name])
    batches = running[best]
    running.clear()  # ends the others
    answer(ready={"version": tf.__version__, "parallel_calls": best, "tried": speeds})
    serve(lambda: measure(batches))


def dataset(path: Path, spec: dict[str, Any], parallel_calls: int) -> tf.data.Dataset:
    """Endless batches: uint8 [batch_size, image_size, image_size, 3] and int32 [batch_size]."""

    def example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = {
            "image": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([], tf.int64),
        }
        parsed = tf.io.parse_single_example(record, features)
        return training_crop(parsed["image"], spec), tf.cast(parsed["label"], tf.int32)

    batches = (
        tf.data.TFRecordDataset(str(path))
        .repeat()
        .map(example, num_parallel_calls=parallel_calls, deterministic=False)
        .batch(spec["batch_size"], drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = spec["threads"]
    options.threading.max_intra_op_parallelism = 1
    return batches.with_options(options)


def training_crop(encoded: tf.Tensor, spec: dict[str, Any]) -> tf.Tensor:
    """A random part of a JPEG file: uint8 [image_size, image_size, 3]."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        tf.zeros([1, 0, 4]),
        min_object_covered=0.0,
        aspect_ratio_range=spec["crop_aspect_ratio"],
        area_range=spec["crop_area"],
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    exact = spec["exact_decoding"]
    image = tf.image.decode_and_crop_jpeg(
        encoded,
        tf.concat([begin[:2], size[:2]], axis=0),
        channels=3,
        dct_method="INTEGER_ACCURATE" if exact else "INTEGER_FAST",
        fancy_upscaling=exact,
    )
    image = resize(image, spec["image_size"], spec["interpolations"])
    return tf.image.random_flip_left_right(image) if spec["flip"] else image


def resize(image: tf.Tensor, image_size: int, interpolations: list[str]) -> tf.Tensor:
    """Resizes to a uint8 square, by one of the interpolations, each equally likely."""
    methods = {"bilinear": "bilinear", "area": "area", "nearest": "nearest", "cubic": "bicubic"}

    def by(interpolation: str) -> tf.Tensor:
        resized = tf.image.resize(image, (image_size, image_size), methods[interpolation])
        if interpolation == "cubic":  # overshoots
            return tf.saturate_cast(resized, tf.uint8)
        return tf.cast(resized, tf.uint8)

    if len(interpolations) == 1:
        return by(interpolations[0])
    choice = tf.random.uniform([], maxval=len(interpolations), dtype=tf.int32)
    branches = [lambda name=name: by(name) for name in interpolations]
    resized = tf.switch_case(choice, branches)
    resized.set_shape([image_size, image_size, 3])
    return resized


if __name__ == "__main__":
    main()
