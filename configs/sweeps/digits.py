"""A sweep of minutes: two questions on the digits, three seeds each.

Command: python launch/sweep.py configs/sweeps/digits.py --output runs/digits_sweep
Cost: nine runs of configs/digits.py, a minute or two each on two CPU cores.
"""

from collections.abc import Iterator

from inception_jax.launching.sweeps import Run, config, named, product, seeds


def sweep() -> Iterator[Run]:
    """The base, and one change at a time."""
    changes = named(
        {
            "base": {},
            "no_auxiliary": {"model.auxiliary": False},
            "no_averaging": {"training.average_decay": 0.0},
        }
    )
    yield from product(config("configs/digits.py"), changes, seeds(3))
