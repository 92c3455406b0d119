"""What the tests of converted weights share: the command in this process, images, outputs."""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from sklearn.datasets import load_sample_images

from inception_jax import convert
from inception_jax.checkpoints import loaded_model
from inception_jax.data.normalization import normalize
from inception_jax.models.tables import AUXILIARY_HEADS
from inception_jax.runtime import devices


def run(name: str, weights: Path, output: Path, *overrides: str, class_names=None) -> Path:
    """`python -m inception_jax.convert`, without a process of its own; returns `output`."""
    flags = argparse.Namespace(format=name, weights=weights, output=output, class_names=class_names)
    convert.main(flags, list(overrides))
    return output


def load(checkpoint: Path) -> loaded_model.LoadedModel:
    return loaded_model.load(checkpoint, devices.make_mesh())


def images(size: int) -> np.ndarray:
    """uint8 [4, size, size, 3]: parts of two photographs, and random pixels of two kinds."""
    rng = np.random.default_rng(5)
    photographs = [photograph[90:, 200:] for photograph in load_sample_images().images]
    random = rng.integers(256, size=(size, size, 3))
    smooth = np.kron(rng.integers(256, size=(8, 8, 3)), np.ones((32, 32, 1)))
    pictures = [*photographs, random, smooth]
    return np.stack([picture[:size, :size].astype(np.uint8) for picture in pictures])


def outputs(model: loaded_model.LoadedModel, pictures: np.ndarray) -> list[np.ndarray]:
    """Logits of uint8 images, of the main head and of auxiliary ones, in evaluation."""

    @jax.jit
    def compute(params, batch_stats, pictures):
        x = normalize(pictures, model.config.data.mean, model.config.data.std)
        outputs = [model.network.apply(params, batch_stats, x, train=False)[0].logits]
        if not model.network.config.auxiliary:
            return outputs
        layers = nnx.merge(model.network.graph, params, batch_stats)
        for row in model.network.config.rows():
            x = functools.reduce(getattr, row.name.split("/"), layers)(x, train=False)
            if row.name in AUXILIARY_HEADS:
                head = getattr(layers, AUXILIARY_HEADS[row.name])
                outputs.append(head(x, train=False, rngs=None))
        return outputs

    return [np.asarray(o) for o in compute(model.params, model.batch_stats, pictures)]


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
