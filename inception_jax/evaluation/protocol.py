"""How a network is tested on a split. One crop for now: the centre."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.normalization import normalize
from inception_jax.data.pipeline import evaluation_batches
from inception_jax.data.sources import Source
from inception_jax.distributed.devices import replicated
from inception_jax.evaluation.metrics import batch_sums
from inception_jax.models.network import Network

Logits = Callable[[Any, Any, jax.Array], jax.Array]


def make_logits(network: Network, data: ConfigDict, mesh: Mesh) -> Logits:
    """Returns the jitted (params, batch_stats, uint8 images) -> float32 logits [batch, classes]."""

    @functools.partial(jax.jit, out_shardings=replicated(mesh))
    def logits(params, batch_stats, images):
        images = normalize(images, data.mean, data.std)
        return network.apply(params, batch_stats, images, train=False)[0].logits

    return logits


def make_evaluate(
    network: Network, config: ConfigDict, source: Source, mesh: Mesh
) -> Callable[..., dict[str, Any]]:
    """Returns `evaluate(params, batch_stats, progress=None)`, compiled once.

    It gives `top1`, `top5` (accuracies in 0..1), `loss` (nats an example), `examples` and
    `bad_images` (unreadable ones, counted as wrong); each example of `source` counts exactly once.
    `progress` is called with the examples done so far.
    """
    data = config.data
    compute_logits = make_logits(network, data, mesh)

    @functools.partial(jax.jit, out_shardings=replicated(mesh))
    def sums(params, batch_stats, batch):
        logits = compute_logits(params, batch_stats, batch["image"])
        return batch_sums(logits, batch["label"], batch["mask"], batch["bad"])

    def evaluate(
        params: Any, batch_stats: Any, progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        totals = {"loss": 0.0, "top1": 0, "top5": 0, "examples": 0, "bad_images": 0}
        with evaluation_batches(source, data, config.evaluation, mesh) as batches:
            ahead = None  # one batch computes while the sums of the one before are read
            for batch in batches:
                current = sums(params, batch_stats, batch)
                if ahead is not None:
                    _add(totals, ahead, progress)
                ahead = current
            _add(totals, ahead, progress)
        examples = totals["examples"]
        return {
            "top1": totals["top1"] / examples,
            "top5": totals["top5"] / examples,
            "loss": totals["loss"] / examples,
            "examples": examples,
            "bad_images": totals["bad_images"],
        }

    return evaluate


def _add(totals: dict[str, Any], batch: Any, progress: Callable[[int], None] | None) -> None:
    for name, value in jax.device_get(batch).items():
        totals[name] += value.item()  # in Python's float64 and unbounded integers
    if progress is not None:
        progress(totals["examples"])
