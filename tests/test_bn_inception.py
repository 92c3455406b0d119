"""BN-Inception against figure 5 of its paper, and the published number of parameters."""

import pytest

from inception_jax.config.load import load_config
from inception_jax.errors import UsageError
from inception_jax.models.cost import network_cost
from inception_jax.models.network import build
from inception_jax.models.options import GoogLeNetConfig, network_config

# Figure 5 of arXiv 1502.03167, outputs. Its printed sizes of 3c, 4c, 4d and 4e are not the sums of
# its own columns, which the published weights follow: 608 (not 576) and 1056 (not 1024).
FIGURE_5 = {
    "conv1/7x7_s2": (112, 112, 64),
    "pool1/3x3_s2": (56, 56, 64),
    "conv2/3x3": (56, 56, 192),
    "pool2/3x3_s2": (28, 28, 192),
    "inception_3a": (28, 28, 256),
    "inception_3b": (28, 28, 320),
    "inception_3c": (14, 14, 576),
    "inception_4a": (14, 14, 576),
    "inception_4b": (14, 14, 576),
    "inception_4c": (14, 14, 608),
    "inception_4d": (14, 14, 608),
    "inception_4e": (7, 7, 1056),
    "inception_5a": (7, 7, 1024),
    "inception_5b": (7, 7, 1024),
    "loss3/pool": (1, 1, 1024),
    "loss3/classifier": (1000,),
}


def test_figure_5_and_the_published_counts():
    config = network_config(load_config("configs/bn_inception.py"))
    costs = network_cost(config)
    outputs = {layer.name: layer.output for layer in costs.layers}
    assert {name: outputs[name] for name in FIGURE_5} == FIGURE_5
    assert costs.parameters == costs.training_parameters == 11_295_240
    assert costs.multiply_adds / 1e9 == pytest.approx(2.03, abs=0.005)
    assert costs.convolutions == 69


def test_layer_names_are_those_of_the_published_weights():
    config = network_config(load_config("configs/bn_inception.py"))
    shapes = {
        name: unit["kernel"].shape for name, unit in build(config).params["inception_4e"].items()
    }
    assert shapes == {
        "3x3_reduce": (1, 1, 608, 128),
        "3x3": (3, 3, 128, 192),
        "double_3x3_reduce": (1, 1, 608, 192),
        "double_3x3_1": (3, 3, 192, 256),
        "double_3x3_2": (3, 3, 256, 256),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"module": "naive"}, "model.module is for the modules of Table 1, not for"),
        ({"large_kernel": 3}, "model.large_kernel is for"),
    ],
)
def test_what_only_table_1_has_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        GoogLeNetConfig(architecture="bn_inception", **fields)
