"""Top-k accuracy of a training step, and all metrics of an evaluation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError

# Ranks checkpoints: the best are kept. Higher is better.
PRIMARY = "top1"

# The metrics that a line of the log shows, by what people call them.
SHOWN = {"top1": "top-1", "top5": "top-5", "loss": "loss"}

BINS = 15  # of confidence, for the calibration error (Guo et al. 2017, arXiv 1706.04599)
CONFUSIONS = 20  # most frequent pairs that a result names

_NO_RANK = np.iinfo(np.int64).max  # of the label, where there is no answer: never among the first k


def hits(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Tells where the label is among the k largest logits, bool [batch].

    Among equal logits the lower class number comes first; a row with a non-finite logit never hits.
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
    classes = jnp.arange(logits.shape[1])[None, :]
    ahead = (logits > chosen) | ((logits == chosen) & (classes < labels[:, None]))
    return (jnp.sum(ahead, axis=1) < k) & jnp.all(jnp.isfinite(logits), axis=1)


@dataclasses.dataclass
class Tally:
    """Counts examples one by one, so that batches of any size give the same result.

    An example may have several labels: the best-ranked one counts. One without labels is left out.
    """

    choices: int  # classes among which the network chooses
    _rows: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, log_probabilities: np.ndarray, labels: np.ndarray, bad: np.ndarray) -> None:
        """Counts a batch.

        Args:
          log_probabilities: float [batch, classes]; -inf for classes that cannot be chosen.
          labels: bool [batch, classes].
          bad: bool [batch], there was no image: a wrong answer, with the loss of knowing nothing.
        """
        known = labels.any(axis=1)
        scores, labels, bad = log_probabilities[known], labels[known], bad[known]
        rows = np.arange(len(scores))
        least = np.finfo(scores.dtype).min  # above -inf: a label is chosen whatever its score
        label = np.argmax(np.where(labels, np.nan_to_num(scores, nan=least), -np.inf), axis=1)
        best = scores[rows, label]
        usable = np.isfinite(best) & ~np.isnan(scores).any(axis=1) & ~bad
        ahead = scores > best[:, None]
        ahead |= (scores == best[:, None]) & (np.arange(scores.shape[1]) < label[:, None])
        confidence = np.exp(scores.max(axis=1).astype(np.float64))
        self._rows.append(
            {
                "label": label,
                "prediction": np.where(usable, np.argmax(scores, axis=1), -1),
                "rank": np.where(usable, ahead.sum(axis=1), _NO_RANK),
                "loss": np.where(bad, np.log(self.choices), -best.astype(np.float64)),
                "confidence": np.where(usable, confidence, 0),
                "bad": bad,
            }
        )

    def summary(self) -> dict[str, Any]:
        """Returns `top1`, `top5`, `calibration_error` (0..1), `loss` (nats), and numbers of images.

        `examples` were tested; `bad_images` of them were unreadable and counted as wrong.

        Raises:
          UserError: there is no example with a label.
        """
        ranks, confidence = self._all("rank"), self._all("confidence")
        if not (examples := len(ranks)):
            raise UserError("no example has a label: there is nothing to count")
        return {
            "top1": int(np.count_nonzero(ranks == 0)) / examples,
            "top5": int(np.count_nonzero(ranks < 5)) / examples,
            "loss": float(np.sum(self._all("loss")) / examples),
            "calibration_error": calibration_error(confidence, ranks == 0),
            "examples": examples,
            "bad_images": int(np.count_nonzero(self._all("bad"))),
        }

    def of_each_class(self) -> list[dict[str, Any]]:
        """Lists `label`, `examples` and `top1` of each class that has examples."""
        labels = self._all("label")
        examples, right = np.bincount(labels), np.bincount(labels, self._all("rank") == 0)
        return [
            {"label": int(c), "examples": int(examples[c]), "top1": float(right[c] / examples[c])}
            for c in np.flatnonzero(examples)
        ]

    def confusions(self) -> list[dict[str, int]]:
        """Lists the most frequent wrong predictions: `label`, `prediction`, `examples`."""
        labels, predictions = self._all("label"), self._all("prediction")
        wrong = (self._all("rank") > 0) & (predictions >= 0)
        pairs, counts = np.unique(
            np.stack([labels[wrong], predictions[wrong]], axis=1), axis=0, return_counts=True
        )
        most = np.argsort(-counts, kind="stable")[:CONFUSIONS]
        return [
            {"label": int(pairs[i, 0]), "prediction": int(pairs[i, 1]), "examples": int(counts[i])}
            for i in most
        ]

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate([rows[name] for rows in self._rows])


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error, over BINS equal bins of confidence.

    It is the mean of |accuracy - mean confidence| of the bins, weighted by their examples.

    Args:
      confidence: float [examples], probability of the predicted class; bins are (0, 1/15], ...
      right: bool [examples], whether it is the right one.
    """
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)
    gaps = np.bincount(bins, right, BINS) - np.bincount(bins, confidence, BINS)
    return float(np.sum(np.abs(gaps)) / len(right))
