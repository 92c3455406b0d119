"""The task of classification: how it is read, what is minimised, how it is tested."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.data.augmentation import mixup, photometric
from inception_jax.data.normalization import normalize
from inception_jax.data.read_ahead import BufferPool, HostBatch
from inception_jax.data.sources import Source, open_source
from inception_jax.models.googlenet import Outputs
from inception_jax.models.network import Network, Tree
from inception_jax.tasks.base import Evaluator, Inputs, Metrics, Task
from inception_jax.tasks.classification import metrics
from inception_jax.tasks.classification.losses import total_loss
from inception_jax.tasks.classification.predictor import Predictor, tally
from inception_jax.tasks.classification.training_batches import read_training_batch


class Classification(Task):
    """The task of one class for each image: cross entropy (section 5), top-1 and top-5."""

    primary_metric = metrics.PRIMARY
    metric_names = metrics.SHOWN

    def open(self, split: str) -> Source:
        return open_source(self.config.data, split, self.config.model.num_classes)

    def buffers(self, rows: int) -> BufferPool:
        size = self.config.data.image_size
        return BufferPool((rows, size, size, 3))

    def read(self, source: Source, step: int, part: slice, buffers: Any = None) -> HostBatch:
        return read_training_batch(source, self.config.data, self.config.seed, step, part, buffers)

    def prepare(self, batch: Mapping[str, Any], key: jax.Array) -> Inputs:
        """Distorts colours, normalises and, if asked for, mixes pairs of images."""
        config = self.config
        images = photometric.distort(
            batch["image"], batch["epoch"], batch["index"], config.seed, config.photometric
        )
        images = normalize(images, config.data.mean, config.data.std)
        inputs = {"image": images, "label": batch["label"]}
        if not config.training.mixup:
            return inputs
        share = mixup.sample_lambda(key, config.training.mixup)
        return inputs | {
            "image": mixup.mix(share, images, mixup.reverse_batch(images)),
            "second_label": mixup.reverse_batch(batch["label"]),
            "lambda": share,
        }

    def loss(self, outputs: Outputs, inputs: Inputs) -> tuple[jax.Array, Metrics]:
        """Adds up the losses of the heads.

        `top1` and `top5` are those before the update; with mixup, of the first of two images,
        whatever its share.
        """
        training = self.config.training

        def loss_for(labels: jax.Array) -> jax.Array:
            return total_loss(outputs, labels, training.auxiliary_weight, training.label_smoothing)

        loss = loss_for(inputs["label"])
        if "lambda" in inputs:
            loss = mixup.mix(inputs["lambda"], loss, loss_for(inputs["second_label"]))
        right = {k: metrics.hits(outputs.logits, inputs["label"], k) for k in (1, 5)}
        return loss, {f"top{k}": jnp.mean(of, dtype=jnp.float32) for k, of in right.items()}

    def evaluator(self, network: Network, evaluation: ConfigDict, mesh: Mesh) -> Evaluator:
        """Opens a test on every example of the split once: see `metrics.Tally`."""
        source = self.open(evaluation.split)
        config = self.config.copy_and_resolve_references().unlock()
        config.evaluation = evaluation
        predictor = Predictor([(network, config)], mesh, crops=evaluation.crops)
        classes = np.arange(predictor.num_classes)

        def run(params: Tree, batch_stats: Tree) -> Metrics:
            with predictor.predict([(params, batch_stats)], source, classes) as predictions:
                (one,) = tally(predictions, predictor)
            return one.summary()

        return Evaluator(run, source.fingerprint)

    def description(self, source: Source) -> dict[str, Any]:
        return {"class_names": list(source.class_names)}

    def check_description(self, description: Mapping[str, Any]) -> None:
        names, count = description["class_names"], self.config.model.num_classes
        if len(names) != count:
            raise DamagedCheckpointError(
                f"it has names of {len(names)} classes and {count} classes"
            )

    def titles(self, source: Source, batch: Mapping[str, Any]) -> Sequence[str]:
        pairs = zip(batch["label"], batch["index"], strict=True)
        return [f"{source.class_names[label]}\n({index})" for label, index in pairs]
