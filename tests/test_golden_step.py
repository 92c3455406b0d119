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

from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tasks import make_task
from inception_jax.training import setup
from inception_jax.training.input import training_batches
from inception_jax.training.timetable import make_timetable

STEPS = 5
MEASURED = ("loss", "top1", "top5", "learning_rate", "gradient_norm", "parameter_norm")
RECORDED = Path(__file__).with_name("golden_steps.json")

# Of the steps, and of the layers after them, relative or absolute. Rounding differs between
# compilers and processors. The shallow network leaves it at 3e-7. The first steps of GoogLeNet
# multiply it: programs without optimisation, by jax 0.10.2 or 0.12,
# are apart from what is recorded by 6e-8, 5e-5, 5e-4, 6e-3 and 4e-3 in the losses, by 8e-6, 4e-5,
# 5e-3, 2e-2 and 3e-2 in the norms of the gradients, and by 5e-3 in the layers.
TOLERANCES = {
    "configs/smoke.py": (1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5),
    "configs/googlenet.py:runlocal": (1e-4, 1e-3, 3e-2, 1e-1, 1e-1, 3e-2),
}


def five_steps(file: str) -> dict[str, Any]:
    """Trains five steps; returns what they read and computed, as JSON."""
    config = resolve(load_config(file, ["--config.data.threads=1"]))
    network, mesh = build(network_config(config)), devices.make_mesh()
    task = make_task(config)
    source = task.open(config.data.train_split)
    timetable = make_timetable(config, len(source))
    train_step, state = setup.make_step(task, config, network, timetable, mesh)
    state = devices.replicate(state, mesh)
    steps = []
    with training_batches(task, source, 0, STEPS, mesh) as batches:
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


def checksum(*arrays: Any) -> float:
    """Projects the values, relative to their norm, on a fixed direction: about -2 to 2."""
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    direction = np.random.Generator(np.random.Philox(key=len(values))).standard_normal(len(values))
    return float(values @ direction / np.linalg.norm(values))


def rounded(value: Any) -> Any:
    """Keeps seven digits of each number: more are noise in a file that people compare."""
    match value:
        case dict():
            return {name: rounded(item) for name, item in value.items()}
        case list():
            return [rounded(item) for item in value]
        case float():
            return float(f"{value:.7g}")
    return value


@pytest.mark.parametrize("file", TOLERANCES)
def test_a_step_computes_what_it_did(file, tmp_path):
    recorded = json.loads(RECORDED.read_text())
    found = five_steps(str(ROOT / file))
    try:
        expected = recorded[file]
        *of_steps, of_layers = TOLERANCES[file]
        for step, tolerance in enumerate(of_steps):
            assert found["steps"][step] == near(expected["steps"][step], tolerance), step + 1
        assert found["layers"] == near(expected["layers"], of_layers)
    except AssertionError as error:
        new = tmp_path / RECORDED.name
        new.write_text(json.dumps(recorded | {file: rounded(found)}, indent=1) + "\n")
        raise AssertionError(
            f"did you mean to change what a step of {file} computes? If so, say why in the "
            f"commit, and copy {new} to {RECORDED.relative_to(ROOT)}\n{error}"
        ) from None


def near(recorded: dict[str, Any], tolerance: float) -> dict[str, Any]:
    """The recorded values; those that are computed may differ by the tolerance."""
    return {
        name: pytest.approx(value, rel=tolerance, abs=tolerance) if name != "labels" else value
        for name, value in recorded.items()
    }
