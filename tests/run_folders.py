"""Folders of runs as training leaves them, without training: for tests of what reads them."""

import json
import math
import random
from pathlib import Path
from typing import Any

from inception_jax.config import compatibility
from inception_jax.config.load import load_config

# Known without data; reading a run that does not say what its network costs means to trace it.
NETWORK = ["--config.model.num_classes=10", "--config.model.architecture=shallow"]


def write_run(
    folder: Path,
    *overrides: str,
    config: str = "configs/digits.py",
    lines: int = 20,
    every: int = 10,
    top1: float = 0.9,
    done: bool = True,
    results: bool = False,
) -> Path:
    """A run of three modules: a line of metrics every 10 steps, an evaluation every `every` lines.

    The last evaluation is `top1`; a run that is not `done` has been stopped at half of its way.
    """
    folder.mkdir(parents=True)
    random_numbers = random.Random(str(folder))
    total = 10 * lines
    flags = [f"--config.training.total={total} steps", *NETWORK, *overrides]
    values = compatibility.to_dict(load_config(config, flags))
    (folder / "config.json").write_text(json.dumps(values))
    text: list[dict[str, Any]] = []
    for number in range(1, (lines if done else lines // 2) + 1):
        step, share = 10 * number, number / lines
        text.append(
            {
                "step": step, "epoch": step / 22, "loss": 2.3 * math.exp(-3 * share),
                "top1": share * random_numbers.random(), "top5": 1.0,
                "learning_rate": 0.1 * (1 - share),
                "images_per_second": 100 + random_numbers.random(), "input_wait": 0.01,
            }
        )  # fmt: skip
        if number % every == 0:
            text.append({"split": "test", **evaluation(step, top1 * share)})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in text))
    if results:
        (folder / "results").mkdir()
        result = evaluation(total, top1) | {
            "split": "test", "crops": 1, "models": 1, "weights": "average",
            "images_per_second": 9.0,
            "checkpoints": [str(folder / "checkpoints" / str(total))],
            "classes": [
                {"label": label, "name": f"digit {label}", "examples": 36, "top1": (label + 1) / 36}
                for label in range(10)
            ],
            "confusions": [
                {
                    "label": label, "name": f"digit {label}", "prediction": 0,
                    "predicted": "digit 0", "examples": label,
                }
                for label in range(9, 0, -1)
            ],
        }  # fmt: skip
        (folder / "results" / "evaluate_200_test_average.json").write_text(json.dumps(result))
    return folder


def evaluation(step: int, top1: float) -> dict[str, Any]:
    """What is measured on 360 test images."""
    return {
        "step": step, "top1": top1, "top5": 0.99, "loss": 1 - top1, "examples": 360,
        "calibration_error": 0.02, "bad_images": 0,
    }  # fmt: skip
