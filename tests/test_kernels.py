"""Faster forms of operations against the plain ones: values and gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.errors import UsageError
from inception_jax.models.kernels import cache_chunks, platform, response_norm
from inception_jax.models.kernels.average_pooling import average_pool
from inception_jax.models.kernels.batch_normalization import batch_norm_relu
from inception_jax.models.kernels.bias import add_bias
from inception_jax.models.kernels.channel_sums import channel_sums
from inception_jax.models.kernels.max_pooling import max_pool
from inception_jax.models.kernels.relu import relu
from inception_jax.models.kernels.response_norm import local_response_norm
from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig

IMAGES, CHANNELS = (6, 9, 10, 7), (7,)

OPERATIONS: dict[str, tuple[Any, tuple[tuple[int, ...], ...]]] = {
    "max_pool": (lambda x: max_pool(x, 3, 2, ((0, 1), (1, 1))), (IMAGES,)),
    "max_pool_apart": (lambda x: max_pool(x, 2, 3, ((0, 0), (0, 1))), (IMAGES,)),
    "average_pool": (lambda x: average_pool(x, 5, 3, ((0, 0), (0, 0))), (IMAGES,)),
    "average_pool_zeros": (lambda x: average_pool(x, 3, 1, ((1, 1), (1, 1))), (IMAGES,)),
    "relu": (relu, (IMAGES,)),
    "add_bias": (add_bias, (IMAGES, CHANNELS)),
    "channel_sums": (channel_sums, (IMAGES,)),
    "local_response_norm": (lambda x: local_response_norm(30 * x), (IMAGES,)),
    "batch_norm_relu": (
        lambda x, s, b: batch_norm_relu(x, s, b, 1e-3),
        (IMAGES, CHANNELS, CHANNELS),
    ),
}


def both_forms(monkeypatch: pytest.MonkeyPatch, function: Any, *arguments: Any) -> list[Any]:
    """The results of `function` with the forms chosen here, and with the plain ones."""
    results = []
    for value in ("", "plain"):
        monkeypatch.setenv(platform.VARIABLE, value)
        compiled = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)  # traced anew
        results.append((compiled.as_text(), compiled.compile()(*arguments)))
    (chosen_text, chosen), (plain_text, plain) = results
    assert chosen_text != plain_text
    return [chosen, plain]


def assert_close(one: Any, other: Any, rtol: float) -> None:
    """Compares trees of arrays, relative to the largest value of each array."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_all_forms_compute_the_same(monkeypatch, name, dtype):
    monkeypatch.setattr(cache_chunks, "CACHED_BYTES", 1000)
    function, shapes = OPERATIONS[name]
    rng = np.random.default_rng(0)
    arguments = [rng.standard_normal(shape).astype(jnp.dtype(dtype)) for shape in shapes]
    if name == "batch_norm_relu":
        arguments[1:] = [value.astype(np.float32) for value in arguments[1:]]

    def with_gradients(*arguments: Any) -> Any:
        values, back = jax.vjp(function, *arguments)
        first = jax.tree.leaves(values)[0]
        weights = jnp.sin(jnp.arange(first.size, dtype=jnp.float32)).reshape(first.shape)
        others = jax.tree.map(jnp.zeros_like, values)
        given = weights.astype(first.dtype)
        return values, back((given, *others[1:]) if isinstance(values, tuple) else given)

    chosen, plain = both_forms(monkeypatch, with_gradients, *arguments)
    # The plain gradient of a bias is a sum in bfloat16.
    assert_close(chosen, plain, 2e-5 if dtype == "float32" else 2**-4)


@pytest.mark.parametrize("channels", [1, 3, 5, 64])
def test_the_tpus_sums_of_neighbours_are_the_plain_ones(channels):
    x = np.random.default_rng(1).standard_normal((2, 3, 4, channels)).astype(np.float32)
    dtype = jnp.dtype("float32")
    by_band = jax.jit(functools.partial(response_norm._by_band, dtype=dtype))(x)
    by_shifts = jax.jit(functools.partial(response_norm._by_shifts, dtype=dtype))(x)
    np.testing.assert_allclose(by_band, by_shifts, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", ["lrn", "batch"])
def test_a_network_of_plain_forms_is_the_same(monkeypatch, norm):
    network = build(
        GoogLeNetConfig(
            num_classes=5, image_size=64, architecture="shallow", width=0.125, norm=norm,
            auxiliary=False, dropout=0.0, initialization="he",
        )
    )  # fmt: skip
    params, batch_stats = network.initial(0)
    images = np.random.default_rng(2).standard_normal((4, 64, 64, 3)).astype(np.float32)

    def loss(params: Any, images: Any) -> Any:
        outputs, stats = network.apply(params, batch_stats, images, train=True)
        return -jnp.mean(jax.nn.log_softmax(outputs.logits)[:, 0]), stats

    chosen, plain = both_forms(monkeypatch, jax.value_and_grad(loss, has_aux=True), params, images)
    assert_close(chosen, plain, 1e-4)


@pytest.mark.parametrize(("name", "chosen"), [("cpu", 2), ("tpu", 3), ("cuda", 1)])
def test_each_platform_has_its_form(name, chosen):
    def form(number: int) -> Any:
        return lambda x, static: x * number + static

    def operation(x: jax.Array) -> jax.Array:
        return platform.choose(x, plain=form(1), cpu=form(2), tpu=form(3), static=(40,))

    lowered = jax.jit(operation).trace(1.0).lower(lowering_platforms=(name,)).as_text()
    others = {1, 2, 3} - {chosen}
    assert "dense<4.000000e+01>" in lowered
    assert chosen == 1 or f"dense<{chosen}.000000e+00>" in lowered
    assert not any(f"dense<{other}.000000e+00>" in lowered for other in others - {1})


def test_a_wrong_value_of_the_variable_is_named(monkeypatch):
    monkeypatch.setenv(platform.VARIABLE, "fast")
    with pytest.raises(UsageError, match="INCEPTION_JAX_KERNELS is 'fast'; it may be 'plain'"):
        relu(jnp.ones(3))
