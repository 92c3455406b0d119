"""A trained network as a folder that the Hugging Face Hub takes: arrays, configs and a model card.

  model.safetensors         all arrays, bit for bit, under the names they have in the checkpoint:
                            `params/inception_3a/3x3_reduce/kernel`, `batch_stats/...`
  config.json               the architecture, class names both ways, and our resolved config
  preprocessor_config.json  from an image file to the network's input
  README.md                 the model card

Nested dictionaries come back with flax.traverse_util.unflatten_dict(arrays, sep="/").
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.tools.interop import model_card
from inception_jax.tools.interop.metadata import ARCHITECTURES, model_metadata

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
MODEL_CARD = "README.md"

# Pillow's numbers: its box filter averages areas, its bilinear one is smoothed where it shrinks.
_RESAMPLING = {"area": 4, "bilinear": 2}


def write(model: LoadedModel, folder: Path) -> None:
    """Makes the folder and writes its four files."""
    folder.mkdir()
    tree = flatten_dict({"params": model.params, "batch_stats": model.batch_stats}, sep="/")
    arrays = {name: np.asarray(array) for name, array in tree.items()}
    # Not save_file: only its owner could read the file that makes.
    (folder / WEIGHTS).write_bytes(save(arrays, metadata={"format": "flax"}))
    for name, content in [(CONFIG, config(model)), (PREPROCESSOR, preprocessor_config(model))]:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    (folder / MODEL_CARD).write_text(model_card.write(model), encoding="utf-8")


def config(model: LoadedModel) -> dict[str, Any]:
    """The content of `config.json`: GoogLeNetConfig, and our metadata under `inception_jax`.

    Where two classes have the same name, `label2id` has the number of the first.
    """
    own = model_metadata(model)
    names = own.pop("class_names")
    return {
        "architectures": [ARCHITECTURES[model.network.config.architecture].name],
        "model_type": "inception_jax",
        "num_channels": 3,
        **dataclasses.asdict(model.network.config),
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: names.index(name) for name in names},
        "inception_jax": own,
    }


def preprocessor_config(model: LoadedModel) -> dict[str, Any]:
    """The content of `preprocessor_config.json`, for transformers' CLIPImageProcessor.

    This processor resizes, crops the centre, multiplies by 1/255 and normalises. Its output has
    channels first; our networks take channels last.
    """
    data, evaluation = model.config.data, model.config.evaluation
    side, size = evaluation.short_side, data.image_size
    squeezed = evaluation.resize == "squeeze"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side} if squeezed else {"shortest_edge": side},
        "resample": _RESAMPLING[evaluation.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean / 255 for mean in data.mean],
        "image_std": [std / 255 for std in data.std],
    }
