"""Layers against direct float64 computations, edges included."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from inception_jax.models import layers
from inception_jax.models.conv_unit import ConvUnit
from inception_jax.models.inception import Inception
from inception_jax.models.kernels.relu import relu
from inception_jax.models.tables import InceptionRow


def run(function, *arguments, weights=1.0):
    """The values, and the gradients of their sum times `weights`: one program, as in training."""

    @jax.jit
    def compute(weights, *arguments):
        values, pullback = jax.vjp(function, *arguments)
        return values, *pullback(jnp.broadcast_to(weights, values.shape).astype(values.dtype))

    return compute(weights, *arguments)


def direct_max_pool(x: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Maxima, and for a gradient of ones the gradient; first maximum in row-major order."""
    batch, height, width, channels = x.shape
    pad = 1 if stride == 1 else 0

    def count(size: int) -> int:
        return size if stride == 1 else math.ceil((size - 3) / stride) + 1

    out = np.zeros((batch, count(height), count(width), channels))
    gradient = np.zeros_like(x)
    for b, i, j, c in np.ndindex(*out.shape):
        rows = [r for r in range(i * stride - pad, i * stride - pad + 3) if 0 <= r < height]
        columns = [q for q in range(j * stride - pad, j * stride - pad + 3) if 0 <= q < width]
        best = max(x[b, r, q, c] for r in rows for q in columns)
        out[b, i, j, c] = best
        r, q = next((r, q) for r in rows for q in columns if x[b, r, q, c] == best)
        gradient[b, r, q, c] += 1
    return out, gradient


def max_pool(stride: int) -> layers.MaxPool:
    """The network's two kinds, and Caffe's with another stride."""
    return layers.MaxPool(3, stride, "same" if stride == 1 else "caffe")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 3), (4, 4), (7, 8), (8, 7), (6, 11)])
def test_max_pool_and_its_gradient_with_ties_and_negative_inputs(stride, size):
    x = np.random.default_rng(0).integers(-3, 1, (2, *size, 3)).astype(np.float32)
    expected, expected_gradient = direct_max_pool(x, stride)
    pool = max_pool(stride)

    actual, gradient = run(lambda x: pool(x, train=True), x)

    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_is_the_same_on_every_platform(stride):
    """The form chosen for a CPU equals XLA's native pool, which other platforms run."""
    x = np.random.default_rng(1).integers(-2, 2, (2, 9, 10, 4)).astype(np.float32)
    padding = [(1, 1), (1, 1)] if stride == 1 else [(0, 0), (0, 1)]

    def native(x):
        return nnx.max_pool(x, (3, 3), (stride, stride), padding)

    shape = jax.eval_shape(native, x).shape
    weights = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    expected, expected_gradient = run(native, x, weights=weights)
    actual, gradient = run(lambda x: max_pool(stride)(x, train=True), x, weights=weights)

    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def test_max_pool_lets_a_nan_through():
    x = np.zeros((1, 7, 7, 1), np.float32)
    x[0, 3, 3, 0] = np.nan
    pooled = np.asarray(jax.jit(lambda x: max_pool(1)(x, train=True))(x))[0, :, :, 0]
    assert np.isnan(pooled[2:5, 2:5]).all()
    assert np.isfinite(pooled).sum() == 49 - 9


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(4, 5), (7, 6), (14, 14)])
def test_padding_same_is_xlas(window, size):
    x = np.random.default_rng(4).standard_normal((2, *size, 3)).astype(np.float32) - 5
    pool = layers.MaxPool(window, 2, "same")

    @jax.jit
    def both(x):
        xlas = nnx.max_pool(x, (window, window), (2, 2), "SAME")
        return pool(x, train=False), xlas

    np.testing.assert_array_equal(*both(x))


@pytest.mark.parametrize("size", [(4, 4), (14, 14), (5, 9), (2, 3)])
def test_adaptive_average_pool_written_out(size):
    x = np.random.default_rng(5).standard_normal((2, *size, 3)).astype(np.float32)
    parts = [
        [slice(math.floor(i * n / 4), math.ceil((i + 1) * n / 4)) for i in range(4)] for n in size
    ]
    expected = [[x[:, rows, columns].mean((1, 2)) for columns in parts[1]] for rows in parts[0]]
    actual = jax.jit(lambda x: layers.AdaptiveAveragePool(4)(x, train=False))(x)
    np.testing.assert_allclose(actual, np.array(expected).transpose(2, 0, 1, 3), atol=1e-6)


def test_relu_and_its_gradient():
    x = np.array([-np.inf, -2, -1e-37, -0.0, 0, 1e-37, 0.5, 3, np.inf], np.float32)
    values, gradient = run(relu, x, weights=np.arange(1, 10, dtype=np.float32))
    np.testing.assert_array_equal(values, np.maximum(x, 0))
    assert gradient.tolist() == [0, 0, 0, 0, 0, 6, 7, 8, 9]


def unit_options(norm: str) -> dict:
    return {
        "padding": "caffe", "batch_norm": norm == "batch", "batch_norm_bias": False,
        "dtype": jnp.dtype("float32"), "rngs": nnx.Rngs(0),
    }  # fmt: skip


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    "build",
    [
        lambda **unit: ConvUnit(4, 6, 3, **unit),
        lambda **unit: Inception(InceptionRow("x", 2, 3, 4, 1, 2, 3).reduced(5), 4, **unit),
        lambda **unit: Inception(InceptionRow("x", 2, 3, 4, 1, 2, 3).naive(5), 4, **unit),
    ],
    ids=["unit", "module", "naive"],
)
def test_a_pool_within_is_a_pool_after(build, norm):
    rng = np.random.default_rng(5)
    layer = build(**unit_options(norm))
    graph, *states = nnx.split(layer, nnx.Param, ...)
    state, rest = states
    # Whole numbers: sums are exact in any order, and many are equal.
    state = jax.tree.map(lambda leaf: rng.integers(-1, 2, leaf.shape).astype(np.float32), state)
    x = rng.integers(-2, 3, (2, 9, 8, 4)).astype(np.float32)
    pool = functools.partial(layers.MaxPool(3, 2, "caffe"), train=True)

    def apply(state, x, within: bool):
        layer = nnx.merge(graph, state, jax.tree.map(jnp.array, rest))
        if within:
            return layer(x, train=True, following_pool=pool)
        return pool(layer(x, train=True))

    shape = jax.eval_shape(functools.partial(apply, within=False), state, x).shape
    weights = rng.integers(-2, 3, shape).astype(np.float32)
    (one, *gradients), (other, *other_gradients) = (
        run(functools.partial(apply, within=within), state, x, weights=weights)
        for within in (True, False)
    )
    # Statistics are no whole numbers: two programs may round them differently.
    np.testing.assert_allclose(one, other, rtol=5e-7 if norm == "batch" else 0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, gradients, other_gradients)


def test_a_convolutions_gradient_in_bfloat16_is_summed_in_float32():
    """4,096 equal numbers: a sum in bfloat16 stops at 256."""
    unit = ConvUnit(1, 1, 1, **unit_options("none") | {"dtype": jnp.dtype("bfloat16")})
    graph, state = nnx.split(unit)
    state = jax.tree.map(jnp.ones_like, state)

    def total(state):
        output = nnx.merge(graph, state)(jnp.ones((1, 64, 64, 1)), train=True)
        return jnp.sum(output, dtype=jnp.float32)

    gradient = jax.jit(jax.grad(total))(state)
    assert float(gradient["kernel"][...].reshape(())) == 4096


@pytest.mark.parametrize("channels", [1, 3, 5, 64])
def test_local_response_norm_and_its_gradient(channels):
    rng = np.random.default_rng(2)
    x = 100 * rng.standard_normal((2, 3, 2, channels))
    weights = rng.standard_normal(x.shape)

    def reference(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for c in range(channels):
            near = x[..., max(0, c - 2) : c + 3]
            out[..., c] = x[..., c] / (1 + 1e-4 / 5 * np.sum(near**2, axis=-1)) ** 0.75
        return out

    def directional(direction: np.ndarray) -> float:
        step = 1e-4
        difference = reference(x + step * direction) - reference(x - step * direction)
        return np.sum(weights * difference) / (2 * step)

    norm = functools.partial(layers.LocalResponseNorm(), train=True)
    actual, gradient = run(norm, x.astype(np.float32), weights=weights.astype(np.float32))

    np.testing.assert_allclose(actual, reference(x), rtol=1e-5)
    for _ in range(5):
        direction = rng.standard_normal(x.shape)
        np.testing.assert_allclose(np.sum(gradient * direction), directional(direction), rtol=1e-4)


def test_local_response_norm_keeps_bfloat16_and_sums_in_float32():
    x = np.full((1, 1, 1, 8), 300.0, jnp.bfloat16)
    out = np.asarray(jax.jit(functools.partial(layers.LocalResponseNorm(), train=True))(x))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out[0, 0, 0, 4], 300 / (1 + 1e-4 * 300**2) ** 0.75, rtol=1e-2)


def test_local_response_norms_gradient_in_bfloat16_is_float32s_rounded():
    rng = np.random.default_rng(4)
    x, weights = 100 * rng.standard_normal((2, 2, 3, 3, 16)).astype(jnp.bfloat16)

    def gradient(dtype: str) -> np.ndarray:
        norm = functools.partial(layers.LocalResponseNorm(), train=True)
        _, back = run(norm, x.astype(dtype), weights=weights.astype(dtype))
        assert back.dtype == dtype
        return np.asarray(back, np.float64)

    exact = gradient("float32")
    np.testing.assert_allclose(gradient("bfloat16"), exact, atol=2**-7 * np.abs(exact).max())


def test_average_pool_uses_whole_windows_only():
    x = np.arange(16 * 16, dtype=np.float32).reshape(1, 16, 16, 1)
    pool = layers.AveragePool(window=5, stride=3)
    pooled = np.asarray(jax.jit(lambda x: pool(x, train=True))(x))
    assert pooled.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(pooled[0, 3, 3, 0], x[0, 9:14, 9:14, 0].mean())
