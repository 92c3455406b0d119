"""How networks are tested: what they are shown, how answers are averaged, what classes mean.

The networks are matrices here; real ones are in test_evaluate.py and test_predict.py.
"""

import dataclasses
import functools
import itertools
import types
from typing import Any, cast

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from written_out import OF_144, averaged, cut

from inception_jax.config.load import load_config
from inception_jax.data.sources import Example
from inception_jax.errors import UserError
from inception_jax.models.googlenet import Outputs
from inception_jax.runtime import devices
from inception_jax.tasks.classification import labels
from inception_jax.tasks.classification.averaging import Combination, combine
from inception_jax.tasks.classification.crop_logits import CropBatching
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS
from inception_jax.tasks.classification.predictor import Predictor, tally

CLASSES = 4


@pytest.mark.parametrize("device_count", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("crops", [1, 10, 144])
def test_crops_are_dealt_out_to_full_batches(crops, device_count):
    for batch_size in range(1, 300):
        share = CropBatching.fit(batch_size, crops, device_count)
        assert crops % share.crops == 0
        assert share.images > 0
        assert share.images % device_count == 0
        rounded_up = batch_size + -batch_size % device_count
        assert 0.9 * rounded_up <= share.images * share.crops <= rounded_up
        for more in range(share.crops + 1, crops + 1):  # would waste more than a tenth
            images = rounded_up // more // device_count * device_count
            assert crops % more or images * more < 0.9 * rounded_up


def test_shares_of_usual_batches():
    assert CropBatching.fit(64, 1, 1) == CropBatching(64, 1)
    assert CropBatching.fit(64, 10, 1) == CropBatching(6, 10)
    assert CropBatching.fit(1440, 144, 1) == CropBatching(10, 144)
    assert CropBatching.fit(64, 144, 1) == CropBatching(4, 16)
    assert CropBatching.fit(5, 1, 4) == CropBatching(8, 1)


@pytest.mark.parametrize("average", ["probabilities", "max"])
def test_combinations_equal_numpy(average):
    """Of three networks, one of them sure of itself, and one class that cannot be chosen."""
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(5, 144, 7)).astype(np.float32) * scale for scale in (1, 5, 60)]
    for one in logits:
        one[..., 2] = -np.inf
    combinations = [
        Combination(networks, crops)
        for networks in ((0,), (2,), (0, 1, 2))
        for crops in (1, 10, 144)
    ]
    combined = functools.partial(
        combine, combinations=combinations, crops=144, average=average
    )  # fmt: skip
    found = jax.jit(combined)([jnp.asarray(one) for one in logits])
    assert found.shape == (9, 5, 7)
    for (networks, crops), one in zip(combinations, found, strict=True):
        expected = averaged([logits[n][:, OF_144[crops]] for n in networks], average)
        np.testing.assert_allclose(np.exp(np.float64(one)), expected, rtol=2e-5, atol=1e-12)
        assert np.all(np.asarray(one)[:, 2] == -np.inf)


def test_an_answer_that_is_no_number_stays_none():
    logits = np.zeros((2, 10, 3), np.float32)
    logits[1, 4, 0] = np.nan
    for average in ("probabilities", "max"):
        combined = functools.partial(
            combine, combinations=[Combination((0,), 10)], crops=10, average=average
        )
        found = jax.jit(combined)([jnp.asarray(logits)])
        assert np.isnan(found).all(axis=2).tolist() == [[False, True]]


@dataclasses.dataclass(frozen=True)
class MatrixConfig:
    """What is asked of a network's config."""

    num_classes: int


class Matrix:
    """A network: the pixels times `params`."""

    config = MatrixConfig(CLASSES)

    def apply(self, params, batch_stats, images, *, train):
        assert not train
        return Outputs(images.reshape(images.shape[0], -1) @ params, ()), batch_stats


class Images:
    """A source: images in memory."""

    class_names = tuple("abcd")
    fingerprint = ""

    def __init__(self, examples: list[Example]):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def read(self, indices) -> list[Example]:
        return [self._examples[index] for index in indices]


SIZES = [(16, 16), (23, 40), (40, 23), (3, 5), (120, 16), (64, 64), (18, 31)]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def source_of(images: list[np.ndarray], **changes: Any) -> Images:
    examples = [
        Example(cv2.imencode(".png", image[..., ::-1])[1].tobytes(), (n % CLASSES,), f"image {n}")
        for n, image in enumerate(images)
    ]
    examples[2] = dataclasses.replace(examples[2], **changes)
    return Images(examples)


def config_of(size: int, mean: float, std: float, resize: str, **data: Any):
    config = load_config("configs/smoke.py")
    config.data.update(image_size=size, mean=(mean,) * 3, std=(std,) * 3, threads=2, **data)
    config.evaluation.update(short_side=16, resize=resize)
    return config


# Image size, mean, standard deviation, resize: two networks that are shown different things.
SHOWN = [(14, 127.5, 127.5, "short_side"), (8, 100.0, 50.0, "squeeze")]


@pytest.fixture(scope="module")
def matrices() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(size**2 * 3, CLASSES)).astype("f4") / 20 for size, *_ in SHOWN]


@pytest.fixture(scope="module")
def expected(images, matrices) -> np.ndarray:
    """Logits in float64, one crop at a time, [images, networks, 144, classes]."""
    return np.array(
        [
            [
                [((crop - mean) / std).reshape(-1) @ np.float64(matrix) for crop in crops]
                for matrix, (size, mean, std, resize) in zip(matrices, SHOWN, strict=True)
                for crops in [cut(image, size, 16, resize).astype(np.float64)]
            ]
            for image in images
        ]
    )


def protocol_of(*, batch_size: int = 16, bad_images: str = "error", **options: Any) -> Predictor:
    networks = []
    for shown in SHOWN:
        config = config_of(*shown, batch_size=batch_size)
        config.evaluation.bad_images = bad_images
        networks.append((cast(Any, Matrix()), config))
    return Predictor(networks, devices.make_mesh(), **options)


@pytest.mark.parametrize("batch_size", [1, 50, 400])
def test_every_crop_is_answered_as_if_it_were_alone(images, matrices, expected, batch_size):
    predictor = protocol_of(
        batch_size=batch_size,
        crops=144,
        combinations=[Combination((1,), 10), Combination((0, 1), 144)],
    )
    weights: list[Any] = [(matrix, {}) for matrix in matrices]
    with predictor.predict(
        weights, source_of(images), np.arange(4), keep_logits=True
    ) as predictions:
        found = list(predictions)
    assert len(found) == predictor.batches(len(images))
    assert np.concatenate([one.index for one in found]).tolist() == list(range(len(images)))
    logits = np.concatenate([cast(np.ndarray, one.logits) for one in found])
    assert logits.shape == (len(images), 2, 144, CLASSES)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    probabilities = np.exp(np.concatenate([one.log_probabilities for one in found], axis=1))
    ten = averaged([expected[:, 1, OF_144[10]]], "probabilities")
    np.testing.assert_allclose(probabilities[0], ten, rtol=1e-4)
    both = averaged([expected[:, 0], expected[:, 1]], "probabilities")
    np.testing.assert_allclose(probabilities[1], both, rtol=1e-4)


def test_a_network_chooses_among_the_allowed_classes_alone(images, matrices, expected):
    allowed = np.array([True, False, True, False])
    predictor = protocol_of(allowed=allowed)
    weights: list[Any] = [(matrix, {}) for matrix in matrices]
    source = source_of(images, labels=(0, 2))
    with predictor.predict(weights, source, np.array([2, 2, 0, 0])) as predictions:
        (tallied,) = tally(predictions, predictor)
    chosen = expected[:, :, OF_144[1]][..., [2, 0]]  # the labels 0 and 1 of the source, 2 and 3
    right = averaged([chosen[:, 0], chosen[:, 1]], "probabilities")
    truth = np.array([n % CLASSES // 2 for n in range(len(images))])
    hits = right.argmax(axis=1) == truth
    hits[2] = True  # it has both labels
    summary = tallied.summary()
    assert summary["top1"] == hits.mean()
    losses = -np.log(right[np.arange(len(images)), truth])
    losses[2] = -np.log(right[2].max())
    assert summary["loss"] == pytest.approx(losses.mean(), rel=1e-4)


def test_a_bad_image_ends_it_or_counts_as_wrong(images, matrices):
    weights: list[Any] = [(matrix, {}) for matrix in matrices]
    source, classes = source_of(images, encoded=b"junk"), np.arange(CLASSES)
    with (
        pytest.raises(UserError, match="image 2 is not a readable image"),
        protocol_of(batch_size=2).predict(weights, source, classes) as predictions,
    ):
        list(predictions)
    summaries = []
    for crops, batch_size in itertools.product((1, 10), (2, 64)):
        predictor = protocol_of(batch_size=batch_size, bad_images="wrong", crops=crops)
        with predictor.predict(weights, source, classes) as predictions:
            (tallied,) = tally(predictions, predictor)
        summaries.append(tallied.summary())
        assert summaries[-1]["bad_images"] == 1
        assert summaries[-1]["examples"] == len(images)
    assert summaries[0]["top1"] == summaries[1]["top1"]


def named(*names: str) -> Any:
    return types.SimpleNamespace(class_names=names)


def data_named(name: str):
    data = load_config("configs/smoke.py").data
    data.name = name
    return data


def test_classes_are_matched_by_their_names():
    data, network = data_named("pets"), ("ant", "bee", "cat", "dog")
    same = labels.match(data, "test", named(*network), network)
    assert (same.classes.tolist(), same.allowed.tolist()) == ([0, 1, 2, 3], [True] * 4)
    other_order = labels.match(data, "test", named("bee", "dog", "ant", "cat"), network)
    assert other_order.classes.tolist() == [1, 3, 0, 2]
    some = labels.match(data, "test", named("dog", "bee"), network)
    assert (some.classes.tolist(), some.allowed.tolist()) == ([3, 1], [False, True, False, True])


def test_data_with_other_class_names_is_refused():
    data, network = data_named("pets"), ("ant", "bee", "cat")
    with pytest.raises(UserError, match="class 1 is 'bug' in the data and 'bee' in the checkpoint"):
        labels.match(data, "test", named("ant", "bug", "cat"), network)
    with pytest.raises(UserError, match="the checkpoint has no class 'bug', which pets has"):
        labels.match(data, "test", named("cat", "bug"), network)
    with pytest.raises(UserError, match="several classes are called 'crane'"):
        labels.match(data, "test", named("crane", "ant"), ("ant", "crane", "crane"))


def test_protocols_have_as_many_crops_as_they_say():
    assert {count: protocol.count for count, protocol in PROTOCOLS.items()} == {
        1: 1,
        10: 10,
        144: 144,
    }
