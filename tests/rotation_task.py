"""Somebody's own task, rotation prediction (arXiv 1803.07728): how far was an image turned?"""

import dataclasses
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.config.declaration import option
from inception_jax.data.decode import decode
from inception_jax.data.normalization import normalize
from inception_jax.data.sources import open_source
from inception_jax.tasks.base import Evaluator, Task, between_batches
from inception_jax.tasks.classification.losses import cross_entropy
from inception_jax.tasks.classification.training_batches import read_training_batch


@dataclasses.dataclass(frozen=True)
class RotationSection:
    """The config's section `rotation`."""

    turns: int = option(4, "quarter turns to tell apart", range=(2, 4))


SECTIONS = {"rotation": RotationSection}


def fields_from_data(config: Any) -> dict[str, Any]:
    return {"model.num_classes": config.rotation.turns}


def make_task(config: Any) -> Task:
    return Rotation(config)


class Rotation(Task):
    primary_metric = "accuracy"
    metric_names = {"accuracy": "accuracy"}  # noqa: RUF012

    def open(self, split):
        return open_source(self.config.data, split, 0)

    def read(self, source, step, part, buffers=None):
        config = self.config
        batch = read_training_batch(source, config.data, config.seed, step, part)
        turns = (batch["index"] + batch["epoch"]) % config.rotation.turns
        turned = map(np.rot90, batch["image"], turns)
        return {**batch, "image": np.stack(list(turned)), "label": turns.astype(np.int32)}

    def prepare(self, batch, key):
        image = normalize(batch["image"], self.config.data.mean, self.config.data.std)
        return {"image": image, "label": batch["label"]}

    def loss(self, outputs, inputs):
        right = jnp.argmax(outputs.logits, axis=1) == inputs["label"]
        loss = cross_entropy(outputs.logits, inputs["label"])
        return loss, {"accuracy": jnp.mean(right, dtype=jnp.float32)}

    def evaluator(self, network, evaluation, mesh):
        source, data = self.open(evaluation.split), self.config.data
        sides = (data.image_size, data.image_size)
        images = [cv2.resize(decode(e.encoded, e.name), sides) for e in source.read(range(20))]

        @jax.jit
        def predict(params, batch_stats, batch):
            pixels = normalize(batch, data.mean, data.std)
            return network.apply(params, batch_stats, pixels, train=False)[0].logits.argmax(axis=1)

        def run(params, batch_stats):
            right = []
            for turns in range(self.config.rotation.turns):
                batch = np.stack([np.rot90(image, turns) for image in images])
                right.append(np.asarray(predict(params, batch_stats, batch)) == turns)
                between_batches()
            return {"accuracy": float(np.mean(right)), "examples": np.size(right)}

        return Evaluator(run, source.fingerprint)
