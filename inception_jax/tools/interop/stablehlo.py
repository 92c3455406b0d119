"""A trained network as one StableHLO file, which JAX and flatbuffers run without this package.

Input: uint8 [batch, size, size, 3], RGB; normalisation and weights are inside. Output: float32
logits [batch, classes]. The batch has any size, and the file runs on CPU, CUDA and TPU:

    exported = jax.export.deserialize(bytearray(open("network.stablehlo", "rb").read()))
    logits = exported.call(images)

`exported.mlir_module()` is the program as text. JAX promises to load it for six months of its
releases (jax.export's compatibility guarantees): keep the checkpoint, too.
"""

from pathlib import Path

import flatbuffers  # noqa: F401  (jax.export serialises with it)
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.normalization import normalize

PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: LoadedModel, path: Path) -> None:
    """Writes the serialised program."""
    path.write_bytes(to_exported(model).serialize())


def to_exported(model: LoadedModel) -> jax.export.Exported:
    """Builds the program of the network as it is evaluated, in its own dtype."""
    data = model.config.data
    # Host arrays: those on a mesh would tie the program to its number of devices.
    params, batch_stats = jax.tree.map(np.asarray, (model.params, model.batch_stats))

    def logits(images: jax.Array) -> jax.Array:
        images = normalize(images, data.mean, data.std)
        return model.network.apply(params, batch_stats, images, train=False)[0].logits

    (batch,) = jax.export.symbolic_shape("batch")
    shape = (batch, data.image_size, data.image_size, 3)
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return jax.export.export(jax.jit(logits), platforms=PLATFORMS)(images)
