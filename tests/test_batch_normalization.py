"""Batch normalisation with ReLU against Flax's, and against a float64 computation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from inception_jax.models.conv_unit import BatchNormReLU
from inception_jax.models.kernels.batch_normalization import batch_norm_relu

EPSILON = 1e-3


def make(kind: Any) -> Any:
    """A layer with scales, biases and statistics that are not the initial ones."""
    layer = kind(5, momentum=0.9, epsilon=EPSILON, rngs=nnx.Rngs(0))
    values = np.random.default_rng(1).uniform(0.5, 1.5, (4, 5)).astype(np.float32)
    for name, value in zip(("scale", "bias", "mean", "var"), values, strict=True):
        getattr(layer, name)[...] = jnp.asarray(value)
    return layer


def images() -> np.ndarray:
    """Channels of other means and spreads."""
    normal = np.random.default_rng(0).standard_normal((4, 6, 7, 5))
    return normal * [1, 2, 3, 0.1, 10] + [0, 1, 5, 0, 2]


def test_values_statistics_and_gradients_are_flaxs():
    x = jnp.asarray(images(), jnp.float32)
    weights = jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

    def run(layer: Any, normalize: Any) -> Any:
        graph, *states = nnx.split(layer, nnx.Param, nnx.BatchStat)
        params, statistics = states

        def total(params: Any, x: jax.Array) -> Any:
            merged = nnx.merge(graph, params, jax.tree.map(jnp.asarray, statistics))
            y = normalize(merged, x)
            return jnp.sum(y * weights), (y, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

        with_gradients = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
        gradients, results = with_gradients(params, x)
        return nnx.to_pure_dict(gradients[0]), gradients[1], results

    ours, flaxs = make(BatchNormReLU), make(nnx.BatchNorm)
    found = run(ours, lambda layer, x: layer(x, train=True))
    expected = run(flaxs, lambda layer, x: jax.nn.relu(layer(x, use_running_average=False)))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5),
        found,
        expected,
    )
    at_inference = jax.nn.relu(flaxs(x, use_running_average=True))
    np.testing.assert_allclose(ours(x, train=False), at_inference, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    """The differences are those of the plain formula, in float64."""
    x = images()
    scale, bias = np.random.default_rng(2).uniform(-1, 1, (2, 5))
    weights = np.cos(np.arange(x.size)).reshape(x.shape)

    def exact(x: np.ndarray) -> float:
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        y = np.maximum((x - mean) / np.sqrt(variance + EPSILON) * scale + bias, 0)
        return np.sum(weights * y)

    def ours(x: jax.Array) -> jax.Array:
        s, b = (jnp.asarray(values, jnp.float32) for values in (scale, bias))
        y, _, _ = batch_norm_relu(x, s, b, EPSILON)
        return jnp.sum(y * jnp.asarray(weights, jnp.float32))

    gradient = np.asarray(jax.jit(jax.grad(ours))(x.astype(np.float32)))
    for place in ((0, 0, 0, 0), (1, 2, 3, 1), (3, 5, 6, 2), (2, 1, 0, 3), (0, 4, 4, 4)):
        step = np.zeros_like(x)
        step[place] = 1e-6
        slope = (exact(x + step) - exact(x - step)) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=2e-3, abs=2e-4)


def test_bfloat16_is_normalised_in_float32():
    x = jnp.asarray(images(), jnp.bfloat16)
    layer = make(BatchNormReLU)
    y = layer(x, train=True)
    assert y.dtype == jnp.bfloat16
    exact = make(BatchNormReLU)(x.astype(jnp.float32), train=True)
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=1 / 128, atol=1e-6)
    assert layer.mean[...].dtype == jnp.float32
