"""Pictures of a network against its weights and against the plain computation."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Command

from inception_jax.checkpoints import loaded_model
from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.errors import UsageError
from inception_jax.models.bn_inception import MODULES
from inception_jax.models.tables import InceptionRow
from inception_jax.runtime import devices
from inception_jax.tools.features import maximization, tiles
from inception_jax.tools.features.activations import branch_maps
from inception_jax.tools.features.filters import first_filters
from inception_jax.tools.features.maximization import STEPS, STEPS_AT_ONCE, Unit, maximize
from inception_jax.tools.features.occlusion import COVER, PLACES, occlude


@pytest.fixture(scope="module")
def model(digits_run: Path) -> LoadedModel:
    """A network that knows digits a little."""
    (checkpoint,) = (digits_run / "checkpoints").iterdir()
    return loaded_model.load(checkpoint, devices.make_mesh())


@pytest.fixture(scope="module")
def image(model: LoadedModel) -> np.ndarray:
    """Something like a digit: a bright bar."""
    size = model.config.data.image_size
    image = np.zeros((size, size, 3), np.uint8)
    image[2:-2, size // 2 - 2 : size // 2 + 1] = 230
    return image


def probabilities(model: LoadedModel, normalized: np.ndarray) -> np.ndarray:
    """Probabilities of normalised images [images, size, size, 3]."""

    @jax.jit
    def compute(params, batch_stats, images):
        outputs, _ = model.network.apply(params, batch_stats, images, train=False)
        return jax.nn.softmax(outputs.logits)

    return np.asarray(compute(model.params, model.batch_stats, normalized))


def normalized(model: LoadedModel, image: np.ndarray) -> np.ndarray:
    data = model.config.data
    return (image.astype(np.float32) - np.float32(data.mean)) / np.float32(data.std)


def test_filters_are_the_first_layers_weights(model: LoadedModel):
    kernel = np.asarray(model.params["conv1"]["3x3"]["kernel"])
    pictures = first_filters(model.network, model.params)
    assert len(pictures) == kernel.shape[-1]
    for number, picture in enumerate(pictures):
        weights = kernel[..., number]
        np.testing.assert_allclose(
            picture / 127.5 - 1, weights / np.abs(weights).max(), atol=1 / 127
        )


def test_maps_are_those_of_the_branches(model: LoadedModel, image: np.ndarray):
    """Without the weights of one branch, only its maps are gone; together they are the output."""
    found = {branch.branch: branch for branch in branch_maps(model, "inception_4a", image)}
    assert list(found) == ["1x1", "3x3", "5x5", "pool_proj"]
    together = np.concatenate([branch.numbers for branch in found.values()])
    assert sorted(together) == list(range(len(together)))
    for branch in found.values():
        strongest = branch.maps.max(axis=(1, 2))
        assert list(strongest) == sorted(strongest, reverse=True)
    params = jax.tree.map(lambda leaf: leaf, model.params)  # dictionaries of its own
    unit = params["inception_4a"]["5x5"]
    unit["kernel"] = jnp.zeros_like(unit["kernel"])
    unit["norm"] = jax.tree.map(jnp.zeros_like, unit["norm"])
    without = branch_maps(dataclasses.replace(model, params=params), "inception_4a", image)
    for branch in without:
        if branch.branch == "5x5":
            assert not branch.maps.any()
        else:
            np.testing.assert_array_equal(branch.maps, found[branch.branch].maps)
    with pytest.raises(UsageError, match="no module 'inception_6a'; there are inception_3a, "):
        branch_maps(model, "inception_6a", image)


def test_branches_have_their_channels():
    row = InceptionRow("inception_3a", 64, 96, 128, 16, 32, 32)
    reduced = {"1x1": (0, 64), "3x3": (64, 192), "5x5": (192, 224), "pool_proj": (224, 256)}
    naive = {"1x1": (0, 64), "3x3": (64, 192), "5x5": (192, 224), "pool": (224, 416)}
    strided = {"3x3": (0, 160), "double_3x3_2": (160, 256), "pool": (256, 576)}
    for module, total, expected in (
        (row.reduced(5), 256, reduced), (row.naive(5), 416, naive),
        (MODULES[2].module(), 576, strided),
    ):  # fmt: skip
        found = module.channels(total)
        assert {name: (part.start, part.stop) for name, part in found.items()} == expected


def test_occlusion_is_what_covering_by_hand_gives(model: LoadedModel, image: np.ndarray):
    found = occlude(model, image)
    plain = normalized(model, image)
    size = len(image)
    cover = round(size / COVER)
    starts = [round(place * (size - cover) / (PLACES - 1)) for place in range(PLACES)]
    places = [(0, 0), (3, 7), (PLACES - 1, PLACES - 1)]
    covered = np.stack([plain] * len(places))
    for one, (row, column) in zip(covered, places, strict=True):
        one[starts[row] : starts[row] + cover, starts[column] : starts[column] + cover] = 0
    whole, *parts = probabilities(model, np.stack([plain, *covered]))
    assert found.label == whole.argmax()
    assert found.probability == pytest.approx(whole.max(), rel=1e-5)
    drops = [np.log(whole[found.label] / part[found.label]) for part in parts]
    for place, drop in zip(places, drops, strict=True):
        assert found.drop[place] == pytest.approx(drop, rel=1e-3, abs=1e-4)
    assert found.drop.max() > 0.01  # it depends on something


def test_ascent_finds_what_excites_a_unit(model: LoadedModel, image: np.ndarray):
    units = [Unit("inception_5a", 0), Unit("inception_5a", 20)] * 8  # as many as in a report
    found = list(maximize(model, units))
    assert len(found) == STEPS // STEPS_AT_ONCE
    activations = jax.jit(functools.partial(model.network.activations, name="inception_5a"))
    noise = np.random.default_rng(0).uniform(0, 255, found[-1].shape).astype(np.uint8)

    def excitement(images: np.ndarray) -> np.ndarray:
        output = activations(model.params, model.batch_stats, normalized(model, images))
        mean = np.asarray(output).mean(axis=(1, 2))
        return mean[np.arange(len(units)), [unit.channel for unit in units]]

    best = excitement(found[-1])
    # How much more depends on the training, which differs from machine to machine.
    assert np.all(best > excitement(noise))
    assert np.all(best > excitement(np.stack([image] * len(units))))
    assert np.all(best > excitement(found[0]))
    *_, of_classes = maximize(model, [Unit("", label) for label in range(8)])
    assert np.all(probabilities(model, normalized(model, of_classes)).diagonal() > 0.5)


def test_tiles_keep_pixels_and_rows():
    images = [np.full((2, 3, 3), number, np.uint8) for number in range(5)]
    sheet = tiles.tile(images, columns=4, width=6)
    assert sheet.shape == (4 + 2 + 4, 4 * 6 + 3 * 2, 3)
    assert set(np.unique(sheet[:4, 8:14])) == {1}
    assert set(np.unique(sheet[6:, :6])) == {4}
    assert set(np.unique(sheet[6:, 6:])) == {255}
    colors = tiles.heat(np.array([[0.0, 1.0, 2.0]]), 0, 2)
    brightness = colors.sum(axis=-1)[0]
    assert brightness[0] < brightness[1] < brightness[2]


def test_the_report_has_all_pictures_of_a_checkpoint(
    command: Command,
    digits_run: Path,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(maximization, "STEPS", STEPS_AT_ONCE)  # pictures, however good
    (checkpoint,) = (digits_run / "checkpoints").iterdir()
    images = sorted((data_dir / "digits_samples").iterdir())[:2]
    output = tmp_path / "features.html"
    command("report", "--checkpoint", checkpoint, "--features", "--module", "inception_5a",
            "--images", *images, "--output", output)  # fmt: skip
    text = output.read_text()
    for heading in ("First filters", "Activations in inception_5a", "What answers depend on",
                    "Favourite images"):  # fmt: skip
        assert f">{heading}</h2>" in text
    assert text.count("<img ") == 1 + 5 + 2 + 5
    assert images[1].name in text
    message = command.fails("report", "--checkpoint", checkpoint, "--module", "inception_6a",
                            "--output", output, exit_code=2)  # fmt: skip
    assert "no module 'inception_6a'" in message
