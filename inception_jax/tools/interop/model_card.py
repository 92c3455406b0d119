"""Writes the model card: what a network is, how accurate it is, and what it was not tested for.

The words are in model_card.md. All facts are from the checkpoint and the results of its run; the
card says so where they are missing.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.config import compatibility
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.models.cost import network_cost
from inception_jax.storage import json_files, workdir
from inception_jax.tools.interop.metadata import ARCHITECTURES, portable_config
from inception_jax.tools.interop.published import CONFIGS

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("model_card.md")

# The beginnings of fields that change no weights; each result says its split and crops.
_BOOKKEEPING = (
    *("name", "checkpoints.", "training.log_every", "evaluations."),
    *("evaluation.every", "evaluation.split", "evaluation.crops"),
)

# The beginnings of the fields that matter for converted weights.
_OF_THE_NETWORK = ("model.", "data.image_size", "data.mean", "data.std", "evaluation.")

_NORMALIZATION = {
    "lrn": "local response normalisation",
    "batch": "batch normalisation",
    "none": "no normalisation",
}


def write(model: LoadedModel) -> str:
    """Returns the card: Markdown with front matter in YAML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"thousands": "{:,}".format, "cell": _cell}
    network, results = model.network.config, list(find_results(model))
    return environment.get_template(TEMPLATE.name).render(
        front_matter=_front_matter(model, results).to_yaml(),
        model=model,
        config=model.config,
        network=network,
        architecture=ARCHITECTURES[network.architecture],
        normalization=_NORMALIZATION[network.norm],
        costs=network_cost(network),
        results=results,
        crops=_crops,
        settings=_changed_settings,
        source=model.description.get("source"),
        random=_is_random(model),
        commit=model.description.get("git_commit"),
        versions=model.description["versions"],
        changes=_changes_to_the_paper(model),
    )


def find_results(model: LoadedModel) -> Iterator[dict[str, Any]]:
    """Yields the results of these very weights alone; the debug log names the files left out."""
    folder = workdir.of_checkpoint(model.checkpoint) / workdir.RESULTS
    for path in sorted(folder.glob("evaluate_*.json")):
        try:
            result = json.loads(path.read_text())
            # Results of older versions do not say whose they are.
            (digest,) = result["digests"]
            if (digest, result["weights"]) == (model.digest, model.weights):
                yield {"bad_images": 0} | result
        except (ValueError, KeyError, TypeError):  # an ensemble, or not written by evaluate
            log.debug(f"{path} does not describe {model.checkpoint} alone")


def _front_matter(model: LoadedModel, results: list[dict[str, Any]]) -> ModelCardData:
    data = "random images" if _is_random(model) else model.config.data.name
    found = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data,
            dataset_name=data,
            dataset_split=result["split"],
            metric_type="accuracy",
            metric_name=f"{name} accuracy, {_crops(result)}",
            metric_value=round(result[field], 5),
        )
        for result in results
        if not _changed_settings(result)
        for name, field in (("top-1", "top1"), ("top-5", "top5"))
    ]
    trained_on_data = not _is_random(model) and not model.description.get("source")
    architecture = model.network.config.architecture
    return ModelCardData(
        license="apache-2.0",
        library_name="jax",
        pipeline_tag="image-classification",
        tags=["image-classification", architecture, "inception", "jax", "flax"],
        datasets=[data.split("/")[0]] if trained_on_data else None,
        metrics=["accuracy"] if found else None,
        model_name=model.config.name if found else None,
        eval_results=found or None,
    )


def _changes_to_the_paper(model: LoadedModel) -> dict[str, tuple[Any, Any]]:
    """{field: (the paper's value, the model's)}."""
    paper = compatibility.to_dict(resolve(load_config(str(CONFIGS / "googlenet.py"))))
    counts = _OF_THE_NETWORK if model.description.get("source") else ("",)
    return {
        field: values
        for field, values in compatibility.differences(paper, portable_config(model)).items()
        if not field.startswith(_BOOKKEEPING) and field.startswith(counts)
    }


def _is_random(model: LoadedModel) -> bool:
    return model.config.data.source == "fake"


def _crops(result: dict[str, Any]) -> str:
    return "1 crop" if result["crops"] == 1 else f"{result['crops']} crops"


def _changed_settings(result: dict[str, Any]) -> list[str]:
    """The settings of an evaluation that differ from the config: evaluation.short_side=320."""
    settings = [text.lstrip("-").removeprefix("config.") for text in result["overrides"]]
    average = result["average"]
    return settings + [f"average={average}"] * (average != "probabilities")


def _cell(value: Any) -> str:
    return f"`{json.dumps(json_files.finite(value), ensure_ascii=False)}`".replace("|", "\\|")
