"""Pictures of a network for the report."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.decode import decode
from inception_jax.data.sources import FileSource, Source, open_source, spread
from inception_jax.runtime import progress
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS, Geometry
from inception_jax.tools.features import tiles
from inception_jax.tools.features.activations import branch_maps
from inception_jax.tools.features.filters import first_filters
from inception_jax.tools.features.maximization import STEPS, STEPS_AT_ONCE, Unit, maximize
from inception_jax.tools.features.occlusion import COVER, occlude
from inception_jax.tools.report.page import Gallery, Picture

IMAGES = 4  # test images to show if no files are named
MAPS = 16  # the most that are shown of a branch
CHANNELS = 4  # of each branch: their favourite images are sought
CLASSES = 8  # the first ones: their favourite images are sought
_PICTURE = 224  # approximate width of an image in pixels


class Shown(NamedTuple):
    """An image as the network sees it, uint8 [size, size, 3], and its name."""

    image: np.ndarray
    name: str


def shown_images(model: LoadedModel, paths: Sequence[Path]) -> list[Shown]:
    """Reads the central crop of these files, or of IMAGES test images if there are no paths.

    Raises:
      UserError: the data does not exist, or an image cannot be read.
    """
    if paths:
        source: Source = FileSource(paths)
        chosen = range(len(paths))
    else:
        config = model.config
        source = open_source(config.data, config.evaluation.split, len(model.class_names))
        chosen = spread(len(source))
        chosen = chosen[:: max(1, len(chosen) // IMAGES)][:IMAGES]
    geometry = Geometry.from_config(model.config)
    found = []
    for example in source.read(chosen):
        image = np.empty((1, geometry.size, geometry.size, 3), np.uint8)
        geometry.cut(decode(example.encoded, example.name), PROTOCOLS[1].crops, image)
        labels = ", ".join(model.class_names[label] for label in example.labels)
        name = Path(example.name).name if paths else example.name
        found.append(Shown(image[0], f"{name}, {labels}" if labels else name))
    return found


def filters(model: LoadedModel) -> Gallery:
    """Shows the filters of the first layer."""
    sheet = tiles.tile(first_filters(model.network, model.params), columns=16, width=40)
    name = model.network.config.rows()[0].name
    return Gallery(
        "First filters",
        "Gray is 0; each filter is scaled by its largest weight. Red, green and blue are the "
        "three input channels.",
        (Picture(tiles.png(sheet), f"{name} of {model.checkpoint}"),),
    )


def activations(model: LoadedModel, module: str, shown: Shown) -> Gallery:
    """Shows the activations of each branch of a module for an image."""
    image = tiles.tile([shown.image], width=_PICTURE)
    pictures = [Picture(tiles.png(image), shown.name)]
    for branch in branch_maps(model, module, shown.image):
        most = float(branch.maps.max())
        maps = [tiles.heat(one, 0, most) for one in branch.maps[:MAPS]]
        numbers = ", ".join(map(str, branch.numbers[:MAPS]))
        caption = (
            f"{branch.branch}: channels {numbers} of {module}, the most active of "
            f"{len(branch.maps)}; yellow is {most:.3g}"
        )
        pictures.append(Picture(tiles.png(tiles.tile(maps, width=64)), caption))
    return Gallery(
        f"Activations in {module}",
        f"The output of each branch for one image, after the ReLU, by {model.checkpoint}: blue is "
        "0, yellow the largest value of the branch.",
        tuple(pictures),
    )


def favorites(model: LoadedModel, module: str, shown: Shown) -> Gallery:
    """Shows images that excite units most: channels that an image excites, and classes."""
    of_branches = {
        f"{module}, {branch.branch}": [
            Unit(module, int(channel)) for channel in branch.numbers[:CHANNELS]
        ]
        for branch in branch_maps(model, module, shown.image)
    }
    channels = [unit for units in of_branches.values() for unit in units]
    classes = [Unit("", label) for label in range(min(CLASSES, len(model.class_names)))]
    images = dict(zip(channels, _maximized(model, channels, f"channels of {module}"), strict=True))
    images |= zip(classes, _maximized(model, classes, "classes"), strict=True)
    pictures = [
        Picture(
            tiles.png(tiles.tile([images[unit] for unit in units])),
            f"{of}: channels {', '.join(str(unit.channel) for unit in units)}",
        )
        for of, units in of_branches.items()
    ]
    names = ", ".join(model.class_names[unit.channel] for unit in classes)
    sheet = tiles.tile([images[unit] for unit in classes])
    pictures.append(Picture(tiles.png(sheet), f"classes: {names}"))
    return Gallery(
        "Favourite images",
        f"Images that excite a unit most, found by {STEPS} steps of gradient ascent from noise. "
        "The solution is not unique. Units with zero gradient at the start stay noise. The "
        "channels are those that the first image excites most in each branch; the classes are the "
        f"first {CLASSES}.",
        tuple(pictures),
    )


def occlusions(model: LoadedModel, images: Sequence[Shown]) -> Gallery:
    """Shows which parts of images the answers depend on."""
    pictures = []
    for shown in progress.track(images, "covering parts of images", len(images)):
        found = occlude(model, shown.image)
        most = max(float(found.drop.max()), 1e-6)
        size = shown.image.shape[:2]
        heat = tiles.heat(tiles.resize(found.drop, *size), 0, most)
        gray = np.repeat(shown.image.mean(axis=2, keepdims=True), 3, axis=2)
        blended = np.round(0.5 * gray + 0.5 * heat).astype(np.uint8)
        sheet = tiles.tile([shown.image, blended], width=_PICTURE)
        caption = (
            f"{shown.name}: taken for {model.class_names[found.label]} ({found.probability:.1%}); "
            f"yellow: if covered, {np.exp(most):,.3g} times less likely"
        )
        pictures.append(Picture(tiles.png(sheet), caption))
    return Gallery(
        "What answers depend on",
        f"A square of the mean colour, 1/{COVER} of the image wide, covers each part in turn: "
        "yellow where the probability of the answer falls most (Zeiler & Fergus 2013).",
        tuple(pictures),
    )


def _maximized(model: LoadedModel, units: Sequence[Unit], what: str) -> list[np.ndarray]:
    better = maximize(model, units)
    shown = progress.track(better, f"seeking images for {what}", STEPS // STEPS_AT_ONCE)
    (best,) = collections.deque(shown, maxlen=1)
    return list(best)
