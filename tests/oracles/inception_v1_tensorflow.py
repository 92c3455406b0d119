"""TF-slim's inception_v1 in evaluation, in TensorFlow's own operators, from its names and shapes.

Source: google-research/tf-slim tf_slim/nets/inception_v1.py. All windows are padded as TensorFlow's
SAME does; batch normalisation has epsilon 1e-3 and no scale; the classifier is a 1x1 convolution.

`inception_v1_logits.npz`, beside this file, has TensorFlow's logits of `random_images()` with
`random_weights()`. As a program, `python inception_v1_tensorflow.py` makes it anew.
"""

import os
from pathlib import Path

import numpy as np
from published_names import CONVOLUTIONS

POOL_BEFORE = {"Conv2d_2b_1x1": 3, "Mixed_3b": 3, "Mixed_4b": 3, "Mixed_5b": 2}  # window, stride 2
LOGITS = "Logits/Conv2d_0c_1x1"


FILE = Path(__file__).with_name("inception_v1_logits.npz")
CLASSES, WIDTH = 1001, 0.25


def random_weights(classes=CLASSES, width=WIDTH):
    """{name: float32 array}, of activations that neither die nor explode.

    With `width` times the filters. Uniform numbers are the same on every machine.
    """
    rng = np.random.default_rng(0)
    weights = {}

    def scaled(channels):
        return channels if channels == 3 else round(channels * width)

    def spread(mean, deviation, shape):
        reach = deviation * 3**0.5
        return rng.uniform(mean - reach, mean + reach, shape)

    for row in CONVOLUTIONS:
        scope = f"InceptionV1/{row.tf_slim}"
        kernel = min(row.kernel, 3) if "inception" in row.caffe else row.kernel
        filters = scaled(row.filters)
        shape = (kernel, kernel, scaled(row.channels), filters)
        deviation = (2 / np.prod(shape[:3])) ** 0.5
        weights[f"{scope}/weights"] = spread(0, deviation, shape)
        weights[f"{scope}/BatchNorm/beta"] = spread(0, 0.3, filters)
        weights[f"{scope}/BatchNorm/moving_mean"] = spread(0, 0.2, filters)
        weights[f"{scope}/BatchNorm/moving_variance"] = rng.uniform(0.5, 2, filters)
    weights[f"InceptionV1/{LOGITS}/weights"] = spread(0, 0.1, (1, 1, scaled(1024), classes))
    weights[f"InceptionV1/{LOGITS}/biases"] = spread(0, 0.1, classes)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def random_images():
    """uint8 [2, 224, 224, 3]: random pixels, and random squares of 32 pixels."""
    rng = np.random.default_rng(5)
    squares = np.kron(rng.integers(256, size=(7, 7, 3)), np.ones((32, 32, 1)))
    return np.stack([rng.integers(256, size=(224, 224, 3)), squares]).astype(np.uint8)


def fingerprint(weights, images):
    """A few numbers that other weights or images would not have."""
    return np.array([images[:, ::9].mean(), *(np.abs(w).mean() for w in weights.values())])


def stored_logits():
    """TensorFlow's, float32 [2, CLASSES]."""
    with np.load(FILE) as stored:
        found, expected = fingerprint(random_weights(), random_images()), stored["fingerprint"]
        message = f"NumPy's random numbers are others now: run {__file__} again"
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=message)
        return stored["logits"]


def forward(tf, weights, images):
    """Logits [n, classes] of images, uint8; `tf` is the module."""

    def unit(x, scope, stride=1):
        scope = f"InceptionV1/{scope}"
        x = tf.nn.conv2d(x, weights[f"{scope}/weights"], stride, "SAME")
        norm = {
            kind: weights[f"{scope}/BatchNorm/{kind}"]
            for kind in ("beta", "moving_mean", "moving_variance")
        }
        x = tf.nn.batch_normalization(
            x, norm["moving_mean"], norm["moving_variance"], norm["beta"], None, 1e-3
        )
        return tf.nn.relu(x)

    x = 2 * (images.astype(np.float32) / 255) - 1
    for row in CONVOLUTIONS[:3]:
        if row.tf_slim in POOL_BEFORE:
            x = tf.nn.max_pool2d(x, POOL_BEFORE[row.tf_slim], 2, "SAME")
        x = unit(x, row.tf_slim, stride=2 if row.tf_slim == "Conv2d_1a_7x7" else 1)
    for start in range(3, 57, 6):
        one, three_reduce, three, five_reduce, five, pool = (
            row.tf_slim for row in CONVOLUTIONS[start : start + 6]
        )
        module = one.split("/")[0]
        if module in POOL_BEFORE:
            x = tf.nn.max_pool2d(x, POOL_BEFORE[module], 2, "SAME")
        pooled = tf.nn.max_pool2d(x, 3, 1, "SAME")
        branches = [
            unit(x, one),
            unit(unit(x, three_reduce), three),
            unit(unit(x, five_reduce), five),
            unit(pooled, pool),
        ]
        x = tf.concat(branches, axis=-1)
    x = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
    x = tf.nn.conv2d(x, weights[f"InceptionV1/{LOGITS}/weights"], 1, "SAME")
    return tf.reshape(x + weights[f"InceptionV1/{LOGITS}/biases"], (len(images), -1)).numpy()


def save(tf, weights, prefix, v1_file):
    """Writes the weights and a step counter as checkpoints of the newer and the older form."""
    compat = tf.compat.v1
    with tf.Graph().as_default(), compat.Session() as session:
        feeds = {}
        variables = []
        for name, value in (weights | {"global_step": np.int64(7)}).items():
            placeholder = compat.placeholder(value.dtype, value.shape)
            variables.append(compat.get_variable(name, initializer=placeholder, use_resource=True))
            feeds[placeholder] = value
        session.run([variable.initializer for variable in variables], feeds)
        for path, version in ((prefix, 2), (v1_file, 1)):
            saver = compat.train.Saver(variables, write_version=version)
            saver.save(session, path, write_meta_graph=False, write_state=False)


def load_tensorflow():
    """The module, quiet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf


if __name__ == "__main__":
    weights, images = random_weights(), random_images()
    logits = forward(load_tensorflow(), weights, images)
    np.savez_compressed(FILE, logits=logits, fingerprint=fingerprint(weights, images))
