"""Metadata of exported networks: where they are from, classes, preprocessing, config."""

from pathlib import Path
from typing import Any, NamedTuple

import inception_jax
from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.config import compatibility


class Architecture(NamedTuple):
    """An architecture's name in programs, its title in texts, its citation in Markdown."""

    name: str
    title: str
    citation: str


ARCHITECTURES = {
    "googlenet": Architecture(
        "GoogLeNet",
        "GoogLeNet (Inception v1)",
        "Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015, "
        "[arXiv 1409.4842](https://arxiv.org/abs/1409.4842).",
    ),
    "shallow": Architecture(
        "ShallowGoogLeNet",
        "GoogLeNet with one Inception module at each resolution",
        "An ablation of Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015, "
        "[arXiv 1409.4842](https://arxiv.org/abs/1409.4842).",
    ),
    "bn_inception": Architecture(
        "BNInception",
        "BN-Inception (Inception v2)",
        "Ioffe and Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing "
        "Internal Covariate Shift*, ICML 2015, "
        "[arXiv 1502.03167](https://arxiv.org/abs/1502.03167).",
    ),
}


def model_metadata(model: LoadedModel) -> dict[str, Any]:
    """Returns the metadata as JSON: origin of the weights, classes, preprocessing, config.

    `preprocessing` makes a uint8 RGB image of `image_size` pixels, square, as evaluations do: the
    image is resized so that its shorter side has `short_side` pixels (`resize` = short_side) or to
    a square of that side (squeeze), and the centre is cut out. `mean` and `std` are those of
    (image - mean) / std, in 0..255.
    """
    data, evaluation = model.config.data, model.config.evaluation
    return {
        "producer": f"inception_jax {inception_jax.__version__}",
        "checkpoint_step": model.step,
        "weights": model.weights,
        "class_names": list(model.class_names),
        "image_size": data.image_size,
        "preprocessing": {
            "resize": evaluation.resize,
            "short_side": evaluation.short_side,
            "interpolation": evaluation.interpolation,
            "crop": "center",
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "config": portable_config(model),
    }


def portable_config(model: LoadedModel) -> dict[str, Any]:
    """The resolved config as JSON, without paths of this machine."""
    config = compatibility.to_dict(model.config)
    config["data"]["data_dir"] = Path(config["data"]["data_dir"]).name
    config["model"]["init_from"] = "/".join(Path(config["model"]["init_from"]).parts[-3:])
    return config
