"""TF-slim's inception_v1 in evaluation, in TensorFlow's own operators, from its names and shapes.

Source: google-research/tf-slim tf_slim/nets/inception_v1.py. All windows are padded as TensorFlow's
SAME does; batch normalisation has epsilon 1e-3 and no scale; the classifier is a 1x1 convolution.

As a program, `python inception_v1_tensorflow.py WEIGHTS.npz IMAGES.npy LOGITS.npy [PREFIX V1_FILE]`
runs it on float32 images [n, h, w, 3] in [-1, 1], and may write the weights as checkpoints of
both forms.
"""

import os
import sys

import numpy as np
from published_names import CONVOLUTIONS

POOL_BEFORE = {"Conv2d_2b_1x1": 3, "Mixed_3b": 3, "Mixed_4b": 3, "Mixed_5b": 2}  # window, stride 2
LOGITS = "Logits/Conv2d_0c_1x1"


def random_weights(rng, classes):
    """{name: float32 array}, of activations that neither die nor explode."""
    weights = {}
    for row in CONVOLUTIONS:
        scope = f"InceptionV1/{row.tf_slim}"
        kernel = min(row.kernel, 3) if "inception" in row.caffe else row.kernel
        shape = (kernel, kernel, row.channels, row.filters)
        deviation = (2 / np.prod(shape[:3])) ** 0.5
        weights[f"{scope}/weights"] = rng.normal(0, deviation, shape)
        weights[f"{scope}/BatchNorm/beta"] = rng.normal(0, 0.3, row.filters)
        weights[f"{scope}/BatchNorm/moving_mean"] = rng.normal(0, 0.2, row.filters)
        weights[f"{scope}/BatchNorm/moving_variance"] = rng.uniform(0.5, 2, row.filters)
    weights[f"InceptionV1/{LOGITS}/weights"] = rng.normal(0, 0.1, (1, 1, 1024, classes))
    weights[f"InceptionV1/{LOGITS}/biases"] = rng.normal(0, 0.1, classes)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def forward(tf, weights, images):
    """Logits [n, classes]; `tf` is the module."""

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

    x = images
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
    return tf.reshape(x + weights[f"InceptionV1/{LOGITS}/biases"], (len(images), -1))


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


def main(weights_file, images_file, logits_file, *checkpoints):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    weights = dict(np.load(weights_file))
    np.save(logits_file, forward(tf, weights, np.load(images_file)).numpy())
    if checkpoints:
        save(tf, weights, *checkpoints)


if __name__ == "__main__":
    main(*sys.argv[1:])
