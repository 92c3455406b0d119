"""What matters in a small GoogLeNet on Fashion-MNIST? One change at a time, three seeds each.

Command: python launch/sweep.py configs/sweeps/fashion_mnist.py --output runs/fashion_sweep
Cost: 24 runs of four epochs of 20,000 images, about five minutes each on one core.
Measured: a table and a picture (fashion_mnist.png) are in the README.

Changes of the network have the base's multiply-adds, as far as their files say so.
"""

from collections.abc import Iterator

from inception_jax.launching.sweeps import Run, config, named, product, seeds

QUESTIONS = (
    "naive", "no_auxiliary", "fully_connected", "lower_modules",
    "dropout", "no_averaging", "small_kernels",
)  # fmt: skip


def sweep() -> Iterator[Run]:
    """The base, and each question."""
    short = named(
        {
            "": {
                "data.train_split": "train[:20000]",
                "training.total": "4 epochs",
                "training.average_start": "2 epochs",
                "evaluation.every": "4 epochs",
            }
        }
    )
    yield from product(config("configs/fashion_mnist.py", "base"), short, seeds(3))
    for question in QUESTIONS:
        file = f"configs/ablations/{question}.py:base=fashion_mnist"
        yield from product(config(file), short, seeds(3))
