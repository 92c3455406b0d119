"""The model card: what a network is, how well it was measured, and what not to expect of it.

Only what the checkpoint and the run's results say; where they say nothing, so does the card.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.config import configuration
from inception_jax.models.cost import network_cost
from inception_jax.storage import json_files, workdir
from inception_jax.tools.interop.metadata import ARCHITECTURES, portable_config
from inception_jax.tools.interop.published import CONFIGS

log = logging.getLogger(__name__)

# They do not change what is trained.
_BOOKKEEPING = ("name", "evaluation.every", "training.log_every")

# All that counts of a config that nothing was trained with.
_OF_THE_NETWORK = ("model.", "data.image_size", "data.mean", "data.std", "evaluation.")

_LOADING = """\
import functools
import json
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from inception_jax.config import configuration
from inception_jax.data.normalization import normalize
from inception_jax.models.network import build
from inception_jax.models.options import network_config

values = json.loads(Path("config.json").read_text(encoding="utf-8"))["inception_jax"]["config"]
config = configuration.from_dict(values)
arrays = unflatten_dict(load_file("model.safetensors"), sep="/")

images = np.zeros((1, {size}, {size}, 3), np.uint8)  # RGB, cut as preprocessor_config.json says
pixels = normalize(images, config.data.mean, config.data.std)
apply = jax.jit(functools.partial(build(network_config(config)).apply, train=False))
outputs, _ = apply(arrays["params"], arrays.get("batch_stats", {{}}), pixels)
print(outputs.logits)"""


def write(model: LoadedModel) -> str:
    """The card as Markdown, with front matter in YAML (each value in JSON, which is YAML, too)."""
    results = list(find_results(model))
    front = "".join(
        f"{name}: {json.dumps(json_files.finite(value), ensure_ascii=False)}\n"
        for name, value in _front_matter(model, results).items()
    )
    sections = {
        "Evaluation": _evaluation(results),
        "Training": _training(model),
        "Loading": _loading(model),
        "Limitations": _limitations(model, results),
        "Licence": "The code that made it is under Apache-2.0. Whether the terms of the training "
        "data bind its weights as well is for the user to check.",
        "Citation": ARCHITECTURES[model.network.config.architecture].citation,
    }
    text = "\n\n".join(f"## {title}\n\n{section}" for title, section in sections.items())
    return f"---\n{front}---\n\n# {model.config.name}\n\n{_introduction(model)}\n\n{text}\n"


def find_results(model: LoadedModel) -> Iterator[dict[str, Any]]:
    """What `evaluate` wrote of these very weights alone; unreadable files are named in the log."""
    folder = workdir.of_checkpoint(model.checkpoint) / workdir.RESULTS
    for path in sorted(folder.glob("evaluate_*.json")):
        try:
            result = json.loads(path.read_text())
            # Results of older versions do not say whose they are.
            (digest,) = result["digests"]
            if (digest, result["weights"]) == (model.digest, model.weights):
                yield result
        except (ValueError, KeyError, TypeError):  # an ensemble, or nothing of ours
            log.debug(f"{path} says nothing of {model.checkpoint} alone")


def _front_matter(model: LoadedModel, results: list[dict[str, Any]]) -> dict[str, Any]:
    architecture = model.network.config.architecture
    front: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "jax",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", architecture, "inception", "jax", "flax"],
    }
    if not _is_random(model) and not model.description.get("source"):
        front["datasets"] = [model.config.data.name.split("/")[0]]
    as_configured = [result for result in results if not _changed_settings(result)]
    if as_configured:
        front["metrics"] = ["accuracy"]
        entries = [_model_index_entry(model, result) for result in as_configured]
        front["model-index"] = [{"name": model.config.name, "results": entries}]
    return front


def _model_index_entry(model: LoadedModel, result: dict[str, Any]) -> dict[str, Any]:
    data = _data(model)
    metrics = [
        {
            "type": "accuracy",
            "name": f"{name} accuracy, {_crops(result)}",
            "value": round(result[field], 5),
        }
        for name, field in (("top-1", "top1"), ("top-5", "top5"))
    ]
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": data, "name": data, "split": result["split"]},
        "metrics": metrics,
    }


def _introduction(model: LoadedModel) -> str:
    config = model.network.config
    costs = network_cost(model.network.config)
    title = ARCHITECTURES[config.architecture].title
    heads = (
        f"{costs.parameters:,} parameters, {costs.training_parameters:,} with the auxiliary heads "
        "that only training uses"
        if config.auxiliary
        else f"{costs.parameters:,} parameters, without the auxiliary heads of training"
    )
    normalization = {
        "lrn": "local response normalisation",
        "batch": "batch normalisation",
        "none": "no normalisation",
    }[config.norm]
    return (
        f"{title} with {normalization}, in JAX and Flax. It classifies RGB images of "
        f"{config.image_size}x{config.image_size} pixels into {config.num_classes} classes; "
        f"their names are `id2label` in `config.json`.\n\n"
        f"- {heads}\n"
        f"- {costs.multiply_adds / 1e6:,.1f} M multiply-adds an image, in {costs.convolutions} "
        "convolutions and the linear layers\n"
        f"- computed in {config.dtype}; the arrays are float32"
    )


def _evaluation(results: list[dict[str, Any]]) -> str:
    if not results:
        return "Not evaluated: nothing is known of how accurate these weights are."
    lines = []
    for result in results:
        settings = "".join(f", {setting}" for setting in _changed_settings(result))
        lines.append(
            f"- `{result['split']}`, {_crops(result)}{settings}: top-1 accuracy "
            f"{result['top1']:.4f}, top-5 {result['top5']:.4f}, on {result['examples']:,} images"
        )
        if bad := result.get("bad_images"):
            lines[-1] += f", {bad:,} unreadable ones counted as wrong"
    return "\n".join(lines)


def _training(model: LoadedModel) -> str:
    lines = [_where_from(model)]
    if commit := model.description.get("git_commit"):
        changed = ", with uncommitted changes" if commit.endswith("+") else ""
        lines.append(f"The code was at commit `{commit.removesuffix('+')}`{changed}.")
    versions = ", ".join(
        f"{name} {number}" for name, number in model.description["versions"].items()
    )
    lines.append(f"Versions: {versions}.")
    return f"{' '.join(lines)}\n\n{_changes_to_the_paper(model)}"


def _where_from(model: LoadedModel) -> str:
    if source := model.description.get("source"):
        return f"Converted from {source['format']} weights, and not trained since."
    data, steps = model.config.data, f"{model.step:,} steps of {model.config.data.batch_size:,}"
    on = "random images, which teach nothing" if _is_random(model) else f"images of {data.name}"
    weights = {
        "average": "The weights are the average over training steps (Polyak).",
        "raw": "The weights are those after the last step, without averaging.",
    }[model.weights]
    return f"{steps} {on}. {weights}"


def _changes_to_the_paper(model: LoadedModel) -> str:
    paper = configuration.to_dict(configuration.load(str(CONFIGS / "googlenet.py")))
    counts = _OF_THE_NETWORK if model.description.get("source") else ("",)
    rows = [
        f"| `{field}` | {_cell(of_paper)} | {_cell(here)} |"
        for field, (of_paper, here) in configuration.differences(
            paper, portable_config(model)
        ).items()
        if field not in _BOOKKEEPING
        and not field.startswith("checkpoints.")
        and field.startswith(counts)
    ]
    paper_is = "`configs/googlenet.py`; where the paper is silent, it follows `bvlc_googlenet`"
    if not rows:
        return f"The config is that of the paper ({paper_is}), unchanged."
    heading = f"What differs from the config of the paper ({paper_is}):"
    return "\n".join([heading, "", "| field | paper | here |", "|---|---|---|", *rows])


def _loading(model: LoadedModel) -> str:
    program = _LOADING.format(size=model.network.config.image_size)
    return (
        "`safetensors` alone reads the arrays: `load_file` gives them under names like "
        "`params/inception_3a/3x3_reduce/kernel`; kernels are [height, width, in, out]. With "
        f"`inception_jax` the network runs:\n\n```python\n{program}\n```\n\n"
        "From the checkpoint that this was made of, `python -m inception_jax.export --to onnx` (or "
        "`stablehlo`, or `torchvision` where the architecture is torchvision's) makes files for "
        "other programs."
    )


def _limitations(model: LoadedModel, results: list[dict[str, Any]]) -> str:
    lines = [
        f"Every image gets one of the {model.network.config.num_classes} classes, also one that "
        "shows nothing of them.",
        "The probabilities were not calibrated.",
        "Robustness, fairness, and images from elsewhere than the training data were not tested.",
        "The architecture is of 2014; newer ones are more accurate at the same cost.",
    ]
    if not results:
        lines.insert(0, "Without an evaluation there is no reason to rely on it.")
    if _is_random(model):
        lines.insert(0, "It was trained on random images: it is good for trying out programs only.")
    return "\n".join(f"- {line}" for line in lines)


def _is_random(model: LoadedModel) -> bool:
    return model.config.data.source == "fake"


def _data(model: LoadedModel) -> str:
    return "random images" if _is_random(model) else model.config.data.name


def _crops(result: dict[str, Any]) -> str:
    return "1 crop" if result["crops"] == 1 else f"{result['crops']} crops"


def _changed_settings(result: dict[str, Any]) -> list[str]:
    """What a result was measured with besides the config, as `evaluation.short_side=320`."""
    settings = [text.lstrip("-").removeprefix("config.") for text in result["overrides"]]
    average = result["average"]
    return settings + [f"average={average}"] * (average != "probabilities")


def _cell(value: Any) -> str:
    return f"`{json.dumps(json_files.finite(value), ensure_ascii=False)}`".replace("|", "\\|")
