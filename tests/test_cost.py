"""The arithmetic of costs against the traced computation, layer by layer."""

import dataclasses
import functools
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT
from flax import nnx

from inception_jax.config import configuration
from inception_jax.config.resolve import resolve
from inception_jax.errors import UsageError
from inception_jax.models.cost import LayerCost, NetworkCost, network_cost
from inception_jax.models.network import Network, build
from inception_jax.models.options import GoogLeNetConfig, network_config
from inception_jax.models.tables import AUXILIARY_HEADS, STEMS
from inception_jax.models.traced_cost import equations

FILES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("configs/*.py"), *ROOT.glob("configs/ablations/*.py")]
)

# Every option, and sizes where the windows of stride 2 end in all ways.
OPTIONS: list[dict[str, Any]] = [
    {"image_size": 71, "auxiliary": False},
    {"image_size": 97, "norm": "batch", "batch_norm_bias": True},
    {"image_size": 225, "norm": "none", "large_kernel": 3},
    {"image_size": 77, "padding": "same", "last_pool": 2},
    {"image_size": 97, "padding": "same", "module": "naive"},
    {"image_size": 225, "padding": "same", "norm": "batch", "auxiliary_pool": "adaptive"},
    {"image_size": 50, "last_pool": 2, "auxiliary_pool": "adaptive", "num_classes": 7},
    {"image_size": 17, "auxiliary": False},
    {"image_size": 100, "module": "naive", "head": "fully_connected", "width": 0.3},
    {"image_size": 86, "module": "naive_3", "auxiliary_after": ("inception_4d",)},
    {"image_size": 97, "architecture": "shallow", "head": "fully_connected"},
    {"image_size": 97, "architecture": "bn_inception", "norm": "batch"},
    {"image_size": 87, "architecture": "bn_inception", "norm": "batch", "batch_norm_bias": True,
     "padding": "same", "head": "fully_connected"},
    {"image_size": 225, "architecture": "bn_inception", "norm": "lrn", "auxiliary": False},
    *({"image_size": 95, "stem": stem, "width": 0.5} for stem in STEMS),
]  # fmt: skip


def load(file: str) -> GoogLeNetConfig:
    """The network of a config; where the data decides, 10 classes and 64 pixels."""
    asks = configuration.load(file)
    known = {"model.num_classes": 10, "data.image_size": 64}
    fields = configuration.flatten(asks.to_dict())
    answers = [f"--config.{field}={value}" for field, value in known.items() if not fields[field]]
    return network_config(resolve(configuration.load(file, answers)))


@functools.cache
def traced_cost(config: GoogLeNetConfig, train: bool) -> NetworkCost:
    """Reads the costs off the parameters and the traced forward computation."""
    network = build(config)
    names = [row.name for row in config.rows()]
    names += ["loss3/pool" if config.head == "average_pool" else "loss3/fc", "loss3/classifier"]
    outputs: dict[str, tuple[int, ...]] = {}  # of what each computes last
    multiply_adds: Counter[str] = Counter()
    for scope, output, count in equations(network, train=train):
        name = next((name for name in names if f"{scope}/".startswith(f"{name}/")), None)
        if name is not None:
            outputs[name] = output[1:]
            multiply_adds[name] += count
    outputs |= row_outputs(network)  # with a pool after it, a row's last computation is smaller

    leaves = {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(network.params)
    }

    def parameters(name: str) -> int:
        return sum(math.prod(s) for path, s in leaves.items() if path.startswith(f"{name}/"))

    training_parameters = sum(map(math.prod, leaves.values()))
    heads = tuple(AUXILIARY_HEADS.values())
    kernels = [path for path, shape in leaves.items() if len(shape) == 4]
    return NetworkCost(
        parameters=training_parameters - sum(map(parameters, heads)),
        training_parameters=training_parameters,
        multiply_adds=multiply_adds.total(),
        convolutions=sum(not path.startswith(heads) for path in kernels),
        layers=tuple(
            LayerCost(name, outputs[name], parameters(name), multiply_adds[name]) for name in names
        ),
    )


def row_outputs(network: Network) -> dict[str, tuple[int, ...]]:
    """The shape of each row's output, without the batch."""
    size = network.config.image_size

    def outputs(params, batch_stats):
        model = nnx.merge(network.graph, params, batch_stats)
        return dict(model.activations(jnp.zeros((1, size, size, 3))))

    shapes = jax.eval_shape(outputs, network.params, network.batch_stats)
    return {name: output.shape[1:] for name, output in shapes.items()}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_costs_of_every_config_are_those_of_the_traced_network(file):
    config = load(str(file))
    # Options that cost nothing back to the defaults: many configs share a network then.
    free = ("dropout", "auxiliary_dropout", "initialization")
    defaults = {name: getattr(GoogLeNetConfig, name) for name in free}
    assert network_cost(config) == traced_cost(dataclasses.replace(config, **defaults), train=False)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_costs_with_every_option_are_those_of_the_traced_network(options):
    config = GoogLeNetConfig(**options)
    # In training, so that the parameters of auxiliary heads have to fit their inputs, too.
    assert network_cost(config) == traced_cost(config, train=True)


def test_images_too_small_for_the_auxiliary_heads_are_refused():
    config = GoogLeNetConfig(image_size=64)
    with pytest.raises(UsageError, match=r"data\.image_size 64 leaves 4x4 at inception_4a"):
        network_cost(config)
    network_cost(dataclasses.replace(config, auxiliary=False))


def test_describe_loads_neither_jax_nor_the_libraries_of_data():
    """Their imports take most of a second, more than the rest of the command."""
    code = (
        "import sys; from inception_jax import describe; "
        "flags = describe.make_parser().parse_args(['--config', 'configs/googlenet.py']); "
        "describe.main(flags, []); "
        "print({'jax', 'flax', 'cv2', 'tensorflow_datasets', 'orbax'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.endswith("multiply-adds\nset()\n"), result.stderr
