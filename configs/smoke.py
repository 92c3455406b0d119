"""The whole path in seconds, on random images without files: for tests and for new machines.

Command: python -m inception_jax.train --config configs/smoke.py --workdir runs/smoke
Expected: a loss near 2.3 (chance, 10 classes) that falls a little as it memorises; exit code 0.
"""

from ml_collections import ConfigDict

from configs import digits


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the digits config on fake data, an eighth of the paper's width, ten steps."""
    config = digits.get_config(argument)
    config.name = "smoke"
    config.model.width = 0.125
    config.data.update(source="fake", fake_examples=64, batch_size=16)
    config.schedule.warmup = "0 steps"
    config.training.update(total="10 steps", average_start="5 steps", log_every="1 steps")
    config.evaluation.every = "5 steps"
    config.checkpoints.every = "5 steps"
    return config
