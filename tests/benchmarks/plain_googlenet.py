"""The paper's GoogLeNet as a textbook writes it in JAX, to measure the package against.

A peer of `python -m inception_jax.benchmark step --peer plain`: XLA's convolutions, windows for
pools and normalisation, nothing else. Its parameters have the package's names, so that a test can
compare the two.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[2]))

from inception_jax.tools.benchmark import throughput
from inception_jax.tools.benchmark.peers.answering import answer, read_spec, serve

#           1x1 3x3red 3x3 5x5red 5x5 pool
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"4a": "loss1", "4d": "loss2"}

Params = dict[str, Any]


def conv(p: Params, x: jax.Array, stride: int = 1) -> jax.Array:
    pad = (p["kernel"].shape[0] - 1) // 2
    x = lax.conv_general_dilated(
        x, p["kernel"], (stride, stride), [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return jax.nn.relu(x + p["bias"].reshape(1, 1, 1, -1))


def dense(p: Params, x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"].reshape(1, -1)


def max_pool(x: jax.Array, stride: int) -> jax.Array:
    pads = [(1, 1)] * 2 if stride == 1 else [(0, (size - 3) % 2) for size in x.shape[1:3]]
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, [(0, 0), *pads, (0, 0)])


def average_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    shape, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, 0.0, lax.add, shape, strides, "VALID") / window**2


def response_norm(x: jax.Array) -> jax.Array:
    squares = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    return x / (1 + 1e-4 / 5 * squares) ** 0.75


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def inception(p: Params, x: jax.Array) -> jax.Array:
    branches = (
        conv(p["1x1"], x),
        conv(p["3x3"], conv(p["3x3_reduce"], x)),
        conv(p["5x5"], conv(p["5x5_reduce"], x)),
        conv(p["pool_proj"], max_pool(x, 1)),
    )
    return jnp.concatenate(branches, axis=-1)


def googlenet(params: Params, x: jax.Array, key: jax.Array | None) -> list[jax.Array]:
    """Logits of the main head, and with a key those of the auxiliary heads before them."""
    keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
    x = response_norm(max_pool(conv(params["conv1"]["7x7_s2"], x, 2), 2))
    x = conv(params["conv2"]["3x3"], conv(params["conv2"]["3x3_reduce"], x))
    x = max_pool(response_norm(x), 2)
    logits = []
    for name in MODULES:
        if name in ("4a", "5a"):
            x = max_pool(x, 2)
        x = inception(params[f"inception_{name}"], x)
        if key is not None and name in AUXILIARY:
            p = params[AUXILIARY[name]]
            y = conv(p["conv"], average_pool(x, 5, 3)).reshape(len(x), -1)
            y = dropout(jax.nn.relu(dense(p["fc"], y)), 0.7, keys.pop())
            logits.append(dense(p["classifier"], y))
    x = dropout(jnp.mean(x, axis=(1, 2)), 0.4, keys.pop())
    return [*logits, dense(params["loss3"]["classifier"], x)]


def loss_of(params: Params, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    first, second, main = (
        -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))
        for logits in googlenet(params, images, key)
    )
    return main + 0.3 * (first + second)


@jax.jit
def train_step(
    params: Params, momentum: Params, images: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[Params, Params, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(params, images, labels, key)
    momentum = jax.tree.map(lambda m, g, p: 0.9 * m + g + 2e-4 * p, momentum, gradients, params)
    return jax.tree.map(lambda p, m: p - 0.01 * m, params, momentum), momentum, loss


def initial_params(num_classes: int, image_size: int) -> Params:
    rng = np.random.default_rng(0)

    def layer(*shape: int) -> Params:
        kernel = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)
        return {"kernel": kernel, "bias": np.zeros(shape[-1], np.float32)}

    params: Params = {
        "conv1": {"7x7_s2": layer(7, 7, 3, 64)},
        "conv2": {"3x3_reduce": layer(1, 1, 64, 64), "3x3": layer(3, 3, 64, 192)},
    }
    channels = 192
    pooled = (-(-image_size // 16) - 5) // 3 + 1
    for name, (one, three_reduce, three, five_reduce, five, pool) in MODULES.items():
        params[f"inception_{name}"] = {
            "1x1": layer(1, 1, channels, one),
            "3x3_reduce": layer(1, 1, channels, three_reduce),
            "3x3": layer(3, 3, three_reduce, three),
            "5x5_reduce": layer(1, 1, channels, five_reduce),
            "5x5": layer(5, 5, five_reduce, five),
            "pool_proj": layer(1, 1, channels, pool),
        }
        channels = one + three + five + pool
        if name in AUXILIARY:
            params[AUXILIARY[name]] = {
                "conv": layer(1, 1, channels, 128),
                "fc": layer(pooled**2 * 128, 1024),
                "classifier": layer(1024, num_classes),
            }
    params["loss3"] = {"classifier": layer(channels, num_classes)}
    return params


def training_steps(spec: dict[str, Any], images: jax.Array) -> Iterator[None]:
    params = initial_params(spec["num_classes"], spec["image_size"])
    momentum = jax.tree.map(jnp.zeros_like, params)
    labels = jnp.arange(len(images)) % spec["num_classes"]
    key = jax.random.key(0)
    while True:
        key, drawn = jax.random.split(key)
        params, momentum, loss = train_step(params, momentum, images, labels, drawn)
        loss.block_until_ready()
        yield


def forwards(spec: dict[str, Any], images: jax.Array) -> Iterator[None]:
    params = jax.device_put(initial_params(spec["num_classes"], spec["image_size"]))
    forward = jax.jit(lambda params, images: googlenet(params, images, None)[0])
    while True:
        forward(params, images).block_until_ready()
        yield


def main() -> None:
    spec = read_spec()
    shape = spec["batch_size"], spec["image_size"], spec["image_size"], 3
    images = jax.random.normal(jax.random.key(1), shape)
    steps = {"train": training_steps, "forward": forwards}[spec["work"]](spec, images)
    answer(ready={"version": jax.__version__})
    serve(
        lambda: throughput.measure(
            steps, spec["batch_size"], spec["warm_up_batches"], spec["seconds"]
        )
    )


if __name__ == "__main__":
    main()
