"""Activations of an Inception module for an image, branch by branch."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.normalization import normalize
from inception_jax.errors import UsageError
from inception_jax.models.row_types import ModuleRow
from inception_jax.runtime import devices


class BranchMaps(NamedTuple):
    """A branch's maps after the ReLU, float32 [channels, height, width], the most active first."""

    branch: str
    numbers: np.ndarray  # int [channels]: their numbers in the module's output
    maps: np.ndarray


def find_module(model: LoadedModel, name: str) -> ModuleRow:
    """Finds a module by its name; raises UsageError if the network does not have it."""
    modules = [row for row in model.network.config.rows() if isinstance(row, ModuleRow)]
    for row in modules:
        if row.name == name:
            return row
    names = ", ".join(row.name for row in modules)
    raise UsageError(f"the network has no module {name!r}; there are {names}")


def branch_maps(model: LoadedModel, module: str, image: np.ndarray) -> list[BranchMaps]:
    """Computes the maps of all channels of a module for an image.

    Args:
      model: the network.
      module: as inception_4a.
      image: uint8 [size, size, 3], as the network is shown it.
    """
    row = find_module(model, module)
    data = model.config.data

    @functools.partial(jax.jit, compiler_options=devices.compiler_options())
    def activations(params, batch_stats, images):
        normalized = normalize(images, data.mean, data.std)
        return model.network.activations(params, batch_stats, normalized, module)

    output = activations(model.params, model.batch_stats, jnp.asarray(image)[None])
    maps = np.moveaxis(np.asarray(output, np.float32)[0], -1, 0)
    strongest = maps.max(axis=(1, 2))
    found = []
    for branch, channels in row.channels(len(maps)).items():
        numbers = np.arange(channels.start, channels.stop)
        numbers = numbers[np.argsort(-strongest[numbers], kind="stable")]
        found.append(BranchMaps(branch, numbers, maps[numbers]))
    return found
