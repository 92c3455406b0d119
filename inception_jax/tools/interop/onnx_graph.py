"""A trained network as an ONNX file: the rows of Table 1 as ONNX operators.

Input `images`: uint8 [batch, 3, size, size], RGB; normalisation is part of the graph. Outputs
`logits` and `probabilities`: float32 [batch, classes]. The batch has any size. The output of each
layer, after its ReLU, has the layer's name, and weights keep their names
(`inception_3a/3x3/kernel`), in ONNX's order of dimensions. The file's metadata are those of
metadata.py.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from flax.traverse_util import flatten_dict
from onnx import TensorProto, helper, numpy_helper

import inception_jax
from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.errors import UserError
from inception_jax.models import window_geometry
from inception_jax.models.conv_unit import BATCH_NORM_EPSILON
from inception_jax.models.kernels import response_norm
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.row_types import (
    POOL_PADDING,
    POOL_WINDOW,
    Branch,
    Convolution,
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Pool,
    Row,
)
from inception_jax.models.shapes import Maps, output_of
from inception_jax.tools.interop.metadata import ARCHITECTURES, model_metadata

log = logging.getLogger(__name__)

# The oldest that has every operator used here as it is today: ONNX 1.10 and its runtimes, of 2021.
OPSET, IR_VERSION = 15, 8

MOST_BYTES = 2**31 - 2**20  # of weights: protocol buffers hold at most 2 GiB


def write(model: LoadedModel, path: Path) -> None:
    """Writes a checked ONNX file. It computes in float32, whatever the network's own dtype is.

    Raises:
      UserError: the weights are too large for the format.
    """
    exported = to_onnx(model)
    if model.network.config.dtype != "float32":
        log.info(f"the network computes in {model.network.config.dtype}, the ONNX file in float32")
    onnx.checker.check_model(exported, full_check=True)
    path.write_bytes(exported.SerializeToString())


def to_onnx(model: LoadedModel) -> onnx.ModelProto:
    """Builds the network as it is evaluated: no dropout, no auxiliary heads.

    Raises:
      UserError: the weights are too large for the format.
    """
    config, data = model.network.config, model.config.data
    graph = _Graph(flatten_dict(model.params, sep="/") | flatten_dict(model.batch_stats, sep="/"))
    x = graph.normalize("images", data.mean, data.std)
    maps = Maps(config.image_size, 3)
    for row in config.rows():
        x = _add_row(graph, row, x, maps.size, config.padding)
        maps = output_of(row, maps, config.padding)
    _add_head(graph, x, config, maps.size)
    if sum(len(weight.raw_data) for weight in graph.weights) > MOST_BYTES:
        raise UserError("the weights exceed the 2 GiB of an ONNX file: export to another format")

    pixels = helper.make_tensor_value_info(
        "images", TensorProto.UINT8, ["batch", 3, data.image_size, data.image_size], "RGB, 0..255"
    )
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", config.num_classes])
        for name in ("logits", "probabilities")
    ]
    name = ARCHITECTURES[config.architecture].name
    exported = helper.make_model(
        helper.make_graph(graph.nodes, name, [pixels], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="inception_jax",
        producer_version=inception_jax.__version__,
    )
    properties = model_metadata(model).items()
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in properties}
    helper.set_model_props(exported, texts)
    return exported


class _Graph:
    """Collects nodes and weights; methods return the name of their output."""

    def __init__(self, arrays: dict[str, Any]):
        """`arrays` has the network's parameters and batch statistics by name."""
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str, values: np.ndarray | None = None) -> str:
        """Adds a constant; without values, the network's array of that name."""
        values = self.arrays[name] if values is None else values
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def normalize(self, images: str, mean: Sequence[float], std: Sequence[float]) -> str:
        offset, scale = (np.asarray(x, np.float32).reshape(1, 3, 1, 1) for x in (mean, std))
        x = self.add("Cast", "data/float32", images, to=TensorProto.FLOAT)
        x = self.add("Sub", "data/centred", x, self.weight("data/mean", offset))
        return self.add("Div", "data", x, self.weight("data/std", scale))

    def convolution(self, name: str, x: str, stride: int, pads: Sequence[int]) -> str:
        """Convolution, batch normalisation where the layer has it, ReLU."""
        kernel = self.arrays[f"{name}/kernel"].transpose(3, 2, 0, 1)  # from HWIO to OIHW
        height, width = kernel.shape[2:]
        inputs = [x, self.weight(f"{name}/kernel", kernel)]
        if f"{name}/bias" in self.arrays:
            inputs.append(self.weight(f"{name}/bias"))
        x = self.add(
            "Conv", f"{name}/convolution", *inputs,
            kernel_shape=[height, width], strides=[stride] * 2, pads=pads,
        )  # fmt: skip
        if f"{name}/norm/scale" in self.arrays:
            norm = [self.weight(f"{name}/norm/{part}") for part in ("scale", "bias", "mean", "var")]
            epsilon = BATCH_NORM_EPSILON
            x = self.add("BatchNormalization", f"{name}/norm", x, *norm, epsilon=epsilon)
        return self.add("Relu", name, x)

    def pool(
        self, kind: str, name: str, x: str, window: int, stride: int, pads: Sequence[int]
    ) -> str:
        shape = {"kernel_shape": [window] * 2, "strides": [stride] * 2, "pads": pads}
        if kind == "max":
            return self.add("MaxPool", name, x, **shape)
        return self.add("AveragePool", name, x, count_include_pad=1, **shape)

    def linear(self, name: str, layer: str, x: str, kernel: np.ndarray | None = None) -> str:
        weights = self.weight(f"{layer}/kernel", kernel), self.weight(f"{layer}/bias")
        return self.add("Gemm", name, x, *weights)


def _add_row(graph: _Graph, row: Row, x: str, size: int, padding: str) -> str:
    """Adds a row whose input has `size` x `size` pixels; returns the name of its output."""
    match row:
        case ConvolutionRow():
            pads = _pads(size, row.kernel, row.stride, window_geometry.CONVOLUTION[padding])
            return graph.convolution(row.name, x, row.stride, pads)
        case MaxPoolRow():
            pads = _pads(size, row.window, row.stride, window_geometry.POOL["max"][padding])
            return graph.pool("max", row.name, x, row.window, row.stride, pads)
        case LocalResponseNormRow():  # ONNX divides alpha by the size, too
            attributes = {
                "size": response_norm.SIZE,
                "alpha": response_norm.ALPHA,
                "beta": response_norm.BETA,
                "bias": response_norm.K,
            }
            return graph.add("LRN", row.name, x, **attributes)
        case ModuleRow():
            outputs = [
                _add_branch(graph, row.name, branch, x, size, padding) for branch in row.branches
            ]
            return graph.add("Concat", row.name, *outputs, axis=1)


def _add_branch(graph: _Graph, module: str, branch: Branch, x: str, size: int, padding: str) -> str:
    for part in branch:
        match part:
            case Convolution():
                pads = _pads(size, part.kernel, part.stride, window_geometry.CONVOLUTION[padding])
                x = graph.convolution(f"{module}/{part.name}", x, part.stride, pads)
            case Pool():
                rule = window_geometry.POOL[part.kind][POOL_PADDING[part.kind]]
                pads = _pads(size, POOL_WINDOW, part.stride, rule)
                x = graph.pool(part.kind, f"{module}/pool", x, POOL_WINDOW, part.stride, pads)
        size = output_of(part, Maps(size, 0), padding).size
    return x


def _pads(size: int, window: int, stride: int, rule: window_geometry.Rule) -> list[int]:
    """ONNX's padding of both axes: top, left, bottom, right."""
    before, after = rule(size, window, stride)
    return [before, before, after, after]


def _add_head(graph: _Graph, x: str, config: GoogLeNetConfig, size: int) -> None:
    """Adds the layers after the last module, whose output has `size` x `size` pixels."""
    if config.head == "average_pool":
        x = graph.add("GlobalAveragePool", "loss3/pool", x)
        x = graph.add("Flatten", "loss3/features", x)
    else:
        kernel = graph.arrays["loss3/fc/kernel"]  # inputs in the order H, W, C; here C, H, W
        units = kernel.shape[1]
        kernel = kernel.reshape(size, size, -1, units).transpose(2, 0, 1, 3).reshape(-1, units)
        x = graph.add("Flatten", "loss3/features", x)
        x = graph.linear("loss3/fc/linear", "loss3/fc", x, kernel)
        x = graph.add("Relu", "loss3/fc", x)
    x = graph.linear("logits", "loss3/classifier", x)
    graph.add("Softmax", "probabilities", x, axis=1)
