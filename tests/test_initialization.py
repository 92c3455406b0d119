"""Initial values: their distribution; they depend on the seed and on names alone."""

import functools

import numpy as np
import pytest

from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig

SMALL = {"architecture": "shallow", "width": 0.125}


@functools.cache  # to be read only
def initial(seed: int = 0, **fields):
    return build(GoogLeNetConfig(**fields)).initial(seed)


@pytest.mark.parametrize(("kind", "gain", "bias"), [("caffe", 1.0, 0.2), ("he", 2.0, 0.0)])
def test_kernels_are_uniform_with_the_variance_of_their_fan_in(kind, gain, bias):
    params, _ = initial(initialization=kind)
    kernel = params["inception_4e"]["3x3"]["kernel"]
    limit = np.sqrt(3 * gain / (3 * 3 * 160))
    assert kernel.dtype == np.float32
    assert np.abs(kernel).max() == pytest.approx(limit, rel=1e-3)
    assert kernel.var() == pytest.approx(gain / (3 * 3 * 160), rel=0.01)
    np.testing.assert_array_equal(params["conv1"]["7x7_s2"]["bias"], np.float32(bias))
    classifier = params["loss3"]["classifier"]
    assert classifier["kernel"].var() == pytest.approx(1 / 1024, rel=0.01)
    np.testing.assert_array_equal(classifier["bias"], 0)


def test_batch_normalisation_starts_as_the_identity():
    params, batch_stats = initial(norm="batch", **SMALL)
    assert set(params["conv1"]["7x7_s2"]) == {"kernel", "norm"}
    norm, stats = params["conv1"]["7x7_s2"]["norm"], batch_stats["conv1"]["7x7_s2"]["norm"]
    np.testing.assert_array_equal(norm["scale"], 1)
    np.testing.assert_array_equal(norm["bias"], 0)
    np.testing.assert_array_equal(stats["mean"], 0)
    np.testing.assert_array_equal(stats["var"], 1)


def test_a_layer_starts_the_same_whatever_else_the_network_has():
    full, _ = initial(**SMALL)
    bare, _ = initial(auxiliary=False, norm="batch", **SMALL)
    for layer in ("inception_3a", "inception_5a"):
        np.testing.assert_array_equal(full[layer]["1x1"]["kernel"], bare[layer]["1x1"]["kernel"])


def test_seeds_and_layers_differ():
    one, _ = initial(0, width=0.125)
    other, _ = initial(1, width=0.125)
    assert np.any(one["conv1"]["7x7_s2"]["kernel"] != other["conv1"]["7x7_s2"]["kernel"])
    assert np.any(one["loss1"]["fc"]["kernel"] != one["loss2"]["fc"]["kernel"])
