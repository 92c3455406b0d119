"""The initial values of a network, as a function of (seed, parameter name).

Drawn on the host with a counter-based generator: the same on every platform and library version,
the same for a layer whatever else the network contains (so that an ablation starts where its base
does), and without compiling one random generator a shape.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Initialization:
    """Kernels are uniform with variance `gain / fan_in`; classifiers have gain 1 and bias 0."""

    gain: float
    bias: float


INITIALIZATIONS = {
    # Caffe's "xavier" is U(-s, s) with s = sqrt(3 / fan_in): LeCun's uniform, not Glorot's;
    # biases 0.2 (bvlc_googlenet/train_val.prototxt).
    "caffe": Initialization(gain=1.0, bias=0.2),
    # He et al. 2015 (arXiv 1502.01852), for layers that a ReLU follows.
    "he": Initialization(gain=2.0, bias=0.0),
}


def initial_values(abstract: Any, initialization: str, seed: int) -> Any:
    """Makes the initial values for a tree of parameters and batch statistics.

    Args:
      abstract: nested dictionaries with leaves that have a shape and a dtype.
      initialization: a key of INITIALIZATIONS.
      seed: of the run.

    Returns:
      The same tree with numpy arrays.
    """
    chosen = INITIALIZATIONS[initialization]

    def value(path: Sequence[str], leaf: Any) -> np.ndarray:
        *layers, kind = path
        classifier = layers[-1] == "classifier"
        if kind == "kernel":
            gain = 1.0 if classifier else chosen.gain
            limit = math.sqrt(3 * gain / math.prod(leaf.shape[:-1]))
            drawn = limit * (2 * _uniform(seed, "/".join(layers), leaf.shape) - 1)
            return drawn.astype(leaf.dtype)
        if layers[-1] == "norm":
            constant = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}[kind]
        else:
            constant = 0.0 if classifier else chosen.bias
        return np.full(leaf.shape, constant, leaf.dtype)

    def filled(tree: Any, path: tuple[str, ...] = ()) -> Any:
        if isinstance(tree, dict):
            return {name: filled(part, (*path, name)) for name, part in tree.items()}
        return value(path, tree)

    return filled(abstract)


def _uniform(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws for the kernel of the layer `name`: float64 in [0, 1)."""
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    bits = np.random.Philox(key=[seed, stream]).random_raw(math.prod(shape))
    return (bits >> np.uint64(11)).reshape(shape) * 2.0**-53
