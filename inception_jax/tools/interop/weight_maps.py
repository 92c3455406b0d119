"""What all formats of weights share: tables from our arrays to their tensors, usable both ways.

A format says, for each of our layers, what it calls the layer and how it keeps the layer's arrays
(`Layer`). That and a network make a table, {our path: `ForeignTensor`}, and that makes the
weights.
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
from inception_jax.models.rows import ConvolutionRow
from inception_jax.models.tables import MODULES, STEMS, InceptionRow

Tensors = Mapping[str, np.ndarray]

CLASSIFIER = "loss3/classifier"
STEM_NAMES = tuple(row.name for row in STEMS["imagenet"] if isinstance(row, ConvolutionRow))
MODULE_NAMES = tuple(row.name for row in MODULES if isinstance(row, InceptionRow))
BRANCH_NAMES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")

_MOST_NAMED = 20  # where names are only to say what a file or a network is


class Transform(NamedTuple):
    """A change of layout and its inverse, on arrays."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


SAME = Transform(lambda a: a, lambda a: a)
# [out, in, height, width] -> [height, width, in, out]
CONVOLUTION = Transform(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
# The same, of a first layer that is shown blue, green, red.
BGR_CONVOLUTION = Transform(
    lambda a: a[:, ::-1].transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1)[:, ::-1]
)
LINEAR = Transform(lambda a: a.T, lambda a: a.T)  # [out, in] -> [in, out]


def after_flattening(channels: int) -> Transform:
    """LINEAR after a feature map: theirs is flattened as C, H, W and ours as H, W, C."""
    return Transform(
        lambda a: a.reshape(len(a), channels, -1).transpose(2, 1, 0).reshape(-1, len(a)),
        lambda a: (
            a.reshape(-1, channels, a.shape[1]).transpose(2, 1, 0).reshape(a.shape[1], len(a))
        ),
    )


class Layer(NamedTuple):
    """What a format calls a layer, and {our array: (what follows the name, layout)} of it."""

    name: str
    arrays: Mapping[str, tuple[str, Transform]]


@dataclasses.dataclass(frozen=True)
class ForeignTensor:
    """A tensor of a format: its name and layout."""

    name: str
    transform: Transform


def make_table(network: Network, layers: Mapping[str, Layer]) -> dict[str, ForeignTensor]:
    """{"params/inception_3a/1x1/kernel": its tensor}, of every array of the network.

    Raises:
      UsageError: the format has no place for a layer of this network; each is named.
    """
    table, unmapped = {}, []
    for path in _shapes(network):
        _, *parts = path.split("/")
        own = 2 if parts[-2] == "norm" else 1
        name, array = "/".join(parts[:-own]), "/".join(parts[-own:])
        if name in layers and array in layers[name].arrays:
            suffix, transform = layers[name].arrays[array]
            table[path] = ForeignTensor(layers[name].name + suffix, transform)
        else:
            unmapped.append(path)
    if unmapped:
        raise UsageError(f"the format has no {_list(unmapped)}: model.* is another network's")
    return table


def import_weights(
    network: Network, table: Mapping[str, ForeignTensor], tensors: Tensors, file: Path
) -> Tree:
    """The weights {"params", "batch_stats"}, float32 whatever floating type they were kept in.

    Args:
      network: says which shapes are needed.
      table: of the network.
      tensors: all that `file` has.
      file: for messages.

    Raises:
      UserError: tensors are missing, unknown, misshapen, no floating point or not finite; each is
        named.
    """
    shapes = _shapes(network)
    expected = {theirs.name for theirs in table.values()}
    if not expected & tensors.keys():
        content = f"it has {_list(tensors)}" if tensors else "it has no tensors"
        raise UserError(f"{file} is another network: no tensor has a known name ({content})")
    arrays: dict[str, np.ndarray] = {}
    problems: dict[str, list[str]] = {
        "other shapes": [],
        "missing": sorted(expected - tensors.keys()),
        "not part of it": sorted(tensors.keys() - expected),
        "no floating-point numbers": [],
        "NaN or infinite": [],
    }
    classes = _other_number_of_classes(shapes, table, tensors)
    for path, theirs in table.items():
        if theirs.name not in tensors:
            continue
        tensor, needed = tensors[theirs.name], _their_shape(theirs, shapes[path])
        if tensor.shape != needed:
            if not (classes and "/classifier/" in path):  # said once is enough
                shape = f"{theirs.name} is {tensor.shape} and should be {needed}"
                problems["other shapes"].append(shape)
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            problems["no floating-point numbers"].append(f"{theirs.name} is {tensor.dtype}")
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


def to_theirs(tree: Tree, table: Mapping[str, ForeignTensor]) -> dict[str, np.ndarray]:
    """The inverse of `import_weights`: their tensors of the weights {"params", "batch_stats"}."""
    return {
        table[path].name: np.ascontiguousarray(table[path].transform.to_theirs(np.asarray(leaf)))
        for path, leaf in flatten_dict(tree, sep="/").items()
    }


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """{"params/inception_3a/1x1/kernel": its shape}."""
    tree = {"params": network.params, "batch_stats": network.batch_stats}
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def _their_shape(theirs: ForeignTensor, ours: tuple[int, ...]) -> tuple[int, ...]:
    return theirs.transform.to_theirs(np.broadcast_to(np.float32(0), ours)).shape


def _other_number_of_classes(
    shapes: Mapping[str, tuple[int, ...]], table: Mapping[str, ForeignTensor], tensors: Tensors
) -> int | None:
    """How many classes the file has, if it is not what the network needs."""
    path = f"params/{CLASSIFIER}/bias"
    bias = tensors.get(table[path].name)
    if bias is None or bias.ndim != 1 or bias.shape == _their_shape(table[path], shapes[path]):
        return None
    return len(bias)


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
