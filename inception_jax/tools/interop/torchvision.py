"""torchvision's GoogLeNet: state dicts as .pth, .pt or .safetensors, in both directions.

Its heads are called aux1 (on 4a) and aux2 (on 4d). The file does not describe the input: the
weights that torchvision publishes were trained on RGB in [-1, 1], the result of its normalisation
followed by its `transform_input`.
"""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from inception_jax.checkpoints import store
from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.errors import UsageError, UserError
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.tables import AUXILIARY_FILTERS
from inception_jax.tools import extras
from inception_jax.tools.interop import files, weight_maps
from inception_jax.tools.interop.weight_maps import Layer, Tensors

log = logging.getLogger(__name__)

CONFIG = "torchvision.py"

# The fields of `model` that its class fixes; the others are free.
ARCHITECTURE = {
    "architecture": "googlenet",
    "norm": "batch",
    "module": "reduced",
    "large_kernel": 3,
    "head": "average_pool",
    "stem": "imagenet",
    "padding": "caffe",
    "last_pool": 2,
    "auxiliary_pool": "adaptive",
    "width": 1.0,
}

_COUNTER = ".num_batches_tracked"  # PyTorch counts training steps in each batch normalisation
_CONVOLUTION = {
    "kernel": (".conv.weight", weight_maps.CONVOLUTION),
    "norm/scale": (".bn.weight", weight_maps.SAME),
    "norm/bias": (".bn.bias", weight_maps.SAME),
    "norm/mean": (".bn.running_mean", weight_maps.SAME),
    "norm/var": (".bn.running_var", weight_maps.SAME),
}
_LINEAR = {"kernel": (".weight", weight_maps.LINEAR), "bias": (".bias", weight_maps.SAME)}
_BRANCHES = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")


def layers(config: GoogLeNetConfig, tensors: Tensors) -> dict[str, Layer]:
    """{our layer: its name and arrays in the file}; in this format `tensors` do not matter."""
    flattened = weight_maps.after_flattening(config.scale(AUXILIARY_FILTERS))
    heads = {
        f"{ours}/{part}": Layer(f"{theirs}.{name}", arrays)
        for ours, theirs in (("loss1", "aux1"), ("loss2", "aux2"))
        for part, name, arrays in (
            ("conv", "conv", _CONVOLUTION),
            ("fc", "fc1", _LINEAR | {"kernel": (".weight", flattened)}),
            ("classifier", "fc2", _LINEAR),
        )
    }
    modules = {
        f"{module}/{branch}": Layer(f"{module.replace('_', '')}.{name}", _CONVOLUTION)
        for module in weight_maps.MODULE_NAMES
        for branch, name in zip(weight_maps.BRANCH_NAMES, _BRANCHES, strict=True)
    }
    stem = {
        ours: Layer(theirs, _CONVOLUTION)
        for ours, theirs in zip(weight_maps.STEM_NAMES, ("conv1", "conv2", "conv3"), strict=True)
    }
    return stem | modules | heads | {weight_maps.CLASSIFIER: Layer("fc", _LINEAR)}


def separate(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """The weights, and the counters of batch normalisation, which only PyTorch has."""
    counters = {name: int(t) for name, t in tensors.items() if _is_counter(name, t)}
    weights = {name: tensor for name, tensor in tensors.items() if name not in counters}
    return weights, {"num_batches_tracked": counters}


def _is_counter(name: str, tensor: np.ndarray) -> bool:
    return name.endswith(_COUNTER) and tensor.shape == () and tensor.dtype.kind in "iu"


def _read_torch(path: Path) -> Tensors:
    with extras.needed("torch", f"{path}, a PyTorch file and not a .safetensors file,"):
        import torch
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):  # the pickle itself is broken, not what it imports
            raise UserError(f"{path} is damaged: its pickle cannot be read") from None
        raise UserError(
            f"{path} has more than tensors in it, and reading it would run code from the file: "
            "save model.state_dict() alone"
        ) from None
    # Training scripts keep the state dict beside the optimiser's, and maybe of a parallel module.
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise UserError(f"{path} is a {type(content).__name__} and not a state dict")
    tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, torch.Tensor)}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in tensors.items()
    }


def _read_safetensors(path: Path) -> Tensors:
    with extras.needed("interop", f"{path}, a safetensors file,"):
        import safetensors.numpy
    return safetensors.numpy.load_file(path)


READERS: dict[str, Callable[[Path], Tensors]] = {
    files.PYTORCH: _read_torch,
    files.SAFETENSORS: _read_safetensors,
}


def write(model: LoadedModel, path: Path) -> None:
    """Writes a network as a state dict for torchvision.models.googlenet.

    Weights that were converted from torchvision and not trained since come out bit for bit,
    `num_batches_tracked` included; weights of our own training have 0 there.

    Args:
      model: of torchvision's architecture.
      path: .pth or .pt (needs PyTorch) or .safetensors; appears when it is complete.

    Raises:
      UsageError: another architecture, naming the fields, or another suffix.
      UserError: the library is not installed.
    """
    _check_architecture(model.network.config)
    writers = {".pth": _save_torch, ".pt": _save_torch, ".safetensors": _save_safetensors}
    if path.suffix not in writers:
        raise UsageError(f"{path} does not end in {' or '.join(writers)}")
    tree = jax.device_get({"params": model.params, "batch_stats": model.batch_stats})
    weight_map = weight_maps.make_map(model.network, layers(model.network.config, {}))
    tensors = weight_maps.export_weights(tree, weight_map)
    source = store.read_description(model.checkpoint).get("source", {})
    counters = source.get("num_batches_tracked")
    if counters is None:
        means = [name for name in tensors if name.endswith(".running_mean")]
        counters = {name.removesuffix(".running_mean") + _COUNTER: 0 for name in means}
    tensors |= {name: np.array(count, np.int64) for name, count in counters.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        writers[path.suffix](tensors, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    log.info(f"in PyTorch: {_usage(model)}")


def _check_architecture(config: GoogLeNetConfig) -> None:
    needed = dict(ARCHITECTURE)
    if not config.auxiliary:
        del needed["auxiliary_pool"]
    wrong = [
        f"model.{field} is {getattr(config, field)!r} and would have to be {value!r}"
        for field, value in needed.items()
        if getattr(config, field) != value
    ]
    if wrong:
        raise UsageError(f"torchvision has no such network: {'; '.join(wrong)}")


def _usage(model: LoadedModel) -> str:
    """Says how to build the module in PyTorch and how to normalise its images."""
    config, data = model.network.config, model.config.data
    mean, std = ([round(x / 255, 6) for x in values] for values in (data.mean, data.std))
    return (
        f"googlenet(weights=None, init_weights=False, transform_input=False, "
        f"aux_logits={config.auxiliary}, num_classes={config.num_classes}), images in 0..1 "
        f"normalised with mean {mean} and std {std}"
    )


def _save_torch(tensors: Tensors, path: Path) -> None:
    with extras.needed("torch", "a .pth file, unlike a .safetensors file,"):
        import torch
    torch.save({name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}, path)


def _save_safetensors(tensors: Tensors, path: Path) -> None:
    with extras.needed("interop", "a .safetensors file"):
        import safetensors.numpy
    safetensors.numpy.save_file(dict(tensors), path, {"format": "pt"})
