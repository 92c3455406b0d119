"""Maps between our arrays and the tensors of other frameworks, to read and to write weights.

A format gives the name of each of our layers and the layout of its arrays (`Layer`). With a network
they make a map, {our path: `ForeignTensor`}.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.errors import UsageError, UserError
from inception_jax.models.network import Network, Tree
from inception_jax.models.row_types import ConvolutionRow
from inception_jax.models.tables import MODULES, STEMS, InceptionRow

Tensors = Mapping[str, np.ndarray]

CLASSIFIER = "loss3/classifier"
STEM_NAMES = tuple(row.name for row in STEMS["imagenet"] if isinstance(row, ConvolutionRow))
MODULE_NAMES = tuple(row.name for row in MODULES if isinstance(row, InceptionRow))
BRANCH_NAMES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")

_MOST_NAMED = 20  # names in a message


class Transform(NamedTuple):
    """A change of an array's layout, and its inverse."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


SAME = Transform(lambda a: a, lambda a: a)
# [out, in, height, width] -> [height, width, in, out]
CONVOLUTION = Transform(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
# CONVOLUTION for a first layer whose input is blue, green, red.
BGR_CONVOLUTION = Transform(
    lambda a: a[:, ::-1].transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1)[:, ::-1]
)
LINEAR = Transform(lambda a: a.T, lambda a: a.T)  # [out, in] -> [in, out]


def after_flattening(channels: int) -> Transform:
    """LINEAR for inputs flattened from maps: theirs in the order C, H, W, ours in H, W, C."""
    return Transform(
        lambda a: a.reshape(len(a), channels, -1).transpose(2, 1, 0).reshape(-1, len(a)),
        lambda a: (
            a.reshape(-1, channels, a.shape[1]).transpose(2, 1, 0).reshape(a.shape[1], len(a))
        ),
    )


class Layer(NamedTuple):
    """A layer in a format: its name, and {our array: (suffix of the tensor's name, layout)}."""

    name: str
    arrays: Mapping[str, tuple[str, Transform]]


@dataclasses.dataclass(frozen=True)
class ForeignTensor:
    """A tensor of another framework: its name, and how its layout differs from ours."""

    name: str
    transform: Transform


def make_map(network: Network, layers: Mapping[str, Layer]) -> dict[str, ForeignTensor]:
    """Returns {"params/inception_3a/1x1/kernel": its tensor}, with every array of the network.

    Raises:
      UsageError: the format has no place for a layer of this network; each is named.
    """
    weight_map, unmapped = {}, []
    for path in _shapes(network):
        _, *parts = path.split("/")
        own = 2 if parts[-2] == "norm" else 1
        name, array = "/".join(parts[:-own]), "/".join(parts[-own:])
        if name in layers and array in layers[name].arrays:
            suffix, transform = layers[name].arrays[array]
            weight_map[path] = ForeignTensor(layers[name].name + suffix, transform)
        else:
            unmapped.append(path)
    if unmapped:
        raise UsageError(f"the format has no {_list(unmapped)}: model.* describes another network")
    return weight_map


def import_weights(
    network: Network, weight_map: Mapping[str, ForeignTensor], tensors: Tensors, file: Path
) -> Tree:
    """Returns the weights {"params", "batch_stats"} as float32, from any floating-point type.

    Args:
      network: says which shapes are needed.
      weight_map: of the network.
      tensors: all tensors of `file`.
      file: for messages.

    Raises:
      UserError: tensors are missing, unknown, of another shape, not floating-point or not finite;
        each is named.
    """
    shapes = _shapes(network)
    expected = {theirs.name for theirs in weight_map.values()}
    if not expected & tensors.keys():
        content = f"it has {_list(tensors)}" if tensors else "it has no tensors"
        raise UserError(f"{file} is another network: no tensor has a known name ({content})")
    arrays: dict[str, np.ndarray] = {}
    problems: dict[str, list[str]] = {
        "other shapes": [],
        "missing": sorted(expected - tensors.keys()),
        "not part of it": sorted(tensors.keys() - expected),
        "not floating-point numbers": [],
        "NaN or infinite": [],
    }
    classes = _other_number_of_classes(shapes, weight_map, tensors)
    for path, theirs in weight_map.items():
        if theirs.name not in tensors:
            continue
        tensor, needed = tensors[theirs.name], _their_shape(theirs, shapes[path])
        if tensor.shape != needed:
            if not (classes and "/classifier/" in path):  # one message about classes is enough
                shape = f"{theirs.name} is {tensor.shape} and should be {needed}"
                problems["other shapes"].append(shape)
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            problems["not floating-point numbers"].append(f"{theirs.name} is {tensor.dtype}")
        else:
            with np.errstate(over="ignore"):  # float64 beyond float32 is found as infinite
                arrays[path] = np.ascontiguousarray(theirs.transform.to_ours(tensor), np.float32)
            if not np.isfinite(arrays[path]).all():
                problems["NaN or infinite"].append(theirs.name)
    found = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if classes:
        wanted = network.config.num_classes
        hint = f"(set --config.model.num_classes={classes})"
        found.insert(0, f"it has {classes} classes and the config {wanted} {hint}")
    if found:
        raise UserError(f"{file} does not fit: {'; '.join(found)}")
    return {"batch_stats": {}} | unflatten_dict(arrays, sep="/")


def export_weights(tree: Tree, weight_map: Mapping[str, ForeignTensor]) -> dict[str, np.ndarray]:
    """Returns weights {"params", "batch_stats"} as tensors of the other framework."""
    return {
        theirs.name: np.ascontiguousarray(theirs.transform.to_theirs(np.asarray(leaf)))
        for path, leaf in flatten_dict(tree, sep="/").items()
        for theirs in [weight_map[path]]
    }


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """{"params/inception_3a/1x1/kernel": its shape}."""
    tree = {"params": network.params, "batch_stats": network.batch_stats}
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def _their_shape(theirs: ForeignTensor, ours: tuple[int, ...]) -> tuple[int, ...]:
    return theirs.transform.to_theirs(np.broadcast_to(np.float32(0), ours)).shape


def _other_number_of_classes(
    shapes: Mapping[str, tuple[int, ...]],
    weight_map: Mapping[str, ForeignTensor],
    tensors: Tensors,
) -> int | None:
    """The file's number of classes, if the network has another."""
    path = f"params/{CLASSIFIER}/bias"
    theirs = weight_map[path]
    bias = tensors.get(theirs.name)
    if bias is None or bias.ndim != 1 or bias.shape == _their_shape(theirs, shapes[path]):
        return None
    return len(bias)


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
