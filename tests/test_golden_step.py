"""Five training steps against recorded ones: a step changes what it computes only on purpose.

Recorded are, a step, the batch's pixels and labels, loss, norms and learning rate, and after the
last step a checksum of each layer's parameters. Every other test holds for a step that computes
something else; this one does not.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from conftest import ROOT

from inception_jax import configuration
from inception_jax.data.from_data import resolve
from inception_jax.data.pipeline import training_batches
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.models.network import build, network_config
from inception_jax.training import loop

STEPS = 5
RECORDED = Path(__file__).with_name("golden_steps.json")

# Rounding differs between compilers and processors; a changed constant is a thousand times this.
TOLERANCE = 1e-4


def five_steps(file: str) -> dict[str, Any]:
    """Trains five steps; returns what they read and computed, as JSON."""
    config = resolve(configuration.load(file, ["--config.data.threads=1"]))
    network, mesh = build(network_config(config)), devices.make_mesh()
    source = open_source(config.data, config.data.train_split, config.model.num_classes)
    train_step, state = loop.make_step(config, network, loop.make_plan(config, len(source)), mesh)
    state = devices.replicate(state, mesh)
    steps = []
    with training_batches(source, config.data, config.seed, 0, STEPS, mesh) as batches:
        for batch in batches:
            images, labels = np.asarray(batch["image"], np.float64), np.asarray(batch["label"])
            state, metrics = train_step(state, batch)
            steps.append(
                {"pixels": checksum(images / 255), "labels": labels.tolist()}
                | {name: float(metrics[name]) for name in MEASURED}
            )
    layers = {
        f"{tree} {layer}": checksum(*jax.tree.leaves(arrays))
        for tree in ("params", "batch_stats")
        for layer, arrays in getattr(state, tree).items()
        if jax.tree.leaves(arrays)
    }
    return {"steps": steps, "layers": layers}


MEASURED = ("loss", "top1", "top5", "learning_rate", "gradient_norm", "parameter_norm")


def checksum(*arrays: Any) -> float:
    """The values' projection on a fixed direction, relative to their norm: in -1..1."""
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    direction = np.random.Generator(np.random.Philox(key=len(values))).standard_normal(len(values))
    return float(values @ direction / np.linalg.norm(values))


def rounded(value: Any) -> Any:
    """Numbers of as many digits as can be told apart: what is written to the file."""
    match value:
        case dict():
            return {name: rounded(item) for name, item in value.items()}
        case list():
            return [rounded(item) for item in value]
        case float():
            return float(f"{value:.7g}")
    return value


@pytest.mark.parametrize("file", ["configs/smoke.py", "configs/googlenet.py:runlocal"])
def test_a_step_computes_what_it_did(file, tmp_path):
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    found = five_steps(str(ROOT / file))
    try:
        assert found == approximately(recorded.get(file))
    except AssertionError as error:
        new = tmp_path / RECORDED.name
        new.write_text(json.dumps(recorded | {file: rounded(found)}, indent=1) + "\n")
        raise AssertionError(
            f"did you mean to change what a step of {file} computes? If so, say why in the "
            f"commit, and copy {new} to {RECORDED.relative_to(ROOT)}\n{error}"
        ) from None


def approximately(recorded: Any) -> Any:
    """The recorded values, with the tolerance of a float."""
    match recorded:
        case dict():
            return {name: approximately(item) for name, item in recorded.items()}
        case list():
            return [approximately(item) for item in recorded]
        case float():
            return pytest.approx(recorded, rel=TOLERANCE, abs=TOLERANCE)
    return recorded
