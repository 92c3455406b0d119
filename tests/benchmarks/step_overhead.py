"""Python's share of a training step: the cost of calling a jitted function with the full state.

Run: python tests/benchmarks/step_overhead.py [--config configs/googlenet.py]

The state and batch of the config go through a jitted function of the training step's signature that
computes next to nothing, so that what is left is flattening, checking and dispatching its arrays.
Prints the median of many calls in milliseconds.
"""

import argparse
import functools
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from inception_jax.config.load import load_config
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import initial_state


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/googlenet.py")
    config = load_config(parser.parse_args().config)
    mesh = devices.make_mesh()
    network = build(network_config(config))
    optimizer = make_optimizer(config.optimizer, lambda step: 0.01)
    state = devices.replicate(initial_state(network, optimizer, 0, averaging=True), mesh)
    size, batch_size = config.data.image_size, config.data.batch_size
    host = {
        "image": np.zeros((batch_size, size, size, 3), np.uint8),
        "label": np.zeros(batch_size, np.int32),
        "index": np.zeros(batch_size, np.int64),
        "epoch": np.zeros(batch_size, np.int32),
        "replaced": np.zeros(batch_size, bool),
    }
    batch = devices.to_devices(host, mesh)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=devices.replicated(mesh))
    def step(state, batch):
        return state.replace(step=state.step + 1), {"loss": batch["label"][0]}

    milliseconds = []
    for _ in range(200):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        jax.block_until_ready((state, metrics))
    leaves = len(jax.tree.leaves(state))
    print(f"{statistics.median(milliseconds):.2f} ms a call ({leaves} arrays in the state)")


if __name__ == "__main__":
    main()
