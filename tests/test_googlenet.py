"""The network against the paper's table and against an independent float64 implementation."""

import dataclasses
import functools
from typing import Any, NamedTuple

import googlenet_autograd as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from autograd import grad

from inception_jax.errors import UsageError
from inception_jax.models.cost import network_cost
from inception_jax.models.googlenet import Outputs
from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.tasks.classification.losses import total_loss

PAPER = GoogLeNetConfig()

TABLE_1 = {  # name: output, multiply-adds in millions as recomputed from the channels
    "conv1/7x7_s2": ((112, 112, 64), 118.0),
    "pool1/3x3_s2": ((56, 56, 64), 0),
    "conv2/3x3": ((56, 56, 192), 346.8),
    "pool2/3x3_s2": ((28, 28, 192), 0),
    "inception_3a": ((28, 28, 256), 128.0),
    "inception_3b": ((28, 28, 480), 304.3),
    "pool3/3x3_s2": ((14, 14, 480), 0),
    "inception_4a": ((14, 14, 512), 73.6),
    "inception_4b": ((14, 14, 512), 87.9),
    "inception_4c": ((14, 14, 512), 99.9),
    "inception_4d": ((14, 14, 528), 118.5),
    "inception_4e": ((14, 14, 832), 170.0),
    "pool4/3x3_s2": ((7, 7, 832), 0),
    "inception_5a": ((7, 7, 832), 51.1),
    "inception_5b": ((7, 7, 1024), 70.7),
    "loss3/pool": ((1, 1, 1024), 0),
    "loss3/classifier": ((1000,), 1.0),
}


def test_table_1():
    layers = {layer.name: layer for layer in network_cost(PAPER).layers}
    for name, (output, millions) in TABLE_1.items():
        assert layers[name].output == output, name
        assert layers[name].multiply_adds / 1e6 == pytest.approx(millions, abs=0.06), name
    norms = [name for name in layers if "norm" in name]
    assert norms == ["pool1/norm1", "conv2/norm2"]
    order = list(layers)
    assert order.index("pool1/norm1") == order.index("pool1/3x3_s2") + 1  # after the first pool
    assert order.index("conv2/norm2") == order.index("pool2/3x3_s2") - 1  # before the second


@pytest.mark.parametrize(
    ("changes", "parameters", "training_parameters", "millions"),
    [
        ({}, 6_998_552, 13_378_280, 1582.7),
        ({"norm": "batch"}, 7_005_832, 13_385_816, 1582.7),
        ({"norm": "batch", "large_kernel": 3}, 6_624_904, 13_004_888, 1498.4),
        ({"auxiliary": False}, 6_998_552, 6_998_552, 1582.7),
    ],
)
def test_published_counts(changes, parameters, training_parameters, millions):
    costs = network_cost(dataclasses.replace(PAPER, **changes))
    assert costs.parameters == parameters
    assert costs.training_parameters == training_parameters
    assert costs.multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)
    assert costs.convolutions == 57


def test_layer_names_are_caffes():
    params = build(PAPER).params
    assert params["conv1"]["7x7_s2"]["kernel"].shape == (7, 7, 3, 64)
    assert params["conv2"]["3x3_reduce"]["kernel"].shape == (1, 1, 64, 64)
    assert {name: unit["kernel"].shape for name, unit in params["inception_4e"].items()} == {
        "1x1": (1, 1, 528, 256),
        "3x3_reduce": (1, 1, 528, 160),
        "3x3": (3, 3, 160, 320),
        "5x5_reduce": (1, 1, 528, 32),
        "5x5": (5, 5, 32, 128),
        "pool_proj": (1, 1, 528, 128),
    }
    assert params["loss1"]["conv"]["kernel"].shape == (1, 1, 512, 128)
    assert params["loss2"]["fc"]["kernel"].shape == (2048, 1024)
    assert params["loss3"]["classifier"]["bias"].shape == (1000,)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


# Two have every option between them: `make test` has those. "Paper" has 4a in 8x8 pixels, the
# fewest of which the auxiliary heads' pool makes more than one: it matters how that is flattened.
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"image_size": 128},
    "all options, shallow": {
        "architecture": "shallow", "image_size": 17, "norm": "batch", "module": "naive",
        "large_kernel": 3, "head": "fully_connected", "stem": "small",
    },
    "odd size, no auxiliary heads": {"image_size": 75, "auxiliary": False},
    "batch": {"image_size": 97, "norm": "batch"},
    "none, 3x3": {"image_size": 96, "norm": "none", "large_kernel": 3},
    "naive, small": {"image_size": 17, "module": "naive", "stem": "small", "width": 0.0625},
    "fully connected, small": {"image_size": 16, "head": "fully_connected", "stem": "small"},
}  # fmt: skip
QUICK: dict[str, Any] = {
    "paper": (),
    "all options, shallow": (),
    "odd size, no auxiliary heads": pytest.mark.breadth,
}
SHALLOW = {"architecture": "shallow", "image_size": 17, "stem": "small"}


def oracle_options(config: GoogLeNetConfig) -> dict:
    names = ("architecture", "norm", "module", "large_kernel", "head", "stem")
    return {name: getattr(config, name) for name in names}


class Case(NamedTuple):
    """A config without dropout, random parameters and statistics, images, labels; float64."""

    config: GoogLeNetConfig
    params: dict
    batch_stats: dict
    images: np.ndarray
    labels: np.ndarray


def make_case(fields: dict[str, Any]) -> Case:
    config = GoogLeNetConfig(
        **{"width": 0.125, "num_classes": 7, "dropout": 0.0, "auxiliary_dropout": 0.0} | fields
    )
    rng = np.random.default_rng(3)
    params, batch_stats = oracle.random_params(
        rng,
        classes=config.num_classes,
        width=config.width,
        image_size=config.image_size,
        auxiliary=config.auxiliary,
        **oracle_options(config),
    )
    images = rng.standard_normal((2, config.image_size, config.image_size, 3))
    return Case(config, params, batch_stats, images, np.array([2, 6]))


class Computed(NamedTuple):
    """Everything that the network computes of a case, on the host."""

    case: Case
    logits: np.ndarray  # in evaluation
    outputs: Outputs  # in training
    batch_stats: dict  # updated
    gradients: tuple[dict, np.ndarray]  # of the loss, by parameters and images


@functools.cache  # one program, compiled once for several tests
def computed(name: str) -> Computed:
    case = make_case(VARIANTS[name])
    network = build(case.config)
    assert jax.tree.map(jnp.shape, network.params) == jax.tree.map(np.shape, case.params)

    @jax.jit
    def compute(params, batch_stats, images):
        in_evaluation, _ = network.apply(params, batch_stats, images, train=False)
        assert in_evaluation.auxiliary == ()

        def loss(params, images):
            outputs, updated = network.apply(
                params, batch_stats, images, train=True, dropout_key=jax.random.key(0)
            )
            labels = jnp.asarray(case.labels, jnp.int32)
            return total_loss(outputs, labels, auxiliary_weight=0.3), (outputs, updated)

        gradients, results = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, images)
        return in_evaluation.logits, *results, gradients

    arguments = map(to_float32, (case.params, case.batch_stats, case.images))
    return Computed(case, *jax.device_get(compute(*arguments)))


def to_float32(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


def relative_error(actual, expected) -> float:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected)
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=QUICK.get(name, pytest.mark.slow)) for name in VARIANTS]
)
def test_outputs_and_gradients_equal_the_reference(name):
    (config, params, batch_stats, images, labels), logits, outputs, _, gradients = computed(name)
    options = oracle_options(config)
    expected, _ = oracle.forward(params, batch_stats, images, train=False, **options)
    assert relative_error(logits, expected) < 1e-4
    expected, auxiliary = oracle.forward(params, batch_stats, images, train=True, **options)
    assert relative_error(outputs.logits, expected) < 1e-4
    assert len(outputs.auxiliary) == len(config.auxiliary_heads())
    for one, other in zip(outputs.auxiliary, auxiliary, strict=True):
        assert relative_error(one, other) < 1e-4

    def reference(arguments):
        params, images = arguments
        return oracle.loss(params, batch_stats, images, labels, 0.3, train=True, **options)

    expected, expected_images = grad(reference)((params, images))
    actual, actual_images = gradients
    assert relative_error(actual_images, expected_images) < 1e-4
    # Over two images batch normalisation multiplies errors of rounding: moving the parameters by
    # half a unit in the last place changes these gradients by 4e-5, and 2e-4 was seen with AVX2.
    tolerance = 5e-4 if config.norm == "batch" else 1e-4
    for (path, leaf), other in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert relative_error(leaf, other) < tolerance, path


def test_batch_statistics_follow_the_batches():
    case, *_, updated, _ = computed("all options, shallow")
    first = oracle.convolution(case.images, case.params["conv1"]["3x3"]["kernel"], stride=1)
    old = case.batch_stats["conv1"]["3x3"]["norm"]["mean"]
    expected = 0.9 * old + 0.1 * first.mean((0, 1, 2))
    np.testing.assert_allclose(
        updated["conv1"]["3x3"]["norm"]["mean"], expected, rtol=1e-4, atol=1e-5
    )


def test_bfloat16_computes_close_to_float32_and_returns_float32():
    config, params, batch_stats, images, _ = make_case(SHALLOW)
    exact, _ = oracle.forward(params, batch_stats, images, **oracle_options(config))
    network = build(dataclasses.replace(config, dtype="bfloat16"))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(network.params))

    @jax.jit
    def apply(params, images):
        key = jax.random.key(0)
        return network.apply(params, {}, images, train=True, dropout_key=key)[0]

    outputs = apply(*map(to_float32, (params, images)))
    assert outputs.logits.dtype == outputs.auxiliary[0].dtype == jnp.float32
    error = relative_error(outputs.logits, exact)
    assert 1e-4 < error < 0.1  # above float32's error: it did compute in bfloat16


def test_dropout_depends_on_the_key_and_only_in_training():
    config, params, _, images, _ = make_case(SHALLOW)
    network = build(dataclasses.replace(config, dropout=0.4, auxiliary_dropout=0.7))

    @jax.jit
    def apply(params, images, key):
        return [
            network.apply(params, {}, images, train=train, dropout_key=key)[0]
            for train in (True, False)
        ]

    (one, evaluated), (same, _), (other, evaluated_again) = (
        jax.device_get(apply(*map(to_float32, (params, images)), jax.random.key(key)))
        for key in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert np.abs(one.logits - other.logits).max() > 0
    assert np.abs(one.auxiliary[0] - other.auxiliary[0]).max() > 0
    np.testing.assert_array_equal(evaluated.logits, evaluated_again.logits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "layer"}, "model.norm is 'layer'; it may be 'lrn' or 'batch' or 'none'"),
        ({"large_kernel": 7}, "model.large_kernel is 7"),
        ({"dropout": 1.0}, "model.dropout is 1.0; it may be from 0 to less than 1"),
        ({"width": 0.0}, "model.width is 0.0"),
    ],
)
def test_wrong_values_are_named(fields, message):
    with pytest.raises(UsageError, match=message):
        GoogLeNetConfig(**fields)


def test_images_too_small_for_the_auxiliary_heads_say_what_to_do():
    with pytest.raises(UsageError, match=r"data\.image_size 64.*inception_4a.*model\.stem='small'"):
        build(GoogLeNetConfig(image_size=64))
    build(GoogLeNetConfig(image_size=64, auxiliary=False))
