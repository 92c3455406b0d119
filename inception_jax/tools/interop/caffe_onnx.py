"""Caffe's bvlc_googlenet in ONNX, as in the ONNX model zoo: the initializers of the graph.

Layers have Caffe's names, which are ours; the input is blue, green, red. Only weights are read; the
graph around them is not checked.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inception_jax.errors import UserError
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.tables import AUXILIARY_FILTERS
from inception_jax.tools import extras
from inception_jax.tools.interop import files, weight_maps
from inception_jax.tools.interop.weight_maps import Layer, Tensors

CONFIG = "caffe.py"

_KERNEL, _BIAS = "_w_0", "_b_0"
_CONVOLUTION = {"kernel": (_KERNEL, weight_maps.CONVOLUTION), "bias": (_BIAS, weight_maps.SAME)}
_FIRST = _CONVOLUTION | {"kernel": (_KERNEL, weight_maps.BGR_CONVOLUTION)}
_LINEAR = {"kernel": (_KERNEL, weight_maps.LINEAR), "bias": (_BIAS, weight_maps.SAME)}


def layers(config: GoogLeNetConfig, tensors: Tensors) -> dict[str, Layer]:
    """{our layer: its name and arrays in the file}; in this format `tensors` do not matter."""
    flattened = weight_maps.after_flattening(config.scale(AUXILIARY_FILTERS))
    head = {
        "conv": _CONVOLUTION,
        "fc": _LINEAR | {"kernel": (_KERNEL, flattened)},
        "classifier": _LINEAR,
    }
    kinds = (
        dict.fromkeys(weight_maps.STEM_NAMES, _CONVOLUTION)
        | {weight_maps.STEM_NAMES[0]: _FIRST, weight_maps.CLASSIFIER: _LINEAR}
        | {
            f"{m}/{b}": _CONVOLUTION
            for m in weight_maps.MODULE_NAMES
            for b in weight_maps.BRANCH_NAMES
        }
        | {f"{name}/{part}": head[part] for name in ("loss1", "loss2") for part in head}
    )
    return {name: Layer(name, arrays) for name, arrays in kinds.items()}


def separate(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """Leaves out tensors of integers: they are shapes for the graph."""
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype.kind not in "iu"}, {}


def _read(path: Path) -> Tensors:
    with extras.needed("interop", f"{path}, an ONNX file,"):
        import onnx
    graph = onnx.load(path, load_external_data=False).graph
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(
                f"{path} keeps its weights in other files: "
                "save it as one (onnx.save_model without external data)"
            )
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


READERS: dict[str, Callable[[Path], Tensors]] = {files.ONNX: _read}
