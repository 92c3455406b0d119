"""The whole path in seconds, on random images without files: for tests and for new machines.

Command: python -m inception_jax.train --config configs/smoke.py --workdir runs/smoke
Cost: 10 steps of 16 images; nearly all of the time is compilation, which is why the network is the
  shallow one, three modules instead of nine.
Expected: ends with exit code 0 and a test loss near 2.4. Chance is 2.303 for ten classes, and
  random labels cannot be learned.

The paper's LRN instead of batch normalisation: at this size the latter amplifies rounding errors a
hundredfold a step at first, and runs on other devices could not be compared with one another.
"""

from ml_collections import ConfigDict

from configs import digits
from inception_jax.config.load import parse_arguments


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the digits config on fake data, three modules of an eighth of the paper's width."""
    parse_arguments(argument)
    config = digits.get_config()
    config.name = "smoke"
    config.model.update(architecture="shallow", norm="lrn", width=0.125)
    config.data.update(source="fake", fake_examples=64, batch_size=16)
    config.schedule.update(learning_rate=0.01, warmup="0 steps")
    config.training.update(total="10 steps", average_start="5 steps", log_every="1 steps")
    config.evaluation.every = "5 steps"
    config.checkpoints.every = "5 steps"
    return config
