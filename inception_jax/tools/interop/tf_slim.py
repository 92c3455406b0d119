"""TF-slim's inception_v1: a TensorFlow checkpoint of either form, or an .npz of the same names.

Where batch normalisation has no scale (gamma), as in the published weights, the scale is 1. They
have 1001 classes, the first of which is "background": it is left out where the config has one class
less than the file. Averages that the training kept beside the weights are not read.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.models.options import GoogLeNetConfig
from inception_jax.tools import extras
from inception_jax.tools.interop import files, weight_maps
from inception_jax.tools.interop.weight_maps import Layer, Tensors, Transform

CONFIG = "tf_slim.py"

_SCOPE = "InceptionV1/"
_CLASSIFIER = f"{_SCOPE}Logits/Conv2d_0c_1x1"
_STEM = ("Conv2d_1a_7x7", "Conv2d_2b_1x1", "Conv2d_2c_3x3")
_BRANCHES = (
    "Branch_0/Conv2d_0a_1x1",
    "Branch_1/Conv2d_0a_1x1",
    "Branch_1/Conv2d_0b_3x3",
    "Branch_2/Conv2d_0a_1x1",
    "Branch_2/Conv2d_0b_3x3",
    "Branch_3/Conv2d_0b_1x1",
)
_IRREGULAR = {"inception_5a/5x5": "Mixed_5b/Branch_2/Conv2d_0a_3x3"}  # not 0b, in slim's source

_SCALE, _SHIFT = "/BatchNorm/gamma", "/BatchNorm/beta"
_CONVOLUTION = {
    "kernel": ("/weights", weight_maps.SAME),
    "norm/scale": (_SCALE, weight_maps.SAME),
    "norm/bias": (_SHIFT, weight_maps.SAME),
    "norm/mean": ("/BatchNorm/moving_mean", weight_maps.SAME),
    "norm/var": ("/BatchNorm/moving_variance", weight_maps.SAME),
}
# The classifier is a 1x1 convolution. The inverse fills the background's weights with zeros.
_KERNEL = Transform(lambda a: a[0, 0], lambda a: a[None, None])
_KERNEL_AND_BACKGROUND = Transform(
    lambda a: a[0, 0, :, 1:], lambda a: np.pad(a, ((0, 0), (1, 0)))[None, None]
)
_BIAS_AND_BACKGROUND = Transform(lambda a: a[1:], lambda a: np.pad(a, (1, 0)))
_LINEAR = {"kernel": ("/weights", _KERNEL), "bias": ("/biases", weight_maps.SAME)}
_LINEAR_AND_BACKGROUND = {
    "kernel": ("/weights", _KERNEL_AND_BACKGROUND),
    "bias": ("/biases", _BIAS_AND_BACKGROUND),
}

# Tensors of a training that are not weights: counters, and slots of optimisers and averages.
_TRAINING = re.compile(
    r"global_step|beta[12]_power"
    r"|InceptionV1/.*/(ExponentialMovingAverage|Momentum|RMSProp(_1)?|Adam(_1)?|Adagrad"
    r"|Adadelta(_1)?|Ftrl(_1)?|local_step|biased)"
)


def layers(config: GoogLeNetConfig, tensors: Tensors) -> dict[str, Layer]:
    """{our layer: its name and arrays in the file}; `tensors` show if it has a background class."""
    bias = tensors.get(f"{_CLASSIFIER}/biases")
    background = bias is not None and bias.shape == (config.num_classes + 1,)
    names = dict(zip(weight_maps.STEM_NAMES, _STEM, strict=True))
    for module in weight_maps.MODULE_NAMES:
        stage, letter = module[-2], module[-1]  # inception_3a is Mixed_3b: 3a is a pool there
        for branch, name in zip(weight_maps.BRANCH_NAMES, _BRANCHES, strict=True):
            names[f"{module}/{branch}"] = f"Mixed_{stage}{chr(ord(letter) + 1)}/{name}"
    return {
        ours: Layer(_SCOPE + theirs, _CONVOLUTION) for ours, theirs in (names | _IRREGULAR).items()
    } | {
        weight_maps.CLASSIFIER: Layer(
            _CLASSIFIER, _LINEAR_AND_BACKGROUND if background else _LINEAR
        )
    }


def separate(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """The weights, with a scale of ones where the file has no scales at all."""
    weights = {name: t for name, t in tensors.items() if not _TRAINING.fullmatch(name)}
    if not any(name.endswith(_SCALE) for name in weights):
        shifts = [name for name in weights if name.endswith(_SHIFT)]
        for name in shifts:
            weights[name.removesuffix(_SHIFT) + _SCALE] = np.ones_like(weights[name])
    return weights, {}


def _read_checkpoint(path: Path) -> Tensors:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # or it logs what it was compiled for
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # or it logs how it computes
    with extras.needed("prepare", f"{path}, a TensorFlow checkpoint and not an .npz file,"):
        import tensorflow as tf
    reader = tf.train.load_checkpoint(str(files.checkpoint_prefix(path)))
    return {
        name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()
    }


def _read_npz(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


READERS: dict[str, Callable[[Path], Tensors]] = {
    files.TENSORFLOW: _read_checkpoint,
    files.NPZ: _read_npz,
}
